"""Read AlpsBench packets: a dialogue, the memories people found right in it, and what models answered.

```
{"session_id", "dialogue": [{"role", "text"}], "task1": {"ground_truth_memories": [...],
 "llm_outputs": {MODEL: {"raw_output", "memory_items": [...]}}}}
```
Annotators left memories in the reference that they marked as wrong (`[ERROR: ...]`); these are kept apart, for they are not what a
method should find. A recorded call without an answer stands in the files as an empty list of memories; here it is a failure. Tasks 2 to 4
are read by the modules of their own, which share `read_task`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench.items import Item, item_of
from peregrm.histories.base import Row, describe, optional, required
from peregrm.histories.files import read_rows
from peregrm.histories.language import detect_language
from peregrm.histories.memories import check_items, resolve_memories
from peregrm.histories.turns import parse_session, text_id
from peregrm.records import Failure, History, Part, Session

__all__ = ["Answer", "Packet", "history_of", "read_packets", "read_task"]

T = TypeVar("T")

RECORDED = "recorded"
"""The stage of failures that stand in the file."""


class Answer(Part):
    """What a model or method found in one dialogue, or why there is no answer."""

    items: tuple[Item, ...] = ()
    failure: Failure | None = None


class Packet(Part):
    """One dialogue. `references` are what should be found, `rejected` what annotators marked as wrong; `answers` are by model."""

    packet_id: str
    history: History
    references: tuple[Item, ...]
    rejected: tuple[Item, ...] = ()
    answers: dict[str, Answer] = Field(default_factory=dict)


def read_packets(path: Path) -> list[Packet]:
    """Read the packets of a file (JSON, one a line or a list, also .gz) that have task 1, in their order.

    Raises `InputError`, naming the packet, for one that cannot be read or stands there twice, and where there is none.
    """
    return read_task(path, "task1", dict, _packet)


def read_task(path: Path, name: str, kind: type, parse: Callable[[Row, str, str], T]) -> list[T]:
    """Return what `parse` makes of every packet of a file that has the task `name`, in their order.

    `kind` is the JSON type of the task; `parse` is given the row, the packet's id, and what error messages start with. A packet whose
    `available_tasks` say that it has no such task is passed over.

    Raises `InputError`, naming the packet, for one that cannot be read or stands there twice, and where there is none.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    parsed: dict[str, T] = {}
    for row in read_rows(path):
        if isinstance(row, InputError):
            raise row
        if not isinstance(row.value, Mapping) or name not in row.value or "dialogue" not in row.value:
            raise InputError(
                f"{row.where}: no AlpsBench packet, which has `dialogue` and `{name}`; it is {describe(row.value)}"
            )
        packet_id = text_id(row.value, "session_id", row.where)
        if packet_id is None:
            raise InputError(f"{row.where}: the packet has no session_id")
        where = f"{row.where}: packet {packet_id}"
        tasks = optional(row.value, "available_tasks", dict, where)
        if tasks is not None and tasks.get(name) is False:
            continue
        required(row.value, name, kind, where)
        if packet_id in parsed:
            raise InputError(f"{row.where}: packet {packet_id} stands there twice")
        parsed[packet_id] = parse(row, packet_id, where)
    if not parsed:
        raise InputError(f"{path}: holds no packet with {name.replace('task', 'task ')}")
    return list(parsed.values())


def _packet(row: Row, packet_id: str, where: str) -> Packet:
    task = row.value["task1"]
    references, rejected = _references(task, where)
    return Packet(
        packet_id=packet_id,
        history=history_of(row, packet_id, where),
        references=references,
        rejected=rejected,
        answers=dict(_answers(task, where)),
    )


def history_of(row: Row, packet_id: str, where: str) -> History:
    """Return the dialogue alone: nothing of the reference goes along to those who are asked."""
    notes: Counter[str] = Counter()
    raw = required(row.value, "dialogue", list, where)
    turns = parse_session(raw, packet_id, None, where, notes, path="dialogue").turns
    said = [turn.text for turn in turns if turn.role == "user"]
    if not said:
        raise InputError(f"{where}: the user says nothing in its dialogue")
    return History(
        user_id=text_id(row.value, "user_id", where) or packet_id,
        language=detect_language(said),
        sessions=(Session(session_id=packet_id, turns=turns),),
        source=where,
        notes=dict(sorted(notes.items())),
    )


def _references(task: Mapping[str, Any], where: str) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return what should be found, and what annotators marked as wrong; empty references are dropped."""
    required(task, "ground_truth_memories", list, where, "task1")
    right: list[Item] = []
    wrong: list[Item] = []
    for raw in check_items(task, "ground_truth_memories", f"{where}: task1"):
        for memory in resolve_memories([raw], "", [], Counter()):
            (wrong if memory.status == "rejected" else right).append(item_of(raw))
    return tuple(right), tuple(wrong)


def _answers(task: Mapping[str, Any], where: str) -> Iterator[tuple[str, Answer]]:
    outputs = optional(task, "llm_outputs", dict, where, "task1") or {}
    for model, output in outputs.items():
        path = f"task1.llm_outputs.{model}"
        raw = optional(output, "raw_output", str, where, path)
        items = optional(output, "memory_items", list, where, path)
        if items is None or ("raw_output" in output and not (raw or "").strip()):
            yield model, Answer(failure=_no_answer(output))
        else:
            yield model, Answer(items=tuple(item_of(item) for item in items if isinstance(item, dict)))


def _no_answer(output: Mapping[str, Any]) -> Failure:
    said = output.get("error")
    reason = said if isinstance(said, str) and said.strip() else "the recorded call has no answer"
    return Failure(stage=RECORDED, kind="no_answer", reason=reason)
