"""Counterbalancing holds exactly, for any numbers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.errors import SettingsError
from peregrm.study.design import counterbalanced


@settings(max_examples=60)
@given(
    people=st.integers(1, 40),
    sizes=st.integers(1, 15).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    seed=st.integers(0, 99),
)
def test_cases_and_sides_are_balanced_over_participants(people: int, sizes: tuple[int, int], seed: int) -> None:
    cases, per = sizes
    design = counterbalanced(people, cases, per, seed)
    assert len(design) == people
    for row in design:
        assert len({shown.case for shown in row}) == len(row) == per
        first = sum(shown.a_first for shown in row)
        assert abs(2 * first - per) <= 1
    seen: Counter[int] = Counter()
    for row in design:  # at any moment, not only at the end
        seen.update(shown.case for shown in row)
        times = [seen[case] for case in range(cases)]
        assert max(times) - min(times) <= 1
    for case in range(cases):
        sides = [shown.a_first for row in design for shown in row if shown.case == case]
        assert abs(2 * sum(sides) - len(sides)) <= 1


def test_the_seed_decides_and_nothing_else() -> None:
    assert counterbalanced(9, 7, 3, 5) == counterbalanced(9, 7, 3, 5) != counterbalanced(9, 7, 3, 6)


@pytest.mark.parametrize("numbers", [(0, 3, 1), (3, 3, 0), (3, 3, 4)])
def test_impossible_numbers_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(SettingsError):
        counterbalanced(*numbers, seed=0)
