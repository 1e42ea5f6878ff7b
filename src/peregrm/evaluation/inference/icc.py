"""Intraclass correlation: which share of the variance of ratings is that of what was rated, and not of who rated it or of chance.

Three forms, as McGraw and Wong name them (Psychological Methods 1, 1996, tables 4 and 7), with Shrout and Fleiss' names (Psychological
Bulletin 86, 1979) in brackets: `1` (1,1), one-way: the raters of each target are others, as repeats are; `A,1` (2,1), two-way, absolute
agreement: a rater who is always one point higher agrees less; `C,1` (3,1), two-way, consistency: that rater agrees fully. All are of a
single rating.

There are two intervals. `icc` gives the exact or, for `A,1`, Satterthwaite's interval from F distributions, which takes all targets for
independent. `icc_over_users` draws whole users anew, because replies to one user are not. Left out on purpose: rows with a missing
rating, which both leave out as a whole, and mixed models for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from peregrm.evaluation.inference.intervals import bootstrap_statistic
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part

__all__ = ["Form", "Icc", "RatedTarget", "icc", "icc_over_users", "repeats_for"]

Form = Literal["1", "A,1", "C,1"]

_SAME = 1e-15
"""A mean square up to this is rounding."""


class Icc(Part):
    """One coefficient with its F interval; 1 is perfect, 0 none, below 0 worse than none.

    `value` is None where nothing differs or there are fewer than two targets or raters. `low` and `high` are None there, and where raters
    do not differ at all, for there is nothing to estimate an interval from.
    """

    form: Form
    value: float | None
    low: float | None
    high: float | None
    targets: int
    raters: int


class RatedTarget(NamedTuple):
    """What was rated, by whom it is owned, the group it is compared in, and one rating by each rater, in their order."""

    user: str
    group: str
    ratings: tuple[float, ...]


class _Squares(NamedTuple):
    """Mean squares of targets, raters and error (in form `1` that within targets), and the degrees of freedom of the first and last."""

    targets: float
    raters: float
    error: float
    of_targets: float
    of_error: float


def icc(rows: Sequence[Sequence[float]], form: Form, *, groups: Sequence[int] | None = None) -> Icc:
    """Return the coefficient of complete rows, one a target.

    `groups` are the sizes of groups of rows one after the other, whose means are taken away from their targets, each at the cost of one
    degree of freedom; None: all are one group. Raises `ValueError` where rows are not of one length, or the sizes do not add up to them.
    """
    table = _table(rows)
    n, k = table.shape
    sizes = [n] if groups is None else list(groups)
    if sum(sizes) != n:
        raise ValueError(f"groups of {sum(sizes)} targets, where there are {n}")
    blank = Icc(form=form, value=None, low=None, high=None, targets=n, raters=k)
    if n - len(sizes) < 1 or k < 2:
        return blank
    squares = _squares(table, np.ones(n), form, None if groups is None else np.repeat(np.arange(len(sizes)), sizes))
    value = _value(squares, form, k, n)
    if value is None:
        return blank
    low, high = _f_interval(squares, value, form, n, k)
    return blank.model_copy(update={"value": value, "low": low, "high": high})


def icc_over_users(
    rows: Sequence[RatedTarget], form: Form, *, seed: int, asked: int, within_groups: bool = False
) -> Estimate:
    """Return the coefficient with an interval over users (none below ten of them); `asked` targets should have been there.

    `within_groups` takes away what targets of one group have in common first: how well are they told apart from each other? Only groups
    of two or more targets count then. Raises `ValueError` where rows are not of one length.
    """
    rows = sorted(_in_groups(rows) if within_groups else rows)
    if not rows:
        return Estimate(mean=None, low=None, high=None, n=0, users=0, asked=asked)
    table = _table([row.ratings for row in rows])
    users, owner = np.unique([row.user for row in rows], return_inverse=True)
    groups = np.unique([f"{row.user}\n{row.group}" for row in rows], return_inverse=True)[1] if within_groups else None
    k = table.shape[1]

    def statistic(drawn: Any) -> float | None:
        weights = drawn[owner]
        if k < 2 or weights.sum() < 2:
            return None
        squares = _squares(table, weights, form, groups)
        return _value(squares, form, k, float(weights.sum()))

    return bootstrap_statistic(len(users), statistic, seed=seed, asked=asked, n=len(rows), expanded=True)


def repeats_for(single: float, wanted: float) -> int | None:
    """Return how many ratings must be averaged for a reliability of `wanted`, where one has `single` (Spearman and Brown).

    None where no number does: a single rating that tells nothing.
    """
    if single <= 0:
        return None
    if single >= wanted:
        return 1
    return math.ceil(wanted * (1 - single) / (single * (1 - wanted)) - 1e-9)


def _table(rows: Sequence[Sequence[float]]) -> Any:
    if len({len(row) for row in rows}) > 1:
        raise ValueError("every target needs one rating by each rater")
    return np.array(rows, dtype=float).reshape(len(rows), -1) if rows else np.zeros((0, 0))


def _in_groups(rows: Sequence[RatedTarget]) -> list[RatedTarget]:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts[row.user, row.group] = counts.get((row.user, row.group), 0) + 1
    return [row for row in rows if counts[row.user, row.group] >= 2]


def _squares(table: Any, weights: Any, form: Form, groups: Any) -> _Squares:
    """Return the mean squares of a table whose rows count as often as their weights say."""
    k = table.shape[1]
    n = float(weights.sum())
    means = table.mean(axis=1)
    if groups is None:
        centres, lost = np.full(len(table), weights @ means / n), 1.0
    else:
        sizes = np.bincount(groups, weights)
        totals = np.bincount(groups, weights * means)
        centres = (totals / np.where(sizes > 0, sizes, 1.0))[groups]
        lost = float(sum(weights[np.unique(groups, return_index=True)[1]]))
    between = k * float(weights @ (means - centres) ** 2)
    within = float(weights @ ((table - means[:, None]) ** 2).sum(axis=1))
    columns = weights @ (table - means[:, None]) / n
    of_raters = 0.0 if form == "1" else n * float((columns**2).sum())
    of_error = n * (k - 1) if form == "1" else (n - 1) * (k - 1)
    left = max(n - lost, 1.0)
    return _Squares(between / left, of_raters / (k - 1), (within - of_raters) / of_error, left, of_error)


def _value(squares: _Squares, form: Form, k: int, n: float) -> float | None:
    targets, raters, error, _, _ = squares
    below = targets + (k - 1) * error + (k * (raters - error) / n if form == "A,1" else 0.0)
    return None if below <= _SAME else (targets - error) / below


def _f_interval(squares: _Squares, value: float, form: Form, n: int, k: int) -> tuple[float | None, float | None]:
    from scipy.stats import f

    if squares.error <= _SAME or value >= 1:
        return None, None
    tail = 0.975
    targets, raters, error, of_targets, of_error = squares
    if form != "A,1":
        ratio = targets / error
        least = ratio / f.ppf(tail, of_targets, of_error)
        most = ratio * f.ppf(tail, of_error, of_targets)
        return float((least - 1) / (least + k - 1)), float((most - 1) / (most + k - 1))
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * raters + b * error) ** 2 / ((a * raters) ** 2 / (k - 1) + (b * error) ** 2 / of_error)
    rest = k * raters + (k * n - k - n) * error
    lower, upper = f.ppf(tail, of_targets, freedom), f.ppf(tail, freedom, of_targets)
    low = n * (targets - lower * error) / (lower * rest + n * targets)
    high = n * (upper * targets - error) / (rest + n * upper * targets)
    return float(low), float(high)
