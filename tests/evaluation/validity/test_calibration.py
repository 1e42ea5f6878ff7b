"""A planted miscalibration is recovered and mended; a judge that means what people mean raises no alarm."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.evaluation.validity.calibration import (
    Calibration,
    Point,
    calibrate,
    calibration_error,
    fit_isotonic,
    fit_temperature,
    halves,
    reliability,
    sureness,
)

Curve = Callable[[float], float]


def points(curve: Curve, seed: int, *, users: int = 60, each: int = 4, noise: float = 0.15) -> list[Point]:
    """Scores spread over 0 to 1; the level is the curve's value, a habit of the user's, and noise."""
    dice = random.Random(seed)
    rows = []
    for user in range(users):
        habit = dice.gauss(0, noise / 2)
        for _ in range(each):
            score = dice.random()
            rows.append(Point(f"u{user}", score, score, curve(score) + habit + dice.gauss(0, noise)))
    return rows


def distances(slope: float, seed: int, *, users: int = 60, each: int = 6) -> list[Point]:
    """Pairs that are right as often as the sureness of `slope` times their distance says."""
    dice = random.Random(seed)
    rows = []
    for n in range(users * each):
        distance = 4 * dice.random()
        right = float(dice.random() < float(sureness(slope * distance)))
        rows.append(Point(f"u{n % users}", distance, float(sureness(distance)), right))
    return rows


def shrunk(score: float) -> float:
    return 0.5 + 0.4 * (score - 0.5)


def same(score: float) -> float:
    return score


def calibrated(rows: list[Point], *, pairs: bool = False) -> Calibration:
    return calibrate(rows, name="planted", pairs=pairs, asked=len(rows), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(("curve", "truth"), [(same, 0.0), (shrunk, 0.15), (lambda score: 0.5, 0.25)])
def test_the_planted_error_lies_within_the_interval_in_nine_simulations_of_ten(curve: Curve, truth: float) -> None:
    found = [calibration_error(points(curve, seed), asked=240, seed=seed) for seed in range(100)]
    inside = [one.low is not None and one.high is not None and one.low <= truth <= one.high for one in found]
    assert sum(inside) >= 88
    assert np.mean([one.mean for one in found if one.mean is not None]) == pytest.approx(truth, abs=0.02)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (points(same, 1), "good"),
        (points(same, 1, noise=0.0), "good"),
        (points(lambda score: score**3, 2, users=150), "doubtful"),
        (points(lambda score: 0.5, 3, users=200), "bad"),
        (points(lambda score: 1 - score, 4, users=100), "bad"),
        ([row._replace(score=0.5, claim=0.5) for row in points(same, 5)], "bad"),
        (points(same, 6, users=8), "unknown"),
        (points(same, 7, users=12, each=1), "unknown"),
    ],
)
def test_each_kind_of_judge_has_its_verdict(rows: list[Point], verdict: str) -> None:
    assert calibrated(rows).verdict == verdict


def test_a_bent_scale_is_mended_on_users_it_was_not_fitted_on() -> None:
    found = calibrated(points(lambda score: score**3, 2, users=150))
    (isotonic,) = found.after
    assert found.error.low is not None
    assert isotonic.error.high is not None
    assert found.error.low > 0.15 > 0.05 > isotonic.error.high
    assert isotonic.explained.mean is not None
    assert isotonic.explained.mean > 0.5


def test_what_is_explained_of_noise_is_nothing() -> None:
    """Scores that say nothing, calibrated on other users, explain nothing, where the same users would explain something."""
    found = [calibrated(points(lambda score: 0.5, seed, users=40)).after[0].explained.mean for seed in range(8)]
    assert max(value for value in found if value is not None) < 0.1
    assert np.mean([value for value in found if value is not None]) < 0.0


@pytest.mark.parametrize("slope", [0.3, 1.0, 3.0])
def test_a_planted_temperature_is_found_and_pairs_are_calibrated_by_it(slope: float) -> None:
    rows = distances(slope, 1, users=300)
    fitted = fit_temperature(np.array([row.score for row in rows]), np.array([row.level for row in rows]))
    seen = math.log(float(fitted(1.0)) / (1 - float(fitted(1.0))))
    assert seen == pytest.approx(slope, rel=0.2)
    found = calibrated(rows, pairs=True)
    assert found.verdict == "good"
    temperature = next(one for one in found.after if one.method == "temperature")
    assert temperature.error.mean is not None
    assert temperature.error.mean < 0.03
    assert found.error.low is not None
    assert (found.error.low > 0.03) == (slope != 1.0)


def test_a_judge_always_right_is_good_and_one_always_wrong_is_never_surer_than_half() -> None:
    rows = [row._replace(level=1.0) for row in distances(1.0, 2)]
    found = calibrated(rows, pairs=True)
    assert found.verdict == "good"
    assert [one.explained.mean for one in found.after if one.method == "isotonic"] == [1.0]
    wrong = calibrated([row._replace(level=0.0) for row in rows], pairs=True)
    assert wrong.verdict == "bad"
    assert {one.score for after in wrong.after for one in after.bins} == {0.5}


def test_pairs_at_chance_and_nothing_but_ties_are_called_out() -> None:
    assert calibrated(distances(0.0, 3, users=200), pairs=True).verdict == "bad"
    ties = [row._replace(score=0.0, claim=0.5, level=0.5) for row in distances(1.0, 4)]
    assert calibrated(ties, pairs=True).verdict == "bad"


def test_a_reward_without_a_scale_has_no_error_before_calibration() -> None:
    found = calibrated([row._replace(claim=None) for row in points(same, 1)])
    assert (found.error.mean, found.bins) == (None, ())
    assert found.after[0].error.mean is not None
    assert calibrated([]).verdict == "unknown"


def test_halves_share_no_user_and_hang_on_the_seed_alone() -> None:
    users = {f"u{n}" for n in range(31)}
    half = halves(users, 0)
    assert sorted([sum(half.values()), 31 - sum(half.values())]) == [15, 16]
    assert half == halves(set(users), 0) != halves(users, 1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=80))
def test_bins_hold_every_row_once_and_the_isotonic_map_never_falls(pairs: list[tuple[float, float]]) -> None:
    rows = [Point(f"u{n % 7}", score, score, level) for n, (score, level) in enumerate(pairs)]
    bins = reliability(rows)
    assert sum(one.level.n for one in bins) == len(rows)
    assert all(one.high < other.low for one, other in pairwise(bins))
    fitted = fit_isotonic(np.array([s for s, _ in pairs]), np.array([level for _, level in pairs]))
    values = fitted(np.linspace(-1, 2, 50))
    assert (np.diff(values) >= -1e-12).all()
    assert calibrate(rows, name="x", pairs=False, asked=len(rows), seed=0) == calibrate(
        rows[::-1], name="x", pairs=False, asked=len(rows), seed=0
    )


def test_a_few_scores_of_many_and_levels_that_are_all_the_same_decide_nothing() -> None:
    rows = points(same, 5)
    assert calibrate(rows, name="few", pairs=False, asked=12 * len(rows), seed=0).verdict == "unknown"
    alike = calibrated([row._replace(level=0.75) for row in rows])
    assert alike.verdict == "unknown"
    assert "the same level" in alike.reason
    silent = calibrated([row._replace(score=0.5, claim=0.5) for row in rows])
    assert silent.verdict == "bad"
