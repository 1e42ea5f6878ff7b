"""`peregrm train grpo --dry-run`: what a training would take and ask for. No weights are loaded, no judge is asked, nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from peregrm.errors import InputError, SettingsError
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import model_name, prices
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.reply_files import Dataset, read_dataset
from peregrm.pipeline.scoring import give_criteria
from peregrm.pipeline.training import NO_ROOM_HELD_OUT, GroupTraining, cases_told, check_training
from peregrm.pipeline.training_material import training_cases
from peregrm.records import Case, Part
from peregrm.reward.base import COMPARING
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.rivals.scalar import Scalar
from peregrm.settings import Settings
from peregrm.training.plan import TrainingPlan, plan_judging, plan_training, shape_of
from peregrm.training.policies import outline_policy, training_library
from peregrm.training.rows import prompt_rows

__all__ = ["PlannedTraining", "plan_group"]


class PlannedTraining(Part):
    """The training itself, and what judges would be asked at most.

    `told` is what to know before: warnings, how many cases are used, withheld and held out, and what had no room in the prompts.
    """

    training: TrainingPlan
    calls: tuple[PlannedCalls, ...]
    told: tuple[str, ...]


def plan_group(dataset: Path, asked: GroupTraining, settings: Settings) -> PlannedTraining:
    """Plan a group training.

    Raises `InputError` where nothing is left to train on, `SettingsError` where the policy cannot be read or has no room for a prompt, or
    the training itself would refuse what is asked for.
    """
    said = check_training(asked, settings)
    cases, known = training_cases(dataset), read_dataset(dataset, asked.reward.dimensions)
    policy = outline_policy(asked.model, lora=asked.settings.lora)
    room = policy.context - asked.settings.max_new_tokens
    if room < 1:
        raise SettingsError(
            f"{policy.name}: a context of {policy.context} tokens has no room for a prompt beside the new tokens"
        )
    rows = prompt_rows(cases.train, policy.tokenizer, setting=asked.settings.setting, room=room)
    if not rows.rows:
        raise InputError(f"{dataset}: no prompt fits the policy ({'; '.join(rows.told())})")
    held_out = cases.validation if asked.held_out is not None else []
    outside = prompt_rows(held_out, policy.tokenizer, setting=asked.settings.setting, room=room)
    told = [*said, *cases_told(cases, asked), *rows.told()]
    if held_out and not outside.rows:
        told.append(NO_ROOM_HELD_OUT)
    plan = plan_training(
        shape_of(policy.model, device="cuda" if training_library("torch").cuda.is_available() else "cpu"),
        rows.rows,
        outside.rows,
        asked.settings,
        asked.pace,
        from_gguf=policy.base == "embedded" or policy.base.startswith("gguf:"),
    )
    judged = [row.case for row in rows.rows], [row.case for row in outside.rows]
    calls = asyncio.run(_calls(asked, known, judged, plan, settings))
    return PlannedTraining(training=plan, calls=tuple(calls), told=tuple(told))


async def _calls(
    asked: GroupTraining,
    known: Dataset,
    cases: tuple[Sequence[Case], Sequence[Case]],
    plan: TrainingPlan,
    settings: Settings,
) -> list[PlannedCalls]:
    tokens, trained = asked.settings.max_new_tokens, cases[0]
    found: list[PlannedCalls] = []

    async def judge(
        options: RewardOptions, specs: Sequence[str], some: Sequence[Case], replies: int, visits: float
    ) -> None:
        judges = [PlanningModel(model_name(spec, settings)) for spec in specs]
        reward = open_reward(options, tuple(judges))
        give_criteria(reward, known)
        await plan_judging(reward, judges, some, replies=replies, visits=visits, reply_tokens=tokens)
        await reward.aclose()
        found.extend(planned_calls(judges, prices(specs, settings)))

    if asked.reward.reward != Scalar.method:  # its classifier is asked nothing that would be counted
        visits = plan.steps * asked.settings.batch / len(trained)
        await judge(asked.reward, asked.reward.judges, trained, asked.settings.rollouts, visits)
    if asked.held_out is not None and cases[1]:
        shared = asked.reward.model_copy(update={"reward": "shared", "judges": (asked.held_out,)})
        await judge(shared, (asked.held_out,), cases[1], 1, plan.evaluations)
        if asked.reward.reward not in COMPARING | {Scalar.method}:  # the training judge reads these replies too
            await judge(asked.reward, asked.reward.judges, cases[1], 1, plan.evaluations)
    return _together(found)


def _together(rows: Sequence[PlannedCalls]) -> list[PlannedCalls]:
    """Return one row a model and purpose."""
    sums: dict[tuple[str, str], PlannedCalls] = {}
    for row in rows:
        before = sums.get((row.model, row.purpose))
        sums[row.model, row.purpose] = row if before is None else _sum(before, row)
    return list(sums.values())


def _sum(one: PlannedCalls, other: PlannedCalls) -> PlannedCalls:
    return one._replace(
        calls=one.calls + other.calls,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost=None if one.cost is None or other.cost is None else one.cost + other.cost,
    )
