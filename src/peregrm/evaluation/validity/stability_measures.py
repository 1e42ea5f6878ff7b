"""The measures behind trait stability: what two parts of one history agree about, and how much of it is more than chance.

Traits are matched one to one by how alike they are (Kuhn-Munkres); the agreement of two sets is the matched likeness over the mean size
of the sets, a Dice coefficient for things that are alike instead of equal. By itself it means nothing, for all people share much: it is
held against the agreement with the parts of other users, in the same language. Scores are held together by the one-way intraclass
correlation, ICC(1,1) of Shrout & Fleiss (1979), Psychological Bulletin 86(2), after each facet's own mean is taken off, so that facets
that everybody has much of do not pass for stability. Users are the clusters everywhere. Left out on purpose: matching traits by a model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from peregrm.evaluation.inference.agreement import spearman
from peregrm.evaluation.inference.intervals import bootstrap_mean, bootstrap_statistic
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part

__all__ = [
    "ChoiceRow",
    "Choices",
    "GapRow",
    "Recognition",
    "Retest",
    "ScoreRow",
    "TraitRow",
    "TraitSet",
    "choices",
    "label_overlap",
    "matched_overlap",
    "recognise",
    "recognition",
    "retest",
    "slope",
]

By = Literal["text", "label"]

_SAME = 1e-12
"""A difference up to this is rounding."""

_STRANGERS = 40
"""Other users that one user is held against, at most: what more of them would add is lost in how users differ."""


class TraitSet(NamedTuple):
    """What was inferred from one part of one user's history: the traits' texts and the names they go by."""

    user: str
    language: str
    texts: tuple[str, ...]
    labels: frozenset[str]


class TraitRow(Part):
    """How near one user's two parts are, and how near other users' parts are to them; agreements are 0 to 1.

    `nearer` is the share of the `strangers` who are further away than the user's own other part, ties counting half; `nearest` whether
    none of them is as near. `own` is None where a part has no traits, the rest where there is nobody to compare with.
    """

    source: str
    split: str
    by: By
    user: str
    language: str
    own: float | None
    others: float | None
    nearer: float | None
    nearest: bool | None
    strangers: int


class ScoreRow(Part):
    """One facet (None: the domain as a whole) of one user, scored from both parts; None where a part gave no score."""

    source: str
    split: str
    user: str
    domain: str
    facet: str | None
    first: float | None
    second: float | None


class ChoiceRow(Part):
    """The same replies scored under both parts of a user's history, and under a part of somebody else's; None where there is no score."""

    split: str
    user: str
    case_id: str
    policies: tuple[str, ...]
    first: tuple[float | None, ...]
    second: tuple[float | None, ...]
    stranger: tuple[float | None, ...] | None = None


class GapRow(Part):
    """Agreement of what two sessions of one user show, 0 to 1, and the months between them."""

    user: str
    months: float
    agreement: float


class Recognition(Part):
    """What the rows of one source and split come to.

    `nearer` is how often the own other part is nearer than a stranger's, 0.5 by chance; `nearest` how often it is the nearest of all;
    `own` and `others` are agreements, `lift` their difference.
    """

    source: str
    split: str
    by: By
    own: Estimate
    others: Estimate
    lift: Estimate
    nearer: Estimate
    nearest: Estimate
    chance: float | None
    """Of being nearest, if nothing were there to go by."""


class Retest(Part):
    """Agreement of scores between the parts: `icc` (absolute) and `rank` (Spearman), both with each facet's mean taken off."""

    source: str
    split: str
    what: str
    icc: Estimate
    rank: Estimate


class Choices(Part):
    """What choosing replies by one half is worth under the other.

    `agreement` is the share of the same choice and `chance` that of a random one; `kept` the share of what choosing is worth under the
    other half that a choice by this half has (1: as good as the best, 0: as good as a random reply); `regret` the score lost, on the
    reward's scale. `by_stranger` is the agreement with the choice under somebody else's half, and `personal` own minus stranger.
    """

    agreement: Estimate
    chance: float | None
    regret: Estimate
    kept: Estimate
    by_stranger: Estimate
    personal: Estimate


def matched_overlap(alike: Any) -> float | None:
    """Return the agreement, 0 to 1, of two sets whose members are `alike` (a matrix, cosine or the like); None where one is empty."""
    from scipy.optimize import linear_sum_assignment

    table = np.clip(np.asarray(alike, dtype=float), 0.0, 1.0)
    if table.ndim != 2 or 0 in table.shape:
        return None
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(2 * table[rows, columns].sum() / sum(table.shape))


def label_overlap(one: frozenset[str], other: frozenset[str]) -> float | None:
    """Return the Dice coefficient of two sets of names; None where one is empty."""
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else None


Overlap = Callable[[TraitSet, TraitSet], float | None]


def recognise(
    pairs: Sequence[tuple[TraitSet, TraitSet]], overlap: Overlap, *, source: str, split: str, by: By, seed: int
) -> list[TraitRow]:
    """Return one row a user: their two parts against each other, and each against the other part of other users of their language."""
    groups: dict[str, list[tuple[TraitSet, TraitSet]]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: pair[0].user):
        groups[pair[0].language].append(pair)
    random = np.random.default_rng(seed)
    rows = []
    for language in sorted(groups):
        group = groups[language]
        for place, (first, second) in enumerate(group):
            others = [n for n in range(len(group)) if n != place]
            if len(others) > _STRANGERS:
                others = sorted(random.choice(others, _STRANGERS, replace=False).tolist())
            own = overlap(first, second)
            strange = [overlap(first, group[n][1]) for n in others] + [overlap(group[n][0], second) for n in others]
            known = [value for value in strange if value is not None]
            rows.append(
                TraitRow(
                    source=source, split=split, by=by, user=first.user, language=language, own=own, **_held(own, known)
                )
            )
    return rows


def _held(own: float | None, strange: Sequence[float]) -> dict[str, Any]:
    if own is None or not strange:
        return {"others": None, "nearer": None, "nearest": None, "strangers": len(strange) // 2}
    further = sum(value < own - _SAME for value in strange) + 0.5 * sum(abs(value - own) <= _SAME for value in strange)
    return {
        "others": math.fsum(strange) / len(strange),
        "nearer": further / len(strange),
        "nearest": max(strange) < own - _SAME,
        "strangers": (len(strange) + 1) // 2,
    }


def recognition(rows: Sequence[TraitRow], *, seed: int) -> Recognition:
    """Return the figures of the rows of one source, split and kind; raises `ValueError` where there are no rows."""
    if not rows:
        raise ValueError("there are no rows")
    one = rows[0]

    def mean(values: list[tuple[str, float | None]], low: float = 0.0) -> Estimate:
        return bootstrap_mean(values, seed=seed, bounds=(low, 1.0))

    compared = [row for row in rows if row.nearer is not None]
    return Recognition(
        source=one.source,
        split=one.split,
        by=one.by,
        own=mean([(row.user, row.own) for row in rows]),
        others=mean([(row.user, row.others) for row in rows]),
        lift=mean([(r.user, None if r.own is None or r.others is None else r.own - r.others) for r in rows], -1.0),
        nearer=mean([(row.user, row.nearer) for row in rows]),
        nearest=mean([(row.user, None if row.nearest is None else float(row.nearest)) for row in rows]),
        chance=math.fsum(1 / (1 + row.strangers) for row in compared) / len(compared) if compared else None,
    )


def retest(rows: Sequence[ScoreRow], *, what: str, seed: int) -> Retest:
    """Return how far the scores of the two parts agree; raises `ValueError` where there are no rows."""
    if not rows:
        raise ValueError("there are no rows")
    there = [(row, row.first, row.second) for row in rows if row.first is not None and row.second is not None]
    users = sorted({row.user for row, _, _ in there})
    names = sorted({(row.domain, row.facet or "") for row, _, _ in there})
    owner = np.array([users.index(row.user) for row, _, _ in there], dtype=int)
    facet = np.array([names.index((row.domain, row.facet or "")) for row, _, _ in there], dtype=int)
    scores = np.array([[first, second] for _, first, second in there], dtype=float).reshape(-1, 2)
    icc = bootstrap_statistic(
        len(users),
        lambda drawn: _icc(scores, facet, drawn[owner]),
        seed=seed,
        asked=len(rows),
        n=len(there),
    )
    middle = _middle(scores, facet, np.ones(len(there)))[facet] if there else np.zeros(0)
    by_user: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (row, first, second), mean in zip(there, middle, strict=True):
        by_user[row.user].append((first - float(mean), second - float(mean)))
    rank = spearman(by_user, seed=seed, asked=len(rows))
    return Retest(source=rows[0].source, split=rows[0].split, what=what, icc=icc, rank=rank)


def _middle(scores: Any, facet: Any, weights: Any) -> Any:
    """Return the mean of each facet over both parts; 0 for one that was not drawn."""
    counts = np.bincount(facet, weights)
    sums = np.bincount(facet, weights * scores.mean(axis=1))
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


def _icc(scores: Any, facet: Any, weights: Any) -> float | None:
    counts = np.bincount(facet, weights)
    free = float(counts.sum() - np.count_nonzero(counts))
    if free < 1:
        return None
    means = scores.mean(axis=1) - _middle(scores, facet, weights)[facet]
    between = 2 * float(weights @ means**2) / free
    within = float(weights @ (scores[:, 0] - scores[:, 1]) ** 2) / 2 / float(weights.sum())
    total = between + within
    return None if total <= _SAME else (between - within) / total


class _Worth(NamedTuple):
    agreement: float
    chance: float
    regret: float
    random_regret: float


def choices(rows: Sequence[ChoiceRow], *, seed: int) -> Choices:
    """Return what choosing by one part is worth under the other, and under another user's."""
    own = [(row.user, _worth(row.first, row.second)) for row in rows]
    strange = [(row.user, None if row.stranger is None else _worth(row.first, row.stranger)) for row in rows]
    mean = _mean_of(seed)
    known = [worth for _, worth in own if worth is not None]
    personal = [
        (user, None if mine is None or other is None else mine.agreement - other.agreement)
        for (user, mine), (_, other) in zip(own, strange, strict=True)
    ]
    return Choices(
        agreement=mean([(user, None if w is None else w.agreement) for user, w in own]),
        chance=math.fsum(w.chance for w in known) / len(known) if known else None,
        regret=bootstrap_mean([(user, None if w is None else w.regret) for user, w in own], seed=seed),
        kept=_kept(own, seed),
        by_stranger=mean([(user, None if w is None else w.agreement) for user, w in strange]),
        personal=mean(personal, -1.0),
    )


def _mean_of(seed: int) -> Callable[..., Estimate]:
    def mean(values: Sequence[tuple[str, float | None]], low: float = 0.0) -> Estimate:
        return bootstrap_mean(values, seed=seed, bounds=(low, 1.0))

    return mean


def _worth(first: Sequence[float | None], second: Sequence[float | None]) -> _Worth | None:
    """Return what choosing by either side is worth under the other, ties shared; None below two replies that both scored."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(both) < 2:
        return None
    sides = np.array(both, dtype=float).T
    best = [(side >= side.max() - _SAME) / np.count_nonzero(side >= side.max() - _SAME) for side in sides]
    lost = [side.max() - side for side in sides]
    return _Worth(
        agreement=float(best[0] @ best[1]),
        chance=1 / len(both),
        regret=float(best[0] @ lost[1] + best[1] @ lost[0]) / 2,
        random_regret=float(lost[0].mean() + lost[1].mean()) / 2,
    )


def _kept(own: Sequence[tuple[str, _Worth | None]], seed: int) -> Estimate:
    users = sorted({user for user, worth in own if worth is not None})
    sums = np.array(
        [
            [
                sum(getattr(w, name) for u, w in own if u == user and w is not None)
                for name in ("regret", "random_regret")
            ]
            for user in users
        ]
    ).reshape(-1, 2)

    def statistic(drawn: Any) -> float | None:
        lost, worth = drawn @ sums
        return None if worth <= _SAME else 1 - float(lost / worth)

    return bootstrap_statistic(
        len(users), statistic, seed=seed, asked=len(own), n=sum(worth is not None for _, worth in own)
    )


def slope(rows: Sequence[GapRow]) -> Estimate:
    """Return the change of agreement with every month between two sessions, within users, with its interval clustered by user.

    Each user's own mean is taken off both, so that users who agree more with themselves and have longer gaps are no drift. None where
    no user has gaps of different length.
    """
    from scipy.stats import t

    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        groups[row.user].append((row.months, row.agreement))
    centred = [np.array(group) - np.mean(group, axis=0) for _, group in sorted(groups.items())]
    spread = sum(float(group[:, 0] @ group[:, 0]) for group in centred)
    moved = [group for group in centred if float(group[:, 0] @ group[:, 0]) > _SAME]
    blank = Estimate(mean=None, low=None, high=None, n=len(rows), users=len(moved), asked=len(rows))
    if spread <= _SAME:
        return blank
    change = sum(float(group[:, 0] @ group[:, 1]) for group in moved) / spread
    found = blank.model_copy(update={"mean": change})
    if len(moved) < 2:
        return found
    scores = [float(group[:, 0] @ (group[:, 1] - change * group[:, 0])) for group in moved]
    variance = len(moved) / (len(moved) - 1) * math.fsum(score**2 for score in scores) / spread**2
    half = float(t.ppf(0.975, len(moved) - 1)) * math.sqrt(variance)
    return found if half <= _SAME else found.model_copy(update={"low": change - half, "high": change + half})
