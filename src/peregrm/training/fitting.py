"""The fit of a head: Bradley-Terry logistic loss with an L2 penalty, solved by Newton's method. Pure numbers, numpy alone.

A reply's score is linear in its features, and the log odds that a reply beats another are the difference of their scores. The difference of
the logarithms of their lengths enters as a nuisance with (nearly) no penalty and its weight is thrown away, so that no other weight stands
in for length. The embedding enters through its first principal components of the training replies and leaves as plain weights. The loss is
convex and its solution unique, so training is reproducible. Left out on purpose: scikit-learn, which would be a dependency for this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from peregrm.reward.heads.features import NEAR_NAMES, Features
from peregrm.reward.heads.head import FIT_NAMES, Weights, met
from peregrm.reward.heads.tones import tone_names

__all__ = ["COMPONENTS", "Contest", "fit_weights", "log_loss", "table_of"]

Vector = npt.NDArray[np.float64]

COMPONENTS = 32
"""Principal components of the embedding that are used, fewer where there are not four replies for each."""

SWAP_SHARE = 0.4
"""The weight of all persona swaps together, where the other pairs together weigh 1: enough to be learned from, not to outweigh them."""

HOSTILE_SHARE = 0.3
"""The weight of all hostile replies together."""

EMPTY_SHARE = 0.1
"""The weight of all nearly empty replies together: `brevity` tells most of them from honest ones without the other features."""

_WRITTEN_WORSE = ("hostile", "empty")
_LEAST_SPREAD = 0.05
_LEAST_SCALE = 1e-4
"""What hardly differs between replies is not blown up to a weight that other replies would meet."""
_NUISANCE = 0.01
_BREVITY = NEAR_NAMES.index("brevity")
"""Nearly empty replies are what its weight is left nearly unpenalised for; without any it would stand for the length of short honest
replies, so it stays 0."""
_STEPS = 60
_DIGITS = 6


Kind = Literal["pair", "swap", "hostile", "empty"]

SHARES: dict[Kind, float] = {"pair": 1.0, "swap": SWAP_SHARE, "hostile": HOSTILE_SHARE, "empty": EMPTY_SHARE}


class Contest(NamedTuple):
    """A reply that beats another, itself under another persona, or one written to be worse, by their rows in the table of features."""

    better: int
    worse: int
    kind: Kind = "pair"


class _Space(NamedTuple):
    """What is learned about features before any weight: standards of the tones and directions of the embedding."""

    mean: Vector
    spread: Vector
    directions: Vector

    def rows(self, table: Features) -> Vector:
        tones, fit = met(table, self.mean, self.spread)
        return np.concatenate([table.near, tones, fit, table.sense @ self.directions.T], axis=1)


def table_of(replies: Sequence[Features]) -> Features:
    """Return the features of replies as one table, a row each."""
    return Features(*(np.array(column) for column in zip(*replies, strict=True)))


def fit_weights(
    table: Features, contests: Sequence[Contest], replies: Sequence[int], penalties: Sequence[float]
) -> dict[float, Weights]:
    """Return, for each penalty, the weights that order the contests best; `replies` are the honest rows of the training set, no swaps."""
    better, worse = [contest.better for contest in contests], [contest.worse for contest in contests]
    hostile = sorted({contest.worse for contest in contests if contest.kind == "hostile"})
    space = _space(
        table, replies, hostile
    )  # nearly empty replies would take directions of the embedding for themselves
    rows = space.rows(table)
    differences = rows[better] - rows[worse]
    if all(contest.kind != "empty" for contest in contests):
        differences[:, _BREVITY] = 0.0
    scale = np.maximum(np.sqrt((differences**2).mean(axis=0)), _LEAST_SCALE)
    honest = np.array([contest.kind not in _WRITTEN_WORSE for contest in contests])
    lengths = (
        table.log_words[better] - table.log_words[worse]
    ) * honest  # that hostile text is longer, or shorter, excuses nothing
    design = np.column_stack([differences / scale, lengths / (lengths.std() or 1.0)])
    shares = _shares(contests)
    start = np.zeros(design.shape[1])
    fitted: dict[float, Weights] = {}
    for penalty in sorted(penalties, reverse=True):
        ridge = np.full(design.shape[1], penalty)
        ridge[[_BREVITY, -1]] = penalty * _NUISANCE
        start = _newton(design, shares, ridge, start)
        found = start[:-1] / scale
        fitted[penalty] = _weights(space, found, float((rows[list(replies)] @ found).mean()))
    return fitted


def _weights(space: _Space, found: Vector, centre: float) -> Weights:
    near, tones, fit, sense = np.split(found, np.cumsum([len(NEAR_NAMES), len(tone_names()), len(FIT_NAMES)]))
    return Weights(
        near=_rounded(near),
        tones=_rounded(tones),
        fit=_rounded(fit),
        sense=_rounded(space.directions.T @ sense),
        tone_mean=_rounded(space.mean),
        tone_spread=_rounded(space.spread),
        centre=_rounded([centre])[0],
    )


def log_loss(weights: Weights, table: Features, contests: Sequence[Contest]) -> float:
    """Return the mean negative log-likelihood of contests."""
    scores = weights.score(table)
    margins = scores[[contest.better for contest in contests]] - scores[[contest.worse for contest in contests]]
    return float(np.logaddexp(0, -margins).mean())


def _space(table: Features, replies: Sequence[int], hostile: Sequence[int]) -> _Space:
    tones, sense = table.tones[list(replies)], table.sense[[*replies, *hostile]]
    most = max(1, min(COMPONENTS, len(replies) // 4))
    centred = sense - sense.mean(axis=0)
    return _Space(tones.mean(axis=0), tones.std(axis=0) + _LEAST_SPREAD, _principal(centred)[:most])


def _principal(centred: Vector) -> Vector:
    """Return the principal directions of the rows, the widest first, by whichever way is the smaller problem."""
    if centred.shape[0] < centred.shape[1]:
        return np.asarray(np.linalg.svd(centred, full_matrices=False)[2])
    return np.asarray(np.linalg.eigh(centred.T @ centred)[1].T[::-1])


def _shares(contests: Sequence[Contest]) -> Vector:
    counts = Counter(contest.kind for contest in contests)
    shares = np.array([SHARES[contest.kind] / counts[contest.kind] for contest in contests])
    return np.asarray(shares / shares.sum())


def _newton(design: Vector, shares: Vector, ridge: Vector, start: Vector) -> Vector:
    weights = start

    def loss(at: Vector) -> float:
        return float(shares @ np.logaddexp(0, -design @ at) + 0.5 * ridge @ at**2)

    for _ in range(_STEPS):
        wrong = 1 / (1 + np.exp(np.clip(design @ weights, -500, 500)))
        slope = ridge * weights - design.T @ (shares * wrong)
        curve = (design * (shares * wrong * (1 - wrong))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-6 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if float(np.abs(size * step).max()) < 1e-12:
            break
    return weights


def _rounded(values: Sequence[float] | Vector) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
