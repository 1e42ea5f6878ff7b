"""The planned estimates: a mixed-effects model of each rating's difference, and exact tests over participants.

The model is statsmodels' MixedLM: difference A - B ~ 1 + side + place, with participants and, where cases are seen by several participants,
cases as crossed random effects. Its t test of the intercept has Satterthwaite's degrees of freedom, because with ten participants a z test
would call too much significant. Where it does not converge, or no variance is left, the mean clustered by participant stands in its place.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from peregrm.evaluation.inference.paired import Paired, p_value
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.records import Part
from peregrm.study.plan import Outcome
from peregrm.study.power import crossed_df
from peregrm.study.rows import Row

__all__ = [
    "ChoiceResult",
    "Effect",
    "OutcomeResult",
    "estimate_choice",
    "estimate_first",
    "estimate_outcome",
    "sign_test",
]

_TINY = 1e-9

_SEARCHES = ["nm", "powell"]
"""Searches that follow no slope: statsmodels' own order, which does, ended in a wrong place in a quarter of simulated studies."""


class Effect(Part):
    """One coefficient with its 95 % interval and two-sided p; None where there is nothing to estimate it from."""

    estimate: float
    low: float | None
    high: float | None
    p: float | None


class OutcomeResult(Part):
    """Policy A minus policy B on one statement, in points of the scale.

    `method` says which estimate the plan's rule led to. `difference` is that estimate and `p` its p; `p_holm` is added when all statements
    are known. `clustered` is the plain mean clustered by participant, `p_permutation` that of swapping the policies of whole participants.
    `side` is how much more the reply that stands first is rated, `order` how much the difference grows with each further case; both None
    where the model was not used. `people_sd`, `cases_sd` and `rest_sd` are the model's standard deviations.
    """

    name: str
    statement: str
    mean_a: float | None
    mean_b: float | None
    method: Literal["mixed", "clustered"]
    difference: Effect | None
    df: float | None = None
    p_holm: float | None = None
    clustered: Estimate
    p_permutation: float | None
    standardised: float | None
    side: Effect | None = None
    order: Effect | None = None
    people_sd: float | None = None
    cases_sd: float | None = None
    rest_sd: float | None = None


class ChoiceResult(Part):
    """Which of two was chosen: counts of answers, the share of the first among those with a preference, and participants by majority.

    `p` is that of the exact sign test over participants, None where no participant has a majority.
    """

    for_one: int
    for_other: int
    neither: int
    share: Estimate
    people_one: int
    people_other: int
    people_tied: int
    p: float | None
    p_permutation: float | None


class _Fit(NamedTuple):
    effects: tuple[Effect, ...]
    df: float
    sds: tuple[float, float, float]


def estimate_outcome(rows: Sequence[Row], outcome: Outcome, *, seed: int) -> OutcomeResult:
    """Estimate one statement's difference over the rows of participants who are in the analysis."""
    name = outcome.name
    gaps = [float(row.a[name] - row.b[name]) for row in rows]
    plain = clustered_mean([(row.participant, gap) for row, gap in zip(rows, gaps, strict=True)])
    pairs = [Paired(row.participant, float(row.a[name]), float(row.b[name])) for row in rows]
    spread = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0
    common = {
        "name": name,
        "statement": outcome.statement,
        "mean_a": math.fsum(row.a[name] for row in rows) / len(rows) if rows else None,
        "mean_b": math.fsum(row.b[name] for row in rows) / len(rows) if rows else None,
        "clustered": plain,
        "p_permutation": p_value(pairs, seed=seed),
        "standardised": plain.mean / spread if plain.mean is not None and spread > _TINY else None,
    }
    fit = _mixed(rows, gaps)
    if fit is None:
        return OutcomeResult(method="clustered", difference=_of_mean(plain), **common)
    middle, side, order = fit.effects
    people, cases, rest = fit.sds
    return OutcomeResult(
        method="mixed",
        difference=middle,
        df=fit.df,
        side=side,
        order=order,
        people_sd=people,
        cases_sd=cases,
        rest_sd=rest,
        **common,
    )


def _of_mean(plain: Estimate) -> Effect | None:
    if plain.mean is None:
        return None
    if plain.low is None or plain.high is None:
        return Effect(estimate=plain.mean, low=None, high=None, p=None)
    from scipy import stats

    df = plain.users - 1
    error = (plain.high - plain.low) / 2 / float(stats.t.ppf(0.975, df))
    return Effect(
        estimate=plain.mean, low=plain.low, high=plain.high, p=float(2 * stats.t.sf(abs(plain.mean) / error, df))
    )


def _mixed(rows: Sequence[Row], gaps: Sequence[float]) -> _Fit | None:
    """Fit the planned model; None where it cannot be fitted or does not converge."""
    people = sorted({row.participant for row in rows})
    cases = sorted({row.case for row in rows})
    if len(people) < 3 or len(rows) < len(people) + 4 or float(np.std(gaps)) < _TINY:
        return None
    crossed = len(cases) > 1 and len({(row.participant, row.case) for row in rows}) > len(cases)
    wide = np.array([(1.0, 0.5 if row.a_first else -0.5, float(row.number)) for row in rows])
    wide[:, 2] -= wide[:, 2].mean()
    keep = [0, *(column for column in (1, 2) if float(np.std(wide[:, column])) > _TINY)]
    groups = [(people, [row.participant for row in rows])] + ([(cases, [row.case for row in rows])] if crossed else [])
    found = _fit(np.array(gaps), wide[:, keep], groups)
    if found is None:
        return None
    estimates, errors, variances, rest = found
    of_people = variances[0] / len(people) + rest / len(rows)
    df = crossed_df(of_people, len(people), variances[1] / len(cases) if crossed else 0.0, len(cases))
    made = [_effect(*pair, df) for pair in zip(estimates, errors, strict=True)]
    nothing = Effect(estimate=0.0, low=None, high=None, p=None)
    effects = tuple(made[keep.index(column)] if column in keep else nothing for column in range(3))
    sds = (math.sqrt(variances[0]), math.sqrt(variances[1]) if crossed else 0.0, math.sqrt(rest))
    return _Fit(effects, df, sds)


def _fit(
    gaps: np.ndarray, wide: np.ndarray, groups: Sequence[tuple[Sequence[str], Sequence[str]]]
) -> tuple[list[float], list[float], list[float], float] | None:
    """Return the fixed effects, their standard errors, the variances of the groups, and the rest's."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    names = [f"v{number}" for number in range(len(groups))]
    mats = [np.array([[float(one == name) for name in levels] for one in values]) for levels, values in groups]
    parts = VCSpec(names, [[list(levels)] for levels, _ in groups], [[mat] for mat in mats])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of nought is an estimate; whether the fit converged is asked below
        try:
            result = MixedLM(gaps, wide, np.ones(len(gaps)), exog_vc=parts).fit(reml=True, method=_SEARCHES)
        except (np.linalg.LinAlgError, ValueError):
            return None
        estimates, errors = list(map(float, result.fe_params)), list(map(float, result.bse_fe))
        variances, rest = list(map(float, result.vcomp)), float(result.scale)
    fine = (
        all(map(math.isfinite, [*estimates, *errors, *variances, rest])) and min(errors) > _TINY and min(variances) >= 0
    )
    return (estimates, errors, variances, rest) if fine and bool(result.converged) else None


def _effect(estimate: float, error: float, df: float) -> Effect:
    from scipy import stats

    half = float(stats.t.ppf(0.975, df)) * error
    p = float(2 * stats.t.sf(abs(estimate) / error, df))
    return Effect(estimate=estimate, low=estimate - half, high=estimate + half, p=p)


def estimate_choice(rows: Sequence[Row], *, seed: int) -> ChoiceResult:
    """Say how often A was chosen, and B."""
    return _choice([(row.participant, {"a": 1, "b": -1}.get(row.chosen, 0)) for row in rows], seed)


def estimate_first(rows: Sequence[Row], *, seed: int) -> ChoiceResult:
    """Say how often the reply was chosen that stood first, and the other: there should be no difference."""
    voices = [(row.participant, {"a": 1, "b": -1}.get(row.chosen, 0) * (1 if row.a_first else -1)) for row in rows]
    return _choice(voices, seed)


def _choice(voices: Sequence[tuple[str, int]], seed: int) -> ChoiceResult:
    counts = Counter(voice for _, voice in voices)
    by_person: dict[str, int] = defaultdict(int)
    for person, voice in voices:
        by_person[person] += voice
    one, other = (sum(total * sign > 0 for total in by_person.values()) for sign in (1, -1))
    shares = [(person, float(voice > 0)) for person, voice in voices if voice]
    return ChoiceResult(
        for_one=counts[1],
        for_other=counts[-1],
        neither=counts[0],
        share=clustered_mean(shares, bounds=(0.0, 1.0)).model_copy(update={"asked": len(voices)}),
        people_one=one,
        people_other=other,
        people_tied=len(by_person) - one - other,
        p=sign_test(one, other),
        p_permutation=p_value(
            [Paired(person, float(voice > 0), float(voice < 0)) for person, voice in voices], seed=seed
        ),
    )


def sign_test(one: int, other: int) -> float | None:
    """Return the exact two-sided p of `one` against `other` voices; None where there is no voice."""
    if not one + other:
        return None
    from scipy import stats

    return float(stats.binomtest(one, one + other).pvalue)
