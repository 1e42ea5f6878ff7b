"""What participants said, in one SQLite file: every answer is on disk before the page says so, and withdrawing leaves nothing.

A participant is a row under a random name; their code, which alone lets them come back, is kept as a hash. Times are kept as the day and
the seconds on a page; when a page was opened is known until it is answered. Deleted text is overwritten, the file is rebuilt and its log
emptied. Left out on purpose: addresses, browsers and anything else about a person that they did not type.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from peregrm.database import Layout, open_database
from peregrm.errors import ArtifactError

__all__ = [
    "ANSWERS_FILE",
    "DERIVED",
    "OWN_ROUNDS",
    "Answer",
    "Answers",
    "Full",
    "OwnRound",
    "Participant",
    "is_code",
    "new_code",
    "tidy_code",
]

ANSWERS_FILE = "answers.sqlite"
DERIVED = ("answers.csv", "answers.jsonl", "analysis.md", "analysis.json")
"""Files in a study's folder that are made from the answers; withdrawing removes them, because they can be made again."""

OWN_ROUNDS = 3
"""How often one participant may bring a history of their own."""

_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_CODE_LENGTH = 20

_ANSWERED = "pid TEXT NOT NULL, arm TEXT NOT NULL, number INTEGER NOT NULL"

_TOLD = "case_id TEXT, first TEXT, second TEXT, ratings TEXT, choice TEXT, comment TEXT"
_MADE = "state TEXT, case_json TEXT, replies TEXT, why TEXT"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS participants (pid TEXT PRIMARY KEY, code TEXT UNIQUE, slot INTEGER UNIQUE, plan TEXT, day TEXT)",
    f"CREATE TABLE IF NOT EXISTS opened ({_ANSWERED}, at REAL NOT NULL, PRIMARY KEY (pid, arm, number))",
    f"CREATE TABLE IF NOT EXISTS answers ({_ANSWERED}, {_TOLD}, seconds REAL, day TEXT, PRIMARY KEY (pid, arm, number))",
    f"CREATE TABLE IF NOT EXISTS own (pid TEXT, number INTEGER, {_MADE}, PRIMARY KEY (pid, number))",
)
_LAYOUT = Layout("study's answers", 0x70677374, 1, _TABLES)
_OF_ONE = ("answers", "opened", "own", "participants")

Arm = Literal["cases", "own"]
Choice = Literal["first", "second", "none"]


class Full(Exception):
    """As many participants as were planned have finished: nobody new is let in."""


class Participant(NamedTuple):
    """One participant: the random name under which answers are exported, the slot of the design, and the plan they agreed under."""

    pid: str
    slot: int
    plan: str


class Answer(NamedTuple):
    """One submitted page: the replies by their blind ids, their ratings by statement, and which was chosen.

    `number` counts the participant's cases of this arm from 1. `seconds` is the time since the page was first opened.
    """

    pid: str
    arm: Arm
    number: int
    case_id: str
    first: str
    second: str
    ratings: tuple[Mapping[str, int], Mapping[str, int]]
    choice: Choice
    comment: str = ""
    seconds: float | None = None
    day: str = ""


class OwnRound(NamedTuple):
    """A participant's own history at work: `state` is waiting, ready or failed (then `why` says so). `replies` are (id, setting, text)."""

    pid: str
    number: int
    state: str
    case_json: str
    replies: tuple[tuple[str, str, str], ...] = ()
    why: str = ""


def new_code() -> str:
    """Return a new participant code: 100 random bits in groups of four letters and digits that are not taken for each other."""
    return tidy_code("".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH)))


def tidy_code(typed: str) -> str:
    """Return a code as it was shown, however it was typed (spaces, dashes, small letters)."""
    letters = "".join(letter for letter in typed.upper() if letter in _LETTERS)[:_CODE_LENGTH]
    return "-".join(letters[place : place + 4] for place in range(0, len(letters), 4))


def is_code(typed: str) -> bool:
    """Tell whether a text is a code as it is shown."""
    return len(typed.replace("-", "")) == _CODE_LENGTH and tidy_code(typed) == typed


def _hashed(code: str) -> str:
    return sha256(code.encode("utf-8", "replace")).hexdigest()


class Answers:
    """The answers of one study, in its folder. Safe to use from several threads; every change is one transaction and on disk on return.

    Raises `ArtifactError` where the file is damaged or another program's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / ANSWERS_FILE
        self._lock = threading.RLock()
        self._unpurged = True  # a kill may have come between a withdrawal and the end of its cleaning
        with self._naming_the_file():
            self._db = open_database(self.path, _LAYOUT, look="SELECT count(*) FROM participants", erase=True)
            self._db.execute("PRAGMA synchronous = FULL")  # an answer that was acknowledged outlives a power cut too

    def join(self, code: str, plan: str, *, planned: int, cases: int) -> Participant:
        """Take in a new participant on the lowest slot that is free; whoever has this code already is returned as they are.

        Raises `Full` once `planned` have answered `cases` each.
        """
        with self._change() as db:
            known = db.execute("SELECT pid, slot, plan FROM participants WHERE code = ?", (_hashed(code),)).fetchone()
            if known is not None:
                return Participant(*known)
            done = (
                "SELECT count(*) FROM (SELECT pid FROM answers WHERE arm = 'cases' GROUP BY pid HAVING count(*) >= ?)"
            )
            if db.execute(done, (cases,)).fetchone()[0] >= planned:
                raise Full
            taken = {row[0] for row in db.execute("SELECT slot FROM participants")}
            slot = next(number for number in range(len(taken) + 1) if number not in taken)
            found = Participant(f"p-{secrets.token_hex(6)}", slot, plan)
            db.execute(
                "INSERT INTO participants VALUES (?, ?, ?, ?, ?)", (found.pid, _hashed(code), slot, plan, _day())
            )
        return found

    def find(self, code: str) -> Participant | None:
        """Return the participant with this code, None where there is none."""
        rows = self._rows("SELECT pid, slot, plan FROM participants WHERE code = ?", (_hashed(code),))
        return Participant(*rows[0]) if rows else None

    def open(self, pid: str, arm: Arm, number: int) -> None:
        """Remember when a participant first saw a page. Raises `KeyError` where the participant is gone."""
        with self._change() as db:
            _check_there(db, pid)
            db.execute("INSERT OR IGNORE INTO opened VALUES (?, ?, ?, ?)", (pid, arm, number, time.time()))

    def was_opened(self, pid: str, arm: Arm, number: int) -> bool:
        """Tell whether a participant has a page before them that they have not answered."""
        query = "SELECT 1 FROM opened WHERE pid = ? AND arm = ? AND number = ?"
        return bool(self._rows(query, (pid, arm, number)))

    def submit(self, answer: Answer) -> bool:
        """Keep an answer; False where there already was one, which stands. It is on disk when this returns.

        When the page was opened is forgotten.

        Raises `KeyError` where the participant is gone: somebody withdrew while the page was open elsewhere.
        """
        with self._change() as db:
            _check_there(db, answer.pid)
            key = (answer.pid, answer.arm, answer.number)
            at = db.execute("SELECT at FROM opened WHERE pid = ? AND arm = ? AND number = ?", key).fetchone()
            seconds = None if at is None else round(max(0.0, time.time() - at[0]), 1)
            ratings = json.dumps([dict(side) for side in answer.ratings])
            told = (
                answer.case_id,
                answer.first,
                answer.second,
                ratings,
                answer.choice,
                answer.comment,
                seconds,
                _day(),
            )
            done = db.execute("INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?)", (*key, *told))
            db.execute("DELETE FROM opened WHERE pid = ? AND arm = ? AND number = ?", key)
        return done.rowcount == 1

    def answered(self, pid: str, arm: Arm) -> set[int]:
        """Return the numbers of the cases that a participant has answered."""
        return {row[0] for row in self._rows("SELECT number FROM answers WHERE pid = ? AND arm = ?", (pid, arm))}

    def all_answers(self) -> list[Answer]:
        """Return every answer, by participant, arm and number."""
        fields = "pid, arm, number, case_id, first, second, ratings, choice, comment, seconds, day"
        rows = self._rows(f"SELECT {fields} FROM answers ORDER BY pid, arm, number")  # noqa: S608 - a constant
        return [Answer(*row)._replace(ratings=tuple(json.loads(row[6]))) for row in rows]

    def participants(self) -> list[Participant]:
        """Return everybody who has agreed to take part and not withdrawn, by slot."""
        return [Participant(*row) for row in self._rows("SELECT pid, slot, plan FROM participants ORDER BY slot")]

    def add_own(self, pid: str, case_json: str) -> OwnRound | None:
        """Begin a round with a participant's own history; None where they have had all of theirs, or one is still being made.

        Rounds that failed do not count. Raises `KeyError` where the participant is gone.
        """
        with self._change() as db:
            _check_there(db, pid)
            rows = db.execute("SELECT number, state FROM own WHERE pid = ?", (pid,)).fetchall()
            states = [state for _, state in rows if state != "failed"]
            if len(states) >= OWN_ROUNDS or "waiting" in states:
                return None
            number = 1 + max((number for number, _ in rows), default=0)
            db.execute("INSERT INTO own VALUES (?, ?, 'waiting', ?, '[]', '')", (pid, number, case_json))
        return OwnRound(pid, number, "waiting", case_json)

    def finish_own(self, pid: str, number: int, replies: Sequence[tuple[str, str, str]], why: str = "") -> None:
        """Keep the replies of a round, in the order in which they are shown, or why there are none. Nothing where they have withdrawn."""
        with self._change() as db:
            told = ("failed" if why else "ready", json.dumps([list(one) for one in replies]), why, pid, number)
            db.execute("UPDATE own SET state = ?, replies = ?, why = ? WHERE pid = ? AND number = ?", told)

    def own_rounds(self, pid: str | None = None) -> list[OwnRound]:
        """Return the rounds with own histories, of one participant or of all."""
        rows = self._rows("SELECT pid, number, state, case_json, replies, why FROM own ORDER BY pid, number")
        made = [OwnRound(*row)._replace(replies=tuple(tuple(one) for one in json.loads(row[4]))) for row in rows]
        return [one for one in made if pid in (None, one.pid)]

    def withdraw(self, pid: str) -> None:
        """Delete all that there is of a participant, from the file, its log, and the files in the folder that were made from it."""
        with self._change() as db:
            for table in _OF_ONE:
                db.execute(f"DELETE FROM {table} WHERE pid = ?", (pid,))  # noqa: S608 - a constant
        with self._lock:
            for name in DERIVED:
                (self._folder / name).unlink(missing_ok=True)
            self._unpurged = True
            self.purge()

    def purge(self) -> bool:
        """Rebuild the file and empty its log where something was deleted; False where another process held it: to be tried again."""
        with self._lock, self._naming_the_file():
            if self._unpurged:
                try:
                    self._db.execute("VACUUM")
                    busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                        raise
                    busy = 1
                self._unpurged = bool(busy)
            return not self._unpurged

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._naming_the_file():
            rows: list[tuple[Any, ...]] = self._db.execute(query, values).fetchall()
            return rows

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._naming_the_file():
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield self._db

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ArtifactError(f"{self.path}: cannot be used for the answers of a study: {error}") from error


def _check_there(db: sqlite3.Connection, pid: str) -> None:
    if db.execute("SELECT 1 FROM participants WHERE pid = ?", (pid,)).fetchone() is None:
        raise KeyError(pid)


def _day() -> str:
    return datetime.now(UTC).date().isoformat()
