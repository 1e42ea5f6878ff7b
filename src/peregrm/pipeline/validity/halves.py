"""Cutting a history in two: by sessions, by turns where there is one session, early against late, and every dated session by itself.

An exchange, a user's turn and what follows it up to their next, is never cut. Memories that came with a source are divided by where their
evidence stands; one that rests on both parts, or on nothing, belongs to neither. Left out on purpose: halves of equal length in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import NamedTuple

from peregrm.evaluation.validity.stability import SESSIONS, TURNS
from peregrm.records import Evidence, History, Memory, Session, Turn

__all__ = ["DatedSession", "Split", "dated_sessions", "split_history"]

_DAYS_A_MONTH = 365.25 / 12

Place = tuple[str, int]
"""A session's id and a turn in it."""


class Split(NamedTuple):
    """Two disjoint parts of one history; `name` says how they were cut."""

    name: str
    first: History
    second: History


class DatedSession(NamedTuple):
    """One session as a history of its own, and when it was, in months since the year 1."""

    months: float
    history: History


def split_history(history: History) -> list[Split]:
    """Return the ways in which a history can be cut: odd against even, early against late; none below two exchanges."""
    spoken = [session for session in history.sessions if any(turn.role == "user" for turn in session.turns)]
    if len(spoken) > 1:
        units = [[(session.session_id, n) for n in range(len(session.turns))] for session in spoken]
        kind, even = "sessions", SESSIONS
    else:
        units = [unit for session in spoken for unit in _exchanges(session)]
        kind, even = "turns", TURNS
    if len(units) < 2:
        return []
    half = len(units) // 2
    return [
        Split(even, _part(history, units[0::2]), _part(history, units[1::2])),
        Split(f"early/late {kind}", _part(history, units[:half]), _part(history, units[-half:])),
    ]


def dated_sessions(history: History) -> list[DatedSession]:
    """Return the sessions that have a date, each as a history of its own."""
    found = []
    for session in history.sessions:
        day = _day(session.date)
        if day is not None and any(turn.role == "user" for turn in session.turns):
            places = [(session.session_id, n) for n in range(len(session.turns))]
            found.append(DatedSession(day.toordinal() / _DAYS_A_MONTH, _part(history, [places])))
    return found


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text[:10])
    except ValueError:
        return None


def _exchanges(session: Session) -> list[list[Place]]:
    units: list[list[Place]] = []
    for place, turn in enumerate(session.turns):
        if turn.role == "user":
            units.append([])
        if units:
            units[-1].append((session.session_id, place))
    return units


def _part(history: History, units: Iterable[Sequence[Place]]) -> History:
    kept = {place for unit in units for place in unit}
    moved: dict[Place, int] = {}
    sessions = []
    for session in history.sessions:
        turns: list[Turn] = []
        for place, turn in enumerate(session.turns):
            if (session.session_id, place) in kept:
                moved[session.session_id, place] = len(turns)
                turns.append(turn)
        if turns:
            sessions.append(session.model_copy(update={"turns": tuple(turns)}))
    memories = [found for memory in history.memories if (found := _moved(memory, moved.get)) is not None]
    return history.model_copy(update={"sessions": tuple(sessions), "memories": tuple(memories)})


def _moved(memory: Memory, where: Callable[[Place], int | None]) -> Memory | None:
    """Return the memory with its evidence where it stands in the part, or None where some of it does not."""
    evidence: list[Evidence] = []
    for one in memory.evidence:
        turn = where((one.session_id, one.turn))
        if turn is None:
            return None
        evidence.append(one.model_copy(update={"turn": turn}))
    return memory.model_copy(update={"evidence": tuple(evidence), "superseded_by": None}) if evidence else None
