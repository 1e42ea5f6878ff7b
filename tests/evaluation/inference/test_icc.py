"""Intraclass correlation: published values and intervals, planted shares, and what has no value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.evaluation.inference.icc import Form, RatedTarget, icc, icc_over_users, repeats_for

# Shrout and Fleiss (1979), table 2: six targets, four judges; intervals as McGraw and Wong's formulas give them.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
FORMS: tuple[Form, ...] = ("1", "A,1", "C,1")


@pytest.mark.parametrize(
    ("form", "value", "low", "high"),
    [("1", 0.166, -0.133, 0.723), ("A,1", 0.290, 0.019, 0.761), ("C,1", 0.715, 0.342, 0.946)],
)
def test_the_textbook_table(form: Form, value: float, low: float, high: float) -> None:
    found = icc(SHROUT_FLEISS, form)
    assert (found.value, found.low, found.high) == (
        pytest.approx(value, abs=5e-4),
        pytest.approx(low, abs=1e-3),
        pytest.approx(high, abs=1e-3),
    )
    assert (found.targets, found.raters) == (6, 4)


def test_consistency_from_published_mean_squares() -> None:
    """Bonett's example: mean squares 48.2 and 11.3 of 30 targets and 5 raters give 0.3951 (0.2311 to 0.5853 with his interval)."""
    random = np.random.default_rng(0)
    targets = _with_variance(random.normal(size=(30, 1)), 48.2 / 5, axis=0)
    noise = random.normal(size=(30, 5))
    noise -= noise.mean(axis=1, keepdims=True)
    noise -= noise.mean(axis=0, keepdims=True)
    noise *= np.sqrt(11.3 * 29 * 4 / (noise**2).sum())
    found = icc((targets + noise).tolist(), "C,1")
    assert found.value == pytest.approx(0.3951, abs=1e-4)
    assert found.low == pytest.approx(0.2311, abs=0.02)
    assert found.high == pytest.approx(0.5853, abs=0.02)


def _with_variance(values: np.ndarray, variance: float, axis: int) -> np.ndarray:
    values = values - values.mean(axis=axis)
    return values * np.sqrt(variance / values.var(ddof=1))


@given(
    st.lists(st.lists(st.integers(1, 5).map(float), min_size=3, max_size=3), min_size=3, max_size=8),
    st.floats(-3, 3, allow_nan=False),
)
@settings(max_examples=30)
def test_a_shift_of_one_rater_leaves_consistency_alone_and_the_forms_have_their_order(
    rows: list[list[float]], shift: float
) -> None:
    moved = [[row[0] + shift, *row[1:]] for row in rows]
    before, after = icc(rows, "C,1").value, icc(moved, "C,1").value
    assert before == (None if after is None else pytest.approx(after, abs=1e-6))
    for found in (icc(rows, form) for form in FORMS):
        if found.low is not None and found.high is not None and found.value is not None:
            assert found.low <= found.value + 1e-9
            assert found.value <= found.high + 1e-9


def test_what_has_no_value_and_what_is_perfect() -> None:
    assert icc([], "1").value is None
    assert icc([[1.0, 2.0]], "A,1").value is None
    assert icc([[3.0, 3.0], [3.0, 3.0]], "1").value is None
    perfect = icc([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]], "A,1")
    assert (perfect.value, perfect.low) == (pytest.approx(1.0), None)
    with pytest.raises(ValueError, match="each rater"):
        icc([[1.0, 2.0], [1.0]], "1")


@pytest.mark.parametrize("form", FORMS)
def test_the_f_interval_covers_a_planted_truth(form: Form) -> None:
    truth, covered, runs = 0.6, 0, 300
    for seed in range(runs):
        random = np.random.default_rng(seed)
        table = random.normal(size=(25, 1)) * np.sqrt(truth) + random.normal(size=(25, 4)) * np.sqrt(1 - truth)
        found = icc(table.tolist(), form)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert covered >= 0.92 * runs


def _clustered(seed: int, users: int, *, between_cases: float, between: float, noise: float) -> list[RatedTarget]:
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for case in range(3):
            level = random.normal() * between_cases
            for _ in range(4):
                reply = level + random.normal() * between
                ratings = tuple((reply + random.normal(size=3) * noise).tolist())
                rows.append(RatedTarget(f"u{user:02}", f"c{case}", ratings))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "within", "between_cases", "truth"),
    [("1", True, 3.0, 0.5), ("A,1", False, 1.0, 2 / 3), ("C,1", False, 1.0, 2 / 3)],
)
def test_the_interval_over_users_covers_a_planted_truth(
    form: Form, within: bool, between_cases: float, truth: float
) -> None:
    """Within groups the level of a group does not count, however far apart groups are."""
    covered, runs = 0, 50
    for seed in range(runs):
        rows = _clustered(seed, 12, between_cases=between_cases, between=1.0, noise=1.0)
        found = icc_over_users(rows, form, seed=seed, asked=len(rows), within_groups=within)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert covered >= 0.9 * runs


def test_over_all_replies_the_level_of_groups_counts() -> None:
    rows = _clustered(1, 16, between_cases=3.0, between=1.0, noise=1.0)
    over_all = icc_over_users(rows, "1", seed=0, asked=192)
    within = icc_over_users(rows, "1", seed=0, asked=192, within_groups=True)
    assert over_all.mean is not None
    assert within.mean is not None
    assert over_all.mean > 0.8 > within.mean


@pytest.mark.parametrize("form", FORMS)
def test_over_users_it_is_the_plain_coefficient_whatever_the_order(form: Form) -> None:
    rows = _clustered(3, 5, between_cases=1.0, between=1.0, noise=1.0)
    found = icc_over_users(rows, form, seed=0, asked=70)
    assert found.mean == pytest.approx(icc([row.ratings for row in rows], form).value)
    assert (found.low, found.users, found.n, found.asked) == (None, 5, 60, 70)
    assert icc_over_users(rows[::-1], form, seed=0, asked=70) == found


def test_replies_alone_in_their_case_tell_nothing_of_a_group() -> None:
    rows = [RatedTarget(f"u{n}", "c", (1.0, 2.0)) for n in range(12)]
    assert icc_over_users(rows, "1", seed=0, asked=12, within_groups=True).mean is None
    assert icc_over_users([], "1", seed=0, asked=12).n == 0


@pytest.mark.parametrize(
    ("single", "wanted", "count"), [(0.5, 0.8, 4), (0.8, 0.8, 1), (0.95, 0.8, 1), (0.0, 0.8, None), (0.2, 0.9, 36)]
)
def test_repeats_by_spearman_and_brown(single: float, wanted: float, count: int | None) -> None:
    assert repeats_for(single, wanted) == count
    if count is not None:
        assert count * single / (1 + (count - 1) * single) >= wanted - 1e-9
