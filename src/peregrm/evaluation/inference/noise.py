"""How much a judge's score of one reply moves when it is asked again: the noise under every difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

from peregrm.records import Part

__all__ = ["Repeats", "repeat_noise"]


class Repeats(Part):
    """Repeated trials of the same replies by one judge on one measure, on the scale of that measure.

    `deviation` is the pooled standard deviation of single trials around their reply's mean; `share` that of the variance of all
    trials which is noise, 0 to 1 (1 minus the intraclass correlation ICC(1) of the one-way analysis of variance, kept within 0 and 1).
    Both are None where no reply has two scored trials.
    """

    judge: str
    measure: str
    replies: int
    trials: int
    deviation: float | None
    share: float | None


def repeat_noise(trials: Sequence[Sequence[float]], *, judge: str, measure: str) -> Repeats:
    """Return the noise of repeats; `trials` holds the scored trials of each reply, those with fewer than two are left out."""
    repeated = [list(group) for group in trials if len(group) >= 2]
    n = sum(map(len, repeated))
    blank = Repeats(judge=judge, measure=measure, replies=len(repeated), trials=n, deviation=None, share=None)
    if not repeated:
        return blank
    means = [math.fsum(group) / len(group) for group in repeated]
    within = math.fsum((value - mean) ** 2 for group, mean in zip(repeated, means, strict=True) for value in group) / (
        n - len(repeated)
    )
    deviation = math.sqrt(within)
    if len(repeated) < 2:
        return blank.model_copy(update={"deviation": deviation})
    grand = math.fsum(value for group in repeated for value in group) / n
    between = math.fsum(len(group) * (mean - grand) ** 2 for group, mean in zip(repeated, means, strict=True)) / (
        len(repeated) - 1
    )
    size = (n - math.fsum(len(group) ** 2 for group in repeated) / n) / (len(repeated) - 1)
    of_replies = max(0.0, (between - within) / size)
    total = of_replies + within
    return blank.model_copy(update={"deviation": deviation, "share": None if total == 0 else within / total})
