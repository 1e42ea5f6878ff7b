"""Which reward a command was asked for: its flags, else what the run was told, else the settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peregrm.pipeline.session import load_config
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings

__all__ = ["policy_model", "reward_options"]


def reward_options(
    settings: Settings, judges: Sequence[str] | None, reward: str, dataset: Path | None = None
) -> RewardOptions:
    """Return the options of the reward called `reward`.

    The judges are those given, else that of the settings, else that of the run whose folder `dataset` is, else the settings' model.
    """
    asked = settings.run
    before = load_config(dataset).judge if dataset is not None and (dataset / "run.json").exists() else None
    return RewardOptions(
        reward=reward,
        judges=tuple(judges or [asked.judge or before or asked.model]),
        samples=asked.samples,
        quorum=asked.quorum,
        bystander_weight=asked.bystander_weight,
        temperature=asked.judge_temperature,
        seed=asked.seed,
        reasons=asked.reasons,
        criteria=asked.criteria,
    )


def policy_model(settings: Settings, dataset: Path) -> str:
    """Return the model that answers cases: that of the settings where one is named, else that of the run whose folder `dataset` is."""
    named = "model" in settings.run.model_fields_set
    before = load_config(dataset).model if (dataset / "run.json").exists() else None
    return settings.run.model if named or before is None else before
