"""Reliability, asked: the same replies scored again, in other orders, by other criteria, by other judges.

The honest replies to each chosen case are scored three times with seeds far apart, as the reward asks (a reward of one trial asks at
temperature 0, so this is the noise of the endpoint; with `samples` above 1 it is that of their mean). Then once each, compared with the
first time: the group in reverse order; the criteria of the case in another order, drawn by the seed; and, where a model writes criteria, a
set written anew at temperature 0.7. Other judges score by the first one's criteria, so that they differ in the judging alone. What does
not apply to a reward is not asked, and the finding says so. Flagged cases are left out.

Places are read from what the reward asks anyway: listwise shows every group in both orders, pairwise every pair. A reward that judges
each reply in a call of its own has no places; its reversed group shows that the batch does not matter, and is answered from the call cache.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from peregrm.evaluation.validity.card import Finding
from peregrm.evaluation.validity.reliability import BASE, Placed, Rescored, reliability
from peregrm.evaluation.validity.reliability_words import reliability_finding
from peregrm.mapping import map_in_order
from peregrm.models.parsing import UNUSABLE
from peregrm.pipeline.material import choose_cases, honest_replies
from peregrm.pipeline.scoring import give_criteria
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.measures import SEED_STRIDE, failure_of, measures_of
from peregrm.pipeline.validity.placing import places_of
from peregrm.records import Case, Criteria, Judgement, Reply, content_id
from peregrm.reward.base import COMPARING, RewardModel, Scored
from peregrm.reward.criteria import write_criteria
from peregrm.reward.peregrm import PereGRM
from peregrm.store import write_records

__all__ = ["REPEATS", "measure", "reordered"]

REPEATS = 3

REVERSED = "the group in reverse order"
REORDERED = "the criteria in another order"
REWRITTEN = "criteria written anew"

_FIRST_ATTEMPT, _ATTEMPTS = 101, 3
"""The trials by which criteria are written anew: none of those that a reward itself uses."""


@dataclass
class _Judged:
    rows: list[Rescored] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    criteria: list[Criteria] = field(default_factory=list)


@dataclass(frozen=True)
class _Rewards:
    """The reward once for each repeat, and that of each other judge by its name."""

    repeats: list[RewardModel]
    again: RewardModel
    others: dict[str, RewardModel]

    def all(self) -> list[RewardModel]:
        return [*self.repeats, self.again, *self.others.values()]


async def measure(context: Context) -> Finding:
    """Score the replies in all these ways; rows, judgements and criteria are in the folder `reliability`.

    Raises a fatal `ModelError`, `SettingsError` where options do not fit.
    """
    groups = honest_replies(context.material)
    cases = choose_cases([context.material.dataset.cases[key] for key in groups], context.cases, context.seed)
    rewards = _open(context)

    async def one(case: Case) -> _Judged:
        return await _judge(rewards, case, groups[case.id], context)

    try:
        judged = await map_in_order(one, cases, stage="reliability", progress=context.progress, at_once=context.at_once)
    finally:
        for reward in rewards.all():
            await reward.aclose()
    rows = [row for each in judged for row in each.rows]
    placed = [row for each in judged for row in each.placed]
    folder = context.out / "reliability"
    write_records(folder / "rows.jsonl", rows)
    write_records(folder / "places.jsonl", placed)
    write_records(folder / "judgements.jsonl", {j.id: j for each in judged for j in each.judgements}.values())
    write_records(folder / "criteria.jsonl", {c.id: c for each in judged for c in each.criteria}.values())
    model = context.judges[0]
    found = reliability(
        rows,
        placed,
        judge=context.options.judges[0] if model is None else model.name,
        others=list(rewards.others),
        scale=_scale(rewards.again),
        seed=context.seed,
    )
    users = len({case.user_id for case in cases})
    flagged = sum(bool(case.flags) for case in context.material.dataset.cases.values())
    data = [f"{len(cases)} cases of {users} users, {len({(r.case_id, r.reply_id) for r in rows})} replies"]
    data += [f"{flagged} cases left out: flagged"] if flagged else []
    return reliability_finding(found, data=data, notes=_notes(rewards.again, context))


def _open(context: Context) -> _Rewards:
    seed = context.options.seed
    repeats = [context.open(seed=seed + SEED_STRIDE * n) for n in range(REPEATS)]
    others: dict[str, RewardModel] = {}
    for place, spec in enumerate(context.options.judges[1:], start=1):
        model = context.judges[place]
        others[spec if model is None else model.name] = context.open(place)
    first = repeats[0]
    give_criteria(first, context.material.dataset)
    for other in (*repeats[1:], *others.values()):
        if isinstance(first, PereGRM) and isinstance(other, PereGRM):
            other.criteria_of = first
    return _Rewards(repeats, context.open(), others)


async def _judge(rewards: _Rewards, case: Case, replies: Sequence[Reply], context: Context) -> _Judged:
    judged = _Judged()
    first = rewards.repeats[0]

    async def ask(way: str, scoring: Awaitable[list[Scored]]) -> None:
        scored = await scoring
        judged.rows += [_row(case, way, one) for one in scored]
        judged.judgements += [judgement for one in scored for judgement in one.judgements]
        if way == BASE:
            judged.placed.extend(places_of(rewards.again, case, scored))

    for number, reward in enumerate(rewards.repeats):
        await ask(f"repeat {number}", reward.score(case, replies))
    await ask(REVERSED, first.score(case, replies[::-1]))
    for way, criteria in await _other_criteria(first, rewards.again, case, context.seed):
        judged.criteria.append(criteria)
        await ask(way, _score_by(rewards.again, case, criteria, replies))
    for name, reward in rewards.others.items():
        await ask(f"judge {name}", reward.score(case, replies))
    return judged


async def _other_criteria(first: RewardModel, again: RewardModel, case: Case, seed: int) -> list[tuple[str, Criteria]]:
    """Return other criteria to judge by, as far as the reward judges by criteria that can be others."""
    if not isinstance(first, PereGRM) or not isinstance(again, PereGRM):
        return []
    own = await first.criteria_for(case)
    if own is None:
        return []
    found: list[tuple[str, Criteria]] = []
    if own.failure is not None or any(len(items) > 1 for _, items in own.items):
        found.append((REORDERED, reordered(own, seed)))
    if first.criteria == "model":
        found.append((REWRITTEN, await _rewritten(again, case)))
    return found


async def _score_by(reward: RewardModel, case: Case, criteria: Criteria, replies: Sequence[Reply]) -> list[Scored]:
    """Score by these criteria; criteria that failed leave everything unscored."""
    if not isinstance(reward, PereGRM):
        raise TypeError("only PereGRM judges by given criteria")
    judged = await reward.judge_group(case, criteria, replies)
    return [
        Scored(reply, reward.reward(case, criteria, reply, judgements), tuple(judgements))
        for reply, judgements in zip(replies, judged, strict=True)
    ]


def reordered(criteria: Criteria, seed: int) -> Criteria:
    """Return the criteria with those of each dimension in another order, drawn by the seed; weights go along."""
    items = []
    for name, own in criteria.items:
        order = list(range(len(own)))
        chance = random.Random(content_id("order", [seed, criteria.id, name]))  # noqa: S311
        while len(own) > 1 and order == sorted(order):
            chance.shuffle(order)
        items.append((name, tuple(own[place] for place in order)))
    return criteria.model_copy(update={"items": tuple(items)})


async def _rewritten(reward: PereGRM, case: Case) -> Criteria:
    asking = reward.asking
    for attempt in range(_FIRST_ATTEMPT, _FIRST_ATTEMPT + _ATTEMPTS):
        criteria = await write_criteria(asking.model, case, asking.dimensions, asking.hidden, attempt)
        if criteria.failure is None or criteria.failure.kind not in UNUSABLE:
            break
    return criteria


def _row(case: Case, way: str, scored: Scored) -> Rescored:
    return Rescored(
        user_id=case.user_id,
        case_id=case.id,
        reply_id=scored.reply.id,
        way=way,
        scores=measures_of(scored),
        failure=failure_of(scored),
    )


def _scale(reward: RewardModel) -> str:
    return "comparisons won, 0 to 1" if reward.method == "pairwise" else "the mean of the dimensions, 0.2 to 1"


def _notes(reward: RewardModel, context: Context) -> list[str]:
    """Say what does not apply to this reward, and why."""
    notes: list[str] = []
    comparing = reward.method in COMPARING or (isinstance(reward, PereGRM) and reward.mode == "listwise")
    if not comparing:
        notes.append("Each reply is judged by itself, so there are no places in a group.")
    if not isinstance(reward, PereGRM):
        notes.append("The reward judges by no criteria of the case, so there is no order of them and no other set.")
    elif reward.mode == "paper":
        notes.append("Every call writes criteria of its own, so another set of them is part of the repeats.")
    elif reward.criteria != "model":
        notes.append(
            f"Criteria by the method `{reward.criteria}` are always the same for a case: there is no second set."
        )
    if len(context.options.judges) == 1:
        notes.append("No other judge was named to compare with.")
    if context.options.samples == 1 and context.judges[0] is not None:
        notes.append("One trial a reply is asked at temperature 0: its noise is the endpoint's, not that of sampling.")
    return notes
