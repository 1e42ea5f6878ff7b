"""What the tests that plant a truth share."""

from __future__ import annotations

from peregrm.evaluation.statistics import Estimate

__all__ = ["holds"]


def holds(estimate: Estimate, truth: float) -> bool:
    """Tell whether an estimate, which must have an interval, holds the truth in it."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high
