"""Memory items that come with a source, turned into `Memory` records with evidence that really stands in the turns.

Sources point at the wrong turn, shorten a quote with dots, or mark an item as wrong inside its own text. Here every
quote is looked up and stored as it stands in the turn; what the source marks as an error is rejected with its reason, and so is an item
none of whose quotes stands in what the user said. An item that comes without a quote is the source's own word and kept.
Left out on purpose: judging whether a memory is true, and finding new ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from peregrm.histories.base import DraftSession, optional, required
from peregrm.records import Evidence, Memory
from peregrm.taxonomy import normalise_label

__all__ = ["EVIDENCE_NOT_FOUND", "check_items", "resolve_memories"]

EVIDENCE_NOT_FOUND = "evidence not found in its turn"
"""The reason of a memory that is rejected because its quote stands nowhere in what the user said."""

_ERROR_MARK = re.compile(r"\[\s*ERROR\b\s*:?\s*([^\]]*)\]?", re.IGNORECASE)
_DOTS = re.compile(r"\[\s*(?:\.{3}|…)\s*\]|\(\s*(?:\.{3}|…)\s*\)|\.{3,}|…+")
_SHORTEST_PIECE = 4  # characters: a shorter piece of a shortened quote would be found anywhere
_PLAIN_QUOTES = str.maketrans("‘’‚“”„", "'''\"\"\"")  # one character for one, so that positions stay

_TYPES: dict[str, Literal["direct", "indirect"]] = {
    "direct": "direct", "explicit": "direct",
    "indirect": "indirect", "implied": "indirect", "implicit": "indirect", "inferred": "indirect",
}  # fmt: skip


def check_items(owner: Any, key: str, where: str) -> list[dict[str, Any]]:
    """Return the list of memory items at `key`, empty where there is none. Raises InputError for a wrong shape."""
    items = optional(owner, key, list, where) or []
    for index, item in enumerate(items):
        here = f"{key}[{index}]"
        required(item, "value", str, where, here)
        optional(item, "type", str, where, here)
        for each in _as_list(item.get("evidence")):
            if isinstance(each, dict):
                optional(each, "session_id", (str, int), where, f"{here}.evidence")
    return items


def resolve_memories(
    items: Sequence[dict[str, Any]], user_id: str, sessions: Sequence[DraftSession], notes: Counter[str]
) -> list[Memory]:
    """Turn checked items into memories whose evidence points into `sessions`; exact duplicates are dropped and counted.

    A quote is looked for in the turn at its index, then in all user turns of its session, ignoring case, white space
    and the shape of quotation marks; where it is shortened with dots, piece by piece. Without any turns quotes are not
    looked for, and memories are the source's own word. Mended indices, missing and unchecked quotes, unknown types and
    unusable confidences are counted in `notes`.
    """
    memories: dict[str, Memory] = {}
    for item in items:
        if not item["value"].strip():
            notes["empty_memory"] += 1
            continue
        memory = _memory(item, user_id, sessions, notes)
        if memory.id in memories:
            notes["duplicate_memory"] += 1
        memories.setdefault(memory.id, memory)
    return list(memories.values())


def _memory(item: dict[str, Any], user_id: str, sessions: Sequence[DraftSession], notes: Counter[str]) -> Memory:
    evidence, missing = _evidence(item.get("evidence"), sessions, notes)
    marked = _rejection(item)
    if marked is not None:
        notes["rejected_memory"] += 1
    rejection = marked or missing
    kind = _TYPES.get(str(item.get("type")).strip().casefold())
    if kind is None:
        notes["memory_type_unknown"] += 1
    time_scope = item.get("time_scope")
    suggestion = item.get("label_suggestion")
    return Memory(
        user_id=user_id,
        label=normalise_label(item.get("label"), item.get("label_suggestion")),
        type=kind or "indirect",
        value=_ERROR_MARK.sub("", item["value"]).strip() or item["value"],
        evidence=evidence,
        confidence=_confidence(item.get("confidence"), notes),
        time_scope=time_scope if isinstance(time_scope, str) else None,
        status="kept" if rejection is None else "rejected",
        reason=rejection,
        label_suggestion=suggestion.strip() or None if isinstance(suggestion, str) else None,
        method="source",
    )


def _rejection(item: dict[str, Any]) -> str | None:
    """Return what the source says is wrong with an item, wherever in the item it says so, or None."""
    for text in _texts(item):
        match = _ERROR_MARK.search(text)
        if match:
            return match[1].strip() or "marked as an error by the source"
    return None


def _texts(item: dict[str, Any]) -> Iterator[str]:
    waiting: list[Any] = [item]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            # Evidence is the user's own text: what stands in it marks nothing.
            waiting.extend(each for key, each in reversed(value.items()) if key != "evidence")
        elif isinstance(value, list):
            waiting.extend(reversed(value))


def _confidence(raw: Any, notes: Counter[str]) -> float | None:
    if raw is None:
        return None
    if not isinstance(raw, (int, float)) or isinstance(raw, bool) or not 0 <= raw <= 1:
        notes["confidence_dropped"] += 1
        return None
    return float(raw)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _evidence(
    raw: Any, sessions: Sequence[DraftSession], notes: Counter[str]
) -> tuple[tuple[Evidence, ...], str | None]:
    """Return the evidence that could be found, and why there is none where a quote was given but stands nowhere.

    Without a turn to look in nothing can be said against a quote.
    """
    if not any(session.turns for session in sessions):
        if _as_list(raw):
            notes["evidence_unchecked"] += 1
        return (), None
    found: dict[Evidence, None] = {}
    missing = 0
    for each in _as_list(raw):
        item = each if isinstance(each, dict) else {"text": each}
        candidates = _candidates(item.get("session_id"), sessions)
        indices = [index for index in map(_index, _as_list(item.get("utterance_index"))) if index is not None]
        for quote in _as_list(item.get("text")):
            if not isinstance(quote, str) or not quote.strip():
                continue
            places, lost = _find_quote(quote, candidates, indices, notes)
            found.update(dict.fromkeys(places))
            missing += lost
    if missing:
        notes["evidence_partly_found" if found else "evidence_not_found"] += 1
    return tuple(found), EVIDENCE_NOT_FOUND if missing and not found else None


def _index(raw: Any) -> int | None:
    if isinstance(raw, str) and raw.strip().isdecimal() and len(raw) < 10:
        return int(raw)
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None


def _candidates(session_id: Any, sessions: Sequence[DraftSession]) -> Sequence[DraftSession]:
    """Return the sessions meant; all where the source names none of them."""
    named = [session for session in sessions if session.source_id == str(session_id).strip()]
    return named or sessions


def _find_quote(
    quote: str, sessions: Sequence[DraftSession], indices: Sequence[int], notes: Counter[str]
) -> tuple[list[Evidence], int]:
    """Return where a quote stands, or where its pieces stand, and how many pieces stand nowhere."""
    whole = _find(quote, sessions, indices, notes)
    if whole is not None:
        return [whole], 0
    pieces = [piece for piece in (part.strip() for part in _DOTS.split(quote)) if len(piece) >= _SHORTEST_PIECE]
    if pieces == [quote.strip()] or not pieces:
        return [], 1
    places = [_find(piece, sessions, indices, notes) for piece in pieces]
    return [place for place in places if place is not None], places.count(None)


def _find(quote: str, sessions: Sequence[DraftSession], indices: Sequence[int], notes: Counter[str]) -> Evidence | None:
    for session in sessions:
        for index in indices:
            turn = session.position.get(index)
            text = None if turn is None else _as_it_stands(quote, session.turns[turn].text)
            if turn is not None and text is not None:
                return Evidence(session_id=session.session_id, turn=turn, quote=text)
    for session in sessions:
        for number, each in enumerate(session.turns):
            text = _as_it_stands(quote, each.text) if each.role == "user" else None
            if text is not None:
                notes["evidence_index_mended"] += 1
                return Evidence(session_id=session.session_id, turn=number, quote=text)
    return None


def _as_it_stands(quote: str, text: str) -> str | None:
    """Return the stretch of `text` that is `quote` but for case, white space and quotation marks, or None."""
    if quote in text:
        return quote
    words = quote.translate(_PLAIN_QUOTES).split()
    match = re.search(r"\s+".join(map(re.escape, words)), text.translate(_PLAIN_QUOTES), re.IGNORECASE)
    return text[match.start() : match.end()] if match else None
