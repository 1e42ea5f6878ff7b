"""The day on which something was said, and what a superseded memory says of its end: the same words whoever found it."""

from __future__ import annotations

import re

from peregrm.records import Session

__all__ = ["day_said", "reason_of_end"]

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def day_said(session: Session, turn: int) -> str | None:
    """Return the day of a turn as `YYYY-MM-DD`: that of the turn, else of its session, else None.

    Raises:
        IndexError: The session has no such turn.
    """
    days = (_DAY.match(when) for when in (session.turns[turn].time, session.date) if when)
    return next((day[0] for day in days if day), None)


def reason_of_end(day: str | None, about: str = "") -> str:
    """Return the reason of a memory that a later one replaced, with the day of the later one and what it is about, where known."""
    known = ", ".join(part for part in (day, about) if part)
    return f"superseded: the user said otherwise later{f' ({known})' if known else ''}"
