"""The reward of this launch, as verl loads it: `reward.custom_reward_function.path`.

The scoring itself is `peregrm.reward.adapters.verl`, whose settings stand in `reward_kwargs` of `grpo.yaml` and arrive with every call.
This file adds what a launch has: the case out of `extra_info`, another judge for validation rows, and a line in `rewards.jsonl` for every
row, since verl's trainer logs the parts of a reward in validation alone. A row that the judge failed on is such a line too (`judge_failed`:
1, `score`: null); the exception then goes on to verl, and no number takes the reward's place.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peregrm.errors import InputError, PeregrmError
from peregrm.records import Failure
from peregrm.replies import split_thinking
from peregrm.reward.adapters import verl as adapter
from peregrm.reward.adapters.common import Unscored

__all__ = ["compute_score"]

_HERE = Path(__file__).resolve().parent


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    *,
    judge: str,
    held_out_judge: str | None = None,
    log: str | None = None,
    opened: str = "",
    **settings: Any,
) -> dict[str, Any]:
    """Return what the adapter returns for one row, having written it to `log`.

    Args:
        data_source: verl's name of the set.
        solution_str: The policy's raw output, thinking included.
        ground_truth: The id of the case.
        extra_info: The row's own: `case` (its JSON text), `split`, and whatever verl adds.
        judge: Who judges, as `--judge` takes it.
        held_out_judge: Who judges validation rows instead; None: the same judge.
        log: A file of JSON lines that every row is added to; None: nothing is kept.
        opened: What the prompt ended with, if the policy's chat template opens its thinking there.
        settings: The adapter's, `on_failure` and `deadline_s` among them.

    Raises what the adapter raises; `InputError` for a row that this launch did not write.
    """
    known = extra_info or {}
    if "case" not in known:
        raise InputError(f"row {ground_truth!r}: there is no case in its extra_info")
    _settings_file_counts()
    output = opened + solution_str
    held_out = held_out_judge is not None and known.get("split") == "validation"
    row = {"case_id": ground_truth, "split": known.get("split"), "judge": held_out_judge if held_out else judge}
    try:
        answer = await adapter.compute_score(
            data_source, output, known["case"], dict(known), judge=row["judge"], **settings
        )
    except Unscored as error:
        _keep(log, {**row, **_failed(output, error.failure)})
        raise
    except PeregrmError as error:
        failure = Failure(stage="reward", kind=str(getattr(error, "kind", type(error).__name__)), reason=str(error))
        _keep(log, {**row, **_failed(output, failure)})
        raise
    _keep(log, {**row, **answer})
    return answer


def _settings_file_counts() -> None:
    """Make the `peregrm.toml` of this folder the one in force, wherever Ray has started this process, which does nothing else."""
    if (_HERE / "peregrm.toml").is_file() and Path.cwd() != _HERE:
        os.chdir(_HERE)


def _failed(output: str, failure: Failure) -> dict[str, Any]:
    """Return what is kept of a row without a reward: thinking that never ended is the policy's failure, all else the judge's."""
    of_policy = not split_thinking(output).closed
    return {
        "score": None,
        "judge_failed": float(not of_policy),
        "no_reply": float(of_policy),
        "failure": failure.kind,
        "reason": failure.reason,
    }


def _keep(log: str | None, row: Mapping[str, Any]) -> None:
    if log is None:
        return
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    with Path(log).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(plain, ensure_ascii=False) + "\n")
