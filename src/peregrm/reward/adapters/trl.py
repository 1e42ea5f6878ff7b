"""The reward as a TRL reward function: `GRPOTrainer(reward_funcs=trl_reward(reward), ...)`.

TRL hands over whole batches, so groups are scored as groups and every reward can be used. A row without a reward is None: TRL takes it
out of the group's mean and gives it no advantage. Only a fatal error of the judge (a refused key, an address where nobody ever
answered), a case column that cannot be read and settings that make no sense are raised, and these stop the training.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from peregrm.errors import InputError
from peregrm.reward.adapters.common import CaseReader, Outcome, Row, last_reply, score_rows
from peregrm.reward.base import RewardModel

__all__ = ["TrlReward", "trl_reward"]

TrlReward = Callable[..., Awaitable[list[float | None]]]
"""What TRL calls with `prompts`, `completions`, `completion_ids`, every column of the training set, `log_metric` and `log_extra`."""

PREFIX = "peregrm/"


def trl_reward(
    reward: RewardModel,
    *,
    case_column: str = "case",
    dataset: str | Path | None = None,
    deadline_s: float | None = None,
    no_reply_score: float | None = None,
    opened: str = "",
) -> TrlReward:
    """Return a TRL reward function; its `__name__`, which TRL logs, is `peregrm_` and the reward's method.

    Args:
        reward: Any reward; it stays open, and is closed by whoever made it.
        case_column: The column of the training set that holds the case: its fields, their JSON text, or its id.
        dataset: The folder of a dataset, to look case ids up in.
        deadline_s: Seconds for one batch; groups that are not done by then have no reward. None: as long as the judge takes.
        no_reply_score: What a completion scores whose thinking never ended, so that there is no reply. None: it has no reward.
        opened: What stands before every completion: the tag of thinking that the policy's chat template opens in the prompt, as
            `peregrm.replies.opened_thinking` finds it. Without it, thinking that began there and never ended is read as a reply.
    """
    cases = CaseReader(None if dataset is None else Path(dataset))

    async def score(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        if case_column not in columns:
            raise InputError(f"the training set has no column {case_column!r} that says which case a prompt is")
        rows = [
            Row(cases.read(value), opened + last_reply(completion))
            for value, completion in zip(columns[case_column], completions, strict=True)
        ]
        outcomes = await score_rows(reward, rows, deadline_s=deadline_s, no_reply_score=no_reply_score)
        if log_metric is not None:
            for name, value in batch_means(outcomes).items():
                log_metric(PREFIX + name, value)
        if log_extra is not None:
            for name, values in table_columns(outcomes).items():
                log_extra(PREFIX + name, values)
        return [outcome.total for outcome in outcomes]

    score.__name__ = score.__qualname__ = re.sub(r"\W+", "_", f"peregrm_{reward.method}")
    return score


def batch_means(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return the means over a batch, each over the rows that have the value; a value that no row has is left out.

    `coverage` is the mean over rows that have a reply to judge, `failed` the share of rows without a total. Rows of flagged cases, whose
    share is `flagged`, are judged by safe guidance alone: their mean is `flagged_total` and they are in neither `total` nor `empathy`.
    """
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in _values(outcome).items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: sum(present) / len(present) for name, present in values.items()}


def _values(outcome: Outcome) -> dict[str, float | None]:
    scored = outcome.scored
    flagged = scored is not None and scored.flagged
    flags: dict[str, float | None] = {
        "flagged_total" if flagged else "total": outcome.total,
        "failed": float(outcome.total is None),
        "no_reply": float(outcome.no_reply),
        "flagged": float(flagged),
    }
    if scored is None:
        return {**flags, "coverage": 0.0}
    if outcome.no_reply:
        return flags
    parts = {"empathy": None if flagged else scored.empathy, "bystander": scored.bystander, "coverage": scored.coverage}
    return {**flags, **parts, **scored.scores, **dict(scored.reward.measured)}


def table_columns(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """Return the columns for TRL's table of completions: the same ones for every batch, as the table demands."""
    return {
        "total": [outcome.total for outcome in outcomes],
        "empathy": [outcome.scored and outcome.scored.empathy for outcome in outcomes],
        "bystander": [outcome.scored and outcome.scored.bystander for outcome in outcomes],
        "scores": [json.dumps(outcome.scored.scores if outcome.scored else {}) for outcome in outcomes],
        "failure": [outcome.failure.kind if outcome.failure else "" for outcome in outcomes],
    }
