"""Measuring whether the order of policies holds: the replies there are, scored under every construction of their cases that can be made.

Raw rows go to `robustness/scores.jsonl`, the cases of every construction beside them. A user who lacks one construction is left out of
all, so that every construction is measured on the same users; a construction that would leave fewer than half of them is left out instead.
Criteria that came with the dataset are not used: they would be another difference between it and the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peregrm.evaluation.inference.paired import check_installed
from peregrm.evaluation.validity.card import Finding
from peregrm.evaluation.validity.robustness import RobustnessRows, ScoredRow, robustness
from peregrm.mapping import map_in_order
from peregrm.pipeline.material import choose_cases, honest_replies
from peregrm.pipeline.validity.constructions import BASE, Constructions, case_under, make_constructions
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.personas import open_maker
from peregrm.pipeline.validity.swapping import answering
from peregrm.records import Case, History, Reply
from peregrm.reward.base import RewardModel
from peregrm.store import write_records

__all__ = ["measure", "measure_with"]

_LEAST_SHARE = 0.5


async def measure(context: Context) -> Finding:
    """Measure it with the histories behind the context's cases, where they are there."""
    return await measure_with(context, context.material.histories)


async def measure_with(context: Context, histories: Sequence[History]) -> Finding:
    """Score the replies of the chosen cases under every construction; raises `DependencyError` where statsmodels is not installed."""
    check_installed()
    replies = honest_replies(context.material)
    chosen = choose_cases(
        [case for case in context.material.dataset.cases.values() if len(replies.get(case.id, ())) > 1],
        context.cases,
        context.seed,
    )
    found = await make_constructions(context, open_maker(context), chosen, histories)
    users = _shared_users(found, {case.user_id for case in chosen})
    cases = [case for case in chosen if case.user_id in users]
    made = {BASE: {case.id: case for case in cases}}
    for name, by_user in found.made.items():
        made[name] = {case.id: case_under(case, by_user[case.user_id]) for case in cases}
    rows = await _score(context, made, replies) if len(made) > 1 else []
    folder = context.out / "robustness"
    write_records(folder / "scores.jsonl", rows)
    write_records(
        folder / "cases.jsonl", {case.id: case for group in made.values() for case in group.values()}.values()
    )
    data = (
        f"{len(cases)} cases of {len(users)} users; policies: {', '.join(sorted({row.policy for row in rows})) or 'none'}",
        f"constructions: {', '.join(made)}",
    )
    return robustness(RobustnessRows(rows=rows, data=data, notes=found.notes), seed=context.seed)


def _shared_users(found: Constructions, users: set[str]) -> set[str]:
    """Return the users that every construction left has; those with too few users are taken out and noted."""
    for name in [
        name for name, by_user in found.made.items() if len(users & by_user.keys()) < _LEAST_SHARE * len(users)
    ]:
        count = len(users & found.made.pop(name).keys())
        found.notes.append(f"{name}: there for {count} of {len(users)} users only, and left out.")
    return {user for user in users if all(user in by_user for by_user in found.made.values())}


async def _score(
    context: Context, made: Mapping[str, Mapping[str, Case]], replies: Mapping[str, Sequence[Reply]]
) -> list[ScoredRow]:
    reward = context.open()
    tasks = [(name, case_id, case) for name, cases in made.items() for case_id, case in cases.items()]

    async def score(task: tuple[str, str, Case]) -> list[ScoredRow]:
        name, case_id, case = task
        return await _rows(reward, name, case_id, case, replies[case_id])

    try:
        groups = await map_in_order(
            score, tasks, stage="constructions", progress=context.progress, at_once=context.at_once
        )
    finally:
        await reward.aclose()
    return [row for group in groups for row in group]


async def _rows(reward: RewardModel, name: str, case_id: str, case: Case, replies: Sequence[Reply]) -> list[ScoredRow]:
    scored = await reward.score(case, [answering(case, reply) for reply in replies])
    return [
        ScoredRow(construction=name, user=case.user_id, case_id=case_id, policy=one.reply.policy, score=one.total)
        for one in scored
    ]
