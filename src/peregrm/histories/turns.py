"""Turns and sessions, as all formats share them: roles, empty turns, dates, and where kept turns stood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

from peregrm.errors import InputError
from peregrm.histories.base import DraftSession, one_line, optional, required
from peregrm.records import Turn, content_id

__all__ = ["MAX_TURN_CHARACTERS", "instant", "parse_date", "parse_session", "parse_sessions", "text_id"]

MAX_TURN_CHARACTERS = 200_000
"""A longer turn is a mistake (a pasted file, a broken export) and is refused."""

_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "ai": "assistant", "chat gpt": "assistant", "bing": "assistant", "bard": "assistant", "claude": "assistant",
    "prompter": "user", "用户": "user", "助手": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_DROPPED_ROLES = {"tool", "function", "ipython", "observation", "function_call", "function_response", "tool_call"}
_LATEST_SECOND = 1e11  # the year 5138: a greater number counts milliseconds
_CLOCK = (1e9, 2e9)  # 2001 to 2033; other numbers are counters, times since the start and stamps such as 2026030410


def text_id(owner: Any, key: str, where: str, path: str = "") -> str | None:
    """Return an id given as text or whole number, or None where it is missing, null or blank. Raises InputError."""
    value = optional(owner, key, (str, int), where, path)
    return (str(value).strip() or None) if value is not None else None


def parse_sessions(raw: list[Any], where: str, notes: Counter[str], path: str = "sessions") -> list[DraftSession]:
    """Read a list of `{"session_id"?, "date"?, "turns": [...]}`. Raises InputError."""
    sessions = []
    for index, session in enumerate(raw):
        here = f"{path}[{index}]"
        turns = required(session, "turns", list, where, here)
        session_id = text_id(session, "session_id", where, here) or f"session-{index + 1}"
        date = parse_date(optional(session, "date", str, where, here), notes)
        sessions.append(parse_session(turns, session_id, date, where, notes, path=f"{here}.turns"))
    return sessions


def parse_session(
    raw: Sequence[Any],
    session_id: str,
    date: str | None,
    where: str,
    notes: Counter[str],
    *,
    path: str = "turns",
    text_key: str = "text",
    parts: bool = False,
) -> DraftSession:
    """Read the turns of one session; empty ones and those of tools are dropped and counted in `notes`.

    An empty `session_id` becomes one made of date and turns. Turns keep the order of the source; where their times go
    backwards, that is counted. A time that is a Unix time, as number or text, becomes ISO 8601; any other stays as it
    is. `parts` allows the text to be null or a list of content parts, of which the text parts
    are joined by line breaks. Raises InputError, naming session and turn (counted from 0), for an unknown role, a wrong
    type or a turn over 200,000 characters.
    """
    turns: list[Turn] = []
    position: dict[int, int] = {}
    for index, turn in enumerate(raw):
        here = f"{path}[{index}]"
        role = _role(required(turn, "role", str, where, here), f"{where}: {here}.role", notes)
        text = _text(turn, text_key, where, here, notes) if parts else required(turn, text_key, str, where, here)
        if len(text) > MAX_TURN_CHARACTERS:
            raise InputError(
                f"{where}: session {one_line(session_id)!r}, turn {index} has {len(text):,} characters; "
                f"the limit is {MAX_TURN_CHARACTERS:,}"
            )
        if role is None or not text.strip():
            notes["tool_turn" if role is None else "empty_turn"] += 1
            continue
        time = optional(turn, "time", (str, int, float), where, here)
        position[index] = len(turns)
        turns.append(Turn(role=role, text=text, time=None if time is None else _turn_time(time)))
    if _goes_backwards(turns):
        notes["clock_backwards"] += 1
    name = session_id or content_id("session", [date, [[turn.role, turn.text] for turn in turns]])
    return DraftSession(name, date, tuple(turns), position)


def parse_date(raw: str | float | None, notes: Counter[str]) -> str | None:
    """Return an ISO 8601 date or time as given, stripped, or that of a Unix time in seconds or milliseconds.

    Anything else becomes None and is counted.
    """
    if isinstance(raw, (int, float)):
        try:
            return datetime.fromtimestamp(raw / 1000 if abs(raw) > _LATEST_SECOND else raw, tz=UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            notes["date_not_iso"] += 1
            return None
    text = (raw or "").strip()
    if not text:
        return None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        notes["date_not_iso"] += 1
        return None
    return text


def instant(date: str) -> datetime:
    """Return the moment an ISO date stands for, for sorting; without a zone it is taken as UTC."""
    moment = datetime.fromisoformat(date)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _turn_time(raw: str | float) -> str:
    """Return a Unix time of our days, in seconds or milliseconds, as ISO 8601, and anything else as the source has it."""
    text = str(raw).strip()
    number = float(text) if text.isascii() and text.replace(".", "", 1).isdecimal() else 0.0
    seconds = number / 1000 if number > _LATEST_SECOND else number
    if not _CLOCK[0] <= seconds < _CLOCK[1]:
        return str(raw)
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()


def _goes_backwards(turns: Sequence[Turn]) -> bool:
    moments = [moment for moment in (_moment(turn.time) for turn in turns if turn.time) if moment is not None]
    return any(later < earlier for earlier, later in pairwise(moments))


def _moment(time: str) -> float | None:
    """Return the Unix time of an ISO date with a day, or of a number; None for anything else (`9:00`)."""
    try:
        return (
            float(time) if time[:1].isdecimal() and time.replace(".", "", 1).isdecimal() else instant(time).timestamp()
        )
    except (ValueError, OverflowError):
        return None


def _role(raw: str, where: str, notes: Counter[str]) -> Literal["user", "assistant", "system"] | None:
    folded = raw.strip().casefold()
    if folded in _DROPPED_ROLES:
        return None
    if folded not in _ROLES:
        known = ", ".join(sorted({*_ROLES, *_DROPPED_ROLES}))
        raise InputError(f"{where}: unknown role {one_line(raw)!r} (known: {known})")
    role = _ROLES[folded]
    if role != raw:
        notes["role_renamed"] += 1
    return role


def _text(turn: Any, key: str, where: str, path: str, notes: Counter[str]) -> str:
    value = required(turn, key, (str, list, type(None)), where, path)
    if not isinstance(value, list):
        return value or ""
    texts = []
    for index, part in enumerate(value):
        here = f"{path}.{key}[{index}]"
        if isinstance(part, str):
            texts.append(part)
        elif required(part, "type", str, where, here) in {"text", "input_text", "output_text"}:
            texts.append(required(part, "text", str, where, here))
        else:
            notes["non_text_part"] += 1
    return "\n".join(texts)
