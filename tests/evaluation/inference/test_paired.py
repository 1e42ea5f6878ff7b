"""Two policies on the same cases: fixtures with known answers, and simulations without and with an effect."""

from __future__ import annotations

import random

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from peregrm.evaluation.inference import paired
from peregrm.evaluation.inference.paired import Difference, Paired, compare_paired, holm


def _compare(pairs: list[Paired], seed: int = 0) -> Difference:
    return compare_paired(pairs, judge="j", measure="total", a="A", b="B", seed=seed)


def test_the_exact_test_of_few_users() -> None:
    """Five users who all gain the same: of 32 relabellings two are as extreme."""
    found = _compare([Paired(f"u{k}", 1.0 + k / 10, k / 10) for k in range(5)])
    assert found.p == pytest.approx(2 / 32)
    assert (found.won, found.tied, found.lost) == (5, 0, 0)
    assert found.difference.mean == pytest.approx(1.0)
    assert found.effect is None  # no spread: an effect in units of it is not a number


def test_users_are_swapped_whole() -> None:
    """Twenty cases of two users: four relabellings, so p cannot fall below one half."""
    found = _compare([Paired(f"u{k % 2}", 1.0 + k, float(k)) for k in range(20)])
    assert found.p == pytest.approx(0.5)


def test_the_drawn_test_of_many_users_is_near_the_exact_one() -> None:
    """Fourteen users are drawn, not counted out; all 16,384 signs written out say what it should be near."""
    gaps = np.array([0.9, -0.2, 0.4, 0.1, -0.5, 0.7, 0.3, 0.2, -0.1, 0.6, -0.4, 0.5, 0.0, 0.35])
    signs = 1 - 2 * ((np.arange(2**14)[:, None] >> np.arange(14)) & 1)
    exact = float(np.mean(np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-12))
    found = paired.p_value([Paired(f"u{k}", float(gap), 0.0) for k, gap in enumerate(gaps)], seed=0)
    assert found == pytest.approx(exact, abs=4 * float(np.sqrt(exact / 9999)))


def test_effect_ties_and_missing_scores() -> None:
    found = _compare([Paired("a", 1.0, 0.0), Paired("b", 0.0, 0.0), Paired("c", 0.5, None), Paired("d", 0.0, 2.0)])
    assert (found.won, found.tied, found.lost) == (1, 1, 1)
    assert (found.difference.n, found.difference.asked) == (3, 4)
    gaps = np.array([1.0, 0.0, -2.0])
    assert found.effect == pytest.approx(gaps.mean() / gaps.std(ddof=1))


def test_one_user_has_no_test_and_equal_policies_have_p_one() -> None:
    alone = _compare([Paired("u", 1.0, 0.0), Paired("u", 1.0, 0.5)])
    assert (alone.p, alone.detectable, alone.power) == (None, None, ())
    same = _compare([Paired(f"u{k}", 0.3, 0.3) for k in range(4)])
    assert same.p == 1.0


def test_the_order_of_pairs_makes_no_difference() -> None:
    chance = random.Random(0)
    pairs = [Paired(f"u{k}", chance.random(), chance.random()) for k in range(20) for _ in range(2)]
    assert _compare(pairs) == _compare(chance.sample(pairs, len(pairs)))


def test_power_is_that_of_the_t_test_over_users() -> None:
    gaps = [0.3, -0.1, 0.2, 0.0, 0.4, -0.2, 0.1, 0.25]
    found = _compare([Paired(f"u{k}", gap, 0.0) for k, gap in enumerate(gaps)])
    spread = float(np.std(gaps, ddof=1))
    assert {p.difference: p.probability for p in found.power}[0.1] == pytest.approx(
        float(TTestPower().power(effect_size=0.1 / spread, nobs=8, alpha=0.05))
    )
    assert found.detectable is not None
    assert float(TTestPower().power(effect_size=found.detectable / spread, nobs=8, alpha=0.05)) == pytest.approx(0.8)


def test_power_of_a_vast_effect_is_one() -> None:
    found = _compare([Paired(f"u{k}", 1.0 + k * 1e-6, 0.0) for k in range(30)])
    assert all(p.probability == pytest.approx(1.0) for p in found.power)


def test_holm_corrects_within_judge_and_measure() -> None:
    base = _compare([Paired(f"u{k}", 1.0, 0.0) for k in range(3)])
    given = [
        base.model_copy(update={"p": p, "measure": m}) for p, m in [(0.01, "x"), (0.04, "x"), (0.03, "x"), (0.2, "y")]
    ]
    corrected = holm([*given, base.model_copy(update={"p": None, "measure": "x"})])
    assert [one.p_holm for one in corrected] == [
        pytest.approx(0.03),
        pytest.approx(0.06),
        pytest.approx(0.06),
        0.2,
        None,
    ]


def _simulated(chance: np.random.Generator, effect: float) -> list[Paired]:
    pairs: list[Paired] = []
    for user in range(20):
        taste = chance.normal(0, 0.5)
        for _ in range(int(chance.integers(1, 4))):
            pairs.append(Paired(f"u{user}", float(chance.normal(taste + effect)), float(chance.normal())))
    return pairs


@pytest.mark.slow
def test_without_an_effect_five_in_a_hundred_are_significant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "PERMUTATIONS", 999)
    chance = np.random.default_rng(11)
    hits = sum((paired.p_value(_simulated(chance, 0.0), seed=k) or 1.0) < 0.05 for k in range(1000))
    assert 35 <= hits <= 65


@pytest.mark.slow
def test_a_known_effect_is_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval holds the true difference in about 95 of 100 runs, and it is found about as often as the power says."""
    monkeypatch.setattr(paired, "PERMUTATIONS", 999)
    chance = np.random.default_rng(12)
    found = [_compare(_simulated(chance, 0.8), seed=k) for k in range(200)]
    held = [f.difference.low <= 0.8 <= f.difference.high for f in found if f.difference.low and f.difference.high]
    assert 0.9 <= sum(held) / len(held) <= 0.99
    means = [f.difference.mean for f in found if f.difference.mean is not None]
    assert float(np.mean(means)) == pytest.approx(0.8, abs=0.05)
    detectable = float(np.mean([f.detectable for f in found if f.detectable is not None]))
    seen = sum((f.p or 1.0) < 0.05 for f in found) / len(found)
    assert (seen > 0.8) == (detectable < 0.8)
