"""Intervals over users: when which one stands, and that the order of values is nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from peregrm.evaluation.inference.intervals import MIN_USERS, bootstrap_mean, bootstrap_statistic
from peregrm.evaluation.statistics import clustered_mean


def _values(users: int, seed: int = 0) -> list[tuple[str, float | None]]:
    chance = random.Random(seed)
    return [(f"u{k}", chance.gauss(0.5, 0.2)) for k in range(users) for _ in range(chance.randint(1, 4))]


def test_below_thirty_users_the_t_interval_stands() -> None:
    values = _values(MIN_USERS - 1)
    assert bootstrap_mean(values, seed=0) == clustered_mean(values)


def test_from_thirty_users_on_it_is_the_bootstrap_and_near_the_t_interval() -> None:
    values = _values(60)
    found, plain = bootstrap_mean(values, seed=0), clustered_mean(values)
    assert (found.interval, found.mean, found.n, found.users) == ("bootstrap", plain.mean, plain.n, 60)
    assert found.low == pytest.approx(plain.low, abs=0.02)
    assert found.high == pytest.approx(plain.high, abs=0.02)


def test_the_order_of_values_makes_no_difference() -> None:
    values = _values(40)
    shuffled = random.Random(3).sample(values, len(values))
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(shuffled, seed=5)


def test_missing_values_are_asked_for_and_bounds_are_kept() -> None:
    values: list[tuple[str, float | None]] = [(f"u{k}", 1.0 if k else 0.9) for k in range(40)] + [("u1", None)]
    found = bootstrap_mean(values, seed=0, bounds=(0.0, 1.0))
    assert (found.n, found.asked) == (40, 41)
    assert found.high is not None
    assert found.high <= 1.0


def test_values_that_do_not_differ_have_no_interval() -> None:
    assert bootstrap_mean([(f"u{k}", 0.5) for k in range(40)], seed=0).low is None


def test_a_statistic_without_a_value_in_many_draws_has_no_interval() -> None:
    def only_with_the_first(drawn: np.ndarray) -> float | None:
        return 1.0 if drawn[0] else None

    assert bootstrap_statistic(12, only_with_the_first, seed=0, asked=12, n=12).low is None
    found = bootstrap_statistic(12, lambda drawn: float(drawn @ np.arange(12) / drawn.sum()), seed=0, asked=12, n=12)
    assert found.mean == 5.5
    assert found.low is not None
    assert found.low < 5.5 < (found.high or 0)
