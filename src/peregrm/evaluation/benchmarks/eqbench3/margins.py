"""From a judge's plus signs to a margin: the arithmetic of EQ-Bench 3, checked against every recorded comparison.

The judge names, for each of eight traits, the stronger respondent and one to five plus signs. The pluses of a respondent are added up. The
difference, divided by 30 and at most 1, becomes a margin from 0 to 1 by a curve that rises steeply near a draw (a line with slope 5) and
flattens towards a rout (1 - exp(-3 x^0.75), scaled to end at 1), the two blended by a smooth step up to 0.11. A scenario is judged in both
orders and the differences are added before the curve. For a rating, a margin counts as 1 to 20 wins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

__all__ = ["FIRST", "SECOND", "WINS", "Verdict", "margin", "pluses", "pseudo_wins"]

FIRST, SECOND = "A0493", "A0488"
"""How the benchmark's prompts call the two respondents."""

Verdict = Literal[
    "A0493+",
    "A0493++",
    "A0493+++",
    "A0493++++",
    "A0493+++++",
    "A0488+",
    "A0488++",
    "A0488+++",
    "A0488++++",
    "A0488+++++",
]
"""Everything a judge may say of one trait."""

WINS = 20
"""A rout counts as so many wins, as published."""

_FULL = 30
_BEND = 0.11
_VERDICT = re.compile(rf"({FIRST}|{SECOND})(\+{{1,5}})")


def pluses(verdicts: Mapping[str, str]) -> tuple[int, int]:
    """Return the pluses of the first and of the second respondent.

    Raises:
        ValueError: A verdict is not a `Verdict`.
    """
    total = {FIRST: 0, SECOND: 0}
    for trait, verdict in verdicts.items():
        found = _VERDICT.fullmatch(verdict)
        if not found:
            raise ValueError(f"{trait}: {verdict!r} names no winner with one to five pluses")
        total[found[1]] += len(found[2])
    return total[FIRST], total[SECOND]


def margin(difference: int) -> float:
    """Return the margin of a difference in pluses, from -1 to 1 with its sign; 0 is a draw."""
    share = min(abs(difference) / _FULL, 1.0)
    if not share:
        return 0.0
    curve = (1 - math.exp(-3 * share**0.75)) / (1 - math.exp(-3))
    step = min(share / _BEND, 1.0)
    blend = step * step * (3 - 2 * step)
    return math.copysign((1 - blend) * 5 * share + blend * curve, difference)


def pseudo_wins(difference: int) -> int:
    """Return for how many wins a difference counts, from -`WINS` to `WINS` with its sign; 0 is a draw."""
    if not difference:
        return 0
    return int(math.copysign(max(1, min(WINS, math.ceil(abs(margin(difference)) * WINS))), difference))
