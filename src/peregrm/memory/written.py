"""What a model is shown of notes, and whether what it wrote rests on them.

Notes are shown numbered, on one line each and cut to a bounded length, so that a prompt has a size that no note can change. What a model
writes counts only if a fifth of its content words stand in what it names as its grounds, and all of its numbers do: this stops
inventions out of nothing, not wrong conclusions. Left out on purpose: judging a line by another call of a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from peregrm.memory.base import Note
from peregrm.text import content_tokens

__all__ = ["LONGEST_SHOWN", "STRETCH", "clipped", "numbered", "shown", "unfounded"]

LONGEST_SHOWN = 500
"""Characters of one note that a model is shown."""

STRETCH = 10
"""Notes that a model is shown as new at once."""

_NUMBER = re.compile(r"\d+")
_STEM = 4
_SHARED = 0.2


def clipped(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return `text` on one line and at most `longest` characters long, with a mark where something was cut off."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def shown(note: Note) -> str:
    """Return one line on a note: who speaks, where it is a turn, and when, where that is known."""
    when = f"({note.time[:10]}) " if note.time else ""
    who = ("person: " if note.role == "user" else f"{note.role}: ") if note.kind == "turn" else ""
    return f"{when}{who}{clipped(note.text)}"


def numbered(lines: Sequence[str]) -> str:
    """Return the lines, each with its number from 1."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))


def unfounded(text: str, grounds: Sequence[str]) -> str | None:
    """Say why `text` cannot rest on `grounds`, or return None where it may."""
    known = "\n".join(grounds)
    numbers = sorted(set(_NUMBER.findall(text)) - set(_NUMBER.findall(known)))
    if numbers:
        return f"{clipped(text, 60)!r} holds {', '.join(numbers)}, which stands in none of its notes"
    stems = _stems(text)
    if not (len(stems & _stems(known)) >= _SHARED * len(stems) if stems else text.casefold() in known.casefold()):
        return f"{clipped(text, 60)!r} shares too few words with its notes"
    return None


def _stems(text: str) -> set[str]:
    """Return the first letters of each content word, which most forms of a word share."""
    return {token[:_STEM] for token in content_tokens(text)}
