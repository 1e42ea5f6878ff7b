"""What every reward is: something that scores a group of replies to one case, in order, and says how it came to each score.

PereGRM, its rivals, and pools of several judges all have this one shape, so trainers, the server and the comparison table need to
know nothing else. Left out on purpose: batches over cases, which are maps over groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from peregrm.errors import ArtifactError
from peregrm.records import Case, Failure, Judgement, Reply, Reward
from peregrm.replies import reply_from_output

__all__ = [
    "ABSTAINED",
    "COMPARING",
    "EMPTY",
    "FLAGGED",
    "GUIDANCE",
    "RewardModel",
    "Scored",
    "as_replies",
    "says_something",
]


COMPARING = frozenset({"listwise", "pairwise"})
"""The rewards that compare the replies of a group: one reply alone gives them nothing."""

GUIDANCE = "safe_guidance"
"""The method of rewards for replies to flagged cases: the set of dimensions they are judged by, see `peregrm.reward.guidance`."""

FLAGGED = "flagged"
"""The kind of failure of a reward that does not judge replies to flagged cases."""

EMPTY = (("rule", "The reply is empty: it scores lowest by rule, without a call."),)
"""The analysis of a judgement that nobody had to be asked for."""

ABSTAINED = frozenset({FLAGGED, "language", "untaught"})
"""Kinds of failure by which a judge declines what it cannot judge: no answer was lost, so they use up no failure budget."""


@dataclass(frozen=True)
class Scored:
    """One reply's reward and the judgements it was added up from; `parts` are the rewards of the single judges of a pool."""

    reply: Reply
    reward: Reward
    judgements: tuple[Judgement, ...] = ()
    parts: tuple[Scored, ...] = ()

    @property
    def total(self) -> float | None:
        """The reward to train on, or None where it could not be had."""
        return self.reward.total

    @property
    def empathy(self) -> float | None:
        """The mean of the dimensions, 0.2 to 1."""
        return self.reward.empathy

    @property
    def bystander(self) -> float | None:
        """How useful an onlooker finds the reply, 0 to 1."""
        return self.reward.bystander

    @property
    def coverage(self) -> float:
        """The share of trials that were scored, 0 to 1."""
        return self.reward.coverage

    @property
    def failure(self) -> Failure | None:
        """Why there is no total."""
        return self.reward.failure

    @property
    def flagged(self) -> bool:
        """Whether the reply is to a flagged case: its numbers are on another scale than the rest and belong into no mean with them."""
        return self.reward.method == GUIDANCE or (self.failure is not None and FLAGGED in self.failure.kind.split("+"))

    @property
    def scores(self) -> dict[str, float | None]:
        """The score of each dimension by its name, 0.2 to 1."""
        return dict(self.reward.scores)

    @property
    def resonation(self) -> float | None:
        """Did the reply understand this person? 0.2 to 1; None where it was not asked."""
        return self.scores.get("resonation")

    @property
    def expression(self) -> float | None:
        """Did it say so in a way that fits this person? 0.2 to 1; None where it was not asked."""
        return self.scores.get("expression")

    @property
    def reception(self) -> float | None:
        """Would this person feel it? 0.2 to 1; None where it was not asked."""
        return self.scores.get("reception")


class RewardModel(Protocol):
    """Anything that scores replies. Safe to call from many tasks of one event loop at once."""

    @property
    def method(self) -> str:
        """A stable name of the way it scores: `shared`, `perm`, ..."""
        ...

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Return one score a reply, in order; what cannot be scored is a score with a failure, never a number.

        Raises only what makes further calls pointless: a fatal `ModelError`, `ArtifactError`, `SettingsError`.
        """
        ...

    async def aclose(self) -> None:
        """Free connections, processes and memory. Safe to call twice."""
        ...


def as_replies(case: Case, replies: Sequence[Reply | str]) -> list[Reply]:
    """Return replies to `case`; a text is taken as a policy's raw output, thinking included.

    Raises `ArtifactError` where a reply answers another case, `TypeError` where one reply is given instead of a group, whose letters
    would be scored one by one, or something that is no reply.
    """
    if isinstance(replies, str | Reply):
        raise TypeError("replies are a group: give one reply as [reply]")
    strange = [type(reply).__name__ for reply in replies if not isinstance(reply, str | Reply)]
    if strange:
        raise TypeError(f"a reply is a text or a Reply, not {strange[0]}")
    made = [reply if isinstance(reply, Reply) else reply_from_output(case, reply) for reply in replies]
    strangers = [reply.id for reply in made if reply.case_id != case.id]
    if strangers:
        raise ArtifactError(f"replies: {strangers[0]} does not answer {case.id}")
    return made


def says_something(text: str) -> bool:
    """Tell whether a text has a visible character; a reply without one is empty."""
    return any(character.isprintable() and character != " " for character in text)
