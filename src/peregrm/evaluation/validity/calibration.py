"""Calibration: whether a judge's number means what people's level means, and whether a map fitted on other users mends it.

Levels and scores are put on 0 to 1, from the least to the greatest of their scales. Rated replies: the score is held against the level.
Pairs: a judge says no probability, so its difference in points of its 1-to-5 scale is read as that of a Bradley-Terry model, and
the sureness 1 / (1 + exp(-points)) is held against how often the pair is right; a tie is half right.

The expected calibration error is the mean over bins of equal size of |mean score - mean level|, weighted by their rows. As it stands
it is above 0 for a perfect judge too, by the noise of the bins. So the noise is drawn by a bootstrap over users and added to gaps of the
shape that was seen, from none to three times their size: the interval holds the true errors that make the plain one a usual one, the
estimate is the one that puts it in the middle. In simulations it held the truth in 0.92 to 0.98 where that was 0 or above 0.1, and in 0.81
to 0.98 for a constant shift of 0.03, too small for its shape to be seen. Gaps inside a bin that cancel are not seen.

Calibration is fitted on one half of the users and tested on the other, both ways round: isotonic regression (never falling: a judge that
runs against people is flat after it), and for pairs also one temperature, by likelihood. `explained` is the share of the squared error
of knowing nothing (the mean level of the fitting half; for pairs, 0.5) that the calibrated numbers take away on users never fitted.

Verdict, for each set: *unknown* below `_FEWEST` rows, with less than half of them scored, where all levels are the same, or without
intervals; *bad* if the calibrated numbers explain nothing and the
interval ends below `NOTHING`, or if the error stays above `TOLERABLE` after calibration as well; *good* if they explain something and
the error lies under `TOLERABLE`, for pairs after calibration because nobody claims the number before it; else *doubtful*: to be used
after calibration only, or the data do not show it. Left out on purpose: calibration on all users tested on the same ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from peregrm.evaluation.inference.intervals import bootstrap_statistic
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.evaluation.validity.card import LEAST_COVERAGE, Verdict
from peregrm.records import Part, content_id

__all__ = [
    "NOTHING",
    "TOLERABLE",
    "Bin",
    "Calibrated",
    "Calibration",
    "Point",
    "calibrate",
    "calibration_error",
    "fit_isotonic",
    "fit_temperature",
    "halves",
    "reliability",
    "sureness",
]

TOLERABLE = 0.1
"""A mean miss of a tenth of the scale: less than half a point of five."""

NOTHING = 0.1
"""Numbers that explain at most this share serve nobody as levels."""

_FEWEST = 30
_UNCOVERED: tuple[Verdict, str] = ("unknown", "scored less than half of what it was asked for")
_ALL_ALIKE: tuple[Verdict, str] = ("unknown", "cannot be told from another: people gave all of them the same level")
_MOST_BINS = 10
_ROWS_A_BIN = 15
_LEAST_USERS = 10
_DRAWS = 1000
_LARGEST = 3.0
_SIZES = 121
"""Sizes of the gaps, as multiples of those seen, that the interval of an error is sought among."""
_STEEPEST = 100.0
"""The greatest slope that a temperature is fitted to: a judge that is always right has no finite one."""


class Point(NamedTuple):
    """One rated reply or one pair.

    `score` is what the judge said, on any scale, for a pair the distance of its two scores, in points; `claim` the same on 0 to 1,
    None where the scale is not known. `level` is the level on 0 to 1; for a pair 1, 0.5 or 0 for right, tied and wrong.
    """

    user: str
    score: float
    claim: float | None
    level: float


class Bin(Part):
    """One point of a reliability diagram: all scores from `low` to `high`, their mean and that of the levels, all on 0 to 1."""

    low: float
    high: float
    score: float
    level: Estimate


class Calibrated(Part):
    """A calibration on users it was not fitted on: its error, what it explains, and its diagram. Bins are on 0 to 1."""

    method: str
    error: Estimate
    explained: Estimate
    bins: tuple[Bin, ...]


class Calibration(Part):
    """One set of rows. `error` and `bins` are those before calibration; an error without a value has no scale to be read on."""

    name: str
    pairs: bool
    error: Estimate
    bins: tuple[Bin, ...]
    after: tuple[Calibrated, ...]
    verdict: Verdict
    reason: str


Fit = Callable[[Any, Any], Callable[[Any], Any]]


def sureness(points: float | Any) -> Any:
    """Return the probability of being right that a Bradley-Terry model gives to a distance, 0.5 to 1."""
    return 1.0 / (1.0 + np.exp(-np.minimum(np.asarray(points, dtype=float), 500.0)))


def calibrate(rows: Sequence[Point], *, name: str, pairs: bool, asked: int, seed: int) -> Calibration:
    """Return reliability before and after calibration; `asked` rows should have been there. The order of rows makes no difference."""
    rows = sorted(rows, key=lambda row: (row.user, row.score, row.level))
    claims = [None if row.claim is None else row._replace(score=row.claim) for row in rows]
    claimed = [row for row in claims if row is not None]
    methods: dict[str, Fit] = {"isotonic": fit_isotonic}
    if pairs:
        methods = {"isotonic": _fit_sureness, "temperature": fit_temperature}
    after = tuple(_calibrated(rows, method, fit, pairs, asked, seed) for method, fit in methods.items())
    error = calibration_error(claimed, asked=asked, seed=seed)
    if asked and len(rows) / asked < LEAST_COVERAGE:
        verdict, reason = _UNCOVERED
    elif not pairs and len({row.level for row in rows}) == 1:
        verdict, reason = _ALL_ALIKE
    else:
        verdict, reason = _verdict(error, after, pairs=pairs)
    return Calibration(
        name=name,
        pairs=pairs,
        error=error,
        bins=tuple(reliability(claimed)),
        after=after,
        verdict=verdict,
        reason=reason,
    )


def _calibrated(rows: Sequence[Point], method: str, fit: Fit, pairs: bool, asked: int, seed: int) -> Calibrated:
    """Fit on either half of the users and test on the other; with users in one half only there is nothing."""
    half = halves({row.user for row in rows}, seed)
    tested: list[Point] = []
    nothing: list[float] = []
    for side in (False, True):
        fitting, testing = ([row for row in rows if half[row.user] is which] for which in (not side, side))
        if not fitting or not testing:
            continue
        scores, levels = (np.array([getattr(row, key) for row in fitting]) for key in ("score", "level"))
        values = fit(scores, levels)(np.array([row.score for row in testing]))
        tested += [row._replace(score=float(value)) for row, value in zip(testing, values, strict=True)]
        nothing += [0.5 if pairs else float(levels.mean())] * len(testing)
    return Calibrated(
        method=method,
        error=calibration_error(tested, asked=asked, seed=seed),
        explained=_explained(tested, nothing, asked=asked, seed=seed),
        bins=tuple(reliability(tested)),
    )


def halves(users: set[str], seed: int) -> dict[str, bool]:
    """Return for each user in which half they are; the halves differ by at most one user and hang on the seed."""
    order = sorted(users, key=lambda user: content_id("half", [seed, user]))
    return {user: place % 2 == 1 for place, user in enumerate(order)}


def fit_isotonic(scores: Any, levels: Any) -> Callable[[Any], Any]:
    """Return the never-falling function nearest to the levels, straight between the scores that were seen and flat beyond them."""
    from scipy.optimize import isotonic_regression

    seen, place = np.unique(scores, return_inverse=True)
    weights = np.bincount(place).astype(float)
    fitted = isotonic_regression(np.bincount(place, levels) / weights, weights=weights).x
    return lambda values: np.interp(values, seen, fitted)


def _fit_sureness(scores: Any, levels: Any) -> Callable[[Any], Any]:
    """Return the isotonic function of distances, 0.5 at the least: nobody is surer of being wrong than of being right."""
    fitted = fit_isotonic(scores, levels)
    return lambda values: np.maximum(0.5, fitted(values))


def fit_temperature(scores: Any, levels: Any) -> Callable[[Any], Any]:
    """Return the sureness of distances times the likeliest slope, from 0 (distances say nothing) to a very steep one."""
    from scipy.optimize import minimize_scalar

    def loss(slope: float) -> float:
        gaps = slope * scores
        return float(np.sum(np.logaddexp(0.0, -gaps) + (1 - levels) * gaps))

    # The loss is convex, and distances differ in size by orders of magnitude between judges: the search is over their own scale.
    scale = float(np.max(scores, initial=0.0)) or 1.0
    found = minimize_scalar(lambda slope: loss(slope / scale), bounds=(0.0, _STEEPEST), method="bounded")
    slope = float(found.x) / scale
    slope = slope if loss(slope) < loss(0.0) else 0.0
    return lambda values: sureness(slope * values)


def reliability(rows: Sequence[Point]) -> list[Bin]:
    """Return the bins of a diagram, of equal size as far as ties allow, 15 rows or more in each, with intervals clustered by user."""
    if not rows:
        return []
    scores = np.array([row.score for row in rows])
    place = _places(scores)
    bins: list[Bin] = []
    for number in range(int(place.max()) + 1):
        inside = [row for row, own in zip(rows, place, strict=True) if own == number]
        values = [row.score for row in inside]
        level = clustered_mean([(row.user, row.level) for row in inside], bounds=(0.0, 1.0))
        bins.append(Bin(low=min(values), high=max(values), score=float(np.mean(values)), level=level))
    return bins


def _places(scores: Any) -> Any:
    """Return the bin of each score, from 0; none is empty and equal scores share one."""
    count = max(1, min(_MOST_BINS, len(scores) // _ROWS_A_BIN))
    inner = np.unique(np.quantile(scores, np.linspace(0, 1, count + 1)[1:-1], method="lower"))
    return np.unique(np.searchsorted(inner, scores, side="left"), return_inverse=True)[1]


def calibration_error(rows: Sequence[Point], *, asked: int, seed: int) -> Estimate:
    """Return the expected calibration error of scores on 0 to 1, less what noise alone adds, with its interval over users.

    There is no interval below ten users, and then nothing is taken off either.
    """
    users = sorted({row.user for row in rows})
    blank = Estimate(mean=None, low=None, high=None, n=len(rows), users=len(users), asked=asked)
    if not rows:
        return blank
    place = _places(np.array([row.score for row in rows]))
    owner = np.searchsorted(users, [row.user for row in rows])
    shape = (len(users), int(place.max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (owner, place), [row.level - row.score for row in rows])
    np.add.at(counts, (owner, place), 1.0)
    gaps, weights = sums.sum(0) / counts.sum(0), counts.sum(0) / len(rows)
    plain = float(weights @ np.abs(gaps))
    if len(users) < _LEAST_USERS:
        return blank.model_copy(update={"mean": plain})
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(users), np.full(len(users), 1 / len(users)), size=_DRAWS).astype(float)
    of = drawn @ counts
    noise = np.where(of > 0, (drawn @ sums) / np.where(of > 0, of, 1.0) - gaps, 0.0)
    shares = of / of.sum(1, keepdims=True)
    sizes = np.linspace(0.0, _LARGEST, _SIZES)
    errors = np.array([(np.abs(size * gaps + noise) * shares).sum(1) for size in sizes])
    # Which true errors, of gaps in the shape that was seen, make the plain error a usual one? The answer grows with the quantile's rank.
    high, mean, low = (
        plain * float(np.interp(plain, np.maximum.accumulate(np.quantile(errors, q, axis=1)), sizes))
        for q in (0.025, 0.5, 0.975)
    )
    return blank.model_copy(update={"mean": mean, "low": low, "high": high, "interval": "bootstrap"})


def _explained(rows: Sequence[Point], nothing: Sequence[float], *, asked: int, seed: int) -> Estimate:
    """Return 1 less the squared error of the scores over that of knowing nothing, drawn over users."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, value in zip(rows, nothing, strict=True):
        sums[row.user][0] += (row.level - row.score) ** 2
        sums[row.user][1] += (row.level - value) ** 2
    table = np.array([sums[user] for user in sorted(sums)]).reshape(-1, 2)

    def statistic(drawn: Any) -> float | None:
        left, whole = map(float, drawn @ table)
        return None if whole <= 0 else 1 - left / whole

    return bootstrap_statistic(len(table), statistic, seed=seed, asked=asked, n=len(rows))


def _verdict(error: Estimate, after: Sequence[Calibrated], *, pairs: bool) -> tuple[Verdict, str]:
    best = max(after, key=lambda one: -1.0 if one.explained.mean is None else one.explained.mean)
    explained, mended = best.explained, best.error
    if mended.n >= _FEWEST and mended.users >= _LEAST_USERS and explained.mean is None:
        return "bad", "says nothing: its scores do not differ"
    if mended.n < _FEWEST or explained.low is None or explained.high is None or mended.high is None:
        return "unknown", "has too few rows or users to be calibrated"
    if explained.low <= 0:
        useless = explained.high < NOTHING
        return (
            ("bad", "says nothing about levels")
            if useless
            else ("unknown", "cannot be told from one that says nothing")
        )
    return _verdict_of_error(error, mended, pairs=pairs)


def _verdict_of_error(error: Estimate, mended: Estimate, *, pairs: bool) -> tuple[Verdict, str]:
    if not pairs and error.high is not None and error.high < TOLERABLE:
        return "good", "means what people's levels mean"
    if mended.high is not None and mended.high < TOLERABLE:
        return (
            ("good", "is as often right as it is sure, once calibrated") if pairs else ("doubtful", "needs calibration")
        )
    if mended.low is not None and mended.low > TOLERABLE:
        return "bad", "is off even after calibration"
    return "doubtful", "says something, but the data do not show that it is calibrated"
