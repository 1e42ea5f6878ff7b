"""SQLite files of ours: opened or made, told from those of other programs by a mark, and shared by several processes.

Left out on purpose: what stands in the tables, and what an error of the database means to the one who has the file open.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from peregrm.errors import ArtifactError

__all__ = ["Layout", "open_database"]

_BUSY_TIMEOUT_S = 30.0
_PAUSE_S = 0.02


class Layout(NamedTuple):
    """What a file of one kind is: `name` in words, the mark in its header (an id of 32 bits and a version), and its tables."""

    name: str
    application_id: int
    version: int
    tables: tuple[str, ...]
    """Statements that make them; they pass over a table that is there, for two processes may make the file at the same time."""


def open_database(path: Path | None, layout: Layout, *, look: str = "", erase: bool = False) -> sqlite3.Connection:
    """Open the file `path`, made with its folder if it does not exist; with None the tables are in memory alone.

    It keeps a write-ahead log and commits each statement by itself. The connection may move between threads that take turns.

    Args:
        path: The file.
        layout: What it has to be.
        look: A query that is run on a file that is there before anything is written to it; it meets damage.
        erase: Whether what is deleted is overwritten.

    Raises:
        ArtifactError: It is the database of another program or version.
        sqlite3.Error: It is damaged, or no database.
        OSError: Its folder cannot be made.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    where = ":memory:" if path is None else str(path)
    database = sqlite3.connect(where, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(database, where, layout, look, erase=erase)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, where: str, layout: Layout, look: str, *, erase: bool) -> None:
    def pragma(statement: str) -> object:
        return database.execute(f"PRAGMA {statement}").fetchone()[0]

    is_new = database.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    mark = pragma("application_id"), pragma("user_version")
    if not is_new and mark != (layout.application_id, layout.version):
        raise ArtifactError(f"{where}: a database, but no {layout.name} of this version; choose another file")
    if look and not is_new:
        database.execute(look).fetchone()
    if erase:
        pragma("secure_delete = ON")
    _log_ahead(database)
    # With a write-ahead log, NORMAL loses nothing when the process is killed, and spares a disk sync for every change.
    database.execute("PRAGMA synchronous = NORMAL")
    if is_new:
        made = "; ".join(layout.tables)
        database.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {layout.application_id}; PRAGMA user_version = {layout.version}; {made}; COMMIT;"
        )


def _log_ahead(database: sqlite3.Connection) -> None:
    """Switch the write-ahead log on; where several processes make the file at once SQLite refuses at once instead of waiting."""
    end = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        else:
            return
        time.sleep(_PAUSE_S)
