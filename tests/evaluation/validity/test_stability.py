"""Planted stability is found within its interval, chance is called chance, and perfect agreement raises no alarm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate_parts import holds
from peregrm.dataset.traits import FACETS
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.stability import SESSIONS, TURNS, StabilityRows, judged, stability
from peregrm.evaluation.validity.stability_measures import (
    ChoiceRow,
    GapRow,
    ScoreRow,
    TraitRow,
    TraitSet,
    choices,
    label_overlap,
    matched_overlap,
    recognise,
    recognition,
    retest,
    slope,
)


def score_rows(users: int, icc: float, seed: int, split: str = SESSIONS, facets: int = 15) -> list[ScoreRow]:
    """Scores of two halves whose true correlation within each facet is `icc`, around facet means that differ widely."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for facet, domain in list(FACETS.items())[:facets]:
            true = math.sqrt(icc) * random.normal()
            level = 3 + len(facet) / 3
            one, other = (level + true + math.sqrt(1 - icc) * random.normal() for _ in range(2))
            rows.append(
                ScoreRow(
                    source="bigfive",
                    split=split,
                    user=f"u{user:03}",
                    domain=domain,
                    facet=facet,
                    first=one,
                    second=other,
                )
            )
    return rows


def trait_rows(users: int, same: float, seed: int, split: str = SESSIONS) -> list[TraitRow]:
    """Users of one trait each, a point in the plane; `same` is the share of it that both halves have in common."""
    random = np.random.default_rng(seed)
    places: dict[str, Any] = {}
    pairs = []
    for user in range(users):
        own = random.normal(size=4)
        sides = []
        for half in "ab":
            text = f"{user}{half}"
            places[text] = math.sqrt(same) * own + math.sqrt(1 - same) * random.normal(size=4)
            sides.append(TraitSet(f"u{user:03}", "en", (text,), frozenset({text})))
        pairs.append((sides[0], sides[1]))

    def near(one: TraitSet, other: TraitSet) -> float:
        return float(np.exp(-np.sum((places[one.texts[0]] - places[other.texts[0]]) ** 2) / 8))

    return recognise(pairs, near, source="extractive", split=split, by="text", seed=0)


def choice_rows(users: int, judge: str, seed: int, noise: float = 0.0) -> list[ChoiceRow]:
    """Four replies a case; a `personal` judge likes what the user likes, a `blind` one always the same, a `random` one anything."""
    random = np.random.default_rng(seed)
    fixed = random.normal(size=4)
    rows = []
    for user in range(users):
        taste, strange = random.normal(size=4), random.normal(size=4)
        sides = {
            "personal": (taste, taste, strange),
            "blind": (fixed, fixed, fixed),
            "random": tuple(random.normal(size=4) for _ in range(3)),
        }[judge]
        first, second, stranger = (tuple((side + noise * random.normal(size=4)).tolist()) for side in sides)
        rows.append(
            ChoiceRow(split=SESSIONS, user=f"u{user:03}", case_id=f"c{user}", policies=("a", "b", "c", "d"), first=first,
                      second=second, stranger=stranger)
        )  # fmt: skip
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("planted", [0.2, 0.8])
def test_a_planted_test_retest_correlation_lies_within_its_interval(planted: float) -> None:
    found = [retest(score_rows(30, planted, seed, facets=4), what="all", seed=seed) for seed in range(40)]
    assert sum(holds(one.icc, planted) for one in found) >= 36
    truth = 6 / math.pi * math.asin(planted / 2)  # Spearman's correlation of two normal variables
    assert sum(holds(one.rank, truth) for one in found) >= 35
    assert abs(np.mean([one.icc.mean for one in found]) - planted) < 0.03


@pytest.mark.slow
def test_planted_recognition_lies_within_its_interval() -> None:
    truth = recognition(trait_rows(400, 0.6, 99), seed=0).nearer.mean
    assert truth is not None
    found = [recognition(trait_rows(24, 0.6, seed), seed=seed).nearer for seed in range(150)]
    assert sum(holds(one, truth) for one in found) >= 0.9 * 150


@pytest.mark.parametrize("seed", range(4))
def test_stable_personas_and_a_personal_judge_are_no_cause_for_alarm(seed: int) -> None:
    finding = stability(
        StabilityRows(
            traits=trait_rows(40, 0.97, seed),
            scores=score_rows(40, 0.9, seed),
            choices=choice_rows(40, "personal", seed, noise=0.1),
        ),
        seed=seed,
    )
    assert finding.verdict == "good", finding.words
    assert not any("FAIL" in word for word in finding.words)


def test_perfect_agreement_is_good_although_nothing_varies() -> None:
    scores = [row.model_copy(update={"second": row.first}) for row in score_rows(20, 0.5, 1)]
    finding = stability(
        StabilityRows(traits=trait_rows(20, 1.0, 1), scores=scores, choices=choice_rows(20, "personal", 1)), seed=0
    )
    assert finding.verdict == "good", finding.words


@pytest.mark.parametrize("seed", range(4))
def test_random_personas_are_called_out(seed: int) -> None:
    traits = stability(StabilityRows(traits=trait_rows(60, 0.0, seed)), seed=seed)
    scores = stability(StabilityRows(scores=score_rows(40, 0.0, seed)), seed=seed)
    picked = stability(StabilityRows(choices=choice_rows(60, "random", seed)), seed=seed)
    for finding in (traits, scores, picked):
        assert finding.verdict == "bad", finding.words
        assert "FAILS" in finding.words[0]


def test_few_users_are_unknown_and_nothing_at_all_is_said() -> None:
    for seed in range(5):
        assert stability(StabilityRows(traits=trait_rows(6, 0.0, seed)), seed=0).verdict == "unknown"
    empty = stability(StabilityRows(notes=("no histories",)), seed=0)
    assert (empty.verdict, empty.words) == ("unknown", ("No trait stability was measured.", "no histories"))


def test_a_choice_that_does_not_hang_on_the_user_holds_in_part_and_says_why() -> None:
    finding = stability(StabilityRows(choices=choice_rows(40, "blind", 3)), seed=0)
    assert finding.verdict == "doubtful"
    assert any("stranger's half about as often" in word for word in finding.words)


def test_the_same_scores_for_everybody_fail() -> None:
    rows = [row.model_copy(update={"first": 5.0, "second": 5.0}) for row in score_rows(12, 0.5, 0)]
    finding = stability(StabilityRows(scores=rows), seed=0)
    assert finding.verdict == "bad"
    assert any("tell nobody from anybody" in word for word in finding.words)


def test_the_verdict_rests_on_halves_of_sessions_where_there_are_some_and_not_on_early_against_late() -> None:
    good, bad = trait_rows(40, 0.97, 0), trait_rows(40, 0.0, 0, split=TURNS)
    assert stability(StabilityRows(traits=[*bad, *good]), seed=0).verdict == "good"
    assert stability(StabilityRows(traits=bad), seed=0).verdict == "bad"
    one_conversation = stability(StabilityRows(traits=trait_rows(40, 0.97, 0, split=TURNS)), seed=0)
    assert one_conversation.verdict == "doubtful"
    assert "share its topic" in one_conversation.words[0]
    late = trait_rows(40, 0.0, 0, split="early/late sessions")
    assert stability(StabilityRows(traits=[*good, *late]), seed=0).verdict == "good"
    assert stability(StabilityRows(traits=late), seed=0).verdict == "unknown"


def test_facets_that_everybody_has_much_of_do_not_pass_for_stability() -> None:
    found = retest(score_rows(60, 0.0, 5), what="all", seed=0)
    assert found.icc.mean is not None
    assert abs(found.icc.mean) < 0.1
    assert found.rank.mean is not None
    assert abs(found.rank.mean) < 0.1


def test_missing_scores_are_counted_and_are_no_number() -> None:
    rows = score_rows(12, 0.8, 0)
    rows[0] = rows[0].model_copy(update={"second": None})
    found = retest(rows, what="all", seed=0)
    assert (found.icc.n, found.icc.asked) == (len(rows) - 1, len(rows))


def test_strangers_write_the_same_language_and_one_alone_is_compared_with_nobody() -> None:
    def pair(user: str, language: str) -> tuple[TraitSet, TraitSet]:
        one = TraitSet(user, language, (user,), frozenset({user}))
        return one, one

    rows = recognise(
        [pair("ann", "en"), pair("ben", "en"), pair("chen", "zh")],
        lambda one, other: label_overlap(one.labels, other.labels), source="x", split=SESSIONS, by="label", seed=0,
    )  # fmt: skip
    assert [(row.user, row.strangers, row.nearer, row.nearest) for row in rows] == [
        ("ann", 1, 1.0, True), ("ben", 1, 1.0, True), ("chen", 0, None, None),
    ]  # fmt: skip


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_matching_is_the_best_of_all_matchings(n: int, m: int, seed: int) -> None:
    table = np.random.default_rng(seed).uniform(size=(min(n, m), max(n, m)))
    best = max(sum(table[i, j] for i, j in enumerate(order)) for order in permutations(range(max(n, m)), min(n, m)))
    assert matched_overlap(table) == pytest.approx(2 * best / (n + m))
    assert matched_overlap(table.T) == pytest.approx(2 * best / (n + m))


def test_empty_sets_agree_about_nothing() -> None:
    assert matched_overlap(np.zeros((0, 3))) is None
    assert label_overlap(frozenset(), frozenset("a")) is None


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=5))
def test_a_choice_is_worth_no_more_than_the_best_and_ties_are_shared(scores: list[tuple[int, int]]) -> None:
    first, second = (tuple(float(value) for value in side) for side in zip(*scores, strict=True))
    row = ChoiceRow(split=SESSIONS, user="u", case_id="c", policies=tuple(map(str, first)), first=first, second=second)
    found = choices([row], seed=0)
    assert found.agreement.mean is not None
    assert 0 <= found.agreement.mean <= 1
    assert found.regret.mean is not None
    assert found.regret.mean >= 0
    assert found.kept.mean is None or found.kept.mean <= 1
    flat = choices([row.model_copy(update={"first": (3.0,) * len(scores)})], seed=0)
    assert flat.agreement.mean == pytest.approx(flat.chance)


def gap_rows(users: int, change: float, seed: int) -> list[GapRow]:
    random = np.random.default_rng(seed)
    return [
        GapRow(user=f"u{user}", months=gap, agreement=0.5 + 0.05 * user / users + change * gap + 0.05 * random.normal())
        for user in range(users)
        for gap in random.uniform(0, 10, size=8).tolist()
    ]


def test_planted_drift_lies_within_its_interval() -> None:
    found = [slope(gap_rows(12, -0.01, seed)) for seed in range(200)]
    assert sum(holds(one, -0.01) for one in found) >= 180


def test_gaps_of_one_length_show_no_drift() -> None:
    rows = [GapRow(user=f"u{n}", months=2.0, agreement=n / 10) for n in range(5)]
    assert slope(rows).mean is None
    assert slope([]).mean is None


def estimate(mean: float | None, low: float | None, high: float | None, users: int = 30) -> Estimate:
    return Estimate(mean=mean, low=low, high=high, n=users, users=users, asked=users)


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ((0.8, 0.7, 0.9), "good"),
        ((0.6, 0.55, 0.65), "doubtful"),
        ((0.52, 0.45, 0.6), "bad"),
        ((0.6, 0.4, 0.8), "unknown"),
        ((None, None, None), "unknown"),
        ((1.0, None, None), "good"),
        ((0.5, None, None), "bad"),
    ],
)
def test_the_rule_of_a_figure(figures: Sequence[float | None], verdict: str) -> None:
    assert judged(estimate(*figures), 0.5, 0.7) == verdict


def test_a_few_answers_of_many_decide_nothing() -> None:
    picked = choice_rows(60, "personal", 0)
    few = [row if n % 4 == 0 else row.model_copy(update={"first": (None,) * 4}) for n, row in enumerate(picked)]
    assert stability(StabilityRows(choices=picked), seed=0).verdict == "good"
    finding = stability(StabilityRows(choices=few), seed=0)
    assert finding.verdict == "unknown"
    assert any("there is an answer for 15 of 60 only" in line for line in finding.words)
    rated = [
        row if n % 4 == 0 else row.model_copy(update={"first": None}) for n, row in enumerate(score_rows(60, 0.9, 0))
    ]
    assert stability(StabilityRows(scores=rated), seed=0).verdict == "unknown"
