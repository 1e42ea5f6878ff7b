"""How many people a study needs, and what it can show with as many as it gets.

Judgements of one participant are alike, and so are judgements of one case. For ratings the variance of the mean difference is
s^2 [icc/n + case_icc/N + (1 - icc - case_icc)/(nK)] with n participants, N cases and K cases a participant (a crossed design; Westfall,
Kenny and Judd, 2014), and the test is a t test whose degrees of freedom are Satterthwaite's. For the choice the test is the one that is
planned: a sign test over participants, each of whom counts for the policy they chose more often. How a participant chooses follows a
beta-binomial with the same icc; its power is summed, not drawn. Left out on purpose: power after the fact from what was observed, which
says no more than the p does.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import Any, NamedTuple

import numpy as np

from peregrm.errors import SettingsError

__all__ = ["MOST", "Crossed", "crossed_df", "needed", "power_choice", "power_ratings"]

MOST = 5000
"""Participants beyond which nobody is told a number."""

_STAYS = 10
"""Powers of exact tests go up in a saw-tooth; a number counts as enough where the next ones are too."""


class Crossed(NamedTuple):
    """A design with participants and cases crossed, and how alike judgements within either are.

    `per_participant` is K; `cases` is N, or None where every judgement is of a case of its own; `icc` and `case_icc` are shares of the
    variance, 0 to 1 together.
    """

    per_participant: int
    cases: int | None = None
    icc: float = 0.1
    case_icc: float = 0.0

    def check(self) -> None:
        """Raise `SettingsError` where a number is out of range."""
        if self.per_participant < 1 or (self.cases is not None and self.cases < self.per_participant):
            raise SettingsError("each participant sees at least one case, and no more cases than there are")
        if not (self.icc >= 0 and self.case_icc >= 0 and self.icc + self.case_icc <= 1):
            raise SettingsError(
                "the shares of variance between participants and between cases are 0 to 1, together too"
            )


def crossed_df(of_people: float, people: int, of_cases: float, cases: int) -> float:
    """Return Satterthwaite's degrees of freedom of a variance that is the sum of one over people and one over cases."""
    if of_cases <= 0 or cases < 2:
        return float(max(people - 1, 1))
    spread = of_people**2 / max(people - 1, 1) + of_cases**2 / (cases - 1)
    return (of_people + of_cases) ** 2 / spread


def power_ratings(effect: float, participants: int, design: Crossed, *, alpha: float = 0.05, tests: int = 1) -> float:
    """Return the power to see a mean difference of `effect` standard deviations of a difference, two-sided at `alpha` / `tests`.

    0 for fewer than two participants. Raises `SettingsError` where a number is out of range.
    """
    from scipy import stats

    design.check()
    _check_alpha(alpha)
    if not isfinite(effect):
        raise SettingsError("the effect is a number of standard deviations, and finite")
    if participants < 2:
        return 0.0
    rest = 1 - design.icc - (design.case_icc if design.cases else 0.0)
    of_people = (design.icc + rest / design.per_participant) / participants
    of_cases = design.case_icc / design.cases if design.cases else 0.0
    if of_people + of_cases <= 0:
        return 1.0 if effect else alpha / tests
    df = crossed_df(of_people, participants, of_cases, design.cases or 0)
    shift = abs(effect) / sqrt(of_people + of_cases)
    bound = float(stats.t.ppf(1 - alpha / tests / 2, df))
    power = float(stats.nct.sf(bound, df, shift) + stats.nct.cdf(-bound, df, shift))
    # A shift far beyond the bound is in a tail that the noncentral t cannot be computed for.
    return power if isfinite(power) else float(shift > bound)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise SettingsError("the level of a test lies between 0 and 1")


def power_choice(share: float, participants: int, design: Crossed, *, alpha: float = 0.05) -> float:
    """Return the power of the sign test over participants where A is chosen with probability `share`, 0 to 1, on each case."""
    from scipy import stats

    design.check()
    _check_alpha(alpha)
    if not 0 < share < 1:
        raise SettingsError("the share of choices lies between 0 and 1")
    for_a, tied = _majorities(share, design)
    if tied >= 1:
        return 0.0
    cut: Any
    voices = np.arange(1, participants + 1)
    weights = stats.binom.pmf(voices, participants, 1 - tied)
    cut = stats.binom.ppf(
        alpha / 2, voices, 0.5
    )  # the most voices of the rarer side that make p < alpha: this many, or one fewer
    cut = cut - (2 * stats.binom.cdf(cut, voices, 0.5) >= alpha)
    p = for_a / (1 - tied)
    found = stats.binom.cdf(cut, voices, p) + stats.binom.sf(voices - cut - 1, voices, p)
    return float(np.sum(weights * np.where(cut >= 0, found, 0.0)))


def _majorities(share: float, design: Crossed) -> tuple[float, float]:
    """Return how likely a participant chooses A more often than B, and as often."""
    from scipy import stats

    k = design.per_participant
    one: Any
    if design.icc <= 0:
        one = stats.binom(k, share)
    elif design.icc >= 1:
        return share, 0.0
    else:
        mass = (1 - design.icc) / design.icc
        one = stats.betabinom(k, share * mass, (1 - share) * mass)
    tied = float(one.pmf(k // 2)) if k % 2 == 0 else 0.0
    return float(one.sf(k // 2)), tied


def needed(power_of: Callable[[int], float], wanted: float = 0.8, most: int = MOST) -> int | None:
    """Return the smallest number of participants from which on the power is at least `wanted`; None where `most` are too few.

    `power_of` grows with the number, but for a saw-tooth.
    """
    if not 0 < wanted < 1:
        raise SettingsError("the power that is wanted lies between 0 and 1")
    high = 2
    while power_of(high) < wanted:
        if high >= most:
            return None
        high = min(2 * high, most)
    low = max(2, high // 2)
    while low < high:  # up to the saw-tooth
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= wanted else (middle + 1, high)
    start = max(2, low - _STAYS)
    while start <= most:
        short = [n for n in range(start, start + _STAYS) if power_of(n) < wanted]
        if not short:
            return start
        start = short[-1] + 1
    return None
