"""Read the questions of HeartBench: a conversation, and statements about a good and a bad answer to its last turn.

```
{"question_id", "dialogue": [{"role": "A" | "B", "content"}], "rubric": [{"dimension", "score": number | null, "content"}],
 "primary_scene", "secondary_scene", "difficulty"?}
```
A is the person, B the one who answers and whom the model takes over. Left out on purpose: recorded answers.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import data_file, read_once
from peregrm.histories.base import Row, optional, required
from peregrm.histories.turns import text_id
from peregrm.records import Part, Turn

__all__ = ["DIMENSIONS", "VETO", "Question", "RubricItem", "question_files", "read_questions"]

VETO = "其他"
"""The dimension of statements that take everything away where they are true: the answer speaks in the person's place."""

DIMENSIONS = {
    "言语表达": "verbal expression",
    "好奇心": "curiosity",
    "温暖": "warmth",
    "第一人称使用": "first person",
    "自主性": "autonomy",
    "幽默": "humour",
    "自我认知": "self-awareness",
    "情绪应对": "emotional coping",
    "情绪理解": "emotional understanding",
    "情绪感知": "emotional perception",
    "情绪反应": "emotional reaction",
    "主动性": "proactivity",
    "关系构建": "relationship building",
    "动机": "motivation",
    "道德": "morality",
}
"""The 15 dimensions by their name in the files, with English names after the table of the repository."""

_FILES = ("question_normal.jsonl", "question_hard.jsonl")
_ROLES = {"A": "user", "B": "assistant"}


class RubricItem(Part):
    """A statement about an answer. `weight` is what it is worth where it is true, below 0 for a fault; None only with the veto."""

    dimension: str
    weight: float | None = Field(allow_inf_nan=False)
    text: str


class Question(Part):
    """A conversation that ends with the person's turn, and the rubric of an answer to it."""

    question_id: str
    turns: tuple[Turn, ...]
    rubric: tuple[RubricItem, ...]
    scene: str = ""
    difficulty: str = ""


def question_files(folder: Path) -> list[Path]:
    """Return the files of questions in a folder: normal and hard ones, whichever are there, else the one with all.

    Raises `InputError` where there is none.
    """
    there = [folder / name for name in _FILES if (folder / name).is_file()]
    if there or (folder / "question_all.jsonl").is_file():
        return there or [folder / "question_all.jsonl"]
    return [data_file(folder, _FILES[0])]


def read_questions(folder: Path) -> list[Question]:
    """Return all questions in a folder.

    Raises `InputError`, naming file and line, for one that cannot be read or stands there twice.
    """
    sources = ((path, partial(_question, difficulty=_difficulty(path))) for path in question_files(folder))
    return read_once(sources, lambda question: question.question_id, "question")


def _difficulty(path: Path) -> str:
    return "hard" if "hard" in path.stem else "normal" if "normal" in path.stem else ""


def _question(row: Row, difficulty: str) -> Question:
    question_id = text_id(row.value, "question_id", row.where)
    if question_id is None:
        raise InputError(f"{row.where}: the question has no question_id")
    where = f"{row.where}: question {question_id}"
    turns = tuple(_turn(turn, where) for turn in required(row.value, "dialogue", list, where))
    if not turns or turns[-1].role != "user":
        raise InputError(f"{where}: the dialogue does not end with a turn of A")
    rubric = tuple(_item(item, where) for item in required(row.value, "rubric", list, where))
    if all(item.dimension == VETO for item in rubric):
        raise InputError(f"{where}: the rubric has no item with a weight")
    empty = [name for name, weight in _spans(rubric).items() if not weight]
    if empty:
        raise InputError(f"{where}: the items of {empty[0]} are worth nothing")
    return Question(
        question_id=question_id,
        turns=turns,
        rubric=rubric,
        scene=optional(row.value, "primary_scene", str, where) or "",
        difficulty=optional(row.value, "difficulty", str, where) or difficulty,
    )


def _turn(raw: Any, where: str) -> Turn:
    role = required(raw, "role", str, where, "dialogue")
    if role not in _ROLES:
        raise InputError(f"{where}: the role of a turn is A or B, not {role!r}")
    text = required(raw, "content", str, where, "dialogue")
    if not text.strip():
        raise InputError(f"{where}: a turn of {role} is empty")
    return Turn.model_validate({"role": _ROLES[role], "text": text})


def _item(raw: Any, where: str) -> RubricItem:
    dimension = required(raw, "dimension", str, where, "rubric")
    weight = optional(raw, "score", (int, float), where, "rubric")
    if weight is None and dimension != VETO:
        raise InputError(f"{where}: an item of {dimension} has no score")
    text = required(raw, "content", str, where, "rubric")
    return RubricItem(dimension=dimension, weight=None if weight is None else float(weight), text=text)


def _spans(rubric: tuple[RubricItem, ...]) -> Counter[str]:
    spans: Counter[str] = Counter()
    for item in rubric:
        if item.dimension != VETO:
            spans[item.dimension] += abs(item.weight or 0.0) > 0
    return spans
