"""What the tests of benchmarks share: the means of an outcome."""

from __future__ import annotations

from peregrm.evaluation.benchmarks.common import Outcome

__all__ = ["means"]


def means(outcome: Outcome) -> dict[str, float | None]:
    """Return the mean of each metric by its name; none where nothing could be scored."""
    return {metric.name: metric.estimate.mean for metric in outcome.result.metrics}
