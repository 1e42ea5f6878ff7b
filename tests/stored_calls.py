"""What a run's cache of calls holds."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from peregrm.models.base import Completion

__all__ = ["stored_answers"]


def stored_answers(directory: Path) -> set[str]:
    """Return the hashes of the answers that are safely on disk."""
    with closing(sqlite3.connect(directory / "calls.sqlite")) as database, database:
        table = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()[0]
        rows = database.execute(f"SELECT completion FROM {table}").fetchall()
    texts = [Completion.model_validate_json(row[0]).text for row in rows]
    return {hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts}
