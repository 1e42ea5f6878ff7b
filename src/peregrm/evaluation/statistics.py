"""Means with intervals that know that cases of one user are not independent.

The interval is the t interval of a cluster-robust (linearised) standard error with users as clusters and users - 1 degrees of
freedom: it widens honestly when users are few, where a bootstrap over two or three users would be far too narrow. With one user,
or users who do not differ at all, there is nothing to estimate it from: there is no interval, and None says so. Formula: Cochran,
Sampling Techniques (1977), section 6.3, the ratio of two cluster totals.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from peregrm.records import Part

__all__ = ["Estimate", "clustered_mean", "half_width", "measures_given"]

_NO_SPREAD = 1e-12
"""A standard error up to this is rounding."""


class Estimate(Part):
    """A mean with all that is needed to read it.

    `n` values of `users` users went in, of `asked` that should have; `coverage` is n / asked. `low` and `high` bound the 95 %
    interval; they are None where there is no interval, `mean` is None where there is no value. `interval` says how it was made.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    users: int
    asked: int
    interval: Literal["t", "bootstrap"] = "t"

    @property
    def coverage(self) -> float | None:
        """Share of the asked-for values that are there, or None where none was asked for."""
        return self.n / self.asked if self.asked else None


def clustered_mean(
    values: Sequence[tuple[str, float | None]], *, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Return the mean over (user, value) pairs with its interval clustered by user; None values count as not covered.

    `bounds` are the least and the greatest value a mean can have, (0, 1) for a share: the interval ends there.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for user, value in values:
        if value is not None:
            groups[user].append(value)
    n = sum(map(len, groups.values()))
    if n == 0:
        return Estimate(mean=None, low=None, high=None, n=0, users=0, asked=len(values))
    mean = math.fsum(math.fsum(group) for group in groups.values()) / n
    half = half_width([math.fsum(value - mean for value in group) for group in groups.values()], n)
    return Estimate(
        mean=mean,
        low=None if half is None else max(mean - half, bounds[0]),
        high=None if half is None else min(mean + half, bounds[1]),
        n=n,
        users=len(groups),
        asked=len(values),
    )


def measures_given(rows: Sequence[Sequence[tuple[str, Estimate]]]) -> list[str]:
    """Return the names of the measures that any of `rows` has a value of, in their order; the total in any case."""
    values = [dict(row) for row in rows]
    names = [name for name, _ in rows[0]] if rows else []
    return [name for name in names if name == "total" or any(row[name].n for row in values)]


def half_width(pulls: Sequence[float], over: int = 1) -> float | None:
    """Return half the width of the 95 % interval of a mean, or None where clusters are fewer than two or do not differ.

    A value of `pulls` over `over` is how far one cluster pulls the mean away from where it is.
    """
    clusters = len(pulls)
    if clusters < 2:
        return None
    variance = clusters / (clusters - 1) * math.fsum(pull * pull for pull in pulls) / over**2
    if variance <= _NO_SPREAD**2:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, clusters - 1)) * math.sqrt(variance)
