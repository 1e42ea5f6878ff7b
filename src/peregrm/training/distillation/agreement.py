"""How far a student agrees with its teacher on users it has not seen, beside what needs no student at all.

Each measure has three rows: the student, the `constant` (the teacher's mean on the users learned from) and the `criterion mean` (the
teacher's mean for that very criterion there; where it did not occur, for its dimension). Rank correlation is Spearman's; the mean absolute
difference is in points of 1 to 5; ICC is that of absolute agreement of single ratings (A,1). `gain` is how much smaller the student's
difference is than the baseline's, on the same replies. All intervals are over users; below ten users rank correlation and ICC have none.

Measures: each dimension (scores of its criteria under their weights), all `criteria` and those of each dimension one by one, and the
bystander's mean where it was learned, as a score of 1 to 5. Left out on purpose: the teacher's agreement with itself, which
`peregrm validate --reliability` measures, and agreement with people, which `--human` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from peregrm.evaluation.inference.agreement import spearman
from peregrm.evaluation.inference.icc import RatedTarget, icc_over_users
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.records import Part
from peregrm.training.distillation.lessons import Lesson

__all__ = ["CONSTANT", "CRITERION", "STUDENT", "Agreement", "measure"]

STUDENT = "student"
CONSTANT = "constant"
CRITERION = "criterion mean"

_ALL = "criteria"
_BYSTANDER = "bystander"


class Agreement(Part):
    """How far one way of scoring agrees with the teacher on one measure; `gain` is the student's over it, None for the student."""

    measure: str
    scorer: str
    rank: Estimate
    difference: Estimate
    icc: Estimate
    gain: Estimate | None = None


class _Pair(NamedTuple):
    user: str
    group: str
    teacher: float
    given: dict[str, float]


def measure(
    lessons: Sequence[Lesson], answers: Sequence[Sequence[float] | None], learned: Sequence[Lesson], *, seed: int
) -> list[Agreement]:
    """Return the agreement on `lessons`, whose users are not among those of `learned`.

    `answers` are the student's scores of each lesson, 1 to 5, or None where it gave none: such a lesson counts as asked and not covered.
    Raises `ValueError` where a user is in both.
    """
    if {lesson.user for lesson in lessons} & {lesson.user for lesson in learned}:
        raise ValueError("users that were learned from cannot be measured on")
    means = _Means(learned)
    pairs: dict[str, list[_Pair]] = defaultdict(list)
    asked: dict[str, int] = defaultdict(int)
    for lesson, answer in zip(lessons, answers, strict=True):
        given = None if answer is None else {STUDENT: tuple(answer), **means.scores(lesson)}
        for name, weights in _measures(lesson):
            single = name.startswith(_ALL)
            asked[name] += len(weights) if single else 1
            if given is None:
                continue
            for some in [{place: 100} for place in weights] if single else [weights]:
                pairs[name].append(
                    _Pair(
                        lesson.user,
                        lesson.case_id,
                        _weighted(lesson.scores, some),
                        {scorer: _weighted(scores, some) for scorer, scores in given.items()},
                    )
                )
    return [
        _agreement(name, scorer, pairs[name], count, seed)
        for name, count in asked.items()
        for scorer in (STUDENT, CONSTANT, CRITERION)
    ]


def _measures(lesson: Lesson) -> list[tuple[str, dict[int, int]]]:
    """Return the measures a lesson counts in, each with the places of its scores and their weights."""
    if lesson.aspect == "bystander":
        return [(_BYSTANDER, dict(enumerate(lesson.weights)))]
    places: dict[str, dict[int, int]] = {}
    for place, (dimension, _) in enumerate(lesson.form.places):
        places.setdefault(dimension, {})[place] = lesson.weights[place]
    everything = dict(enumerate(lesson.weights))
    single = [(f"{_ALL} of {dimension}", own) for dimension, own in places.items()]
    return [*places.items(), (_ALL, everything), *single]


def _weighted(scores: Sequence[float], weights: dict[int, int]) -> float:
    return sum(scores[place] * weight for place, weight in weights.items()) / sum(weights.values())


class _Means:
    """The teacher's means on the users that were learned from."""

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        rows: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for lesson in lessons:
            for (dimension, _), text, score in zip(lesson.form.places, lesson.criteria, lesson.scores, strict=True):
                rows[()].append(score)
                rows[lesson.aspect, dimension].append(score)
                rows[lesson.aspect, dimension, text].append(score)
        self._means = {key: sum(own) / len(own) for key, own in rows.items()}

    def scores(self, lesson: Lesson) -> dict[str, tuple[float, ...]]:
        """Return what the two baselines say of a lesson."""
        aspect, means = lesson.aspect, self._means
        constant = [means.get((aspect, dimension), means[()]) for dimension, _ in lesson.form.places]
        own = [
            means.get((aspect, dimension, text), usual)
            for (dimension, _), text, usual in zip(lesson.form.places, lesson.criteria, constant, strict=True)
        ]
        return {CONSTANT: tuple(constant), CRITERION: tuple(own)}


def _agreement(name: str, scorer: str, pairs: Sequence[_Pair], asked: int, seed: int) -> Agreement:
    by_user: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair in pairs:
        by_user[pair.user].append((pair.teacher, pair.given[scorer]))
    missing: list[tuple[str, float | None]] = [("", None)] * (asked - len(pairs))
    differences = [(pair.user, abs(pair.given[scorer] - pair.teacher)) for pair in pairs]
    gains = [
        (pair.user, abs(pair.given[scorer] - pair.teacher) - abs(pair.given[STUDENT] - pair.teacher)) for pair in pairs
    ]
    targets = [RatedTarget(pair.user, pair.group, (pair.teacher, pair.given[scorer])) for pair in pairs]
    return Agreement(
        measure=name,
        scorer=scorer,
        rank=spearman(by_user, seed=seed, asked=asked) if _varies(by_user) else _nothing(pairs, asked),
        difference=clustered_mean([*differences, *missing], bounds=(0.0, 4.0)),
        icc=icc_over_users(targets, "A,1", seed=seed, asked=asked),
        gain=None if scorer == STUDENT else clustered_mean([*gains, *missing], bounds=(-4.0, 4.0)),
    )


def _varies(by_user: dict[str, list[tuple[float, float]]]) -> bool:
    sides = list(zip(*(pair for own in by_user.values() for pair in own), strict=True))
    return bool(sides) and all(len(set(side)) > 1 for side in sides)


def _nothing(pairs: Sequence[_Pair], asked: int) -> Estimate:
    users = len({pair.user for pair in pairs})
    return Estimate(mean=None, low=None, high=None, n=len(pairs), users=users, asked=asked)
