"""The day something was said, and the reason of a fact that ended."""

from __future__ import annotations

import pytest

from peregrm.dataset.ending import day_said, reason_of_end
from peregrm.records import Session, Turn


@pytest.mark.parametrize(
    ("time", "date", "day"),
    [
        ("2026-03-04T10:00:00+00:00", "2026-03-01", "2026-03-04"),
        ("9:00", "2026-03-01T08:00:00", "2026-03-01"),
        (None, "2026-03-01", "2026-03-01"),
        (None, None, None),
    ],
)
def test_the_day_is_that_of_the_turn_else_of_the_session(time: str | None, date: str | None, day: str | None) -> None:
    session = Session(session_id="s", date=date, turns=(Turn(role="user", text="x", time=time),))
    assert day_said(session, 0) == day


@pytest.mark.parametrize(
    ("day", "about", "rest"),
    [
        (None, "", ""),
        ("2026-03-04", "", " (2026-03-04)"),
        (None, "home", " (home)"),
        ("2026-03-04", "home", " (2026-03-04, home)"),
    ],
)
def test_the_reason_says_what_is_known(day: str | None, about: str, rest: str) -> None:
    assert reason_of_end(day, about) == f"superseded: the user said otherwise later{rest}"
