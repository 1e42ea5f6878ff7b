"""Two policies on the same cases: difference, paired permutation test, effect size, win/tie/loss, power.

The test swaps the two policies' labels for whole users: exact where there are few users (scipy's `permutation_test`), random draws else
(its `monte_carlo_test`, many times faster). Its statistic is the mean difference over cases. Holm's correction (statsmodels) is over the
pairs of policies of one judge and one measure. Power is that of a paired t test over users, uncorrected, with the spread that was seen
(statsmodels).
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from peregrm.errors import DependencyError
from peregrm.evaluation.inference.intervals import bootstrap_mean
from peregrm.evaluation.statistics import Estimate
from peregrm.extras import install
from peregrm.records import Part

__all__ = ["Difference", "Paired", "Power", "check_installed", "compare_paired", "holm", "p_value"]

PERMUTATIONS = 9999
_AT_ONCE = 200
"""Draws that are in memory together."""
ALPHA = 0.05
_WANTED_POWER = 0.8
POWERS = (0.02, 0.05, 0.1)
_SAME = 1e-9
"""Totals nearer than this are a tie: the rest is rounding."""


class Paired(NamedTuple):
    """One case, scored for both policies; None where a policy has no score there."""

    user: str
    a: float | None
    b: float | None


class Power(Part):
    """With as many users as these, a true difference of `difference` would be seen (p < 0.05) with this probability, 0 to 1."""

    difference: float
    probability: float


class Difference(Part):
    """Policy `a` minus policy `b` by one judge on one measure, over the cases both were scored on.

    `p` is two-sided, None below two users; `p_holm` the same after Holm's correction. `effect` is the mean difference over the standard
    deviation of the differences (Cohen's d of paired values), None where they do not differ. `won`, `tied` and `lost` count cases as
    `a` sees them. `detectable` is the smallest true difference that would be seen with probability 0.8, None below two users.
    """

    judge: str
    measure: str
    a: str
    b: str
    difference: Estimate
    p: float | None
    p_holm: float | None = None
    effect: float | None
    won: int
    tied: int
    lost: int
    detectable: float | None
    power: tuple[Power, ...] = ()


def check_installed() -> None:
    """Raise `DependencyError` where statsmodels is not installed, before anything is asked of a judge."""
    if importlib.util.find_spec("statsmodels") is None:
        raise DependencyError(f"the statistics of an evaluation need statsmodels: {install('eval')}")


def compare_paired(pairs: Sequence[Paired], *, judge: str, measure: str, a: str, b: str, seed: int) -> Difference:
    """Compare two policies; the order of `pairs` makes no difference."""
    gaps = [(p.user, None if p.a is None or p.b is None else p.a - p.b) for p in pairs]
    there = sorted((user, gap) for user, gap in gaps if gap is not None)
    values = [gap for _, gap in there]
    difference = bootstrap_mean(gaps, seed=seed)
    spread = _spread_of_users(there)
    users = difference.users
    return Difference(
        judge=judge,
        measure=measure,
        a=a,
        b=b,
        difference=difference,
        p=p_value(pairs, seed=seed),
        effect=_effect(values),
        won=sum(gap > _SAME for gap in values),
        tied=sum(abs(gap) <= _SAME for gap in values),
        lost=sum(gap < -_SAME for gap in values),
        detectable=_detectable(spread, users),
        power=tuple(_powers(spread, users)),
    )


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with `p_holm`, corrected within each judge and measure; those without a p are left as they are."""
    from statsmodels.stats.multitest import multipletests

    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, one in enumerate(differences):
        if one.p is not None:
            families[one.judge, one.measure].append(place)
    corrected: dict[int, float] = {}
    for places in families.values():
        raw = [differences[place].p for place in places]
        for place, value in zip(places, multipletests(raw, method="holm")[1], strict=True):
            corrected[place] = float(value)
    return [one.model_copy(update={"p_holm": corrected.get(place)}) for place, one in enumerate(differences)]


def p_value(pairs: Sequence[Paired], *, seed: int) -> float | None:
    """Return the two-sided p of no difference between the policies; None below two users."""
    sums: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for user, a, b in pairs:
        if a is not None and b is not None:
            sums[user][0].append(a)
            sums[user][1].append(b)
    if len(sums) < 2:
        return None
    first = np.array([math.fsum(sums[user][0]) for user in sorted(sums)])
    second = np.array([math.fsum(sums[user][1]) for user in sorted(sums)])
    if float(np.max(np.abs(first - second))) <= _SAME:
        return 1.0  # nothing differs: every relabelling is as extreme as what was seen
    return min(1.0, _swapped(first - second, seed))


def _swapped(gaps: Any, seed: int) -> float:
    """Return the two-sided p of a sum of the users' differences when each may have either sign, which swapping its policies comes to."""
    from scipy import stats

    def total(values: Any, axis: int) -> Any:
        return values.sum(axis=axis)

    if 2 ** len(gaps) <= PERMUTATIONS:
        exact = stats.permutation_test(
            (gaps,), total, permutation_type="samples", vectorized=True, n_resamples=PERMUTATIONS
        )
        return float(exact.pvalue)
    random = np.random.default_rng(seed)
    drawn = stats.monte_carlo_test(
        gaps,
        lambda size: gaps * random.choice((-1.0, 1.0), size=size),
        total,
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=_AT_ONCE,
    )
    return float(drawn.pvalue)


def _effect(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1))
    return None if spread <= _SAME else float(np.mean(values)) / spread


def _spread_of_users(gaps: Sequence[tuple[str, float]]) -> float | None:
    """Return the standard deviation that makes the standard error of the mean over users that of the mean over cases."""
    groups: dict[str, list[float]] = defaultdict(list)
    for user, gap in gaps:
        groups[user].append(gap)
    users = len(groups)
    if users < 2:
        return None
    mean = math.fsum(gap for _, gap in gaps) / len(gaps)
    residuals = [math.fsum(gap - mean for gap in group) for group in groups.values()]
    variance = users / (users - 1) * math.fsum(r * r for r in residuals) / len(gaps) ** 2
    return math.sqrt(variance * users) if variance > _SAME**2 else None


def _powers(spread: float | None, users: int) -> list[Power]:
    if spread is None:
        return []
    return [Power(difference=d, probability=_power(d / spread, users)) for d in POWERS]


def _detectable(spread: float | None, users: int) -> float | None:
    if spread is None:
        return None
    from scipy.optimize import brentq

    most = 0.01
    while _power(most, users) < _WANTED_POWER:
        most *= 2
    return float(brentq(lambda effect: _power(effect, users) - _WANTED_POWER, most / 2, most)) * spread


def _power(effect: float, users: int) -> float:
    from statsmodels.stats.power import TTestPower

    power = float(TTestPower().power(effect_size=effect, nobs=users, alpha=ALPHA))
    return 1.0 if math.isnan(power) else power  # the tail is beyond what the noncentral t can be computed for
