"""Margins and ratings: known values, symmetry, and no order."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from peregrm.evaluation.benchmarks.eqbench3.margins import margin, pluses, pseudo_wins
from peregrm.evaluation.benchmarks.eqbench3.rating import Match, joint_ratings, rate, sequential_ratings


def test_pluses_are_added_up_by_respondent() -> None:
    assert pluses({"a": "A0493+++", "b": "A0488++", "c": "A0493+"}) == (4, 2)


@pytest.mark.parametrize("verdict", ["A0493", "A0493++++++", "A0493 ++", "++", "tie", "A0488+ or A0493+"])
def test_what_names_no_winner_with_pluses_is_no_verdict(verdict: str) -> None:
    with pytest.raises(ValueError, match="names no winner"):
        pluses({"a": verdict})


def test_the_margin_at_known_places() -> None:
    # 15 of 30 is past the bend: (1 - exp(-3 * 0.5 ** 0.75)) / (1 - exp(-3)). 1 of 30 is nearly the line 5 / 30.
    assert margin(15) == pytest.approx((1 - math.exp(-3 * 0.5**0.75)) / (1 - math.exp(-3)))
    assert margin(1) == pytest.approx(0.178303, abs=1e-6)
    assert [margin(0), margin(30), margin(-99)] == [0, pytest.approx(1), pytest.approx(-1)]
    assert [pseudo_wins(n) for n in (0, 1, -1, 15, 30, -80)] == [0, 4, -4, 18, 20, -20]


@settings(max_examples=30)
@given(st.integers(-100, 100))
def test_a_margin_is_odd_bounded_and_grows(difference: int) -> None:
    assert margin(-difference) == -margin(difference)
    assert abs(margin(difference)) <= 1
    assert margin(difference + 1) >= margin(difference)
    assert math.copysign(1, pseudo_wins(difference)) == math.copysign(1, difference) or difference == 0


def test_one_after_the_other_gives_what_the_library_trueskill_gives() -> None:
    """Values of trueskill 0.4.5 with mu 1200, sigma 350/3, beta 350/6, no draws: 4, 13 and 20 wins in a row."""
    matches = [Match("a", "b", "1", 1), Match("b", "c", "1", -6), Match("a", "c", "1", 40), Match("a", "b", "2", 0)]
    known = {"a": 1422.36365, "b": 1033.63091, "c": 1211.09740}
    assert sequential_ratings(matches) == pytest.approx(known, abs=1e-3)


def test_the_joint_rating_of_two_models_solves_its_equation() -> None:
    wins = np.array([[0.0, 3.0], [0.0, 0.0]])
    scale, spread = 350 / 6 * math.sqrt(2), 350 / 3

    def slope(x: float) -> float:
        return float(3 * norm.pdf(2 * x / scale) / norm.cdf(2 * x / scale) / scale - x / spread**2)

    ahead = brentq(slope, 0, 500)
    assert joint_ratings(wins) == pytest.approx([1200 + ahead, 1200 - ahead])
    assert joint_ratings(np.array([[0.0, 2.0], [2.0, 0.0]])) == pytest.approx([1200, 1200])
    assert joint_ratings(np.zeros((3, 3))) == pytest.approx([1200] * 3)


def test_a_rout_of_thousands_still_converges() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[1, 2] = wins[2, 3] = 5000
    ratings = joint_ratings(wins)
    assert list(np.argsort(-ratings)) == [0, 1, 2, 3]
    assert np.isfinite(ratings).all()


def simulated(seed: int = 0) -> tuple[list[Match], list[str]]:
    draw = random.Random(seed)
    models = [f"m{n}" for n in range(6)]
    matches = [
        Match(one, other, f"s{scenario}", round(6 * (place[1] - place[0]) + draw.gauss(0, 6)))
        for scenario in range(12)
        for place in [(a, b) for a in range(6) for b in range(a + 1, 6)]
        for one, other in [(models[place[0]], models[place[1]])]
    ]
    return matches, models


def test_a_known_order_is_found_whatever_the_order_of_the_matches() -> None:
    matches, models = simulated()
    ratings = rate(matches)
    assert sorted(ratings, key=lambda name: -ratings[name].rating) == models
    shuffled = random.Random(1).sample(matches, len(matches))
    assert {name: r.rating for name, r in rate(shuffled).items()} == pytest.approx(
        {name: r.rating for name, r in ratings.items()}
    )
    for rating in ratings.values():
        assert rating.low is not None
        assert rating.high is not None
        assert rating.low < rating.rating < rating.high
        assert rating.matches == 60


def test_one_scenario_has_no_interval_and_none_is_an_error() -> None:
    ratings = rate([Match("a", "b", "1", 5)])
    assert (ratings["a"].low, ratings["a"].high) == (None, None)
    assert ratings["a"].rating > 1200 > ratings["b"].rating
    with pytest.raises(ValueError, match="no match"):
        rate([])
