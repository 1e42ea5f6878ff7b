"""Reliability: whether a judge says the same again when nothing changed that should matter.

Five things are measured on the same replies. *Repeats*: the standard deviation of a reply's score when it is asked again, and which share
of the variance of single scores is that of the replies: ICC(1) within the group of replies to one case, which is what ranks them (level
differences between cases are taken away), and ICC(A,1) over all replies. By Spearman and Brown's formula it says how many repeats must
be averaged for a ranking within the group of reliability 0.8. *Places*: what standing first instead of last in the group gives a reply,
from scores of the same reply at several places. *Orders* that should not matter, of the replies and of the criteria, and *other criteria*,
written anew: how the score changes and whether the order within the group holds. *Other judges*: Krippendorff's alpha, ICC(A,1) (2,1),
ICC(C,1) (3,1) and rank correlation; that is told and not held against this judge, for the other one may be wrong.

Left out on purpose: the verdict, which is in `reliability_words` with its thresholds, and judging which of two judges is right.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from peregrm.evaluation.inference.agreement import JudgeAlpha, JudgePair, alpha_of_judges, correlate_judges, spearman
from peregrm.evaluation.inference.icc import Icc, RatedTarget, icc, icc_over_users, repeats_for
from peregrm.evaluation.inference.intervals import bootstrap_mean
from peregrm.evaluation.inference.noise import Repeats, repeat_noise
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part

__all__ = [
    "BASE",
    "WANTED",
    "Agreement",
    "Change",
    "Noise",
    "Place",
    "Placed",
    "Reliability",
    "Rescored",
    "reliability",
]

V = TypeVar("V")

BASE = "repeat 0"
"""The way of asking that everything else is compared with."""

WANTED = 0.8
"""The reliability within a group that the number of repeats is said for."""

_REPEAT = "repeat "
_TIE = 1e-9


class Rescored(Part):
    """One reply, scored in one way: `repeat N`, another order, other criteria, or `judge NAME`.

    `scores` are the measures by name, None where there is no score; `failure` is the kind of it then.
    """

    user_id: str
    case_id: str
    reply_id: str
    way: str
    scores: tuple[tuple[str, float | None], ...]
    failure: str | None = None


class Placed(Part):
    """One score of a reply at one place of its group, 0 for the first to 1 for the last, on the scale that `Place` names."""

    user_id: str
    case_id: str
    reply_id: str
    place: float
    score: float


class Noise(Part):
    """Repeats of one measure.

    `within` is ICC(1) within the group, over users; `plain` the same with its F interval, over replies; `absolute` ICC(A,1) over all
    replies. `needed` is the number of repeats whose mean ranks a group with reliability 0.8, None where no number does. `spread` is the
    pooled standard deviation of replies' means within their group.
    """

    measure: str
    repeats: Repeats
    within: Estimate
    plain: Icc
    absolute: Estimate
    needed: int | None
    spread: float | None


class Change(Part):
    """What another way of asking changes in one measure, over the same replies.

    `shift` is the mean change, `deviation` the standard deviation of changes, `by_noise` what it would be by repeat noise alone (the square
    root of 2 times that of one score), None where there were no repeats. `rank` is the rank correlation of scores after the mean of the
    group is taken away from both, `kept` the share of pairs of replies to one case that both order the same, ties of either left out.
    """

    measure: str
    way: str
    shift: Estimate
    deviation: float | None
    by_noise: float | None
    rank: Estimate
    kept: Estimate


class Place(Part):
    """What standing first instead of last gives a reply, in units of `scale`; `spread` is that of `Noise`, on the same scale."""

    scale: str
    effect: Estimate
    spread: float | None


class Agreement(Part):
    """How far several judges agree on one measure; intervals of the coefficients over users."""

    measure: str
    alpha: JudgeAlpha
    absolute: Estimate
    consistent: Estimate
    pairs: tuple[JudgePair, ...]


class Reliability(Part):
    """All of it, by measure in the order in which measures first occur; `asked` and `scored` count scored replies."""

    noise: tuple[Noise, ...]
    changes: tuple[Change, ...]
    place: Place | None
    agreement: tuple[Agreement, ...]
    cases: int
    users: int
    asked: int
    scored: int


class _Target(NamedTuple):
    user: str
    case: str
    reply: str


_Values = Mapping[_Target, Mapping[str, float]]
"""The scores of each reply by the way it was scored."""


def reliability(
    rows: Iterable[Rescored],
    placed: Sequence[Placed] = (),
    *,
    judge: str,
    others: Sequence[str] = (),
    scale: str = "",
    seed: int,
) -> Reliability:
    """Return what the rows show; `others` are judges whose rows are called `judge NAME`, `scale` the one that places are scored on."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name, _ in row.scores))
    names = [name for name in names if any(dict(row.scores).get(name) is not None for row in rows)]
    values = {name: _values(rows, name) for name in names}
    targets = len({(row.case_id, row.reply_id) for row in rows})
    noise = [_noise(name, values[name], judge, targets, seed) for name in names]
    ways = [way for way in dict.fromkeys(row.way for row in rows) if not way.startswith((_REPEAT, "judge "))]
    known = {one.measure: one for one in noise}
    return Reliability(
        noise=tuple(noise),
        changes=tuple(_change(way, known[name], values[name], targets, seed) for way in ways for name in names),
        place=_place(placed, scale, seed) if placed else None,
        agreement=tuple(_agreement(name, values[name], (judge, *others), targets, seed) for name in names)
        if others
        else (),
        cases=len({row.case_id for row in rows}),
        users=len({row.user_id for row in rows}),
        asked=len(rows),
        scored=sum(row.failure is None for row in rows),
    )


def _values(rows: Sequence[Rescored], measure: str) -> dict[_Target, dict[str, float]]:
    values: dict[_Target, dict[str, float]] = defaultdict(dict)
    for row in rows:
        value = dict(row.scores).get(measure)
        if value is not None:
            values[_Target(row.user_id, row.case_id, row.reply_id)][row.way] = value
    return dict(sorted(values.items()))


def _noise(measure: str, values: _Values, judge: str, asked: int, seed: int) -> Noise:
    trials = {
        target: [value for way, value in sorted(ways.items()) if way.startswith(_REPEAT)]
        for target, ways in values.items()
    }
    most = max((len(some) for some in trials.values()), default=0)
    whole = [RatedTarget(t.user, t.case, tuple(some)) for t, some in trials.items() if len(some) == most >= 2]
    within = icc_over_users(whole, "1", seed=seed, asked=asked, within_groups=True)
    return Noise(
        measure=measure,
        repeats=repeat_noise(list(trials.values()), judge=judge, measure=measure),
        within=within,
        plain=_within_plain(whole),
        absolute=icc_over_users(whole, "A,1", seed=seed, asked=asked),
        needed=None if within.mean is None else repeats_for(within.mean, WANTED),
        spread=_spread({target: math.fsum(some) / len(some) for target, some in trials.items() if some}),
    )


def _within_plain(rows: Sequence[RatedTarget]) -> Icc:
    """Return ICC(1) of the replies after the mean of their group is taken away, with the degrees of freedom that are left."""
    groups: dict[tuple[str, str], list[RatedTarget]] = defaultdict(list)
    for row in rows:
        groups[row.user, row.group].append(row)
    tables = [[row.ratings for row in group] for group in groups.values() if len(group) >= 2]
    return icc([ratings for table in tables for ratings in table], "1", groups=[len(table) for table in tables])


def _spread(means: Mapping[_Target, float]) -> float | None:
    """Return the pooled standard deviation of replies' scores within their case; None where no case has two."""
    groups = [values for values in _by_case(means).values() if len(values) >= 2]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    return math.sqrt(sum(float(np.sum((np.array(v) - np.mean(v)) ** 2)) for v in groups) / freedom)


def _by_case(values: Mapping[_Target, V]) -> dict[tuple[str, str], list[V]]:
    groups: dict[tuple[str, str], list[V]] = defaultdict(list)
    for target, value in values.items():
        groups[target.user, target.case].append(value)
    return groups


def _change(way: str, noise: Noise, values: _Values, asked: int, seed: int) -> Change:
    both = {target: (ways[BASE], ways[way]) for target, ways in values.items() if BASE in ways and way in ways}
    changes = [(target.user, after - before) for target, (before, after) in both.items()]
    missing: list[tuple[str, float | None]] = [("", None)] * (asked - len(changes))
    single = noise.repeats.deviation
    return Change(
        measure=noise.measure,
        way=way,
        shift=bootstrap_mean([*changes, *missing], seed=seed),
        deviation=float(np.std([change for _, change in changes], ddof=1)) if len(changes) > 1 else None,
        by_noise=None if single is None else single * math.sqrt(2),
        rank=_rank(both, asked, seed),
        kept=_kept(both, seed),
    )


def _rank(both: Mapping[_Target, tuple[float, float]], asked: int, seed: int) -> Estimate:
    by_user: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (user, _), pairs in _by_case(both).items():
        if len(pairs) >= 2:
            centred = np.array(pairs) - np.mean(pairs, axis=0)
            by_user[user] += [(float(a), float(b)) for a, b in np.round(centred, 9)]
    return spearman(by_user, seed=seed, asked=asked)


def _kept(both: Mapping[_Target, tuple[float, float]], seed: int) -> Estimate:
    held: list[tuple[str, float | None]] = []
    for (user, _), pairs in _by_case(both).items():
        for one, other in combinations(pairs, 2):
            before, after = one[0] - other[0], one[1] - other[1]
            tied = abs(before) <= _TIE or abs(after) <= _TIE
            held.append((user, None if tied else float(before * after > 0)))
    return bootstrap_mean(held, seed=seed, bounds=(0.0, 1.0))


def _place(placed: Sequence[Placed], scale: str, seed: int) -> Place:
    """Return the slope of scores over places within replies, turned round: first minus last; a mean over cases."""
    scores: dict[_Target, list[Placed]] = defaultdict(list)
    for row in placed:
        scores[_Target(row.user_id, row.case_id, row.reply_id)].append(row)
    products: dict[tuple[str, str], float] = defaultdict(float)
    squares: dict[tuple[str, str], float] = defaultdict(float)
    for target, rows in sorted(scores.items()):
        places, values = (np.array([getattr(row, name) for row in rows]) for name in ("place", "score"))
        offsets = places - places.mean()
        products[target.user, target.case] += float(offsets @ (values - values.mean()))
        squares[target.user, target.case] += float(offsets @ offsets)
    effects = [(user, -products[user, case] / square) for (user, case), square in squares.items() if square > _TIE]
    return Place(
        scale=scale,
        effect=bootstrap_mean(effects, seed=seed),
        spread=_spread({target: float(np.mean([row.score for row in rows])) for target, rows in scores.items()}),
    )


def _agreement(measure: str, values: _Values, judges: Sequence[str], asked: int, seed: int) -> Agreement:
    ways = [BASE, *(f"judge {judge}" for judge in judges[1:])]
    rated = [(t.user, {j: own.get(way) for j, way in zip(judges, ways, strict=True)}) for t, own in values.items()]
    whole = [
        RatedTarget(target.user, target.case, tuple(own[way] for way in ways))
        for target, own in values.items()
        if all(way in own for way in ways)
    ]
    alpha = alpha_of_judges(rated, judges, measure=measure, seed=seed)
    if alpha is None:
        raise ValueError("agreement needs two judges")
    return Agreement(
        measure=measure,
        alpha=alpha,
        absolute=icc_over_users(whole, "A,1", seed=seed, asked=asked),
        consistent=icc_over_users(whole, "C,1", seed=seed, asked=asked),
        pairs=tuple(correlate_judges(rated, judges, measure=measure, seed=seed)),
    )
