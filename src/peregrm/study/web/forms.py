"""What a participant filled in, checked: every rating there and in range, one choice, a comment that is not a book."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from peregrm.privacy.masking import mask_text
from peregrm.study.answers import Choice
from peregrm.study.plan import OUTCOMES, SCALE

__all__ = ["COMMENT_LENGTH", "SIDES", "Filled", "Problem", "read_form"]

SIDES = ("first", "second")
COMMENT_LENGTH = 2000
_CHOICES: tuple[Choice, ...] = ("first", "second", "none")


class Problem(NamedTuple):
    """What is missing or wrong, and the field it is about."""

    field: str
    text: str


class Filled(NamedTuple):
    """A form as it came: `values` to show it again, `problems` where it cannot be kept, else ratings, choice and comment."""

    values: dict[str, str]
    problems: tuple[Problem, ...]
    ratings: tuple[dict[str, int], dict[str, int]]
    choice: Choice
    comment: str


def read_form(given: Mapping[str, object]) -> Filled:
    """Check a rating form. What identifies somebody in the comment is masked."""
    values = {key: value for key, value in given.items() if isinstance(value, str)}
    problems: list[Problem] = []
    ratings: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for place, side in enumerate(SIDES):
        for outcome in OUTCOMES:
            name = f"{side}-{outcome.name}"
            number = _rating(values.get(name, ""))
            if number is None:
                problems.append(Problem(name, f"Reply {place + 1}: rate “{outcome.statement}”"))
            else:
                ratings[place][outcome.name] = number
    choice = next((one for one in _CHOICES if values.get("choice") == one), None)
    if choice is None:
        problems.append(Problem("choice", "Choose one of the two replies, or no preference"))
    comment = values.get("comment", "").replace("\r\n", "\n").strip()
    if len(comment) > COMMENT_LENGTH:
        problems.append(Problem("comment", f"The comment is longer than {COMMENT_LENGTH} characters"))
    clean = mask_text(comment.encode("utf-8", "replace").decode()).text
    return Filled(values, tuple(problems), ratings, choice or "none", clean)


def _rating(text: str) -> int | None:
    low, high = SCALE
    return int(text) if text in {str(number) for number in range(low, high + 1)} else None
