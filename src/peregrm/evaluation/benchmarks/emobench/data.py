"""Read EmoBench: `EA.jsonl` and `EU.jsonl`, one item a line.

```
EA {"qid", "language", "category", "question type": "Action" | "Response", "scenario", "subject", "choices", "label"}
EU {"qid", "language", "coarse_category", "finegrained_category", "scenario", "subject",
    "emotion_choices", "emotion_label", "cause_choices", "cause_label"}
```
A label is the text of the right choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import data_file, read_once
from peregrm.histories.base import Row, required
from peregrm.histories.turns import text_id
from peregrm.records import Part

__all__ = ["LANGUAGES", "TASKS", "Choice", "Item", "read_emobench", "task_file"]

TASKS = ("EA", "EU")
LANGUAGES = ("en", "zh")

_PARTS = {
    "EA": (("answer", "choices", "label"),),
    "EU": (("emotion", "emotion_choices", "emotion_label"), ("cause", "cause_choices", "cause_label")),
}
_KINDS = {"EA": ("category", "question type"), "EU": ("coarse_category", "finegrained_category")}
_RESPONSE = "Response"
_MOST_OPTIONS = 26


class Choice(Part):
    """One question of an item: what the answer is called, its options, and the place of the right one, from 0."""

    name: str
    options: tuple[str, ...]
    right: int


class Item(Part):
    """One item. `choices` are one for EA, emotion and cause for EU; `kinds` are its categories, `response` asks for words, not an act."""

    task: str
    language: str
    qid: str
    scenario: str
    subject: str
    choices: tuple[Choice, ...]
    kinds: tuple[tuple[str, str], ...]
    response: bool = False

    @property
    def item_id(self) -> str:
        """The same in every file and order: task, language and number."""
        return f"{self.task}/{self.language}/{self.qid}"


def task_file(folder: Path, task: str) -> Path:
    """Return the file of a task; raise `InputError` where it is not there."""
    return data_file(folder, f"{task}.jsonl")


def read_emobench(folder: Path, tasks: Sequence[str] = TASKS, languages: Sequence[str] = LANGUAGES) -> list[Item]:
    """Read the items of these tasks and languages, in the order of the files.

    Raises `InputError`, naming file and line, for an item that cannot be read or stands there twice, and where there is none.
    """
    sources = ((task_file(folder, task), partial(_item, task=task)) for task in tasks)
    items = read_once(sources, lambda item: item.item_id, "item")
    chosen = [item for item in items if item.language in languages]
    if not chosen:
        raise InputError(f"{folder}: holds no item of {', '.join(tasks)} in {', '.join(languages)}")
    return chosen


def _item(row: Row, task: str) -> Item:
    value, where = row.value, row.where
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: no item of EmoBench")
    kinds = tuple((name, required(value, name, str, where)) for name in _KINDS[task])
    return Item(
        task=task,
        language=required(value, "language", str, where),
        qid=text_id(value, "qid", where) or _nameless(where),
        scenario=required(value, "scenario", str, where),
        subject=required(value, "subject", str, where),
        choices=tuple(_choice(value, name, options, label, where) for name, options, label in _PARTS[task]),
        kinds=kinds,
        response=dict(kinds).get("question type") == _RESPONSE,
    )


def _nameless(where: str) -> str:
    raise InputError(f"{where}: the item has no qid")


def _choice(value: Mapping[str, Any], name: str, options_key: str, label_key: str, where: str) -> Choice:
    options = required(value, options_key, list, where)
    label = required(value, label_key, str, where)
    if not all(isinstance(option, str) and option.strip() for option in options):
        raise InputError(f"{where}: {options_key} should be texts")
    if not 2 <= len(options) <= _MOST_OPTIONS or len(set(options)) != len(options):
        raise InputError(f"{where}: {options_key} should be 2 to {_MOST_OPTIONS} different texts")
    if label not in options:
        raise InputError(f"{where}: {label_key} is none of the {options_key}")
    return Choice(name=name, options=tuple(options), right=options.index(label))
