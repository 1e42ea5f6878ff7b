"""Notes of many users in one SQLite file: every statement names the user, and what was removed leaves no byte behind.

Several processes may share a file: it keeps a write-ahead log, and each change is one transaction. Vectors stand in the row of their
note, so that they go with it. A removal overwrites what it frees, rebuilds the file and empties its log; a process that is killed in
between leaves the words in free pages until the next removal. Left out on purpose: full-text tables of SQLite. Their `bm25()` counts
words over all users, so that one user's notes would move another's results, and their side tables keep words that are hard to erase.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from peregrm.database import Layout, open_database
from peregrm.errors import ArtifactError
from peregrm.memory.base import Note

__all__ = ["NoteFile", "Row"]

_NOTES = (
    "CREATE TABLE IF NOT EXISTS notes (place INTEGER PRIMARY KEY, user TEXT NOT NULL, id TEXT NOT NULL,"
    " note TEXT NOT NULL, former TEXT NOT NULL, vectors BLOB, UNIQUE (user, id))"
)


class Row(NamedTuple):
    """A note as it stands in the file. `former` are ids it had before its text was changed; `vectors` are bytes, or None."""

    note: Note
    former: tuple[str, ...]
    vectors: bytes | None


class NoteFile:
    """The notes in the file `path`, made if it does not exist; with None they are in memory alone.

    Not safe to use from several threads at once; several instances, also of other processes, may use one file.

    Raises:
        ArtifactError: The file is damaged, not a database, or the database of another program.
    """

    _layout = Layout("memory", 0x7067726E, 1, (_NOTES,))
    """The mark and tables of the file; one with more in it than notes has another mark, so that nobody removes the notes alone."""

    def __init__(self, path: Path | None) -> None:
        self.where = ":memory:" if path is None else str(path)
        with self._naming_the_file():
            self._db = open_database(path, self._layout, erase=True)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._db.close()

    def add(self, user_id: str, rows: Iterable[tuple[Note, bytes | None]]) -> None:
        """Append notes with their vectors in one transaction; one that is there stays as it is."""
        with self._writing():
            self._insert(user_id, rows)

    def _insert(self, user_id: str, rows: Iterable[tuple[Note, bytes | None]]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO notes (user, id, note, former, vectors) VALUES (?, ?, ?, '[]', ?)",
            [(user_id, note.id, note.model_dump_json(), vectors) for note, vectors in rows],
        )

    def rows(self, user_id: str) -> list[Row]:
        """Return all notes of a user, in the order they were added."""
        with self._naming_the_file():
            found = self._db.execute(
                "SELECT note, former, vectors FROM notes WHERE user = ? ORDER BY place", (user_id,)
            ).fetchall()
        try:
            return [Row(Note.model_validate_json(note), tuple(json.loads(former)), v) for note, former, v in found]
        except (ValueError, TypeError, ValidationError) as error:
            raise ArtifactError(f"{self.where}: a stored note is damaged") from error

    def known(self, user_id: str, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that are notes of this user."""
        with self._naming_the_file():
            return {
                id_
                for id_ in ids
                if self._db.execute("SELECT 1 FROM notes WHERE user = ? AND id = ?", (user_id, id_)).fetchone()
            }

    def keep_vectors(self, user_id: str, vectors: Mapping[str, bytes]) -> None:
        """Put vectors beside notes that came without; notes that are gone by now are passed over."""
        with self._writing():
            self._db.executemany(
                "UPDATE notes SET vectors = ? WHERE user = ? AND id = ?",
                [(blob, user_id, id_) for id_, blob in vectors.items()],
            )

    def replace(self, user_id: str, note_id: str, text: str) -> str:
        """Give a note another text, in its place; return its new id. The vectors go. Raises `ArtifactError` where there is none."""
        with self._writing():
            row = self._db.execute(
                "SELECT place, note, former FROM notes WHERE user = ? AND id = ?", (user_id, note_id)
            ).fetchone()
            if row is None:
                raise ArtifactError(f"{self.where}: this user has no note {note_id}")
            note = Note.model_validate_json(row[1]).model_copy(update={"text": text})
            if note.id == note_id:
                return note_id
            former = [*json.loads(row[2]), note_id]
            twin = self._db.execute(
                "SELECT place, former FROM notes WHERE user = ? AND id = ?", (user_id, note.id)
            ).fetchone()
            if twin is not None:  # equal notes are kept once
                self._db.execute("DELETE FROM notes WHERE user = ? AND id = ?", (user_id, note.id))
                former = [*json.loads(twin[1]), *former]
            self._db.execute(
                "UPDATE notes SET id = ?, note = ?, former = ?, vectors = NULL WHERE user = ? AND id = ?",
                (note.id, note.model_dump_json(), json.dumps(former), user_id, note_id),
            )
        self._scrub()
        return note.id

    def delete(self, user_id: str, note_id: str) -> None:
        """Remove a note. Raises `ArtifactError` where this user has none of that id."""
        with self._writing():
            gone = self._db.execute("DELETE FROM notes WHERE user = ? AND id = ?", (user_id, note_id)).rowcount
        if not gone:
            raise ArtifactError(f"{self.where}: this user has no note {note_id}")
        self._scrub()

    def delete_all(self, user_id: str) -> None:
        """Remove everything about a user."""
        with self._writing():
            self._db.execute("DELETE FROM notes WHERE user = ?", (user_id,))
        self._scrub()

    def _scrub(self) -> None:
        """Leave no byte of what was removed in the file or in its log."""
        if self.where == ":memory:":
            return
        with self._naming_the_file():
            self._db.execute("VACUUM")
            if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise ArtifactError(
                    f"{self.where}: removed, but another process holds the log, which may still hold the words; "
                    "remove again once it has ended"
                )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._naming_the_file():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(f"{self.where}: {error}") from error
        except (UnicodeEncodeError, PydanticSerializationError) as error:
            raise ArtifactError(f"{self.where}: half a surrogate pair, which is no text, cannot be kept") from error
