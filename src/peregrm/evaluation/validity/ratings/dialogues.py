"""Support dialogues in which the seeker rated the supporter from 1 to 5 while they talked, as ESConv has them.

A row is a dialogue: `dialog` is a list of turns, each with a speaker, a text and, on a turn of the seeker, perhaps a `feedback`, on the
turn or in its `annotation`. Feedback rates the turns of the supporter that stand right before it; those are the reply, what was said
before them the context. Seekers gave it after every second exchange, so it may mean the exchange before as well, which nothing in the
file tells apart. Left out on purpose: the survey after the dialogue, which rates all of it and no reply. Dialogues are the clusters: no
file names the seekers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.rows import HumanFile, Rated, Scale, messages_of, number_of
from peregrm.histories.base import Row
from peregrm.records import content_id

__all__ = ["FORMAT", "SCALE", "matches", "read"]

FORMAT = "seeker feedback"
SCALE = Scale(name="seeker feedback", low=1, high=5)


def matches(value: dict[str, Any]) -> bool:
    """Tell whether a row is a dialogue with speakers."""
    turns = value.get("dialog")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "speaker" in turns[0]


def read(rows: Sequence[Row], name: str) -> HumanFile:
    """Return the rated replies of a file; raises `InputError` naming the row that is no dialogue."""
    left_out: Counter[str] = Counter()
    found = [one for row in rows for one in _rated(row, name, left_out)]
    rated = {one.id: one for one in found}
    left_out["the dialogue stands there twice"] += len(found) - len(rated)
    return HumanFile(
        name=name,
        format=FORMAT,
        rated=tuple(rated.values()),
        clusters="dialogues (no row names a user)",
        left_out=tuple(sorted((+left_out).items())),
    )


def _rated(row: Row, name: str, left_out: Counter[str]) -> Iterator[Rated]:
    if not matches(row.value):
        raise InputError(f"{row.where}: not a dialogue of turns with speakers")
    turns = row.value["dialog"]
    user = content_id("dialogue", turns)
    for place, turn in enumerate(turns):
        level = number_of(_feedback(turn), f"{row.where}: turn {place + 1}: feedback", SCALE)
        if level is None:
            continue
        before = messages_of(turns[:place], row.where)
        if not before or before[-1].role != "assistant":
            left_out["no reply stands before the feedback"] += 1
        elif len(before) < 2:
            left_out["the reply opens the conversation"] += 1
        else:
            yield Rated(
                id=content_id("rated", [user, place]),
                source=name,
                user=user,
                context=before[:-1],
                reply=before[-1].content,
                level=level,
                scale=SCALE,
            )


def _feedback(turn: object) -> object:
    if not isinstance(turn, dict):
        return None
    annotation = turn.get("annotation")
    return turn.get("feedback", annotation.get("feedback") if isinstance(annotation, dict) else None)
