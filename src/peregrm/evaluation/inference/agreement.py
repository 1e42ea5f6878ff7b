"""How far judges agree on the same replies: Krippendorff's alpha over all of them, rank correlation between every two.

Alpha is for interval data; it counts a difference of level between two judges as disagreement, rank
correlation does not. Both are drawn over users.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from peregrm.evaluation.inference.intervals import bootstrap_statistic
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part

__all__ = ["JudgeAlpha", "JudgePair", "Rated", "alpha_of_judges", "correlate_judges", "spearman"]

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


def spearman(by_user: Mapping[str, Sequence[tuple[float, float]]], *, seed: int, asked: int) -> Estimate:
    """Return Spearman's rank correlation of the pairs of all users, with its interval; `asked` pairs should have been there.

    There is no value below three pairs or where one side has one value only.
    """
    from scipy import stats

    users = sorted(by_user)
    pairs = np.array([pair for user in users for pair in by_user[user]], dtype=float).reshape(-1, 2)
    owner = np.repeat(np.arange(len(users)), [len(by_user[user]) for user in users])
    places = [np.unique(side, return_inverse=True)[1] for side in pairs.T]

    def statistic(drawn: Any) -> float | None:
        """Pearson's correlation of the ranks, each pair as often as its user was drawn; ties have the mean of their ranks."""
        weights = drawn[owner]
        total = weights.sum()
        if total < 3:
            return None
        one, other = (_centred_ranks(place, weights) for place in places)
        spread = float(weights @ one**2) * float(weights @ other**2)
        return None if spread <= 0 else float(weights @ (one * other)) / math.sqrt(spread)

    found = bootstrap_statistic(len(users), statistic, seed=seed, asked=asked, n=len(pairs))
    if found.mean is None:
        return found
    return found.model_copy(update={"mean": float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic)})


def _centred_ranks(place: Any, weights: Any) -> Any:
    counts = np.bincount(place, weights)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks - weights @ ranks / weights.sum()


def correlate_judges(rated: Sequence[Rated], judges: Sequence[str], *, measure: str, seed: int) -> list[JudgePair]:
    """Return the rank correlation of every two judges, over the replies both scored."""
    found: list[JudgePair] = []
    for one, other in combinations(judges, 2):
        by_user: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for user, scores in rated:
            a, b = scores.get(one), scores.get(other)
            if a is not None and b is not None:
                by_user[user].append((a, b))
        rank = spearman(by_user, seed=seed, asked=len(rated))
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
    users = sorted(by_user)
    sums = np.zeros((len(users), 4))
    if users:
        middle = float(np.nanmean(np.array([row for user in users for row in by_user[user]])))
        sums = np.array([_sums(np.array(by_user[user]) - middle) for user in users])
    alpha = bootstrap_statistic(
        len(users),
        lambda drawn: _alpha(drawn @ sums),
        seed=seed,
        asked=len(rated),
        n=sum(map(len, by_user.values())),
    )
    return JudgeAlpha(measure=measure, judges=tuple(judges), alpha=alpha)


def _sums(table: Any) -> Any:
    """Return what alpha is made of, which adds up over units: the values' number, sum and sum of squares, and the units' disagreement."""
    counts = np.count_nonzero(~np.isnan(table), axis=1)
    sums, squares = np.nansum(table, axis=1), np.nansum(table**2, axis=1)
    within = 2 * (counts * squares - sums**2) / (counts - 1)
    return np.array([counts.sum(), sums.sum(), squares.sum(), within.sum()], dtype=float)


def _alpha(sums: Any) -> float | None:
    """Return Krippendorff's alpha for interval data (Content Analysis, 2004, section 11.3); None: nothing to disagree about.

    1 - observed / expected disagreement, both mean squared differences of pairs: within units, each unit's pairs over its number of values
    less one, and over all values. The krippendorff package counts every pair of levels that occur, which thousands of real-valued scores
    are too many for; a test holds the two together.
    """
    n, values, squares, within = map(float, sums)
    if n < 2:
        return None
    expected = 2 * (n * squares - values**2) / (n * (n - 1))
    return None if expected <= _SAME else 1 - within / n / expected
