"""What a reward is asked to be: one set of options for commands, trainers and the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from peregrm.records import Part
from peregrm.reward.guards import Guards

__all__ = ["RewardOptions"]


class RewardOptions(Part):
    """A reward by name, its judges and its rules. Field meanings and defaults are those of `peregrm.reward.peregrm.PereGRM`."""

    reward: str = "shared"
    """A mode of PereGRM, a rival or an ablation: see `peregrm.reward.factory.reward_names`."""

    judges: tuple[str, ...] = ()
    """One judge, or several to be pooled, each as `--judge` takes it. None: whoever opens the reward gives them."""

    samples: Annotated[int, Field(ge=1)] = 1
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    bystander_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    seed: Annotated[int, Field(ge=0)] = 0

    reasons: Literal["auto", "yes", "no"] = "auto"
    """`auto`: all judges but the embedded one are asked for a sentence before their scores."""

    criteria: Literal["auto", "model", "composed", "fixed", "none"] = "auto"
    """`auto`: written by the judge; for the embedded one put together without a model, or fixed for other dimensions than empathy."""

    dimensions: str = "empathy"
    """A shipped set of dimensions or a file that defines one."""

    guards: Guards = Guards()

    cache: Path | None = None
    """SQLite file of the call cache. None: nothing is kept."""
