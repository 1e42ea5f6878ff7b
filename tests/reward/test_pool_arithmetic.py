"""The arithmetic of pooled totals: location, spread, constant judges, the quorum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.reward.pool import pool_totals

Totals = list[float | None]

totals = st.floats(-1, 1).map(lambda value: round(value, 3))
groups = st.integers(2, 9).flatmap(
    lambda size: st.lists(st.lists(totals, min_size=size, max_size=size), min_size=1, max_size=4)
)


def present(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def location_and_spread(by_judge: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """The documented scale: the judges' mean location and mean spread, over the judges with any total."""
    known = [there for values in by_judge if (there := present(values))]
    return fmean(map(fmean, known)), fmean(0.0 if min(t) == max(t) else pstdev(t) for t in known)


def test_worked_out_by_hand() -> None:
    """A: mean 0.5, spread 0.3 (population); B: mean 0, spread 0.1. The scale of the pool: mean 0.25, spread 0.2."""
    pooled = pool_totals([[0.2, 0.8], [0.1, -0.1]], 0.5)
    assert pooled == pytest.approx([0.25, 0.25]), "they contradict each other"
    pooled = pool_totals([[0.2, 0.8], [-0.1, 0.1]], 0.5)
    assert pooled == pytest.approx([0.25 - 0.2, 0.25 + 0.2])
    third = pool_totals([[0.0, 0.0, 0.6], [0.0, 0.3, 0.3]], 0.5)
    a, b = math.sqrt(2), 1 / math.sqrt(2)
    spread = (0.6 / 3 * a + 0.3 * math.sqrt(2) / 3) / 2
    assert third == pytest.approx(
        [0.2 + spread * (-b - a) / 2, 0.2 + spread * (-b + b) / 2, 0.2 + spread * (a + b) / 2]
    )


@given(st.lists(totals, min_size=1, max_size=9))
def test_one_judge_is_its_own_pool(values: list[float]) -> None:
    assert pool_totals([values], 0.5) == pytest.approx(values)


@given(st.lists(totals, min_size=1, max_size=9), st.integers(2, 4))
def test_equal_judges_are_as_one(values: list[float], judges: int) -> None:
    assert pool_totals([values] * judges, 1.0) == pytest.approx(values)


@given(groups, st.data())
def test_the_scale_a_judge_uses_does_not_matter(by_judge: list[list[float]], data: st.DataObject) -> None:
    """Up to the location and spread that are given back: the standardised pool stays what it was."""
    which = data.draw(st.integers(0, len(by_judge) - 1))
    factor, shift = data.draw(st.floats(0.1, 10)), data.draw(st.floats(-5, 5))
    rescaled = [[factor * v + shift for v in values] if n == which else values for n, values in enumerate(by_judge)]
    if len(set(rescaled[which])) < len(set(by_judge[which])):
        return  # rounding made two totals one
    for before, after in zip(standardised(by_judge), standardised(rescaled), strict=True):
        assert after == pytest.approx(before, abs=1e-6)


def standardised(by_judge: Sequence[Sequence[float | None]]) -> list[float]:
    location, spread = location_and_spread(by_judge)
    pooled = pool_totals(by_judge, 0.0)
    return [(value - location) / spread if spread else value - location for value in present(pooled)]


@given(groups)
def test_the_pool_lies_around_the_judges_mean_location(by_judge: list[list[float]]) -> None:
    location, _ = location_and_spread(by_judge)
    pooled = pool_totals(by_judge, 1.0)
    assert fmean(present(pooled)) == pytest.approx(location, abs=1e-9)


@given(groups, st.randoms(use_true_random=False))
def test_the_order_of_judges_and_replies_does_not_matter(by_judge: list[list[float]], rng: Any) -> None:
    pooled = pool_totals(by_judge, 0.5)
    assert pool_totals(by_judge[::-1], 0.5) == pytest.approx(pooled)
    places = rng.sample(range(len(by_judge[0])), len(by_judge[0]))
    moved = pool_totals([[values[place] for place in places] for values in by_judge], 0.5)
    assert moved == pytest.approx([pooled[place] for place in places])


@given(st.lists(totals, min_size=2, max_size=9), totals, st.integers(1, 3))
def test_a_judge_that_gives_all_the_same_leaves_the_order_to_the_others(
    values: list[float], constant: float, judges: int
) -> None:
    pooled = present(pool_totals([values, *([[constant] * len(values)] * judges)], 0.5))
    for one, a in zip(pooled, values, strict=True):
        for other, b in zip(pooled, values, strict=True):
            assert (one < other) == (a < b)
            assert (one == other) == (a == b)


@given(groups)
def test_a_reply_that_all_judges_put_first_is_first(by_judge: list[list[float]]) -> None:
    """Where nobody puts a reply below another, the pool does not."""
    pooled = present(pool_totals(by_judge, 0.5))
    for i in range(len(pooled)):
        for k in range(len(pooled)):
            if all(values[i] <= values[k] for values in by_judge):
                assert pooled[i] <= pooled[k] + 1e-9


def test_rounding_does_not_make_a_constant_judge_informative() -> None:
    """0.1 three times has a mean of 0.10000000000000002; a spread of that rounding would decide the order."""
    assert pool_totals([[0.1, 0.1, 0.1], [0.3, 0.3, 0.3]], 0.5) == [pytest.approx(0.2)] * 3


@given(st.lists(st.lists(st.none() | totals, min_size=4, max_size=4), min_size=1, max_size=4), st.floats(0.01, 1))
def test_a_reply_is_pooled_where_the_quorum_of_judges_scored_it(by_judge: list[Totals], quorum: float) -> None:
    pooled = pool_totals(by_judge, quorum)
    for place, value in enumerate(pooled):
        there = sum(values[place] is not None for values in by_judge)
        assert (value is not None) == (there > 0 and there / len(by_judge) >= quorum)
        if value is not None:
            assert math.isfinite(value)


@pytest.mark.parametrize(("quorum", "expected"), [(0.5, [True, True]), (0.51, [True, False]), (1.0, [True, False])])
def test_at_a_half_one_judge_of_two_is_enough(quorum: float, expected: list[bool]) -> None:
    pooled = pool_totals([[0.2, 0.8], [0.5, None]], quorum)
    assert [value is not None for value in pooled] == expected


def test_a_judge_that_scored_nothing_counts_only_against_the_quorum() -> None:
    dead: Totals = [None, None, None]
    assert pool_totals([[0.2, 0.5, 0.8], dead], 0.5) == pytest.approx([0.2, 0.5, 0.8])
    assert pool_totals([[0.2, 0.5, 0.8], dead], 0.6) == dead
    assert pool_totals([dead, dead], 0.5) == dead


def test_a_missing_total_is_no_zero() -> None:
    """The replies a judge did score are compared among themselves."""
    pooled = pool_totals([[0.0, 0.5, 1.0], [0.4, None, 0.6]], 0.5)
    location, spread = location_and_spread([[0.0, 0.5, 1.0], [0.4, None, 0.6]])
    root = math.sqrt(1.5)
    assert pooled == pytest.approx([location - spread * (root + 1) / 2, location, location + spread * (root + 1) / 2])


def test_no_replies_give_no_totals() -> None:
    assert pool_totals([[], []], 0.5) == []
