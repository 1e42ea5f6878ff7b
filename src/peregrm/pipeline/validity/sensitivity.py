"""Personal sensitivity, asked: the same replies judged for their user, for another user, and for nobody.

Of each case one reply written for the user is taken (known rank 1, or a policy that saw the person) and one generic reply (a policy that
saw the message alone, else the next rank). Criteria are made anew for every person, as the reward makes them for any case; criteria that
came with the dataset are not used, for there are none for the swapped cases and two ways of making them would be compared. For the own
and the other user everything is judged twice, with seeds apart, which tells noise from the person; a reward without a model behind it is
asked once, for it would only answer the same. Flagged cases are left out, and so are cases of whose user nothing is known, or in whose
language there is nobody else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peregrm.evaluation.validity.card import Finding
from peregrm.evaluation.validity.sensitivity import JudgedAs, Person, Role
from peregrm.evaluation.validity.sensitivity_words import sensitivity_finding
from peregrm.mapping import map_in_order
from peregrm.pipeline.material import choose_cases, honest_replies
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.measures import SEED_STRIDE, failure_of, measures_of
from peregrm.pipeline.validity.swapping import answering, choose_donor, is_known, with_nobody, with_person_of
from peregrm.records import Case, Judgement, Reply
from peregrm.reward.base import RewardModel
from peregrm.reward.peregrm import PereGRM
from peregrm.store import write_records

__all__ = ["REPEATS", "measure", "pick_replies"]

REPEATS = 2

_SAW_THE_PERSON = ("personalized", "memories", "retrieved", "history")
"""Settings of a policy, the most telling first."""

_GENERIC = "generic"


@dataclass(frozen=True)
class _Task:
    case: Case
    donor: Case
    replies: dict[Role, Reply]


@dataclass(frozen=True)
class _Judged:
    cases: list[Case]
    rows: list[JudgedAs]
    judgements: list[Judgement]


async def measure(context: Context) -> Finding:
    """Judge the replies for every person; the rows, cases and judgements are in the folder `sensitivity`.

    Raises a fatal `ModelError`, `SettingsError` where options do not fit.
    """
    tasks, left_out = _tasks(context)
    repeats = REPEATS if context.judges[0] is not None else 1
    rewards = [context.open(seed=context.options.seed + SEED_STRIDE * n) for n in range(repeats)]
    for other in rewards[1:]:
        if isinstance(other, PereGRM) and isinstance(rewards[0], PereGRM):
            other.criteria_of = rewards[0]

    async def one(task: _Task) -> _Judged:
        return await _judge(rewards, task)

    try:
        judged = await map_in_order(one, tasks, stage="sensitivity", progress=context.progress, at_once=context.at_once)
    finally:
        for reward in rewards:
            await reward.aclose()
    rows = [row for each in judged for row in each.rows]
    folder = context.out / "sensitivity"
    write_records(folder / "rows.jsonl", rows)
    write_records(folder / "cases.jsonl", {case.id: case for each in judged for case in each.cases}.values())
    write_records(folder / "judgements.jsonl", {j.id: j for each in judged for j in each.judgements}.values())
    return sensitivity_finding(
        rows, seed=context.seed, data=_data(tasks, context.seed, left_out), notes=_notes(rewards[0], rows)
    )


def _tasks(context: Context) -> tuple[list[_Task], Counter[str]]:
    """Return the chosen cases, each with a donor and replies, and why others are left out."""
    material, left_out = context.material, Counter[str]()
    groups = honest_replies(material)
    everybody = [case for case in material.dataset.cases.values() if not case.flags]
    left_out["flagged"] = len(material.dataset.cases) - len(everybody)
    fitting: dict[str, _Task] = {}
    for case in everybody:
        replies = pick_replies(groups.get(case.id, []), material.ranks)
        donor = choose_donor(case, everybody, context.seed)
        if "personal" not in replies:
            left_out["without a reply written for the user"] += 1
        elif not is_known(case):
            left_out["of a user of whom nothing is known"] += 1
        elif donor is None:
            left_out["without another user of the language"] += 1
        else:
            fitting[case.id] = _Task(case, donor, replies)
    chosen = choose_cases([task.case for task in fitting.values()], context.cases, context.seed)
    return [fitting[case.id] for case in chosen], +left_out


def pick_replies(replies: Sequence[Reply], ranks: Mapping[str, int]) -> dict[Role, Reply]:
    """Return the reply to a case that was written for the user, and the generic one beside it, as far as there are such.

    Where ranks are known the best is the one for the user; else the name of the policy tells the setting it wrote in.
    """
    ranked = sorted((ranks[reply.id], reply.policy, reply.id, reply) for reply in replies if reply.id in ranks)
    named = [(_setting(reply.policy), reply) for reply in replies]
    seen = [reply for wanted in _SAW_THE_PERSON for setting, reply in named if setting == wanted]
    personal = ranked[0][-1] if ranked and ranked[0][0] == 1 else next(iter(seen), None)
    others = [reply for setting, reply in named if setting == _GENERIC and reply is not personal]
    others += [reply for rank, _, _, reply in ranked if rank > 1]
    picked: dict[Role, Reply] = {} if personal is None else {"personal": personal}
    return {**picked, "generic": others[0]} if others else picked


def _setting(policy: str) -> str | None:
    words = set(re.findall(r"[a-z]+", policy.lower()))
    return next((setting for setting in (_GENERIC, *_SAW_THE_PERSON) if setting in words), None)


async def _judge(rewards: Sequence[RewardModel], task: _Task) -> _Judged:
    swapped = with_person_of(task.case, task.donor)
    persons: list[tuple[Person, Case, Sequence[RewardModel]]] = [
        ("own", task.case, rewards),
        ("swapped", swapped, rewards),
        ("none", with_nobody(task.case), rewards[:1]),
    ]
    found = _Judged([case for _, case, _ in persons], [], [])
    for person, case, asked in persons:
        for repeat, reward in enumerate(asked):
            scored = await reward.score(case, [answering(case, reply) for reply in task.replies.values()])
            for (role, reply), one in zip(task.replies.items(), scored, strict=True):
                found.rows.append(
                    JudgedAs(
                        user_id=task.case.user_id,
                        case_id=task.case.id,
                        reply_id=reply.id,
                        policy=reply.policy,
                        role=role,
                        person=person,
                        donor=task.donor.user_id if person == "swapped" else None,
                        repeat=repeat,
                        scores=measures_of(one),
                        failure=failure_of(one),
                    )
                )
                found.judgements.extend(one.judgements)
    return found


def _data(tasks: Sequence[_Task], seed: int, left_out: Counter[str]) -> list[str]:
    policies = {role: sorted({t.replies[role].policy for t in tasks if role in t.replies}) for role in _ROLES}
    said = [
        f"{len(tasks)} cases of {len({task.case.user_id for task in tasks})} users; other users drawn by seed {seed}",
        f"written for the user: {', '.join(policies['personal']) or 'none'}; generic: {', '.join(policies['generic']) or 'none'}",
    ]
    return [*said, *(f"{count} cases left out: {reason}" for reason, count in left_out.items())]


_ROLES: tuple[Role, ...] = ("personal", "generic")


def _notes(reward: RewardModel, rows: Sequence[JudgedAs]) -> list[str]:
    how = "The reward judges by no criteria of the case: only what the judge is shown of the person changed."
    if isinstance(reward, PereGRM):
        how = (
            "Criteria were made anew for every person (every call writes its own)."
            if reward.mode == "paper"
            else f"Criteria were made anew for every person (method `{reward.criteria}`)."
        )
        if reward.criteria in ("fixed", "none") and reward.mode != "paper":
            how = "Criteria are the same for everybody: only what the judge is shown of the person changed."
    once = "Everything was judged once, so noise is not told from the person."
    return [how] if any(row.repeat for row in rows) or not rows else [how, once]
