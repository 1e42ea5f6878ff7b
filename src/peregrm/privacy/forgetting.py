"""Take one user out of a build or run folder, and prove it: `peregrm forget`.

What is a user's is found by ids: records that name the user, and records that name those, however far down. What has no ids (calls in
the cache, rows without an owner) is found by what it says. The histories, from which everything else can be found, go last and all at
once, and only after a search of every other file has found nothing: a run that is killed before that is simply begun again.

Left out on purpose: files outside the folder (they are named in the notes), backups, and models trained on the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.dimensions import EMPATHY
from peregrm.errors import ArtifactError, InputError
from peregrm.privacy.contents import (
    is_database,
    is_lines,
    is_table,
    purge_database,
    purge_table,
    read_lines,
    strings,
    texts_of,
    write_lines,
)
from peregrm.privacy.identifiers import SALT_FILE, hash_user_id, read_salt
from peregrm.privacy.traces import RECORD_ID, Traces
from peregrm.prompts import prompt_names, prompt_text

__all__ = ["Forgotten", "forget"]

_OWNER_KEYS = frozenset({"user_id", "user", "hashed_ip"})
_SAYS_NOTHING = _OWNER_KEYS | {
    "aspect", "call", "category", "date", "finish_reason", "id", "judge", "kind", "label", "language", "method", "model", "name",
    "origin", "policy", "prompt", "purpose", "reason", "role", "schema_name", "session_id", "source", "stage", "status", "time",
    "time_scope", "type",
}  # fmt: skip
"""Keys of records under which no words of a user stand."""

_CALL = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]+\.tmp")
_DERIVED = re.compile(r"report\.(?:md|json)|README\.md|.*\.html?")
_NUMBERS_ONLY = frozenset({SALT_FILE, "manifest.json", "usage.json", "ledger.json", "run.json"})
_SIDE_FILES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Forgotten:
    """What was removed, or would be: `records` lines by file, `rows` of databases and tables by file, whole `files`.

    `searched` is how many files were searched afterwards for how many `phrases` of the user.
    """

    user_ids: tuple[str, ...]
    records: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    phrases: int = 0
    searched: int = 0
    notes: tuple[str, ...] = ()


class _Line(NamedTuple):
    text: str
    users: frozenset[str]
    own_id: str | None
    refers: frozenset[str]


@dataclass
class _Folder:
    """The files of a folder by how they are cleaned."""

    root: Path
    lines: dict[Path, list[_Line]] = field(default_factory=dict)
    databases: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    derived: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def forget(root: Path, user: str, *, dry_run: bool = False) -> Forgotten:
    """Remove every record, call and row of `user` (the original id or the hashed one) from the folder `root`.

    Safe to repeat after a kill at any moment. With `dry_run` nothing is changed.

    Raises:
        InputError: There is no such folder, or nothing in it is of this user.
        ArtifactError: Words of the user stand in a file that cannot be cleaned (nothing was changed then), or were still found after
            cleaning; a damaged file; a database in use. The message names the files.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    folder = _look(root)
    user_ids = _ids_of(root, user)
    gone_ids, gone, others = _divide(folder, user_ids)
    if not gone:
        raise InputError(f"{root}: nothing here is of the user {user!r}")
    traces = Traces(_said(gone), user_ids, gone_ids)
    traces.discard(text for line in others for _, text in _telling(line))
    traces.discard(_wording())
    _stop_at_what_cannot_be_cleaned(folder, traces)
    cleaner = _Cleaner(folder, traces, user_ids, gone_ids, _calls_of(gone), dry_run=dry_run)
    done = cleaner.clean()
    notes = (*_notes(root, user_ids, traces), *cleaner.notes)
    return Forgotten(user_ids, *done, phrases=len(traces), searched=cleaner.searched, notes=notes)


def _look(root: Path) -> _Folder:
    folder = _Folder(root)
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        if _LEFTOVER.fullmatch(path.name):
            folder.leftovers.append(path)
        elif is_lines(path):
            folder.lines[path] = [_line(text) for text in read_lines(path)]
        elif is_database(path):
            folder.databases.append(path)
        elif is_table(path):
            folder.tables.append(path)
        elif _DERIVED.fullmatch(path.name):
            folder.derived.append(path)
        elif not path.name.endswith(_SIDE_FILES):
            folder.others.append(path)
    return folder


def _line(text: str) -> _Line:
    value = _json(text)
    own_id = value.get("id") if isinstance(value, dict) else None
    users = frozenset(one for key, one in strings(value) if key in _OWNER_KEYS)
    return _Line(text, users, own_id if isinstance(own_id, str) else None, frozenset(RECORD_ID.findall(text)))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _ids_of(root: Path, user: str) -> tuple[str, ...]:
    salt = read_salt(root)
    return (user,) if salt is None else (user, hash_user_id(user, salt))


def _divide(folder: _Folder, user_ids: Iterable[str]) -> tuple[set[str], list[_Line], list[_Line]]:
    """Return the ids of the user's records, the user's lines, and the lines that are other users'.

    A line is a user's that names them or a record of theirs; one that rests on records of two users is both of theirs.
    """
    wanted = set(user_ids)
    every = [line for lines in folder.lines.values() for line in lines]
    mine = _reached(every, [line for line in every if line.users & wanted])
    theirs = _reached(every, [line for line in every if line.users - wanted and not line.users & wanted])
    gone = [line for line in every if line.refers & mine or line.users & wanted]
    others = [line for line in every if line.refers & theirs and not (line.refers & mine or line.users & wanted)]
    return mine, gone, others


def _reached(every: list[_Line], start: list[_Line]) -> set[str]:
    """Return the ids of the records in `start` and of all that name one of those, directly or not."""
    reached = {line.own_id for line in start if line.own_id is not None}
    waiting = [line for line in every if line.own_id is not None and line.own_id not in reached]
    grown = True
    while grown:
        more = {line.own_id for line in waiting if line.own_id is not None and line.refers & reached}
        reached |= more
        waiting = [line for line in waiting if line.own_id not in reached]
        grown = bool(more)
    return reached


def _telling(line: _Line) -> Iterator[tuple[str, str]]:
    """Yield what a line says in words, each with the key it stands under."""
    for key, text in strings(_json(line.text)):
        if key not in _SAYS_NOTHING and not RECORD_ID.fullmatch(text):
            yield key, text


def _said(gone: Iterable[_Line]) -> Iterator[tuple[str, str]]:
    for line in gone:
        for key, text in _telling(line):
            yield f"the {key} of {line.own_id or 'a line'}", text


def _wording() -> Iterator[str]:
    """Yield what the project itself says: nobody's words."""
    yield from (prompt_text(name) for name in prompt_names())
    for dimension in EMPATHY:
        yield from (dimension.measures, dimension.fails, *dimension.criteria)


def _calls_of(gone: Iterable[_Line]) -> frozenset[str]:
    """Return the keys of the model calls that the user's records name."""
    return frozenset(key for line in gone for key in _CALL.findall(line.text))


def _stop_at_what_cannot_be_cleaned(folder: _Folder, traces: Traces) -> None:
    blocked = [path for path in folder.others if _trace_in(path, traces) is not None]
    if blocked:
        names = ", ".join(folder.name(path) for path in blocked)
        raise ArtifactError(
            f"{folder.root}: words of the user stand in files that this command cannot clean: {names}. Nothing was changed: "
            "delete or clean them, and run it again"
        )


def _trace_in(path: Path, traces: Traces) -> str | None:
    # run.json names where the source is: that is said in the notes.
    ids = path.name not in _NUMBERS_ONLY
    return next((found for text in texts_of(path) if (found := traces.find(text, ids=ids)) is not None), None)


def _notes(root: Path, user_ids: Iterable[str], traces: Traces) -> Iterator[str]:
    config = root / "run.json"
    value = _json(config.read_text(encoding="utf-8")) if config.exists() else None
    for key in ("histories", "gold"):
        source = value.get(key) if isinstance(value, dict) else None
        if isinstance(source, str) and not Path(source).absolute().is_relative_to(root.absolute()):
            yield f"the source {source} is outside the folder and was not touched: another run would read the user again"
    yield "what was exported or copied to other folders, and models trained on it, were not reached: remove the user there as well"
    silent = sorted(set(user_ids) - set(traces.ids))
    if silent:
        yield f"not searched for by itself, because it is short or stands in other users' texts too: the id {', '.join(silent)}"


def _to_make_again(names: list[str]) -> Iterator[str]:
    """Yield what has to be run for files that were made from all users' records."""
    card = [name for name in names if name == "README.md"]
    pages = [name for name in names if name.endswith((".html", ".htm"))]
    for command, some in {
        "peregrm export DIR": card,
        "peregrm show DIR --html FILE": pages,
        "peregrm report DIR": [name for name in names if name not in {*card, *pages}],
    }.items():
        if some:
            yield f"made from all users' records, to be made again (`{command}`): {', '.join(some)}"


@dataclass
class _Cleaner:
    """One cleaning of a folder: everything but the histories, the search, then the histories."""

    folder: _Folder
    traces: Traces
    user_ids: tuple[str, ...]
    gone_ids: set[str]
    calls: frozenset[str]
    dry_run: bool
    notes: list[str] = field(default_factory=list)
    searched: int = 0

    def clean(self) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
        """Return how many lines and rows went, by file, and which files went as a whole."""
        rows = self._clean_rows()
        files = self._remove_files()
        last = [path for path, lines in self.folder.lines.items() if any(self._is_source(line) for line in lines)]
        first = [path for path in self._in_order() if path not in last]
        records = self._clean_lines(first)
        self._prove([path for path in self._files() if path not in set(last)])
        records |= self._clean_lines(last)
        self._prove([path for path in self._files() if path in set(last)])
        return dict(sorted(records.items())), rows, tuple(files)

    def _in_order(self) -> list[Path]:
        """Return the files of lines so that what is found through others goes before them: without owners first, then from reply to case.

        After a kill the rest can then still be found.
        """
        holder = {
            line.own_id: path
            for path, lines in self.folder.lines.items()
            for line in lines
            if line.own_id in self.gone_ids
        }
        refers = {
            path: {holder[one] for line in lines for one in line.refers & holder.keys()} - {path}
            for path, lines in self.folder.lines.items()
        }
        waiting = sorted(
            refers, key=lambda path: (any(line.users or line.own_id for line in self.folder.lines[path]), path)
        )
        ordered: list[Path] = []
        while waiting:
            free = [path for path in waiting if not any(path in refers[other] for other in waiting)]
            ordered.append((free or waiting)[0])
            waiting.remove(ordered[-1])
        return ordered

    def _is_source(self, line: _Line) -> bool:
        return bool(line.users & set(self.user_ids)) and line.own_id is not None and line.own_id.startswith("his-")

    def _is_gone(self, line: _Line) -> bool:
        if line.users & set(self.user_ids) or line.refers & self.gone_ids:
            return True
        return not line.users and self.traces.find(line.text) is not None

    def _is_of_the_user(self, value: str) -> bool:
        """Tell whether a value of a database or table is the user's: it names them, one of their calls, or says what they said."""
        if value in self.calls or self.traces.find(value) is not None:
            return True
        document = _json(value)
        users = {text for key, text in strings(document) if key in _OWNER_KEYS}
        return bool(users & set(self.user_ids)) or any(
            self.traces.is_said(text) for key, text in strings(document) if key not in _SAYS_NOTHING
        )

    def _clean_rows(self) -> dict[str, int]:
        rows: dict[str, int] = {}
        for path in self.folder.databases:
            rows[self.folder.name(path)] = purge_database(path, self._is_of_the_user, dry_run=self.dry_run)
        for path in self.folder.tables:
            count = purge_table(path, self._is_of_the_user, dry_run=self.dry_run)
            if count is None:
                self.notes.append(
                    f"{self.folder.name(path)} was removed, because pyarrow is not installed to look into it"
                )
            else:
                rows[self.folder.name(path)] = count
        return {name: count for name, count in rows.items() if count}

    def _remove_files(self) -> list[str]:
        """Remove what is made from the records and can be made again, and what a kill left half written."""
        gone = [path for path in self.folder.derived if _trace_in(path, self.traces) is not None or _is_report(path)]
        for path in [*gone, *self.folder.leftovers] if not self.dry_run else []:
            path.unlink(missing_ok=True)
        if gone:
            self.notes += _to_make_again([self.folder.name(path) for path in gone])
        return [self.folder.name(path) for path in [*gone, *self.folder.leftovers]]

    def _clean_lines(self, paths: Iterable[Path]) -> dict[str, int]:
        removed: dict[str, int] = {}
        for path in paths:
            lines = self.folder.lines[path]
            kept = [line.text for line in lines if not self._is_gone(line)]
            if len(kept) < len(lines):
                removed[self.folder.name(path)] = len(lines) - len(kept)
                if not self.dry_run:
                    write_lines(path, kept)
        return removed

    def _files(self) -> list[Path]:
        return [path for path in sorted(self.folder.root.rglob("*")) if path.is_file() and not path.is_symlink()]

    def _prove(self, files: Iterable[Path]) -> None:
        """Search every byte of these files; raises `ArtifactError` naming each one that still holds a trace."""
        if self.dry_run:
            return
        left: list[str] = []
        for path in files:
            found = _trace_in(path, self.traces)
            self.searched += 1
            if found is not None:
                left.append(f"{self.folder.name(path)} ({found})")
        if left:
            raise ArtifactError(f"{self.folder.root}: the user is not forgotten; still there: {'; '.join(left)}")


def _is_report(path: Path) -> bool:
    """Tell whether a file holds figures over all users, in which the user counts even where nothing is quoted."""
    return path.name in ("report.md", "report.json", "README.md")
