"""Bootstrap intervals with users as what is drawn, for means and for anything else that is computed from users' values.

A mean gets the bias-corrected and accelerated bootstrap of scipy, over whole users. It needs users to draw from: with 10 of them it held
the truth in 85 to 89 % of simulations, with 20 in 90 to 91 %, where the t interval of `peregrm.evaluation.statistics` did in 90 to 95 %;
from 30 on the two are alike. So below 30 users the t interval stands in its place, which the `Estimate` says by its `interval`.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from peregrm.evaluation.statistics import Estimate, clustered_mean

__all__ = ["MIN_USERS", "RESAMPLES", "bootstrap_mean", "bootstrap_statistic"]

MIN_USERS = 30
"""Users from which on the bootstrap of a mean is trusted."""

_LEAST_USERS = 10
"""Users below which nothing is bootstrapped at all; for what is no mean there is no other interval."""

RESAMPLES = 2000

_DRAWS = 500
"""Resamples for what is no mean: each is a call of its own."""

_AT_ONCE = 100
"""Resamples that are in memory together."""


def bootstrap_mean(
    values: Sequence[tuple[str, float | None]],
    *,
    seed: int,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Return the mean over (user, value) pairs with its bootstrap interval; None values count as not covered.

    With fewer than 30 users, or values that do not differ, the estimate is that of `clustered_mean`. The order of the values makes no
    difference.
    """
    plain = clustered_mean(values, bounds=bounds)
    if plain.users < MIN_USERS or plain.low is None:
        return plain
    groups: dict[str, list[float]] = defaultdict(list)
    for user, value in values:
        if value is not None:
            groups[user].append(value)
    ordered = [sorted(groups[user]) for user in sorted(groups)]
    sums = np.array([math.fsum(group) for group in ordered])
    counts = np.array([float(len(group)) for group in ordered])

    low, high = _bca(sums, counts, seed)
    if low is None or high is None:
        return plain
    return plain.model_copy(update={"low": max(low, bounds[0]), "high": min(high, bounds[1]), "interval": "bootstrap"})


def bootstrap_statistic(
    users: int,
    statistic: Callable[[Any], float | None],
    *,
    seed: int,
    asked: int,
    n: int,
    expanded: bool = False,
) -> Estimate:
    """Return a statistic of `users` users with a percentile bootstrap interval over them.

    `statistic` takes an array that says of each user, in an order of the caller's that never changes, how often they were drawn, and
    returns None where there is nothing to compute. `n` of `asked` values go in; there is no interval below ten users, or where more than
    one draw in ten has no value. `expanded` takes the percentiles further out, for what few users cannot show (Hesterberg, The American
    Statistician 69, 2015, section 5): with 10 to 16 users a share of variance was held in 93 to 98 % of simulations, else in 88 to 95 %.
    """
    value = statistic(np.ones(users)) if users else None
    blank = Estimate(mean=value, low=None, high=None, n=n, users=users, asked=asked)
    if value is None or users < _LEAST_USERS:
        return blank
    random = np.random.default_rng(seed)
    draws = (np.bincount(random.integers(users, size=users), minlength=users) for _ in range(_DRAWS))
    drawn = [found for draw in draws if (found := statistic(draw)) is not None]
    if len(drawn) < 0.9 * _DRAWS:
        return blank
    tail = _expanded_tail(users) if expanded else 0.025
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return blank.model_copy(update={"low": float(low), "high": float(high), "interval": "bootstrap"})


def _expanded_tail(users: int) -> float:
    """Return the percentile, 0 to 1, that makes the bootstrap of a mean as wide as its t interval."""
    from scipy import stats

    return float(stats.norm.cdf(math.sqrt(users / (users - 1)) * stats.t.ppf(0.025, users - 1)))


def _bca(sums: Any, counts: Any, seed: int) -> tuple[float | None, float | None]:
    """Return the bounds of the mean of clusters with these sums and counts; None where they cannot be computed."""
    from scipy import stats

    def mean(total: Any, count: Any, axis: int) -> Any:
        return total.sum(axis=axis) / count.sum(axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # said by NaN bounds, read below
        found = stats.bootstrap(
            (sums, counts),
            mean,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=_AT_ONCE,
            confidence_level=0.95,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)
