"""How far judges agree on the same replies: Krippendorff's alpha over all of them, rank correlation between every two.

Alpha is for interval data; it counts a difference of level between two judges as disagreement, rank
correlation does not. Both are drawn over users.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from peregrm.evaluation.inference.intervals import bootstrap_statistic
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part

__all__ = ["JudgeAlpha", "JudgePair", "Rated", "alpha_of_judges", "correlate_judges", "interval_alpha", "spearman"]

_SAME = 1e-18
"""A mean squared difference up to this is rounding."""

Rated = tuple[str, Mapping[str, float | None]]
"""The user a reply is for, and each judge's score of it."""


class JudgeAlpha(Part):
    """Krippendorff's alpha (interval) of all judges on one measure; 1 is perfect, 0 what chance gives, below 0 worse. None: no value."""

    measure: str
    judges: tuple[str, ...]
    alpha: Estimate


class JudgePair(Part):
    """Spearman's rank correlation of two judges' scores on one measure, -1 to 1."""

    measure: str
    one: str
    other: str
    rank: Estimate


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rank correlation; None below three pairs or where one side has one value only."""
    if len(pairs) < 3 or len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    from scipy import stats

    return float(stats.spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)


def correlate_judges(rated: Sequence[Rated], judges: Sequence[str], *, measure: str, seed: int) -> list[JudgePair]:
    """Return the rank correlation of every two judges, over the replies both scored."""
    found: list[JudgePair] = []
    for one, other in combinations(judges, 2):
        by_user: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for user, scores in rated:
            a, b = scores.get(one), scores.get(other)
            if a is not None and b is not None:
                by_user[user].append((a, b))
        rank = bootstrap_statistic(
            list(by_user.items()),
            lambda groups: spearman([pair for group in groups for pair in group]),
            seed=seed,
            asked=len(rated),
            n=sum(map(len, by_user.values())),
        )
        found.append(JudgePair(measure=measure, one=one, other=other, rank=rank))
    return found


def alpha_of_judges(rated: Sequence[Rated], judges: Sequence[str], *, measure: str, seed: int) -> JudgeAlpha | None:
    """Return the alpha of two or more judges over the replies that at least two of them scored; None for one judge."""
    if len(judges) < 2:
        return None
    by_user: dict[str, list[list[float]]] = defaultdict(list)
    for user, scores in rated:
        row = [np.nan if (value := scores.get(judge)) is None else float(value) for judge in judges]
        if sum(not np.isnan(value) for value in row) >= 2:
            by_user[user].append(row)
    alpha = bootstrap_statistic(
        list(by_user.items()),
        lambda groups: interval_alpha([row for group in groups for row in group]),
        seed=seed,
        asked=len(rated),
        n=sum(map(len, by_user.values())),
    )
    return JudgeAlpha(measure=measure, judges=tuple(judges), alpha=alpha)


def interval_alpha(rows: Sequence[Sequence[float]]) -> float | None:
    """Return Krippendorff's alpha for interval data; a row holds the values of one unit, NaN where a judge gave none.

    1 - observed / expected disagreement, both mean squared differences of pairs: within units, each unit's pairs over its number of values
    less one, and over all values. None where there is nothing to disagree about. Krippendorff, Content Analysis (2004), section 11.3.
    The krippendorff package counts every pair of levels that occur, which thousands of real-valued scores are too many for; a test holds
    the two together.
    """
    table = np.array([row for row in rows if np.count_nonzero(~np.isnan(row)) >= 2], dtype=float)
    if not len(table):
        return None
    counts = np.count_nonzero(~np.isnan(table), axis=1)
    n = int(counts.sum())
    values = table - np.nanmean(table)
    sums, squares = np.nansum(values, axis=1), np.nansum(values**2, axis=1)
    expected = 2 * (n * squares.sum() - values[~np.isnan(values)].sum() ** 2) / (n * (n - 1))
    if expected <= _SAME:
        return None
    observed = float((2 * (counts * squares - sums**2) / (counts - 1)).sum() / n)
    return 1 - observed / float(expected)
