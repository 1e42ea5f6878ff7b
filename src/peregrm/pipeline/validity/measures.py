"""The scores of one reply as rows hold them: every measure by its name."""

from __future__ import annotations

from peregrm.reward.base import Scored

__all__ = ["SEED_STRIDE", "failure_of", "measures_of"]

SEED_STRIDE = 100_003
"""What lies between the seeds of two repeats: trials of one call count up from its seed, and no two repeats may share one."""


def measures_of(scored: Scored) -> tuple[tuple[str, float | None], ...]:
    """Return the dimensions or whatever the reward names, then empathy and total; None where there is no score."""
    return (*scored.reward.scores, ("empathy", scored.empathy), ("total", scored.total))


def failure_of(scored: Scored) -> str | None:
    """Return the kind of failure where there is no total."""
    return None if scored.failure is None else scored.failure.kind
