"""What the stores without a language model share: checks, a file of notes, one thread that does the work in the order it was asked.

Embedding and SQLite would hold up the event loop, so each store has a worker thread of its own; what is asked first is done first. A note
that another one supersedes is kept and exported but not found, until the newer one is deleted. Left out on purpose: indexes kept in
memory, which another process's changes would make wrong.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from peregrm.errors import ArtifactError, SettingsError
from peregrm.memory.base import Added, Capabilities, Found, Note
from peregrm.memory.embedding import Embeds, Vectors, default_embedder, pack, unpack, vectors_of
from peregrm.memory.factory import Options
from peregrm.memory.file import NoteFile, Row

__all__ = ["LocalStore", "best", "check_notes", "current"]

T = TypeVar("T")


def check_notes(name: str, capabilities: Capabilities, user_id: str, notes: Sequence[Note]) -> None:
    """Raise `SettingsError` where a note is another user's, or of a kind that the store `name` is not made from."""
    for note in notes:
        if note.user_id != user_id:
            raise SettingsError(f"the note {note.id} is not one of the user it was to be added for")
        if note.kind not in capabilities.takes:
            raise SettingsError(
                f"the memory store {name} takes {' and '.join(capabilities.takes)} notes, not {note.kind}"
            )


def current(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other one supersedes, under any id that they have or had."""
    untrue = {old for row in rows for old in row.note.supersedes}
    return [row for row in rows if untrue.isdisjoint((row.note.id, *row.former))]


class LocalStore(ABC):
    """A store in a SQLite file, or in memory alone; a subclass says how it ranks.

    Several stores, of any of these names and of several processes, may have one file open.

    Args:
        path: The file, made if it does not exist; None keeps the notes in memory only.
        embedder: In place of the offline MiniLM; only stores that embed use it.

    Raises:
        ArtifactError: The file is damaged or the database of another program.
        DependencyError: The store embeds and the embeddings are not installed.
    """

    name: ClassVar[str]
    opened_with: ClassVar[frozenset[str]] = frozenset({"path", "embedder"})
    embeds: ClassVar[bool] = False
    abstains: ClassVar[bool] = False

    def __init__(self, path: Path | None = None, *, embedder: Embeds | None = None) -> None:
        self._embedder = (embedder or default_embedder()) if self.embeds else None
        self._file = NoteFile(path)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"memory-{self.name}")
        self._is_open = True
        self.capabilities = Capabilities(takes=("memory", "turn"), abstains=self.abstains, keeps=path is not None)

    @classmethod
    def open(cls, options: Options) -> Self:
        """Open the store as the options say."""
        return cls(options.path, embedder=options.embedder)

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Take notes in, in order. Equal notes are kept once. Raises `SettingsError` for a kind it does not take or another user's note."""
        check_notes(self.name, self.capabilities, user_id, notes)
        return await self._later(lambda: self._add(user_id, notes))

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return at most `limit` notes of this user, best first."""
        if limit < 0:
            raise ValueError("limit must be at least 0")
        return await self._later(lambda: self._find(query, self._rows(user_id), limit))

    async def update(self, user_id: str, note_id: str, text: str) -> str:
        """Give a note another text and return its new id. Raises `ArtifactError` where this user has no such note."""
        return await self._later(lambda: self._file.replace(user_id, note_id, text))

    async def delete(self, user_id: str, note_id: str) -> None:
        """Remove a note. Raises `ArtifactError` where this user has no such note."""
        await self._later(lambda: self._file.delete(user_id, note_id))

    async def delete_all(self, user_id: str) -> None:
        """Remove everything about a user; no byte of it stays in the file."""
        await self._later(lambda: self._file.delete_all(user_id))

    async def export(self, user_id: str) -> list[Note]:
        """Return all notes about a user, superseded ones too, in the order they were added."""
        return await self._later(lambda: [row.note for row in self._file.rows(user_id)])

    async def aclose(self) -> None:
        """Close the file once all that was asked is done. Safe to call twice."""
        if self._is_open:
            self._is_open = False
            await asyncio.get_running_loop().run_in_executor(self._worker, self._file.close)
            self._worker.shutdown(wait=False)

    async def _later(self, work: Callable[[], T]) -> T:
        if not self._is_open:
            raise SettingsError(f"the memory store {self.name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _add(self, user_id: str, notes: Sequence[Note]) -> Added:
        ids = tuple(dict.fromkeys(note.id for note in notes))
        known = self._file.known(user_id, ids)
        new = {note.id: note for note in notes if note.id not in known}
        self._file.add(user_id, [(note, self._embedded(note)) for note in new.values()])
        return Added(ids=ids)

    def _embedded(self, note: Note) -> bytes | None:
        return None if self._embedder is None else pack(vectors_of(note, self._embedder))

    def _rows(self, user_id: str) -> list[Row]:
        """Return the rows that can be found, with vectors where the store embeds; those another store left out are made now."""
        rows = current(self._file.rows(user_id))
        if self._embedder is None:
            return rows
        made = {row.note.id: pack(vectors_of(row.note, self._embedder)) for row in rows if row.vectors is None}
        if made:
            self._file.keep_vectors(user_id, made)
        return [row._replace(vectors=row.vectors or made[row.note.id]) for row in rows]

    @abstractmethod
    def _find(self, query: str, rows: Sequence[Row], limit: int) -> list[Found]:
        """Return the notes found among the rows of one user, which are in the order they were added."""

    def _vectors(self, row: Row) -> Vectors:
        try:
            return unpack(row.vectors or b"")
        except ValueError as error:
            raise ArtifactError(f"{self._file.where}: the vectors of the note {row.note.id} are damaged") from error


def best(found: Sequence[Found], limit: int) -> list[Found]:
    """Return the first `limit` by score, then by id."""
    return sorted(found, key=lambda each: (-each.score, each.note.id))[:limit]
