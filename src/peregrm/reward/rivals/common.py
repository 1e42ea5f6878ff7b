"""What the rivals share: one way to go through a group, one way to add up, so that only the judging differs.

A rival judges empathy as such: it has no criteria, so `RewardOptions.criteria` has no meaning for it, and no other dimensions. It
sees of a case all that PereGRM sees. A reply that failed has nothing to judge, one without a visible character gets its rival's lowest
score by rule and without a call, and the guards cost what they cost PereGRM. Of a flagged case it says nothing: only safe guidance counts
there, and a failure of kind `flagged` stands in place of a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel

from peregrm.errors import SettingsError
from peregrm.models.base import Model
from peregrm.records import Case, Judgement, Reply, Reward
from peregrm.reward.aggregate import mean_of_scored
from peregrm.reward.asking import Asking, together
from peregrm.reward.base import EMPTY, Scored, as_replies, says_something
from peregrm.reward.guidance import flagged_failure
from peregrm.reward.judge import analysis_field, object_type
from peregrm.reward.opening import LazyJudge
from peregrm.reward.options import RewardOptions
from peregrm.reward.summing import Rules, reward_of, unscored
from peregrm.reward.variants import asks_reasons

__all__ = [
    "EMPTY",
    "AskingRival",
    "OneByOne",
    "Rival",
    "analysis_of",
    "answer_type",
    "mean_value",
    "mean_values",
    "reward_of",
    "side_by_side",
]

T = TypeVar("T")
S = TypeVar("S")


class Rival(ABC):
    """A reward that is not PereGRM, behind the same interface.

    Raises `SettingsError` at construction for other dimensions than those of empathy.
    """

    method: ClassVar[str]

    def __init__(self, options: RewardOptions, judge: Model | str) -> None:
        if options.dimensions != "empathy":
            raise SettingsError(
                f"the reward {self.method!r} judges empathy only, not the dimensions {options.dimensions!r}"
            )
        self.options = options
        self.judge = judge

    @property
    @abstractmethod
    def judge_name(self) -> str:
        """The name of the judge in records and reports."""

    @abstractmethod
    async def judge_said(self, case: Case, replies: Sequence[Reply]) -> list[list[Judgement]]:
        """Return the judgements of replies that say something, in their order; failures are judgements too."""

    @abstractmethod
    def of_empty(self, reply: Reply) -> list[Judgement]:
        """Return what an empty reply gets without a call."""

    @abstractmethod
    def reward(self, case: Case, reply: Reply, judgements: Sequence[Judgement]) -> Reward:
        """Add the judgements of one reply up; without any there is no total."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free what was opened here. Safe to call twice."""

    @property
    def rules(self) -> Rules:
        """How judgements are added up."""
        return Rules(
            method=self.method,
            judge=self.judge_name,
            dimensions=(),
            quorum=self.options.quorum,
            bystander_weight=self.options.bystander_weight,
            guards=self.options.guards,
        )

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Return one score a reply, in order; see `peregrm.reward.base.RewardModel`."""
        group = as_replies(case, replies)
        if case.flags:
            return [
                Scored(reply, unscored(self.rules, case, reply, flagged_failure(case, self.method))) for reply in group
            ]
        judged = await self.judge_group(case, group)
        return [
            Scored(reply, self.reward(case, reply, judgements), tuple(judgements))
            for reply, judgements in zip(group, judged, strict=True)
        ]

    async def judge_group(self, case: Case, group: Sequence[Reply]) -> list[list[Judgement]]:
        """Return the judgements of each reply, in order: none for a failed one, those by rule for an empty one."""
        answered = [n for n, reply in enumerate(group) if reply.failure is None]
        said = [n for n in answered if says_something(group[n].text)]
        lists = {n: self.of_empty(group[n]) for n in answered if n not in said}
        lists.update(zip(said, await self.judge_said(case, [group[n] for n in said]), strict=True))
        return [lists.get(n, []) for n in range(len(group))]


class AskingRival(Rival):
    """A rival that asks a generative judge."""

    def __init__(self, options: RewardOptions, judge: Model | str) -> None:
        super().__init__(options, judge)
        self._lazy = LazyJudge(judge, options.cache)

    @cached_property
    def asking(self) -> Asking:
        """The judge and how it is asked; opens the judge."""
        options = self.options
        return Asking(
            model=self._lazy.model,
            samples=options.samples,
            temperature=options.temperature,
            seed=options.seed,
            reasons=asks_reasons(options, self.judge),
            bystander=options.bystander_weight > 0,
        )

    @property
    def judge_name(self) -> str:
        """The judge's own name; opens the judge."""
        return self.asking.model.name

    def by_rule(self, reply: Reply, aspect: str, values: Mapping[str, float]) -> Judgement:
        """Return a judgement of an empty reply."""
        return Judgement(
            case_id=reply.case_id,
            reply_id=reply.id,
            criteria_id=None,
            judge=self.judge_name,
            aspect=aspect,
            trial=0,
            values=tuple(values.items()),
            analysis=EMPTY,
        )

    async def aclose(self) -> None:
        """Close the judge, if it was opened here."""
        await self._lazy.aclose()


class OneByOne(AskingRival):
    """A rival that judges each reply for itself."""

    @abstractmethod
    async def judge_reply(self, case: Case, reply: Reply) -> list[Judgement]:
        """Return the judgements of one reply that says something."""

    async def judge_said(self, case: Case, replies: Sequence[Reply]) -> list[list[Judgement]]:
        """Judge each reply, the first alone."""
        return await side_by_side(lambda reply: self.judge_reply(case, reply), replies)


async def side_by_side(call: Callable[[S], Awaitable[T]], items: Sequence[S]) -> list[T]:
    """Return `call` of every item, in order; the first goes alone, so that a prefix cache computes what is common once."""
    first = [await call(item) for item in items[:1]]
    return [*first, *await together(call(item) for item in items[1:])]


def answer_type(name: str, *, reasons: bool, **fields: Any) -> type[BaseModel]:
    """Return the type of an answer: an analysis, if wanted, and then `fields`. Keep it: making one takes milliseconds."""
    return object_type(name, {**analysis_field(reasons=reasons), **fields})


def analysis_of(value: BaseModel, aspect: str) -> tuple[tuple[str, str], ...]:
    """Return the analysis in an answer as a judgement holds it."""
    words = getattr(value, "analysis", None)
    return ((aspect, words),) if words else ()


def mean_value(judgements: Sequence[Judgement], aspect: str, name: str, quorum: float) -> float | None:
    """Return the mean of one named value over the trials of one aspect, or None below the quorum."""
    trials = [judgement for judgement in judgements if judgement.aspect == aspect]
    return mean_of_scored([None if j.values is None else dict(j.values)[name] for j in trials], quorum)


def mean_values(judgements: Sequence[Judgement], names: Sequence[str], quorum: float) -> dict[str, float | None]:
    """Return `mean_value` for values that are named as the aspect they are the only value of."""
    return {name: mean_value(judgements, name, name, quorum) for name in names}
