"""From true and false statements to the score of a question, and from questions to the total: pure arithmetic.

The formula is that of `heartbench/score_answers.py` in github.com/inclusionAI/HeartBench. For each dimension of a question, with `raw` the
sum of the weights of the true statements, `low` that of all weights below 0 and `high` that of all above:

    score = 100 ln(raw - low + 1) / ln(high - low + 1)

A question's score is the mean of its dimensions; a dimension's is its mean over the questions that have it; the total is the mean of the
dimensions. The logarithm pays the first points best: of two equal statements of weight 3, one is worth 71. `points` beside it is the
plain share, 100 (raw - low) / (high - low) over the whole question.

One thing differs. The statement that an answer speaks in the person's place is meant to take everything away. The published code does so
only where its weight is above 0, and in the published files it never is: there the rule never acts. Here it does; `as_published` is the
question's score without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from peregrm.evaluation.benchmarks.heartbench.questions import VETO, RubricItem
from peregrm.evaluation.statistics import Estimate, half_width

__all__ = ["QuestionScore", "mean_of_means", "nothing", "score_question"]


class QuestionScore(NamedTuple):
    """One answer, all from 0 to 100. `dimensions` are in the order of the rubric; `veto` tells that it took everything away."""

    dimensions: tuple[tuple[str, float], ...]
    question: float
    points: float
    as_published: float
    veto: bool


def score_question(rubric: Sequence[RubricItem], true: Sequence[bool]) -> QuestionScore:
    """Return the score of an answer of which the statements of `rubric` are true or not, in their order.

    Raises:
        ValueError: There is not one verdict for every statement.
    """
    veto = any(met and item.dimension == VETO for item, met in zip(rubric, true, strict=True))
    names = [name for name in dict.fromkeys(item.dimension for item in rubric) if name != VETO]
    sums = {name: _sums(rubric, true, {name}) for name in names}
    scores = {name: 100 * math.log(got + 1) / math.log(most + 1) for name, (got, most) in sums.items()}
    as_published = math.fsum(scores.values()) / len(scores)
    if veto:
        return QuestionScore(tuple((name, 0.0) for name in names), 0.0, 0.0, as_published, veto=True)
    got, most = _sums(rubric, true, set(names))
    return QuestionScore(tuple(scores.items()), as_published, 100 * got / most, as_published, veto=False)


def nothing(rubric: Sequence[RubricItem]) -> QuestionScore:
    """Return the score of an answer that says nothing: 0, although it has none of the faults either."""
    names = dict.fromkeys(item.dimension for item in rubric if item.dimension != VETO)
    return QuestionScore(tuple((name, 0.0) for name in names), 0.0, 0.0, 0.0, veto=False)


def _sums(rubric: Sequence[RubricItem], true: Sequence[bool], names: set[str]) -> tuple[float, float]:
    """Return what was got above the least, and the most that could be."""
    weights = [(item.weight or 0.0, met) for item, met in zip(rubric, true, strict=True) if item.dimension in names]
    low = math.fsum(min(weight, 0.0) for weight, _ in weights)
    high = math.fsum(max(weight, 0.0) for weight, _ in weights)
    return math.fsum(weight for weight, met in weights if met) - low, high - low


def mean_of_means(groups: Mapping[str, Sequence[tuple[str, float]]], asked: int) -> Estimate:
    """Return the mean of the groups' means over (cluster, value) pairs, with its interval clustered across all groups.

    The standard error is linearised: each value counts with its distance from its group's mean over the size of that group. `n` and
    `users` of the estimate count clusters, of `asked`. Bounds are those of scores, 0 to 100.
    """
    filled = {name: values for name, values in groups.items() if values}
    if not filled:
        return Estimate(mean=None, low=None, high=None, n=0, users=0, asked=asked)
    means = {name: math.fsum(value for _, value in values) / len(values) for name, values in filled.items()}
    mean = math.fsum(means.values()) / len(means)
    pulls: dict[str, list[float]] = {}
    for name, values in filled.items():
        for cluster, value in values:
            pulls.setdefault(cluster, []).append((value - means[name]) / (len(values) * len(means)))
    half = half_width([math.fsum(each) for each in pulls.values()])
    return Estimate(
        mean=mean,
        low=None if half is None else max(0.0, mean - half),
        high=None if half is None else min(100.0, mean + half),
        n=len(pulls),
        users=len(pulls),
        asked=asked,
    )
