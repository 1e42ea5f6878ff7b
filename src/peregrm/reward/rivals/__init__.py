"""What PereGRM is compared with: other ways to score a reply, behind the same interface.

Prompts are our own throughout; formulas are those of the publications named in each file. PereGRM with the same criteria for every case, or
without one part or another, is in `peregrm.reward.variants`.
"""

from __future__ import annotations

from collections.abc import Callable

from peregrm.models.base import Model
from peregrm.reward.base import RewardModel
from peregrm.reward.options import RewardOptions
from peregrm.reward.rivals.holistic import Holistic
from peregrm.reward.rivals.pairwise import Pairwise
from peregrm.reward.rivals.perm import Perm
from peregrm.reward.rivals.rlpa import Rlpa
from peregrm.reward.rivals.scalar import Scalar

__all__ = ["RIVALS"]

RIVALS: dict[str, Callable[[RewardOptions, Model | str], RewardModel]] = {
    rival.method: rival for rival in (Perm, Rlpa, Holistic, Pairwise, Scalar)
}
"""Each rival by its name; it is made from options and one judge."""
