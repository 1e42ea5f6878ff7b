"""Read the retrieval task (task 3) of AlpsBench packets, and the labelled queries of AlpsBench sessions to tune on.

```
{"session_id", "task3": {"query", "task3_selected_memory": {"value", "label"}, "candidate_memories": [{"value", "label"}]},
 "task2": {"memory_pool_before_update": [{"value", "label"}]}}
{"session_id", "record": {"memory_items": [...]}, "task4_queries": [{"ability", "query", "memory": {"value", "label"}}]}
```
Annotators marked some memories as wrong (`[ERROR: ...]`). The mark is no part of a memory and is taken off; such memories still have to be
found among the candidates, but are not counted among a user's own. Candidates that stand in a file twice are one. Left out on purpose:
the dialogues, of which no store here knows anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from peregrm.errors import InputError
from peregrm.histories.base import Row, describe, optional, required
from peregrm.histories.files import read_rows
from peregrm.histories.turns import text_id
from peregrm.memory.base import Note
from peregrm.records import Part

__all__ = ["Example", "Fact", "Task", "notes", "read_examples", "read_tasks"]

_MARK = re.compile(r"\s*\[ERROR:.*?(?:\]|$)", re.DOTALL)
_TRAP = "ability3"
"""Queries that ask for what no memory says."""


class Fact(Part):
    """A memory as a store is given it."""

    text: str
    label: str | None


class Task(Part):
    """One query. `right` is one of the `candidates`, the others are other users'; `own` are what the file holds of the user."""

    user: str
    query: str
    right: Fact
    candidates: tuple[Fact, ...]
    own: tuple[Fact, ...]


class Example(Part):
    """One user to tune on: their memories, and queries with the memory each rests on."""

    user: str
    own: tuple[Fact, ...]
    asked: tuple[tuple[str, Fact], ...]


def notes(user_id: str, facts: Sequence[Fact], takes: Sequence[str] = ("memory",)) -> list[Note]:
    """Return facts as notes of one user: memories, or for a store that takes turns alone something the user said."""
    kind: Literal["memory", "turn"] = "memory" if "memory" in takes else "turn"
    return [Note(user_id=user_id, text=fact.text, kind=kind, label=fact.label) for fact in facts]


def read_tasks(path: Path) -> list[Task]:
    """Read the packets that have task 3, in their order.

    Raises `InputError`, naming the packet, for one that cannot be read or stands there twice, and where there is none.
    """
    tasks: dict[str, Task] = {}
    for row, user in _rows(path):
        if (
            "task3" not in row.value
            or (optional(row.value, "available_tasks", dict, row.where) or {}).get("task3") is False
        ):
            continue
        where = f"{row.where}: packet {user}"
        if user in tasks:
            raise InputError(f"{where} stands there twice")
        tasks[user] = _task(row.value, user, where)
    if not tasks:
        raise InputError(f"{path}: holds no packet with task 3")
    return list(tasks.values())


def read_examples(path: Path, without: frozenset[str] = frozenset()) -> list[Example]:
    """Read sessions with labelled queries; those of the users `without` are left out, as are queries that no memory answers.

    Raises `InputError` for a session that cannot be read, and where no query is left.
    """
    found = [
        _example(row.value, user, f"{row.where}: session {user}") for row, user in _rows(path) if user not in without
    ]
    if not any(example.asked for example in found):
        raise InputError(f"{path}: holds no query with its memory")
    return found


def _rows(path: Path) -> Iterator[tuple[Row, str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    for row in read_rows(path):
        if isinstance(row, InputError):
            raise row
        if not isinstance(row.value, Mapping):
            raise InputError(f"{row.where}: not an object but {describe(row.value)}")
        user = text_id(row.value, "session_id", row.where)
        if user is None:
            raise InputError(f"{row.where}: there is no session_id")
        yield row, user


def _task(value: Mapping[str, Any], user: str, where: str) -> Task:
    task = required(value, "task3", dict, where)
    right = _fact(required(task, "task3_selected_memory", dict, where, "task3"), where)
    facts = {fact.text: fact for fact in _facts(required(task, "candidate_memories", list, where, "task3"), where)}
    if right.text not in facts:
        raise InputError(f"{where}: the selected memory is not among the candidates")
    pool = (
        optional(optional(value, "task2", dict, where) or {}, "memory_pool_before_update", list, where, "task2") or []
    )
    return Task(
        user=user,
        query=required(task, "query", str, where, "task3"),
        right=facts[right.text],
        candidates=tuple(facts.values()),
        own=_unmarked(pool, where),
    )


def _example(value: Mapping[str, Any], user: str, where: str) -> Example:
    record = optional(value, "record", dict, where) or {}
    own = _unmarked(optional(record, "memory_items", list, where, "record") or [], where)
    by_text = {fact.text: fact for fact in own}
    asked = []
    for raw in optional(value, "task4_queries", list, where) or []:
        memory = optional(raw, "memory", dict, where)
        if raw.get("ability") == _TRAP or not isinstance(raw.get("query"), str) or memory is None:
            continue
        fact = by_text.get(_text(memory, where))
        if fact is not None:
            asked.append((raw["query"], fact))
    return Example(user=user, own=own, asked=tuple(asked))


def _facts(raw: Sequence[Any], where: str) -> Iterator[Fact]:
    for item in raw:
        if not isinstance(item, Mapping):
            raise InputError(f"{where}: a memory is not an object but {describe(item)}")
        yield _fact(item, where)


def _fact(raw: Mapping[str, Any], where: str) -> Fact:
    label = raw.get("label")
    return Fact(text=_text(raw, where), label=label if isinstance(label, str) else None)


def _text(raw: Mapping[str, Any], where: str) -> str:
    return _MARK.sub("", required(raw, "value", str, where)).strip()


def _unmarked(raw: Sequence[Any], where: str) -> tuple[Fact, ...]:
    """Return the memories that nobody marked as wrong."""
    items = [item for item in raw if isinstance(item, Mapping) and isinstance(item.get("value"), str)]
    return tuple(_fact(item, where) for item in items if not _MARK.search(item["value"]))
