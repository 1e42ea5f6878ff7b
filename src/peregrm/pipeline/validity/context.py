"""What every part of a validation is given: cases with replies, the judge, and how to open it in another way.

A plan of the calls is the same measurement with planning models for judges, so a part needs no second code path; it must only bear that
every judgement is unscored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peregrm.evaluation.validity.card import Finding
from peregrm.mapping import Progress
from peregrm.models.base import Model
from peregrm.pipeline.material import Material
from peregrm.reward.base import RewardModel
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings

__all__ = ["Context", "Measure"]


@dataclass(frozen=True)
class Context:
    """The judge under test is the first of `options.judges`; others are there to be compared with it.

    `judges` are those judges as opened models, in their order; None stands for one that is no model and is opened by its reward, such as
    a trained head. `pairs` are files of human preferences, `ratings` files of human ratings. `cases` says on how many cases a part
    works at most, `seed` which. A part writes its raw rows under `out`, one file or folder named after the part.
    """

    material: Material
    options: RewardOptions
    settings: Settings
    judges: tuple[Model | None, ...]
    pairs: tuple[Path, ...]
    ratings: tuple[Path, ...]
    cases: int
    seed: int
    out: Path
    progress: Progress

    def open(self, judge: int = 0, **changes: Any) -> RewardModel:
        """Open the reward for one judge alone, with `changes` to its options; the caller closes it.

        Closing it does not close the judge. Raises `SettingsError` where the options do not fit together.
        """
        options = self.options.model_copy(update={"judges": (self.options.judges[judge],), **changes})
        model = self.judges[judge]
        return open_reward(options, None if model is None else (model,))

    @property
    def at_once(self) -> int:
        """How many cases may be under way together without outrunning the judge."""
        known = [model.concurrency for model in self.judges if model is not None]
        return max(1, min(known) // 2) if known else 1


Measure = Callable[[Context], Awaitable[Finding]]
"""One part: asks the judge and says what it found."""
