"""PereGRM: a generative reward that judges a reply by criteria written for this person and this moment.

```python
grm = PereGRM(judge="qwen3-8b@http://localhost:8000/v1")
rewards = await grm.score(case, replies)
rewards[0].total, rewards[0].empathy, rewards[0].coverage, rewards[0].failure
```

Three modes: `shared` (criteria once a case, one call a reply for all dimensions, the bystander apart), `paper` (the published calls, see
`reward.paper`) and `listwise` (the group in one call, see `reward.listwise`). `judge_group` asks, `reward` adds up; a reward is a pure
function of judgements, so figures can be recomputed from the artifact without a call. Replies to a flagged case are judged by safe
guidance alone, in whatever mode (`reward.guidance`).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

from peregrm.dimensions import EMPATHY, Dimension
from peregrm.errors import ArtifactError, SettingsError
from peregrm.models.base import Model
from peregrm.models.heads import is_head
from peregrm.models.parsing import UNUSABLE
from peregrm.records import Case, Criteria, Judgement, Reply, Reward
from peregrm.reward import listwise, paper
from peregrm.reward.asking import Asking, Hideable, together
from peregrm.reward.base import GUIDANCE, Scored, as_replies, says_something
from peregrm.reward.composed import compose_criteria
from peregrm.reward.criteria import write_criteria
from peregrm.reward.fixed import fixed_criteria, no_criteria
from peregrm.reward.guards import Guards
from peregrm.reward.guidance import guidance_dimensions, guidance_items
from peregrm.reward.judge import check_parents, judge_bystander, judge_dimensions, judge_empty_reply
from peregrm.reward.opening import LazyJudge
from peregrm.reward.summing import Rules, add_up, check_trials

__all__ = ["CRITERIA_METHODS", "MODES", "CriteriaMethod", "Mode", "PereGRM"]

Mode = Literal["shared", "paper", "listwise"]
MODES: tuple[Mode, ...] = ("shared", "paper", "listwise")

CriteriaMethod = Literal["model", "composed", "fixed", "none"]
CRITERIA_METHODS: tuple[CriteriaMethod, ...] = ("model", "composed", "fixed", "none")
"""Written by the judge's model for each case; put together from the case without a model; the same for every case; or none at all."""

_REMEMBERED = 10_000
_CRITERIA_ATTEMPTS = 3


@dataclass(eq=False)
class PereGRM:
    """A judge and the rules by which its judgements become a reward.

    Attributes:
        judge: A model, or what `--judge` takes; in the latter case it is opened at the first call, with `peregrm.toml` if there is one.
        mode: `shared`, `paper` or `listwise`.
        samples: K, the trials a reply; one trial is drawn at temperature 0, several at `temperature`. Listwise has K in each order.
        quorum: Share of the trials that must be scored, 0 to 1, for there to be a reward.
        bystander_weight: Lambda of the total; at 0 the bystander is not asked.
        temperature: Sampling temperature of several trials.
        seed: Of every judge call; criteria are written at temperature 0.
        reasons: Ask the judge for a sentence before its scores; a judge too small to reason is faster without.
        dimensions: What is judged.
        criteria: Where criteria come from; of no meaning in mode `paper`, where every call writes its own.
        hidden: What the judge does not get to see (an ablation).
        arithmetic: Take the arithmetic mean of the dimensions instead of the harmonic one (an ablation).
        guards: What length, recital and flattery cost.
        cache: SQLite file of the call cache, for a judge that is opened here. None: nothing is kept.
        label: The name of this variant in records and tables. Empty: the mode.
        criteria_of: Another reward whose criteria this one judges by, so that several judges use one set.
    """

    judge: Model | str
    mode: Mode = "shared"
    samples: int = 1
    quorum: float = 0.5
    bystander_weight: float = 0.5
    temperature: float = 0.7
    seed: int = 0
    reasons: bool = True
    dimensions: tuple[Dimension, ...] = EMPATHY
    criteria: CriteriaMethod = "model"
    hidden: frozenset[Hideable] = frozenset()
    arithmetic: bool = False
    guards: Guards = field(default_factory=Guards)
    cache: Path | None = None
    label: str = ""
    criteria_of: PereGRM | None = None

    def __post_init__(self) -> None:
        self._check_settings()
        self._lazy = LazyJudge(self.judge, self.cache)
        self._given: dict[str, Criteria] = {}
        self._criteria: dict[str, Criteria] = {}
        self._writing: dict[str, asyncio.Task[Criteria]] = {}

    @property
    def method(self) -> str:
        """The name of this reward in records and tables."""
        return self.label or self.mode

    @cached_property
    def asking(self) -> Asking:
        """The judge and how it is asked; opens the judge."""
        return Asking(
            model=self._lazy.model,
            dimensions=self.dimensions,
            samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            reasons=self.reasons,
            bystander=self.bystander_weight > 0,
            hidden=self.hidden,
        )

    @cached_property
    def rules(self) -> Rules:
        """How judgements are added up."""
        return Rules(
            method=self.method,
            judge=self.asking.model.name,
            dimensions=self.dimensions,
            quorum=self.quorum,
            bystander_weight=self.bystander_weight,
            arithmetic=self.arithmetic,
            guards=self.guards,
        )

    @cached_property
    def guidance(self) -> PereGRM:
        """What judges replies to flagged cases in place of this reward: safe guidance, by the same judge and as many trials."""
        return _Guidance(
            self.asking.model,
            samples=self.samples,
            quorum=self.quorum,
            bystander_weight=0.0,
            temperature=self.temperature,
            seed=self.seed,
            reasons=self.reasons,
            dimensions=guidance_dimensions(),
            criteria="fixed",
            label=GUIDANCE,
        )

    def _other_for(self, case: Case) -> PereGRM | None:
        return self.guidance if case.flags else None

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Return one score a reply to `case`, in order; a text is taken as a policy's raw output, thinking included.

        Replies to a flagged case are judged by `guidance`, and their rewards say so in `method`. Nobody looks for danger here: a case
        with None for flags is judged like any other (`peregrm.dataset.safety.look_at` looks).
        What cannot be scored has a failure and no number. Raises a fatal `ModelError`, and `ArtifactError` where a reply answers
        another case.
        """
        if (other := self._other_for(case)) is not None:
            return await other.score(case, replies)
        group = as_replies(case, replies)
        criteria = await self.criteria_for(case) if any(reply.failure is None for reply in group) else None
        judged = await self.judge_group(case, criteria, group)
        return [
            Scored(reply, self.reward(case, criteria, reply, judgements), tuple(judgements))
            for reply, judgements in zip(group, judged, strict=True)
        ]

    async def aclose(self) -> None:
        """Close the judge, if it was opened here. Safe to call twice; `async with` does it."""
        await self._lazy.aclose()

    async def __aenter__(self) -> Self:
        """Return this reward."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the judge."""
        await self.aclose()

    def use_criteria(self, criteria: Iterable[Criteria]) -> None:
        """Judge by these criteria, made before or by hand, instead of having some written.

        Raises `ArtifactError` where they are not for this reward's dimensions.
        """
        for one in criteria:
            if one.failure is None:
                self._check_criteria(one)
                self._given[one.case_id] = one

    async def criteria_for(self, case: Case) -> Criteria | None:
        """Return the criteria of a case: one set, however many groups ask at once; None in mode `paper`.

        Criteria that failed are not remembered: the next group asks again. An unusable answer is asked for anew at once, twice.
        """
        if (other := self._other_for(case)) is not None:
            return await other.criteria_for(case)
        if self.mode == "paper":
            return None
        known = self.known_criteria(case)
        if known is not None:
            return known
        if self.criteria_of is not None:
            return await self.criteria_of.criteria_for(case)
        task = self._writing.get(case.id)
        if task is None:
            task = asyncio.create_task(self._make_and_remember(case))
            self._writing[case.id] = task
            task.add_done_callback(lambda done: self._forget(case.id, done))
        criteria = await asyncio.shield(task)
        return self._given.get(case.id, criteria)

    async def _make_and_remember(self, case: Case) -> Criteria:
        criteria = await self._make_criteria(case)
        if criteria.failure is None:
            self._criteria[case.id] = criteria
            if len(self._criteria) > _REMEMBERED:
                del self._criteria[next(iter(self._criteria))]
        return criteria

    def _forget(self, case_id: str, done: asyncio.Task[Criteria]) -> None:
        """Drop a finished task, and look at its error, which nobody else may do where all who waited were cancelled."""
        self._writing.pop(case_id, None)
        if not done.cancelled():
            done.exception()

    def known_criteria(self, case: Case) -> Criteria | None:
        """Return the criteria of a case, if they were given, or written before and are still remembered."""
        if (other := self._other_for(case)) is not None:
            return other.known_criteria(case)
        return self._given.get(case.id) or self._criteria.get(case.id)

    async def _make_criteria(self, case: Case) -> Criteria:
        if self.criteria == "model":
            return await self._write_criteria(case)
        if self.criteria == "composed":
            return compose_criteria(case, self.dimensions, self.hidden)
        make = {"fixed": fixed_criteria, "none": no_criteria}[self.criteria]
        return make(case, self.dimensions)

    async def _write_criteria(self, case: Case) -> Criteria:
        """Have criteria written; an answer that was of no use is asked for anew, for a call cache would only repeat it."""
        for attempt in range(_CRITERIA_ATTEMPTS):
            criteria = await write_criteria(self.asking.model, case, self.dimensions, self.hidden, attempt)
            if criteria.failure is None or criteria.failure.kind not in UNUSABLE:
                break
        return criteria

    async def judge_group(
        self, case: Case, criteria: Criteria | None, replies: Sequence[Reply]
    ) -> list[list[Judgement]]:
        """Return the judgements of each reply to one case, in the order of the replies; failures are judgements too.

        A reply that failed, or a case without criteria, has nothing to judge: the list is empty and no call is made. A reply without
        a visible character is empty and scores lowest by rule. Raises `ArtifactError` where criteria or reply belong to another case.
        """
        if (other := self._other_for(case)) is not None:
            return await other.judge_group(case, criteria, replies)
        for reply in replies:
            check_parents(case, criteria, reply)
        if criteria is not None and criteria.failure is None and self.mode != "paper":
            self._check_criteria(criteria)
        lists: dict[int, list[Judgement]] = {}
        said: list[int] = []
        for place, reply in enumerate(replies):
            if reply.failure is not None or (
                self.mode != "paper" and (criteria is None or criteria.failure is not None)
            ):
                lists[place] = []
            elif says_something(reply.text):
                said.append(place)
            else:
                lists[place] = self._of_empty(case, criteria, reply)
        judged = await self._judge_said(case, criteria, [replies[place] for place in said])
        lists.update(zip(said, judged, strict=True))
        return [lists[place] for place in range(len(replies))]

    async def _judge_said(
        self, case: Case, criteria: Criteria | None, replies: Sequence[Reply]
    ) -> list[list[Judgement]]:
        if not replies:
            return []
        if self.mode == "listwise":
            return await listwise.judge_list(self.asking, case, _known(criteria), replies)
        # The first reply goes alone, so that a server with a prefix cache computes what the group has in common once.
        return [
            judgements
            for some in (replies[:1], replies[1:])
            for judgements in await self._judge_some(case, criteria, some)
        ]

    async def _judge_some(
        self, case: Case, criteria: Criteria | None, replies: Sequence[Reply]
    ) -> list[list[Judgement]]:
        calls = [self._questions(case, criteria, reply) for reply in replies]
        answers = iter(await together(call for own in calls for call in own))
        return [[judgement for _ in own for judgement in next(answers)] for own in calls]

    def _questions(
        self, case: Case, criteria: Criteria | None, reply: Reply
    ) -> list[Coroutine[Any, Any, list[Judgement]]]:
        """Return the calls, not yet begun, that judge one reply."""
        if self.mode == "paper":
            return [paper.judge_reply(self.asking, case, reply)]
        calls = [judge_dimensions(self.asking, case, _known(criteria), reply)]
        if self.asking.bystander:
            calls.append(judge_bystander(self.asking, case, criteria, reply))
        return calls

    def _of_empty(self, case: Case, criteria: Criteria | None, reply: Reply) -> list[Judgement]:
        if self.mode == "paper":
            return paper.empty_reply(self.asking, reply)
        name, bystander = self.asking.model.name, self.asking.bystander
        trials = range(self.samples * (listwise.ORDERS if self.mode == "listwise" else 1))
        return [
            j for k in trials for j in judge_empty_reply(name, case, _known(criteria), reply, k, bystander=bystander)
        ]

    def reward(self, case: Case, criteria: Criteria | None, reply: Reply, judgements: Sequence[Judgement]) -> Reward:
        """Add the judgements of one reply up.

        Raises `ArtifactError` where the parts belong to another case, reply or judge, or a trial is missing or doubled.
        """
        if (other := self._other_for(case)) is not None:
            return other.reward(case, criteria, reply, judgements)
        criteria = None if self.mode == "paper" else criteria
        check_parents(case, criteria, reply)
        if judgements:
            check_trials(self.asking.model.name, criteria, reply, judgements, self._wanted)
            self._check_mode(reply, judgements)
        return add_up(self.rules, case, criteria, reply, judgements)

    @cached_property
    def _wanted(self) -> Counter[tuple[str, int]]:
        """Return the (aspect, trial) of every judgement a reply must have."""
        trials = range(self.samples * (listwise.ORDERS if self.mode == "listwise" else 1))
        if self.mode == "paper":
            asked = [(d.name, k) for d in self.dimensions for k in trials]
            return Counter(asked + ([("bystander", 0)] if self.asking.bystander else []))
        aspects = ("dimensions", "bystander") if self.asking.bystander else ("dimensions",)
        return Counter((aspect, k) for aspect in aspects for k in trials)

    def _check_settings(self) -> None:
        known = all(isinstance(dimension, Dimension) for dimension in self.dimensions)
        names = [dimension.name for dimension in self.dimensions] if known else []
        wrong = {
            "judge": not isinstance(self.judge, str) and not hasattr(self.judge, "complete"),
            "mode": self.mode not in MODES,
            "criteria": self.criteria not in CRITERIA_METHODS,
            "hidden": not isinstance(self.hidden, frozenset) or not self.hidden <= set(get_args(Hideable)),
            "samples": type(self.samples) is not int or self.samples < 1,
            "seed": type(self.seed) is not int or self.seed < 0,
            "quorum": not 0 <= self.quorum <= 1,
            "bystander_weight": not 0 <= self.bystander_weight < math.inf,
            "temperature": not 0 <= self.temperature <= 2,
            "dimensions": not names or len(set(names)) < len(names),
        }
        for name in [name for name, is_wrong in wrong.items() if is_wrong]:
            raise SettingsError(f"PereGRM: {name} makes no sense: {getattr(self, name)!r}")
        if type(self) is PereGRM and is_head(self.judge):
            raise SettingsError(
                "PereGRM: a trained head is no language model; `open_reward(RewardOptions(judges=('head',)))` of peregrm.reward opens it"
            )

    def _check_mode(self, reply: Reply, judgements: Sequence[Judgement]) -> None:
        """Two samples and two orders have the same aspects and trials; what was asked tells them apart."""
        listed = {j.prompt.startswith(f"{listwise.PROMPT}@") for j in judgements if j.prompt}
        if listed - {self.mode == "listwise"}:
            raise ArtifactError(f"reward of {reply.id}: judgements of another mode than {self.mode}")

    def _check_criteria(self, criteria: Criteria) -> None:
        wanted, there = {d.name for d in self.dimensions}, [name for name, _ in criteria.items]
        if len(there) != len(wanted) or wanted != set(there):
            raise ArtifactError(
                f"criteria: {criteria.id} is for {', '.join(there)}, not for {', '.join(sorted(wanted))}"
            )


class _Guidance(PereGRM):
    """The judge of flagged cases, by the criteria of safe guidance as they are shipped."""

    def _other_for(self, case: Case) -> PereGRM | None:
        return None

    def _check_criteria(self, criteria: Criteria) -> None:
        if criteria.items != guidance_items():
            raise ArtifactError(
                f"criteria: {criteria.id}: its case is flagged and judged by the criteria of safe guidance alone; have them made again"
            )


def _known(criteria: Criteria | None) -> Criteria:
    if criteria is None:
        raise TypeError("this mode judges by criteria")
    return criteria
