"""Progress at a terminal and away from one."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from peregrm.progress import Bars


def shown(*, terminal: bool) -> str:
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=terminal, width=100, color_system=None)) as bars:
        bars.start("read", 0)
        for _ in range(3):
            bars.advance("read")
        bars.start("intents", 0)
        bars.start("memories", 2)
        bars.advance("memories")
        bars.advance("memories")
    return stream.getvalue()


def test_without_a_terminal_a_stage_has_a_line_as_it_begins_and_one_as_it_ends() -> None:
    lines = re.sub(r"in \d+ s", "in N s", shown(terminal=False)).splitlines()
    assert lines == ["read: 3 done in N s", "memories: 2 to do", "memories: 2 done in N s"]


def test_the_bar_of_reading_ends_when_the_next_stage_begins() -> None:
    drawn = shown(terminal=True)
    assert "3/3" in drawn
    assert "2/2" in drawn
    assert "done" not in drawn


def test_what_is_only_counted_leaves_no_line() -> None:
    stream = io.StringIO()
    with Bars(Console(file=stream), counting=True) as bars:
        bars.start("replies", 1)
        bars.advance("replies")
    assert stream.getvalue() == ""


def test_reading_that_broke_off_is_not_done() -> None:
    stream = io.StringIO()

    def break_off() -> None:
        with Bars(Console(file=stream)) as bars:
            bars.start("read", 0)
            bars.advance("read")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        break_off()
    assert stream.getvalue() == ""


def test_reading_that_is_the_only_stage_ends_with_the_command() -> None:
    stream = io.StringIO()
    with Bars(Console(file=stream)) as bars:
        bars.start("read", 0)
        bars.advance("read")
    assert re.fullmatch(r"read: 1 done in \d+ s\n", stream.getvalue())
