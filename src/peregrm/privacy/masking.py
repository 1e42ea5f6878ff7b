"""Masking on import: what identifies or unlocks is replaced by a word that says what stood there.

A history is masked as a whole: what was recognised once (by the word "phone" before it, say) is hidden wherever the same user's texts
repeat it, and a memory's quote is cut out of the masked turn, so that it still stands there. Masking twice changes nothing, and a text
with nothing to hide comes back as the same bytes. Left out on purpose: undoing it; no table of what was masked is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from peregrm.privacy.finding import PLACEHOLDERS, Found, find_personal
from peregrm.privacy.links import relinked
from peregrm.records import Evidence, History, Memory, Session

__all__ = ["Masked", "mask_history", "mask_text"]

_NOTE = "masked_"
_SHORTEST_REPEATED = 6


class Masked(NamedTuple):
    """A text after masking, and how many spans of each kind were hidden."""

    text: str
    counts: Counter[str]


class _Piece(NamedTuple):
    """A masked text and, for each hidden span of the original, where it stood and where its placeholder stands."""

    text: str
    moved: tuple[tuple[int, int, int, int], ...]


def mask_text(text: str) -> Masked:
    """Hide what identifies or unlocks in one text; kinds are those of `peregrm.privacy.finding.PLACEHOLDERS`."""
    counts: Counter[str] = Counter()
    piece = _mask(text, None, counts)
    return Masked(piece.text, counts)


def mask_history(history: History) -> History:
    """Return the history with every turn, memory and quote masked; `notes` count what was hidden as `masked_KIND`.

    The number and order of sessions, turns and memories stay. Memories get new ids where their text changed; links between them are
    kept. Equal to the history itself where there is nothing to hide.
    """
    texts = [turn.text for session in history.sessions for turn in session.turns]
    texts += [text for memory in history.memories for text in _texts_of(memory)]
    repeated = _repeated(texts)
    counts: Counter[str] = Counter()
    turns: dict[tuple[str, int], tuple[str, _Piece]] = {}
    sessions: list[Session] = []
    for session in history.sessions:
        masked = []
        for place, turn in enumerate(session.turns):
            piece = _mask(turn.text, repeated, counts)
            turns[session.session_id, place] = (turn.text, piece)
            masked.append(turn if piece.text == turn.text else turn.model_copy(update={"text": piece.text}))
        sessions.append(session.model_copy(update={"turns": tuple(masked)}))
    memories = [_mask_memory(memory, turns, repeated, counts) for memory in history.memories]
    if not counts:
        return history
    notes = Counter(history.notes) + Counter({f"{_NOTE}{kind}": count for kind, count in counts.items()})
    update = {
        "sessions": tuple(sessions),
        "memories": relinked(memories, history.memories),
        "notes": dict(sorted(notes.items())),
    }
    return history.model_copy(update=update)


def _texts_of(memory: Memory) -> list[str]:
    return [memory.value, memory.reason or "", *(evidence.quote for evidence in memory.evidence)]


def _mask(text: str, repeated: re.Pattern[str] | None, counts: Counter[str]) -> _Piece:
    """Hide until nothing is left to hide: a placeholder can bring what stood on both sides of it into view."""
    spans = find_personal(text)
    if repeated is not None:
        spans = _with_repeated(text, spans, repeated)
    if not spans:
        return _Piece(text, ())
    parts: list[str] = []
    moved: list[tuple[int, int, int, int]] = []
    place = length = 0
    for span in spans:
        word = PLACEHOLDERS[span.kind]
        parts += [text[place : span.start], word]
        length += span.start - place
        moved.append((span.start, span.end, length, length + len(word)))
        length += len(word)
        place = span.end
        counts[span.kind] += 1
    masked = "".join([*parts, text[place:]])
    again = _mask(masked, repeated, counts)
    return _Piece(again.text, tuple(moved) if not again.moved else ())


def _repeated(texts: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern for what was recognised somewhere, to be hidden elsewhere too; only what is long and has a digit or an @."""
    known = {
        text[found.start : found.end]
        for text in texts
        for found in find_personal(text)
        if found.end - found.start >= _SHORTEST_REPEATED
    }
    strings = sorted((s for s in known if "@" in s or any(c.isdigit() for c in s)), key=lambda s: (-len(s), s))
    if not strings:
        return None
    return re.compile(r"(?<![A-Za-z0-9])(?:" + "|".join(map(re.escape, strings)) + r")(?![A-Za-z0-9])")


def _with_repeated(text: str, spans: list[Found], repeated: re.Pattern[str]) -> list[Found]:
    more: list[Found] = []
    for match in repeated.finditer(text):
        if all(match.end() <= span.start or span.end <= match.start() for span in spans):
            kind = "email" if "@" in match[0] else "secret" if any(c.isalpha() for c in match[0]) else "phone"
            more.append(Found(match.start(), match.end(), kind))
    return sorted([*spans, *more])


def _mask_memory(
    memory: Memory,
    turns: dict[tuple[str, int], tuple[str, _Piece]],
    repeated: re.Pattern[str] | None,
    counts: Counter[str],
) -> Memory:
    evidence = []
    for each in memory.evidence:
        quote = _masked_quote(each, turns.get((each.session_id, each.turn)))
        if quote is None:
            quote = _mask(each.quote, repeated, counts).text
        evidence.append(each if quote == each.quote else each.model_copy(update={"quote": quote}))
    value = _mask(memory.value, repeated, counts).text
    notes = {
        name: None if text is None else _mask(text, repeated, counts).text
        for name, text in (("reason", memory.reason), ("label_suggestion", memory.label_suggestion))
    }
    masked = {"value": value, "evidence": tuple(evidence), **notes}
    if all(getattr(memory, name) == text for name, text in masked.items()):
        return memory
    return memory.model_copy(update=masked)


def _masked_quote(evidence: Evidence, turn: tuple[str, _Piece] | None) -> str | None:
    """Cut the quote out of the masked turn, whole placeholders included; None where it does not stand in the turn."""
    if turn is None or not evidence.quote:
        return None
    original, piece = turn
    if piece.text == original:
        return evidence.quote if evidence.quote in original else None
    start = original.find(evidence.quote)
    if start < 0 or not piece.moved:
        return None
    end = start + len(evidence.quote)
    return piece.text[_moved(start, piece.moved, after=False) : _moved(end, piece.moved, after=True)]


def _moved(place: int, moved: Sequence[tuple[int, int, int, int]], *, after: bool) -> int:
    """Return where an offset of the original stands now; inside a hidden span, at the placeholder's end (`after`) or start."""
    shift = 0
    for start, end, new_start, new_end in moved:
        if place <= start:
            break
        if place < end:
            return new_end if after else new_start
        shift = new_end - end
    return place + shift
