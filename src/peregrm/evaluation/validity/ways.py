"""Which options count for what a reward gives: two rewards of one way are one measurement, whatever else they were told.

Left out on purpose: seed and quorum, which a card is meant to speak beyond, and the limit of a guard that costs nothing.
"""

from __future__ import annotations

from peregrm.dimensions import EMPATHY
from peregrm.evaluation.validity.card import Way
from peregrm.records import content_id
from peregrm.reward.base import RewardModel
from peregrm.reward.guards import Guards
from peregrm.reward.heads.judge import HeadReward
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.pool import Pool
from peregrm.reward.rivals.common import Rival
from peregrm.reward.rivals.scalar import Scalar
from peregrm.reward.variants import asks_reasons

__all__ = ["way_of"]


def way_of(reward: RewardModel) -> Way:
    """Return how a reward asks its judge; opens no judge. Of a pool it is the way of the first member."""
    if isinstance(reward, Pool):
        return way_of(reward.members[0])
    if isinstance(reward, HeadReward):
        return Way(guards=_guards(reward.guards))
    if isinstance(reward, PereGRM):
        return Way(
            dimensions=_dimensions(reward),
            criteria="model" if reward.mode == "paper" else reward.criteria,
            samples=reward.samples,
            temperature=_temperature(reward.samples, reward.temperature),
            reasons=reward.reasons,
            bystander_weight=reward.bystander_weight,
            guards=_guards(reward.guards),
        )
    if isinstance(reward, Rival) and not isinstance(reward, Scalar):
        options = reward.options
        return Way(
            samples=options.samples,
            temperature=_temperature(options.samples, options.temperature),
            reasons=asks_reasons(options, reward.judge),
            bystander_weight=options.bystander_weight,
            guards=_guards(options.guards),
        )
    return Way(guards=_guards(reward.options.guards)) if isinstance(reward, Scalar) else Way()


def _temperature(samples: int, temperature: float) -> float:
    """Return the temperature of the trials: one alone is drawn at 0."""
    return temperature if samples > 1 else 0.0


def _guards(guards: Guards) -> Guards:
    return guards if guards.length_coefficient else guards.model_copy(update={"length_limit": Guards().length_limit})


def _dimensions(reward: PereGRM) -> str:
    """Return the names of the dimensions, with a hash of their wording; `empathy` for the usual ones."""
    if reward.dimensions == EMPATHY:
        return Way().dimensions
    names = ", ".join(dimension.name for dimension in reward.dimensions)
    return f"{names} ({content_id('dim', reward.dimensions).removeprefix('dim-')[:8]})"
