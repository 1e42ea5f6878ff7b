"""A bounded block of lines about one user that a model edits by operations: the core of a two-tier memory, the profile of a levelled one.

The model never writes the block as a whole: it appends, replaces or removes single lines, and names the notes each change rests on.
An answer with one unusable change is unusable as a whole, is asked for once more, and then leaves the block as it was. Lines that rest
on a note go when the note goes. Left out on purpose: free rewriting, in which lines get lost without a trace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from peregrm.memory.base import Note
from peregrm.memory.embedding import Vectors, pack, unpack
from peregrm.memory.held import Value
from peregrm.memory.written import clipped, numbered, shown, unfounded
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Part

__all__ = [
    "MOST_CHARACTERS",
    "MOST_LINES",
    "Line",
    "block_value",
    "edit_block",
    "lines_as_notes",
    "read_block",
    "without",
]

MOST_LINES = 20
"""Lines that a block holds."""

MOST_CHARACTERS = 2000
"""Characters that the lines of a block hold together."""

_MOST_EDITS = 10
_LONGEST_LINE = 200
_ANSWER_TOKENS = 900


class Line(Part):
    """One line of a block and the ids of the notes it rests on, oldest first."""

    text: str
    sources: tuple[str, ...]


_LINES = TypeAdapter(tuple[Line, ...])


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    op: Literal["append", "replace", "remove"]
    line: int
    text: str = Field(max_length=_LONGEST_LINE)
    notes: list[int] = Field(min_length=1, max_length=10)


class _Edits(BaseModel):
    model_config = ConfigDict(extra="forbid")

    edits: list[_Edit] = Field(max_length=_MOST_EDITS)


class Edited(NamedTuple):
    """The block after the model was asked, and the failure where its answer changed nothing because it was unusable."""

    lines: tuple[Line, ...]
    failure: Failure | None


async def edit_block(model: Model, lines: tuple[Line, ...], notes: Sequence[Note], *, purpose: str) -> Edited:
    """Ask a model how new notes change a block, and return the block as it then stands.

    Args:
        model: Who edits.
        lines: The block as it stands.
        notes: New notes in order, at least one of them the user's; a line rests on theirs alone.
        purpose: The stage of the failure, and of the call in the ledger.

    Raises:
        ModelError: Only a fatal one.
    """
    request = Request(
        messages=render(
            "memory_block",
            lines=Untrusted(numbered([line.text for line in lines])),
            notes=Untrusted(numbered([shown(note) for note in notes])),
            most_lines=MOST_LINES,
            most_characters=MOST_CHARACTERS,
        ),
        max_tokens=_ANSWER_TOKENS,
        schema_name="edits",
        purpose=purpose,
    )
    answer = await ask(model, request, _Edits, check=lambda edits: _complaint(lines, notes, edits))
    if answer.value is None:
        return Edited(lines, answer.failure)
    return Edited(_applied(lines, notes, answer.value), None)


def without(lines: Sequence[Line], gone: Collection[str]) -> tuple[Line, ...]:
    """Return the lines that rest on none of the notes `gone`."""
    return tuple(line for line in lines if not set(line.sources) & set(gone))


def lines_as_notes(user_id: str, lines: Sequence[Line], label: str) -> list[Note]:
    """Return the lines as derived notes under `label`."""
    return [Note(user_id=user_id, text=line.text, kind="derived", label=label, sources=line.sources) for line in lines]


async def block_value(embed: Callable[[Sequence[str]], Awaitable[Vectors]], lines: tuple[Line, ...]) -> Value | None:
    """Return what a store keeps of a block, with the vectors that `embed` gives its lines; None where the block is empty."""
    return Value(_LINES.dump_json(lines).decode(), pack(await embed([line.text for line in lines]))) if lines else None


def read_block(value: Value | None) -> tuple[tuple[Line, ...], Vectors]:
    """Return the lines of a kept block and their vectors; none of either where there is no block."""
    if value is None:
        return (), np.empty((0, 0), dtype=np.float32)
    return _LINES.validate_json(value.text), unpack(value.vectors)


def _complaint(lines: Sequence[Line], notes: Sequence[Note], edits: _Edits) -> str | None:
    touched: set[int] = set()
    for edit in edits.edits:
        problem = _problem(lines, notes, edit)
        if problem is None and edit.op != "append":
            problem = f"line {edit.line} is changed twice" if edit.line in touched else None
            touched.add(edit.line)
        if problem is not None:
            return problem
    after = _applied(lines, notes, edits)
    size = sum(len(line.text) for line in after)
    if len(after) > MOST_LINES or size > MOST_CHARACTERS:
        return (
            f"the list would hold {len(after)} lines and {size} characters, and has room for {MOST_LINES} and "
            f"{MOST_CHARACTERS}: replace or remove lines"
        )
    return None


def _problem(lines: Sequence[Line], notes: Sequence[Note], edit: _Edit) -> str | None:
    """Say what is wrong with one change, or return None."""
    wrong = sorted({number for number in edit.notes if not 1 <= number <= len(notes)})
    if wrong:
        return f"there are no notes {wrong}; the numbers go from 1 to {len(notes)}"
    if not any(notes[number - 1].role == "user" for number in edit.notes):
        return f"notes {edit.notes} are not what the person says"
    if edit.op != "append" and not 1 <= edit.line <= len(lines):
        there = (
            f"the numbers go from 1 to {len(lines)}" if lines else "the list is empty, so lines can only be appended"
        )
        return f"there is no line {edit.line}: {there}"
    if edit.op == "remove":
        return None
    if not edit.text.strip():
        return f"the text of {edit.op!r} is empty"
    old = [lines[edit.line - 1].text] if edit.op == "replace" else []
    return unfounded(edit.text, [*old, *(shown(note) for note in _grounds(notes, edit))])


def _grounds(notes: Sequence[Note], edit: _Edit) -> list[Note]:
    return [notes[number - 1] for number in sorted(set(edit.notes)) if notes[number - 1].role == "user"]


def _applied(lines: Sequence[Line], notes: Sequence[Note], edits: _Edits) -> tuple[Line, ...]:
    """Return the block after the changes: replaced lines stay in place, new ones come last, a line that is there comes once."""
    result: list[Line | None] = list(lines)
    for edit in edits.edits:
        place = edit.line - 1
        if edit.op == "remove":
            result[place] = None
            continue
        old = lines[place].sources if edit.op == "replace" else ()
        new = Line(
            text=clipped(edit.text, _LONGEST_LINE),
            sources=tuple(dict.fromkeys((*old, *(note.id for note in _grounds(notes, edit))))),
        )
        if edit.op == "replace":
            result[place] = new
        else:
            result.append(new)
    once: dict[str, Line] = {}
    for line in result:
        if line is not None:
            once.setdefault(line.text.casefold(), line)
    return tuple(once.values())
