"""What every memory store offers: add, search, update, delete, export, always for one user.

A store takes *notes*: a memory with its evidence, or one turn of a conversation. What it cannot do it says in its capabilities and
refuses with a `SettingsError`, never in silence. A search may find nothing, and says so with an empty list. Left out on purpose:
searching over several users at once, which nobody should want.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, Protocol

from pydantic import Field

from peregrm.records import Evidence, Failure, History, Memory, Part, Record

__all__ = ["Added", "Capabilities", "Found", "MemoryStore", "Note", "notes_of_history", "notes_of_memories"]


class Note(Record):
    """One thing a store is given about a user, or keeps about them.

    `kind` says where it came from: a `memory` (one lasting fact), a `turn` (one utterance, `role` says whose), or `derived`: written
    by the store itself (a summary, a profile line), resting on the notes `sources`. `time` is ISO 8601 or None. `supersedes` are ids
    of older notes that this one makes untrue.
    """

    id_prefix: ClassVar[str] = "not"

    user_id: str
    text: str
    kind: Literal["memory", "turn", "derived"] = "memory"
    role: Literal["user", "assistant", "system"] = "user"
    label: str | None = None
    time: str | None = None
    session_id: str | None = None
    turn: int | None = Field(default=None, ge=0)
    evidence: tuple[Evidence, ...] = ()
    sources: tuple[str, ...] = ()
    supersedes: tuple[str, ...] = ()


class Found(NamedTuple):
    """A note that a search brought up. `score` is on the store's own scale, higher is nearer; order is by score, then by id."""

    note: Note
    score: float


class Capabilities(Part):
    """What a store can do, for whoever chooses or compares stores; a store refuses by itself what it cannot, with a `SettingsError`.

    `takes` are the kinds of notes it is made from. `abstains`: a search can find nothing although there are notes. `keeps`: what was
    added survives the process.
    """

    takes: tuple[Literal["memory", "turn"], ...]
    update: bool = True
    delete: bool = True
    abstains: bool = False
    keeps: bool = False


class Added(Part):
    """What became of notes that were added: ids of those now kept, and what failed (a model's answer that could not be used)."""

    ids: tuple[str, ...]
    failures: tuple[Failure, ...] = ()


class MemoryStore(Protocol):
    """A memory store. Safe to call from many tasks of one event loop at once; calls about one user take effect in the order made."""

    @property
    def name(self) -> str:
        """The name it is chosen by; it stands in reports."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Take notes in, in order. Equal notes are kept once. Raises `SettingsError` for a kind it does not take or another user's note."""
        ...

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return at most `limit` notes of this user that bear on `query`, best first; none where none does."""
        ...

    async def update(self, user_id: str, note_id: str, text: str) -> str:
        """Give a note another text and return its new id. Raises `ArtifactError` where this user has no such note."""
        ...

    async def delete(self, user_id: str, note_id: str) -> None:
        """Remove a note. Raises `ArtifactError` where this user has no such note."""
        ...

    async def delete_all(self, user_id: str) -> None:
        """Remove everything about a user, also what was derived from it."""
        ...

    async def export(self, user_id: str) -> list[Note]:
        """Return all notes about a user, in the order they were added."""
        ...

    async def aclose(self) -> None:
        """Free files and memory. Safe to call twice."""
        ...


def notes_of_memories(memories: Sequence[Memory]) -> list[Note]:
    """Return the kept and the superseded memories as notes, old ones first and named by those that supersede them."""
    by_id: dict[str, Note] = {}
    waiting: dict[str, list[str]] = {}
    for memory in memories:
        if memory.status != "rejected" and memory.superseded_by is not None:
            waiting.setdefault(memory.superseded_by, []).append(memory.id)
    ordered = [memory for memory in memories if memory.status != "rejected"]
    ordered.sort(key=lambda memory: memory.status == "kept")  # a note names notes that are there already
    for memory in ordered:
        first = memory.evidence[0] if memory.evidence else None
        by_id[memory.id] = Note(
            user_id=memory.user_id,
            text=memory.value,
            label=memory.label,
            session_id=first.session_id if first else None,
            turn=first.turn if first else None,
            evidence=memory.evidence,
            supersedes=tuple(by_id[old].id for old in waiting.get(memory.id, ()) if old in by_id),
        )
    return list(by_id.values())


def notes_of_history(history: History) -> list[Note]:
    """Return every turn of a history as a note, in order; empty ones are left out."""
    return [
        Note(
            user_id=history.user_id,
            text=turn.text,
            kind="turn",
            role=turn.role,
            time=turn.time or session.date,
            session_id=session.session_id,
            turn=place,
        )
        for session in history.sessions
        for place, turn in enumerate(session.turns)
        if turn.text.strip()
    ]
