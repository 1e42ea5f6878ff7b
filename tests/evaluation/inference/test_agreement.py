"""Agreement of judges: known values, the reference package, and what has no value."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from peregrm.evaluation.inference.agreement import alpha_of_judges, correlate_judges, spearman

NAN = float("nan")


def alpha_of(rows: list[list[float]]) -> float | None:
    """Return the alpha of one unit a row, all of one user, NaN where a judge gave no value."""
    judges = [str(n) for n in range(len(rows[0]))]
    rated = [("u", {j: None if np.isnan(v) else v for j, v in zip(judges, row, strict=True)}) for row in rows]
    found = alpha_of_judges(rated, judges, measure="total", seed=0)
    assert found is not None
    return found.alpha.mean


@given(
    st.lists(
        st.lists(st.one_of(st.just(NAN), st.integers(1, 5).map(float)), min_size=3, max_size=3), min_size=2, max_size=12
    )
)
@settings(max_examples=60, deadline=None)
def test_alpha_is_that_of_the_reference_package(rows: list[list[float]]) -> None:
    pairable = [row for row in rows if sum(not np.isnan(v) for v in row) >= 2]
    levels = {v for row in pairable for v in row if not np.isnan(v)}
    found = alpha_of(rows)
    if len(levels) < 2:
        assert found is None
        return
    reference = krippendorff.alpha(reliability_data=np.array(rows).T, level_of_measurement="interval")
    assert found == pytest.approx(float(reference), abs=1e-9)


def test_alpha_of_perfect_agreement_is_one_and_of_opposition_below_zero() -> None:
    assert alpha_of([[1, 1], [2, 2], [5, 5]]) == pytest.approx(1.0)
    opposed = alpha_of([[1, 5], [5, 1], [1, 5]])
    assert opposed is not None
    assert opposed < 0


def test_judges_that_agree_but_for_level_have_rank_one_and_alpha_below() -> None:
    rated = [(f"u{k}", {"a": k / 10, "b": k / 10 + 1, "c": None}) for k in range(12)]
    rank = correlate_judges(rated, ["a", "b"], measure="total", seed=1)[0].rank
    assert rank.mean == pytest.approx(1.0)
    assert rank.low is not None
    alpha = alpha_of_judges(rated, ["a", "b"], measure="total", seed=1)
    assert alpha is not None
    assert alpha.alpha.mean is not None
    assert alpha.alpha.mean < 0.7
    assert alpha.alpha.n == 12


def test_one_judge_has_no_alpha_and_few_users_no_interval() -> None:
    rated = [(f"u{k}", {"a": float(k), "b": float(k * k)}) for k in range(5)]
    assert alpha_of_judges(rated, ["a"], measure="total", seed=0) is None
    rank = correlate_judges(rated, ["a", "b"], measure="total", seed=0)[0].rank
    assert (rank.mean, rank.low, rank.n, rank.asked) == (pytest.approx(1.0), None, 5, 5)


def test_unscored_replies_are_asked_for_and_not_counted() -> None:
    rated = [("u", {"a": 1.0, "b": None}), ("v", {"a": 2.0, "b": 1.0})]
    rank = correlate_judges(rated, ["a", "b"], measure="total", seed=0)[0].rank
    assert (rank.mean, rank.n, rank.asked) == (None, 1, 2)
    assert spearman({"u": [(1, 1), (1, 2), (1, 3)]}, seed=0, asked=3).mean is None


def test_a_rank_correlation_and_its_interval_are_those_of_scipy_over_drawn_users() -> None:
    """Ties and users of different size included; the interval is the percentile one of pairs written out draw by draw."""
    chance = np.random.default_rng(3)
    by_user = {
        f"u{k:02}": [(float(a), float(a + chance.integers(0, 4))) for a in chance.integers(0, 5, size=1 + k % 3)]
        for k in range(14)
    }
    found = spearman(by_user, seed=8, asked=40)
    every = [pair for pairs in by_user.values() for pair in pairs]
    assert found.mean == pytest.approx(stats.spearmanr(*zip(*every, strict=True)).statistic)
    assert (found.n, found.users, found.asked) == (len(every), 14, 40)
    random, groups = np.random.default_rng(8), list(by_user.values())
    drawn = [
        stats.spearmanr(*zip(*(p for k in random.integers(14, size=14) for p in groups[k]), strict=True)).statistic
        for _ in range(500)
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_the_interval_of_alpha_is_that_of_units_of_drawn_users() -> None:
    chance = np.random.default_rng(4)
    rated = [
        (f"u{k % 11:02}", {"a": float(v), "b": float(v + chance.normal()), "c": None if k % 3 else float(v)})
        for k, v in enumerate(chance.normal(size=30))
    ]
    found = alpha_of_judges(rated, ["a", "b", "c"], measure="total", seed=8)
    assert found is not None
    rows = {
        user: [[NAN if s[j] is None else s[j] for j in "abc"] for u, s in rated if u == user]
        for user in sorted({u for u, _ in rated})
    }
    random, groups = np.random.default_rng(8), list(rows.values())
    drawn = [alpha_of([row for k in random.integers(11, size=11) for row in groups[k]]) for _ in range(500)]
    assert found.alpha.mean == pytest.approx(alpha_of([row for group in groups for row in group]))
    assert (found.alpha.low, found.alpha.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))  # type: ignore[arg-type]
