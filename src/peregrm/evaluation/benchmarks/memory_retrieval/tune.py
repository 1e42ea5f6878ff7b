"""Find the constants of the default store anew: what a shared word is worth, and how near the best of n notes must be.

On queries whose right memory is known, among memories of other users: the weight by a conditional logit over the cosine and BM25; the gate
by the line, over the logarithm of n, through the scores that the best of n memories of other users passes for `FALSE_FINDS` of the
queries. Only English queries count, since the embeddings know no other language. Left out on purpose: finding more constants than these
three; a fit over ten measures was no better on unseen users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.memory_retrieval.tasks import Example, Fact, notes
from peregrm.histories.language import detect_language
from peregrm.mapping import Progress
from peregrm.memory.embedding import Embeds, nearness, query_vectors, vectors_of
from peregrm.memory.lexical import beyond_latin, bm25
from peregrm.records import Part

__all__ = ["FALSE_FINDS", "NUMBERS", "Tuned", "tune"]

FALSE_FINDS = 0.05
"""Aimed at on the users tuned on, for at most 0.10 on others."""

NUMBERS = (1, 2, 3, 5, 8, 12, 20, 35, 60, 100)
"""Numbers of notes at which the gate is taken."""

_DRAWS = 20

Floats = npt.NDArray[np.float64]


class Tuned(Part):
    """The constants, from `queries` of `users`; `off_line` is how far the points of the gate are off its line at most."""

    lexical_weight: float
    gate_first: float
    gate_growth: float
    off_line: float
    queries: int
    users: int


def tune(examples: Sequence[Example], embedder: Embeds, progress: Progress, *, seed: int = 0) -> Tuned:
    """Return the constants that fit these users.

    Raises:
        InputError: There are fewer than 100 memories of other users to any query, or no English query; or the embedder is of no use.
    """
    asked = [(example, query, right) for example in examples for query, right in example.asked if _is_english(query)]
    if not asked:
        raise InputError("no English query to tune on")
    random = np.random.default_rng(seed)
    stage = "tuning"
    progress.start(stage, len(asked))
    measures = []
    for example, query, right in asked:
        measures.append(_measures(query, [right, *_of_others(example, right, examples, random)], embedder))
        progress.advance(stage)
    weight = _weight(measures)
    points = _points([rows[1:] @ np.array([1.0, weight]) for rows in measures], random)
    growth, first = np.polyfit(np.log(NUMBERS), points, 1)
    return Tuned(
        lexical_weight=weight,
        gate_first=float(first),
        gate_growth=float(growth),
        off_line=float(np.abs(points - (first + growth * np.log(NUMBERS))).max()),
        queries=len(asked),
        users=len({example.user for example, _, _ in asked}),
    )


def _is_english(text: str) -> bool:
    return not beyond_latin(text) and detect_language([text]) == "en"


def _of_others(example: Example, right: Fact, examples: Sequence[Example], random: np.random.Generator) -> list[Fact]:
    """Return 100 different memories of other users, drawn at random."""
    pool = {fact.text: fact for other in examples if other.user != example.user for fact in other.own}
    pool.pop(right.text, None)
    if len(pool) < max(NUMBERS):
        raise InputError(f"only {len(pool)} memories of other users; {max(NUMBERS)} are needed")
    facts = list(pool.values())
    return [facts[place] for place in random.permutation(len(facts))[: max(NUMBERS)]]


def _measures(query: str, facts: Sequence[Fact], embedder: Embeds) -> Floats:
    """Return the cosine and the BM25 score of each fact, a row each."""
    asked = query_vectors(query, embedder)
    near = [nearness(asked, vectors_of(note, embedder)) for note in notes("-", facts)]
    return np.array([near, bm25(query, [fact.text for fact in facts])], dtype=np.float64).T


def _weight(measures: Sequence[Floats]) -> float:
    """Return what a point of BM25 is worth in cosine: the weights under which the first row of each query is likeliest chosen."""
    from scipy.optimize import minimize

    def misfit(weights: Floats) -> tuple[float, Floats]:
        total, slope = 0.0, np.zeros(2)
        for rows in measures:
            odds = rows @ weights
            odds -= odds.max()
            shares = np.exp(odds)
            total += math.log(shares.sum()) - odds[0]
            slope += shares @ rows / shares.sum() - rows[0]
        return total / len(measures), slope / len(measures)

    near, shared = minimize(misfit, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 2).x
    if near <= 0:
        raise InputError("on these queries nearness says nothing about which memory is right")
    return float(shared / near)


def _points(irrelevant: Sequence[Floats], random: np.random.Generator) -> Floats:
    """Return, for each of `NUMBERS`, the score that the best of so many passes for `FALSE_FINDS` of the queries."""
    points = []
    for number in NUMBERS:
        best = [scores[random.permutation(len(scores))[:number]].max() for scores in irrelevant for _ in range(_DRAWS)]
        points.append(float(np.quantile(best, 1 - FALSE_FINDS)))
    return np.array(points)
