"""Power against published tables, against brute force, and where it must go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from peregrm.errors import SettingsError
from peregrm.study.power import Crossed, crossed_df, needed, power_choice, power_ratings

ALONE = Crossed(1, icc=0.0)


@pytest.mark.parametrize(("effect", "people"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_one_case_a_person_is_the_paired_t_test_of_the_tables(effect: float, people: int) -> None:
    """Cohen's small, medium and large effect at alpha 0.05 two-sided and power 0.8, as G*Power gives them."""
    assert needed(lambda n: power_ratings(effect, n, ALONE)) == people


def test_one_case_a_person_is_the_exact_sign_test() -> None:
    for n, share in ((20, 0.75), (50, 0.65)):
        hits = sum(stats.binom.pmf(k, n, share) for k in range(n + 1) if stats.binomtest(k, n).pvalue < 0.05)
        assert power_choice(share, n, ALONE) == pytest.approx(hits)
    assert power_choice(0.5, 40, ALONE) < 0.05


@settings(max_examples=30)
@given(n=st.integers(3, 80), per=st.integers(1, 10), icc=st.floats(0, 0.5), case_icc=st.floats(0, 0.3))
def test_power_grows_with_people_and_shrinks_with_clustering(n: int, per: int, icc: float, case_icc: float) -> None:
    design = Crossed(per, 12, icc, case_icc)
    power = power_ratings(0.4, n, design)
    assert 0.04 < power <= 1
    assert power_ratings(0.4, 2 * n, design) >= power - 1e-6
    assert power_ratings(0.4, n, design._replace(icc=min(icc + 0.2, 1 - case_icc))) <= power + 0.02
    assert power_ratings(0.0, n, design) == pytest.approx(0.05, abs=0.001)


def test_the_ratings_power_is_that_of_simulated_studies() -> None:
    """A balanced crossed study in which every person reads every case, tested as the formula says."""
    random, people, cases, icc, case_icc, effect = np.random.default_rng(4), 16, 10, 0.2, 0.1, 0.35
    hits = 0
    for _ in range(800):
        gaps = effect + random.normal(0, icc**0.5, (people, 1)) + random.normal(0, case_icc**0.5, (1, cases))
        gaps = gaps + random.normal(0, (1 - icc - case_icc) ** 0.5, (people, cases))
        rest = gaps - gaps.mean(0) - gaps.mean(1, keepdims=True) + gaps.mean()
        noise = (rest**2).sum() / (people - 1) / (cases - 1)
        of_people = gaps.mean(1).var(ddof=1) / people
        of_cases = max(0.0, gaps.mean(0).var(ddof=1) - noise / people) / cases
        t = gaps.mean() / (of_people + of_cases) ** 0.5
        hits += abs(t) > stats.t.ppf(0.975, crossed_df(of_people, people, of_cases, cases))
    assert power_ratings(effect, people, Crossed(cases, cases, icc, case_icc)) == pytest.approx(hits / 800, abs=0.06)


def test_the_choice_power_is_that_of_simulated_studies() -> None:
    random, people, per, icc, share = np.random.default_rng(5), 30, 6, 0.2, 0.62
    mass = (1 - icc) / icc
    won = random.binomial(per, random.beta(share * mass, (1 - share) * mass, (1200, people)))
    ahead, behind = (won > per / 2).sum(1), (won < per / 2).sum(1)
    p = [stats.binomtest(a, a + b).pvalue for a, b in zip(ahead, behind, strict=True)]
    design = Crossed(per, 12, icc)
    assert power_choice(share, people, design) == pytest.approx(np.mean(np.array(p) < 0.05), abs=0.04)


def test_enough_stays_enough_and_too_few_cases_are_said() -> None:
    n = needed(lambda n: power_choice(0.65, n, ALONE))
    assert n is not None
    assert all(power_choice(0.65, more, ALONE) >= 0.8 for more in range(n, n + 10))
    assert power_choice(0.65, n - 1, ALONE) < 0.8
    assert needed(lambda n: power_ratings(0.1, n, Crossed(4, 4, 0.1, 0.3)), most=500) is None


def test_numbers_out_of_range_are_refused() -> None:
    for design in (Crossed(0), Crossed(4, 3), Crossed(2, 4, 0.7, 0.7)):
        with pytest.raises(SettingsError):
            power_ratings(0.3, 10, design)
    with pytest.raises(SettingsError):
        power_choice(1.0, 10, ALONE)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_has_no_power(number: float) -> None:
    with pytest.raises(SettingsError, match="finite"):
        power_ratings(number, 10, ALONE)
    for power_of in (power_ratings, power_choice):
        with pytest.raises(SettingsError, match="level"):
            power_of(0.3, 10, ALONE, alpha=number)
    assert power_ratings(1e6, 10, ALONE) == 1.0
