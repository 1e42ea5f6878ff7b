"""AlpsBench task 2: bring a list of memories up to date with a new dialogue.

```
{"task2": {"new_dialogue": [...], "memory_pool_before_update": [MEMORY, ...], "task2_selected_memory_id", "golden_answer": [MEMORY, ...]}}
```
In every packet one memory of the pool is contradicted and one new fact is told; all others should stay. The model names what changes and
what is new, and code applies it, so that whatever stays does so letter by letter; the benchmark lets the model write the whole list, and
scores the list. The formulas:

- `score`: that of task 1 (`score`) between the list and the reference, as `docs/evaluation_metric.md` of the repository has it for both.
- `exact_f1`: the public local scorer, `src/benchmark/metrics.py`: F1 of two multisets of (label, value, type, attitude, time scope,
  emotion), in lower case with single spaces. A memory in other words is wrong, so that in practice it counts what was left alone.
- `kept`, `changed`, `stale` are ours and tell the two apart: the share of the memories to be kept that still stand; how like the closest
  new text is to each memory that should change or come, by the value likeness of task 1 with 0 where nothing is new; whether the
  outdated memory still stands. Doing nothing gives kept 1, changed 0, stale 1.

Left out on purpose: the authors' language-model part of the score, whose prompt is not public, and marks of annotators (`[ERROR: ...]`),
which pool and reference share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench.items import Item, folded, item_of
from peregrm.evaluation.benchmarks.alpsbench.packets import history_of, read_task
from peregrm.evaluation.benchmarks.alpsbench.score import match_memories
from peregrm.evaluation.benchmarks.alpsbench.similarity import value_similarity
from peregrm.histories.base import Row, required
from peregrm.histories.memories import check_items
from peregrm.histories.turns import parse_session, text_id
from peregrm.records import History, Part, Session

__all__ = ["Note", "UpdatePacket", "UpdateScore", "read_updates", "score_update"]


class Note(Part):
    """A memory of the pool, the reference or an answer: what is compared, and the fields that only the exact score looks at."""

    item: Item
    attitude: str = ""
    time_scope: str = ""
    emotion: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What the exact score compares."""
        item = self.item
        return tuple(map(folded, (item.label, item.value, item.type, self.attitude, self.time_scope, self.emotion)))


class UpdatePacket(Part):
    """One pool and the dialogue that changes it.

    `history` is the dialogue before, `outdated` the place in `pool` of what is contradicted.
    """

    packet_id: str
    history: History
    new: Session
    pool: tuple[Note, ...]
    reference: tuple[Note, ...]
    outdated: int


class UpdateScore(NamedTuple):
    """One list of memories. `score` is 0 to 100, the rest 0 to 1.

    `kept` is None where nothing was to be kept, `changed` where nothing should change or come.
    """

    score: float
    exact_f1: float
    kept: float | None
    changed: float | None
    stale: float


def read_updates(path: Path) -> list[UpdatePacket]:
    """Read task 2 of the packets of a file, in their order. Raises `InputError` as `read_task` does."""
    return read_task(path, "task2", dict, _packet)


def score_update(packet: UpdatePacket, answer: Sequence[Note]) -> UpdateScore:
    """Return how well a list of memories meets the reference; its order does not matter."""
    pool = Counter(note.key for note in packet.pool)
    wanted, given = Counter(note.key for note in packet.reference), Counter(note.key for note in answer)
    to_keep = pool & wanted
    fresh = [note.item.value for note in answer if note.key not in pool]
    to_come = [note.item.value for note in packet.reference if note.key not in pool]
    return UpdateScore(
        score=match_memories([note.item for note in packet.reference], [note.item for note in answer]).score,
        exact_f1=2 * (wanted & given).total() / (wanted.total() + given.total()) if wanted or given else 1.0,
        kept=(to_keep & given).total() / to_keep.total() if to_keep else None,
        changed=sum(_closest(value, fresh) for value in to_come) / len(to_come) if to_come else None,
        stale=float(packet.pool[packet.outdated].key in given),
    )


def _closest(value: str, others: Sequence[str]) -> float:
    return max((value_similarity(value, other) for other in others), default=0.0)


def _packet(row: Row, packet_id: str, where: str) -> UpdatePacket:
    task = row.value["task2"]
    required(task, "memory_pool_before_update", list, where, "task2")
    raw = check_items(task, "memory_pool_before_update", f"{where}: task2")
    selected = text_id(task, "task2_selected_memory_id", where, "task2")
    places = [place for place, item in enumerate(raw) if text_id(item, "memory_id", where) == selected]
    if len(places) != 1:
        raise InputError(f"{where}: task2.task2_selected_memory_id names no one memory of the pool")
    required(task, "golden_answer", list, where, "task2")
    turns = required(task, "new_dialogue", list, where, "task2")
    new = parse_session(turns, f"{packet_id}-new", None, where, Counter(), path="task2.new_dialogue").turns
    if not new:
        raise InputError(f"{where}: task2.new_dialogue is empty")
    return UpdatePacket(
        packet_id=packet_id,
        history=history_of(row, packet_id, where),
        new=Session(session_id=f"{packet_id}-new", turns=new),
        pool=tuple(map(_note, raw)),
        reference=tuple(map(_note, check_items(task, "golden_answer", f"{where}: task2"))),
        outdated=places[0],
    )


def _note(raw: Mapping[str, Any]) -> Note:
    attitude, time_scope, emotion = (raw.get(name) for name in ("preference_attitude", "time_scope", "emotion"))
    return Note(item=item_of(raw), attitude=_text(attitude), time_scope=_text(time_scope), emotion=_text(emotion))


def _text(raw: Any) -> str:
    return "" if raw is None else str(raw)
