"""What the folder of a group training remembers: what was asked for, what each process spent, and how it ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from peregrm.errors import ArtifactError, SettingsError
from peregrm.records import Part
from peregrm.reward.options import RewardOptions
from peregrm.store import read_one, replace_text
from peregrm.training.careful import last_checkpoint
from peregrm.training.grpo.settings import GroupSettings
from peregrm.training.grpo.trainer import CHECKPOINTS, REFERENCE

__all__ = ["POLICY", "Sessions", "Trained", "TrainingRun", "begun", "finish"]

POLICY = "policy"
RUN = "run.json"
RESULT = "result.json"
LEDGER = "ledger.json"


class TrainingRun(Part):
    """What decides the weights.

    `material` is a hash of cases and criteria, `judges` names judges with the hash of one that is a file, and `weights` is the model's
    `peregrm.training.policies.fingerprint`.
    """

    kind: Literal["group training"] = "group training"
    model: str
    weights: str
    material: str
    judges: tuple[str, ...]
    reward: RewardOptions
    settings: GroupSettings


class Trained(Part):
    """What came out: steps in all, prompts, and the folder of the policy, which the `--model` of another training takes."""

    steps: int
    prompts: int
    policy: str


def begun(out: Path, run: TrainingRun) -> Trained | None:
    """Return how this run ended in the folder `out` before, None where it did not; what was asked for is kept there.

    A run that left no checkpoint binds nobody, and the policy as that one began goes with it.

    Raises `SettingsError`, naming what differs, where the folder holds another run, and `ArtifactError` where its files are damaged.
    """
    path, result = out / RUN, out / RESULT
    before = _read(path, out)
    others = [] if before is None else _differences(before.model_dump(), run.model_dump())
    bound = result.exists() or last_checkpoint(out / CHECKPOINTS) is not None
    if others and bound:
        raise SettingsError(
            f"{out} holds another training ({'; '.join(others)}), which this one cannot go on with: name another folder with --out"
        )
    if before is None or others:
        if not bound:
            shutil.rmtree(out / REFERENCE, ignore_errors=True)
        replace_text(path, run.model_dump_json(indent=1) + "\n")
    return read_one(result, Trained) if result.exists() else None


def _read(path: Path, out: Path) -> TrainingRun | None:
    if not path.exists():
        return None
    try:
        return TrainingRun.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError):
        raise SettingsError(f"{path} is not of such a training: name another folder than {out} with --out") from None


def finish(out: Path, done: Trained) -> None:
    """Note that the policy of a run was written."""
    replace_text(out / RESULT, done.model_dump_json(indent=1) + "\n")


class Sessions:
    """Keeps in `ledger.json` what every process that worked on a run spent; this one's entry is the last."""

    def __init__(self, out: Path) -> None:
        self._path = out / LEDGER
        try:
            self._before = json.loads(self._path.read_text("utf-8"))["sessions"] if self._path.exists() else []
        except (ValueError, KeyError, TypeError):
            raise ArtifactError(f"{self._path}: damaged; delete it to go on without what was spent before") from None

    def keep(self, spent: dict[str, Any]) -> None:
        """Keep what this process spent so far."""
        replace_text(self._path, json.dumps({"sessions": [*self._before, spent]}, indent=1) + "\n")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    found = []
    for name, value in now.items():
        if isinstance(value, dict) and isinstance(before.get(name), dict):
            found += _differences(before[name], value)
        elif before.get(name) != value:
            told = f"{name} {before.get(name)!r}, not {value!r}"
            found.append({"material": "other cases or criteria", "weights": "the model is another one"}.get(name, told))
    return found
