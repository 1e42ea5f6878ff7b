"""What the stores that a language model drives share: a file with notes and what was made of them, and the calls that ask no model.

Beside the notes of `file` there is a table of values that a store keeps under keys: the lines of a block, what was written about a note,
a segment. Notes and the values they changed are written in one transaction, so that a kill never leaves a note that was kept but not
worked on. Left out on purpose: asking the model again when a note is changed; what rested on the old text goes, and the new text stands
for itself.
"""

from __future__ import annotations

import asyncio
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from peregrm.errors import SettingsError
from peregrm.memory.base import Added, Capabilities, Note
from peregrm.memory.embedding import (
    Embeds,
    Vectors,
    default_embedder,
    nearness,
    pack,
    query_vectors,
    unpack,
    vectors_of,
)
from peregrm.memory.factory import Options
from peregrm.memory.file import NoteFile
from peregrm.memory.foreign import no_such_note
from peregrm.memory.local import check_notes, current
from peregrm.models.base import Model
from peregrm.records import Failure

__all__ = ["HeldFile", "HeldStore", "Kept", "Value", "near"]

_APPLICATION_FAMILY = 0x70670000
"""The mark of these files, up to what tells the stores apart."""

_HELD = (
    "CREATE TABLE IF NOT EXISTS held (user TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, vectors BLOB NOT NULL,"
    " PRIMARY KEY (user, key)) WITHOUT ROWID"
)


class Value(NamedTuple):
    """What a store keeps under a key: JSON, and the packed vectors of the texts in it."""

    text: str
    vectors: bytes


class HeldFile(NoteFile):
    """A file of notes with a table of values beside them, which no other kind of store opens.

    Args:
        path: As for `NoteFile`.
        store: The name of the store whose values these are.

    Raises:
        ArtifactError: As for `NoteFile`; or the file is that of another kind of store.
    """

    def __init__(self, path: Path | None, store: str) -> None:
        mark = _APPLICATION_FAMILY + zlib.crc32(store.encode()) % 0x10000
        self._layout = self._layout._replace(application_id=mark, tables=(*self._layout.tables, _HELD))
        super().__init__(path)

    def values(self, user_id: str) -> dict[str, Value]:
        """Return all values of a user by key, sorted by key."""
        with self._naming_the_file():
            found = self._db.execute(
                "SELECT key, value, vectors FROM held WHERE user = ? ORDER BY key", (user_id,)
            ).fetchall()
        return {key: Value(text, vectors) for key, text, vectors in found}

    def keep(self, user_id: str, notes: Sequence[tuple[Note, bytes]], values: Mapping[str, Value | None]) -> None:
        """Append notes with their vectors and put values under their keys, in one transaction; None takes a key away."""
        with self._writing():
            self._insert(user_id, notes)
            for key, value in values.items():
                if value is None:
                    self._db.execute("DELETE FROM held WHERE user = ? AND key = ?", (user_id, key))
                else:
                    row = (user_id, key, value.text, value.vectors)
                    self._db.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", row)

    def delete_all(self, user_id: str) -> None:
        """Remove everything about a user, also what was made of their notes."""
        with self._writing():
            self._db.execute("DELETE FROM held WHERE user = ?", (user_id,))
        super().delete_all(user_id)


class Kept(NamedTuple):
    """A note that can be found, and its vectors."""

    note: Note
    vectors: Vectors


class HeldStore(ABC):
    """The part of a store that asks no model. A store adds `name`, `search`, and what becomes of new notes.

    Several processes may have the file open, but only one at a time may add for a user: what it makes of the notes builds on what is there.

    Args:
        model: Who is asked.
        path: The SQLite file, made if it does not exist; None keeps everything in memory.
        embedder: In place of the offline MiniLM.

    Raises:
        ArtifactError: The file is damaged or the database of another program.
        DependencyError: The embeddings are not installed.
    """

    name: ClassVar[str]
    opened_with: ClassVar[frozenset[str]] = frozenset({"path", "model", "embedder"})
    abstains: ClassVar[bool] = False

    def __init__(self, model: Model, path: Path | None = None, *, embedder: Embeds | None = None) -> None:
        self._embedder = embedder or default_embedder()
        self._file = HeldFile(path, self.name)
        self._model = model
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._is_open = True
        self.capabilities = Capabilities(takes=("memory", "turn"), abstains=self.abstains, keeps=path is not None)

    @classmethod
    def open(cls, options: Options) -> Self:
        """Open the store as the options say. Raises `SettingsError` where they name no model."""
        if options.model is None:
            raise SettingsError(f"the memory store {cls.name} asks a language model: name one")
        return cls(options.model, options.path, embedder=options.embedder)

    @abstractmethod
    def _units(self, notes: Sequence[Note]) -> list[Sequence[Note]]:
        """Return new notes in the portions in which they are worked on and written."""

    @abstractmethod
    async def _take(self, user_id: str, notes: Sequence[Note]) -> list[Failure]:
        """Work on one portion of notes that are not there yet, and write it with all that comes of it."""

    @abstractmethod
    async def _forget(self, user_id: str, note_id: str) -> None:
        """Take back what rests on a note that is about to go, to be changed, or to be superseded."""

    @abstractmethod
    def _derived(self, user_id: str) -> list[Note]:
        """Return what was made of the notes, as derived notes."""

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Take notes in, in order. Every note is kept, also where the model's answer could not be used.

        Raises:
            SettingsError: A note is another user's or of a kind the store does not take; the store is closed.
            ModelError: A fatal one; notes before the portion it happened in are kept.
        """
        check_notes(self.name, self.capabilities, user_id, notes)
        failures: list[Failure] = []
        async with self._turn(user_id):
            ids = [note.id for note in notes]
            there = self._file.known(user_id, ids)
            new = {note.id: note for note in notes if note.id not in there}
            for unit in self._units(list(new.values())):
                for old in sorted({old for note in unit for old in note.supersedes}):
                    await self._forget(user_id, old)
                failures += await self._take(user_id, unit)
        return Added(ids=tuple(dict.fromkeys(ids)), failures=tuple(failures))

    async def update(self, user_id: str, note_id: str, text: str) -> str:
        """Give a note another text and return its new id; what was made of the old one goes."""
        async with self._turn(user_id):
            if not self._file.known(user_id, [note_id]):
                raise no_such_note(note_id)
            await self._forget(user_id, note_id)
            return self._file.replace(user_id, note_id, text)

    async def delete(self, user_id: str, note_id: str) -> None:
        """Remove a note and what was made of it."""
        async with self._turn(user_id):
            if not self._file.known(user_id, [note_id]):
                raise no_such_note(note_id)
            await self._forget(user_id, note_id)
            self._file.delete(user_id, note_id)

    async def delete_all(self, user_id: str) -> None:
        """Remove everything about a user."""
        async with self._turn(user_id):
            self._file.delete_all(user_id)

    async def export(self, user_id: str) -> list[Note]:
        """Return the notes in the order they were added, then what was made of them, as derived notes with their sources."""
        async with self._turn(user_id):
            return [*(row.note for row in self._file.rows(user_id)), *self._derived(user_id)]

    async def aclose(self) -> None:
        """Close the file. Safe to call twice."""
        self._is_open = False
        self._file.close()

    @asynccontextmanager
    async def _turn(self, user_id: str, limit: int = 0) -> AsyncIterator[None]:
        """Wait for one's turn among the calls about a user; `limit` is that of a search."""
        if limit < 0:
            raise ValueError("limit must be at least 0")
        async with self._locks[user_id]:
            if not self._is_open:
                raise SettingsError(f"the memory store {self.name} is closed")
            yield

    async def _kept(self, user_id: str) -> list[Kept]:
        """Return the notes of a user that no other supersedes, in order; those without vectors get them."""
        rows = current(self._file.rows(user_id))
        made = {row.note.id: pack(await self._vectors_of(row.note)) for row in rows if row.vectors is None}
        if made:
            self._file.keep_vectors(user_id, made)
        return [Kept(row.note, unpack(row.vectors or made[row.note.id])) for row in rows]

    async def _vectors_of(self, note: Note) -> Vectors:
        return await asyncio.to_thread(vectors_of, note, self._embedder)

    async def _asked(self, query: str) -> Vectors:
        return await asyncio.to_thread(query_vectors, query, self._embedder)

    async def _embedded(self, texts: Sequence[str]) -> Vectors:
        """Return one vector a text."""
        return await asyncio.to_thread(self._embedder.embed, list(texts))


def near(query: Vectors, vectors: Vectors) -> float:
    """Return the greatest cosine, rounded so that equal texts have equal scores."""
    return round(nearness(query, vectors), 6)
