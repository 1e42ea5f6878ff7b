"""Between a trainer and its judge: a judge that goes away is waited for, and what it never gave is never made up.

A group whose scores failed because nobody answered is asked about again, after pauses that grow, until the judge is back or `wait_s`
seconds of this outage are over. What it then has no score for stays without one: such a reply has no advantage. A judge that answers
others meanwhile is not away: a reply that alone gets no answer is given up sooner. Where too many of the last replies had no reward,
training stops at the end of its step. Answers are cached below, so asking again repeats no call that was answered. A reward that declines
(a flagged case) and a policy that wrote no reply use up no budget.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from peregrm.errors import FailureBudgetExceeded
from peregrm.models.endpoint import OUTAGE
from peregrm.records import Case, Reply
from peregrm.reward.base import ABSTAINED, RewardModel, Scored

__all__ = ["Gate"]

_TRIES = 3
"""For a reply that gets no answer while others do."""

_ALONE_S = 300.0
"""The most seconds for replies without an answer in groups where others have one, while no group is without any."""

_LEAST = 20
"""Of fewer replies a share is no share."""


class Gate:
    """A reward that waits for its judge.

    Args:
        reward: Who scores. It is closed with this one.
        wait_s: The most seconds to wait in one outage.
        budget: Share of replies without a reward, over the last `window` replies, beyond which `check` raises.
        window: How many replies that share is taken over.
        say: Is told of every outage, its end, and that there is no more waiting.
        pauses_s: The first pause between two tries and the longest; each is twice the one before.
    """

    def __init__(
        self,
        reward: RewardModel,
        *,
        wait_s: float,
        budget: float,
        window: int,
        say: Callable[[str], None],
        pauses_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self._reward = reward
        self._wait_s = wait_s
        self._budget = budget
        self._say = say
        self._pauses_s = pauses_s
        self._failures: Counter[str] = Counter()
        self._lost: deque[str | None] = deque(maxlen=max(window, _LEAST))
        self._down_since: float | None = None
        self._given_up = False
        self._answered = 0
        self._silent = 0
        self._without = 0

    @property
    def method(self) -> str:
        """That of the reward."""
        return self._reward.method

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Return one score a reply, in order, once there is one or no more hope; see `peregrm.reward.base.RewardModel`."""
        scored = await self._reward.score(case, replies)
        totals = self._seen(scored, 0)
        if _outage(scored) is not None:
            self._silent += totals == 0
            try:
                scored = await self._again(case, replies, scored)
            finally:
                self._silent -= totals == 0
        self._lost.extend(map(_loss, scored))
        for one in scored:
            self._without = 0 if one.total is not None else self._without + 1
            if one.total is None:
                self._failures["no_total" if one.failure is None else one.failure.kind] += 1
        return scored

    def taken_failures(self) -> dict[str, int]:
        """Return how many replies were left without a reward since this was last asked, by the kind of their failure, for any reason."""
        taken, self._failures = self._failures, Counter()
        return dict(sorted(taken.items()))

    async def _again(self, case: Case, replies: Sequence[Reply | str], scored: list[Scored]) -> list[Scored]:
        """Ask about a group until it is scored, or nothing more is to be expected."""
        totals, started, answered = _totals(scored), time.monotonic(), self._answered
        pause_s, tries = self._pauses_s[0], 1
        while (reason := _outage(scored)) is not None and not (tries >= _TRIES and self._answered > answered):
            left_s = self._left_s(reason)
            if totals and not self._silent:
                left_s = min(left_s, started + _ALONE_S - time.monotonic())
            if left_s <= 0:
                break
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, self._pauses_s[1])
            scored = await self._reward.score(case, replies)
            totals, tries = self._seen(scored, totals), tries + 1
        return scored

    def check(self) -> None:
        """Raise `FailureBudgetExceeded` where too many of the last replies have no reward, or none at all has one, for whatever reason."""
        reasons = [reason for reason in self._lost if reason is not None]
        if len(self._lost) >= _LEAST and len(reasons) > self._budget * len(self._lost):
            raise FailureBudgetExceeded(
                f"{len(reasons)} of the last {len(self._lost)} replies have no reward ({len(reasons) / len(self._lost):.0%}, the budget is "
                f"{self._budget:.0%}). The last: {reasons[-1]}. A checkpoint is kept: the same command goes on from it"
            )

        if self._without >= (self._lost.maxlen or _LEAST):
            raise FailureBudgetExceeded(
                f"none of the last {self._without} replies has a reward, so nothing is learned: look at what the judge "
                "declines. A checkpoint is kept: the same command goes on from it"
            )

    async def aclose(self) -> None:
        """Close the reward."""
        await self._reward.aclose()

    def _seen(self, scored: Sequence[Scored], before: int) -> int:
        """Note that the judge answers where more replies have a total than before; return how many have."""
        totals = _totals(scored)
        if totals > before:
            self._answered += 1
            if self._down_since is not None:
                self._say(f"the judge answers again, after {time.monotonic() - self._down_since:.0f} s")
            self._down_since, self._given_up = None, False
        return totals

    def _left_s(self, reason: str) -> float:
        """Return how many seconds there are left to wait in this outage, which begins now if there is none."""
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
            self._say(f"the judge does not answer: training waits up to {self._wait_s:g} s for it ({reason})")
        left_s = self._down_since + self._wait_s - now
        if left_s <= 0 and not self._given_up:
            self._given_up = True
            self._say(f"the judge has not answered for {self._wait_s:g} s: replies stay without a reward until it does")
        return left_s


def _totals(scored: Sequence[Scored]) -> int:
    return sum(one.total is not None for one in scored)


def _outage(scored: Sequence[Scored]) -> str | None:
    """Return why a group has no score that it may get later, or None."""
    for one in scored:
        if one.total is None and one.failure is not None and OUTAGE & set(one.failure.kind.split("+")):
            return one.failure.reason
    return None


def _loss(scored: Scored) -> str | None:
    """Return why a reply that should have a reward has none; None for one that has, or that nobody could be asked about."""
    failure = scored.failure
    if scored.total is not None or scored.reply.failure is not None or failure is None:
        return None
    return None if set(failure.kind.split("+")) <= ABSTAINED else f"{failure.kind}: {failure.reason}"
