"""`peregrm train verl`: from a dataset to the rows of a launch, and what the launch would ask of its judges.

The plan scores a stand-in for every reply by the reward's own code, as every `--dry-run` does. It counts the judge alone: the policy writes
on the launch's own GPUs, and its tokens are said beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import SettingsError
from peregrm.models.heads import is_head
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import describe, model_name, prices
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.training_material import training_cases
from peregrm.records import Case
from peregrm.replies import Setting, opened_thinking
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.rivals.scalar import Scalar
from peregrm.settings import Settings
from peregrm.training.held_out import check_other_judge
from peregrm.training.rows import prompt_rows
from peregrm.training.verl_launch import Launch, LaunchRows, policy_tokenizer

__all__ = ["LaunchPlan", "check_validation_judge", "launch_rows", "placed_judge", "plan_launch", "settings_text"]

_IN_FILES = ("gguf", "head", "local", "scalar")
"""Kinds of judges that are a file or a folder."""


class LaunchPlan(NamedTuple):
    """What a launch would do: steps, prompts and replies of training, validations, the policy's tokens at most, calls at most."""

    steps: int
    prompts: int
    replies: int
    validations: int
    validation_replies: int
    policy_tokens: int
    calls: list[PlannedCalls]


def launch_rows(dataset: Path, launch: Launch, setting: Setting = "memories") -> tuple[LaunchRows, list[str]]:
    """Return the prompts of a launch and what a person should know of them.

    Raises what `training_cases` and `policy_tokenizer` raise, and `SettingsError` where a reply leaves no room for a prompt.
    """
    cases = training_cases(dataset)
    tokenizer, context = policy_tokenizer(launch.model)
    room = context - launch.max_new_tokens
    if room < 1:
        raise SettingsError(
            f"{launch.model} takes {context} tokens, and a reply alone may have {launch.max_new_tokens}"
        )
    parts = [prompt_rows(part, tokenizer, setting=setting, room=room) for part in (cases.train, cases.validation)]
    known = [*parts[0].rows, *parts[1].rows]
    opened = opened_thinking(known[0].rendered(tokenizer)) if known else ""
    rows = LaunchRows(parts[0], parts[1], room, opened)
    withheld = [f"{len(cases.withheld)} flagged cases are not trained on"] if cases.withheld else []
    return rows, [*withheld, *rows.train.told(), *rows.validation.told()]


async def plan_launch(rows: LaunchRows, launch: Launch, options: RewardOptions, settings: Settings) -> LaunchPlan:
    """Return what the launch would do and ask for at most; nothing is asked of any model."""
    steps = rows.steps_per_epoch(launch) * launch.epochs
    replies = steps * launch.batch * launch.rollouts
    validations = 1 + -(-steps // launch.eval_every)  # before the first step, every so many, and after the last
    train, validation = ([row.case for row in part.rows] for part in (rows.train, rows.validation))
    held_out = options.model_copy(update={"judges": (launch.held_out_judge or options.judges[0],)})
    trained = await _asked(train, launch.rollouts, options, settings)
    validated = await _asked(validation, 1, held_out, settings)
    once = sum(row.tokens for row in rows.train.rows), sum(row.tokens for row in rows.validation.rows)
    return LaunchPlan(
        steps=steps,
        prompts=len(train),
        replies=replies,
        validations=validations,
        validation_replies=validations * len(validation),
        policy_tokens=launch.epochs * launch.rollouts * once[0]
        + validations * once[1]
        + (replies + validations * len(validation)) * launch.max_new_tokens,
        calls=[
            *_times("training", launch.epochs, trained),
            *_times("validation", validations, validated),
        ],
    )


async def _asked(cases: Sequence[Case], replies: int, options: RewardOptions, settings: Settings) -> list[PlannedCalls]:
    """Return what judging so many replies to each case asks for, once."""
    if options.reward == Scalar.method or any(map(is_head, options.judges)):
        return []
    judges = tuple(PlanningModel(model_name(spec, settings)) for spec in options.judges)
    reward = open_reward(options.model_copy(update={"cache": None}), judges)
    for case in cases:
        await reward.score(case, [f"{case.query} A reply, number {number} of a plan." for number in range(replies)])
    await reward.aclose()
    return planned_calls(judges, prices(options.judges, settings))


def _times(what: str, times: int, calls: Sequence[PlannedCalls]) -> list[PlannedCalls]:
    return [
        row._replace(
            purpose=f"{what}: {row.purpose}",
            calls=row.calls * times,
            input_tokens=row.input_tokens * times,
            output_tokens=row.output_tokens * times,
            cost=None if row.cost is None else row.cost * times,
        )
        for row in calls
    ]


def placed_judge(spec: str) -> str:
    """Return what `--judge` takes with a path of this machine made absolute: the reward worker starts in another folder."""
    kind, colon, place = spec.partition(":")
    if not colon or kind not in _IN_FILES or not place:
        return spec
    return f"{kind}:{Path(place).expanduser().resolve()}"


def check_validation_judge(options: RewardOptions, launch: Launch, settings: Settings) -> list[str]:
    """Raise `SettingsError` where the judge of the validation prompts is that of the training; return what a person should know besides."""
    if launch.held_out_judge is None:
        return []
    if options.reward != Scalar.method:
        return check_other_judge(options.judges, [launch.held_out_judge], settings)
    if launch.held_out_judge in options.judges:
        raise SettingsError(
            f"{launch.held_out_judge}: it gives the training reward; name a different one for validation"
        )
    return []


def settings_text(options: RewardOptions, launch: Launch, settings: Settings) -> str | None:
    """Return a settings file with the judges that are named by one and nothing else, or None where none is.

    All else that a judge is asked with stands in `grpo.yaml`. Raises `SettingsError` for a judge that is none.
    """
    judges = [judge for judge in (*options.judges, launch.held_out_judge) if judge is not None]
    if options.reward != Scalar.method:
        for judge in judges:
            describe(judge, settings)
    tables = []
    for name in dict.fromkeys(judge for judge in judges if judge in settings.models):
        fields = settings.models[name].model_dump(exclude_unset=True, exclude_none=True)
        lines = [f"{key} = {_toml(value)}" for key, value in fields.items()]
        tables.append("\n".join([f"[models.{_toml(name)}]", *lines, ""]))
    return "\n".join(tables) or None


def _toml(value: Any) -> str:
    """Return a value, or a key, as TOML in one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml(key)} = {_toml(one)}' for key, one in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
