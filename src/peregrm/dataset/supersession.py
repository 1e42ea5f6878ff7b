"""A later fact replaces the earlier one it contradicts: both stay on file, the earlier one linked to the later, with the day it ended.

What comes later is decided here, by the place of the evidence, never by a model. With a model, each group of memories of one
label is shown with its dates, and pairs of numbers come back; without one, rules of `data/superseding.txt` look for words of change in the
later memory's own evidence. Both would rather leave two memories standing than retire the wrong one. Left out on purpose: bringing a
retired memory back, and facts of different labels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from peregrm.dataset.ending import day_said, reason_of_end
from peregrm.dataset.likeness import jaccard, stems
from peregrm.dataset.outcome import Outcome, failed
from peregrm.mapping import NoProgress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Drop, History, Memory

__all__ = ["GROUP", "link", "said_at", "supersede_by_rules", "supersede_with_model"]

STAGE = "supersession"

GROUP = 40
"""Most memories of one label that a model is shown at once; further ones are shown with the last of these."""

_SHARED_MEMORIES = 10
_SAME = 0.8
_SHARE = 0.5

Place = tuple[int, int, int]


class _Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")

    older: int
    newer: int
    reason: str = Field(min_length=1, max_length=200)


class _Pairs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    superseded: list[_Pair] = Field(max_length=GROUP)


class _Change(NamedTuple):
    after: tuple[re.Pattern[str], ...]
    unless: tuple[re.Pattern[str], ...]
    state: tuple[re.Pattern[str], ...]
    lasting: tuple[re.Pattern[str], ...]


def said_at(history: History, memory: Memory) -> Place | None:
    """Return the place where a memory was said last: session, turn and character; None where no evidence stands in the history."""
    places = _places(history, memory)
    return max(places) if places else None


def link(history: History, memories: Sequence[Memory], pairs: Mapping[int, int]) -> list[Memory]:
    """Return the memories with those of `pairs` superseded: position of the earlier to position of the later one.

    A memory's id changes when it is superseded, so that links are made from the latest on: a chain of three ends in the third.

    Raises:
        ValueError: The later memory of a pair was not said later, or is not kept, as the earlier one must be.
    """
    place = {n: said_at(history, memories[n]) for n in {*pairs, *pairs.values()}}
    for older, newer in pairs.items():
        if not _is_later(place[newer], place[older]) or {memories[older].status, memories[newer].status} != {"kept"}:
            raise ValueError(
                f"memory {newer} cannot supersede memory {older}: both must be kept and it must be said later"
            )
    result = list(memories)
    for older in sorted(pairs, key=lambda n: place[n] or (0, 0, 0), reverse=True):
        successor = result[pairs[older]]
        result[older] = memories[older].model_copy(
            update={
                "status": "superseded",
                "superseded_by": successor.id,
                "reason": reason_of_end(_day(history, memories[pairs[older]])),
            }
        )
    return result


def supersede_by_rules(history: History, memories: Sequence[Memory]) -> list[Memory]:
    """Return the memories of one user, in their order, with those superseded that a later one ends by words of change."""
    return link(history, memories, _first_ends(history, memories, _pairs_by_rules(history, memories)))


async def supersede_with_model(model: Model, history: History, memories: Sequence[Memory]) -> Outcome[Memory]:
    """Ask a model which memories of one user end earlier ones; labels with one memory are not asked about.

    A number that does not exist makes an answer invalid. A pair whose later memory was not said later is dropped with that reason. Where
    the model gives no usable answer, the memories of that group stay as they are and the failure is recorded.
    """
    groups = [part for group in _groups(history, memories) for part in _parts(group)]

    async def one(group: Sequence[int]) -> tuple[list[tuple[int, int]], list[Drop]]:
        return await _ask(model, history, memories, group)

    answers = await map_in_order(one, groups, stage=STAGE, progress=NoProgress())
    pairs = [pair for found, _ in answers for pair in found]
    dropped = [drop for _, drops in answers for drop in drops]
    linked = link(history, memories, _first_ends(history, memories, pairs))
    return Outcome(linked, dropped, len(groups))


async def _ask(
    model: Model, history: History, memories: Sequence[Memory], group: Sequence[int]
) -> tuple[list[tuple[int, int]], list[Drop]]:
    def numbers_exist(answer: _Pairs) -> str | None:
        named = {n for pair in answer.superseded for n in (pair.older, pair.newer)}
        wrong = sorted(n for n in named if not 1 <= n <= len(group))
        return f"there are no memories {wrong}; the numbers go from 1 to {len(group)}" if wrong else None

    shown = "\n".join(_line(history, memories[n], number) for number, n in enumerate(group, start=1))
    request = Request(
        messages=render("supersession", memories=Untrusted(shown)),
        max_tokens=800,
        schema_name="supersession",
        purpose=STAGE,
    )
    answer = await ask(model, request, _Pairs, check=numbers_exist)
    if answer.value is None:
        return [], [failed(history.id, answer.failure)] if answer.failure else []
    pairs: list[tuple[int, int]] = []
    dropped: list[Drop] = []
    for item, pair in enumerate(answer.value.superseded):
        older, newer = group[pair.older - 1], group[pair.newer - 1]
        if _is_later(said_at(history, memories[newer]), said_at(history, memories[older])):
            pairs.append((older, newer))
            continue
        reason = f"time order: memory {memories[newer].id} was not said after {memories[older].id}"
        dropped.append(Drop(stage=STAGE, subject=memories[older].id, kind="time order", reason=reason, item=item))
    return pairs, dropped


def _line(history: History, memory: Memory, number: int) -> str:
    day = _day(history, memory)
    place = said_at(history, memory)
    when = day or (f"session {place[0] + 1}" if place else "unknown day")
    return f"{number}. [{when}] {' '.join(memory.value.split())}"


def _groups(history: History, memories: Sequence[Memory]) -> Iterator[list[int]]:
    """Yield the positions of kept memories of one label, in the order in which they were said, where there are two or more."""
    by_label: dict[str, list[tuple[Place, int]]] = defaultdict(list)
    for number, memory in enumerate(memories):
        place = said_at(history, memory)
        if memory.status == "kept" and place is not None:
            by_label[memory.label].append((place, number))
    for label in sorted(by_label):
        if len(by_label[label]) > 1:
            yield [number for _, number in sorted(by_label[label])]


def _parts(group: list[int]) -> Iterator[list[int]]:
    for start in range(0, max(1, len(group) - _SHARED_MEMORIES), GROUP - _SHARED_MEMORIES):
        yield group[start : start + GROUP]


def _pairs_by_rules(history: History, memories: Sequence[Memory]) -> Iterator[tuple[int, int]]:
    for group in _groups(history, memories):
        for position, newer in enumerate(group):
            for older in group[:position]:
                if _ends(history, memories[older], memories[newer]):
                    yield older, newer


def _ends(history: History, older: Memory, newer: Memory) -> bool:
    """Tell whether the evidence of a later memory speaks of a change that ends an earlier one, in another turn."""
    before, after = said_at(history, older), said_at(history, newer)
    if before is None or after is None or before[:2] >= after[:2]:
        return False
    words, old = _said(newer), stems(older.value)
    if jaccard(old, stems(newer.value)) >= _SAME:
        return False
    for label in (older.label, "*"):
        change = _changes().get(label)
        if change is None or any(pattern.search(older.value) for pattern in change.lasting):
            continue
        if not any(p.search(words) for p in change.after) or any(p.search(words) for p in change.unless):
            continue
        if label == "*":
            shared = old & (stems(words) | stems(newer.value))
            if not old or len(shared) < _SHARE * len(old):
                continue
        elif change.state and not any(pattern.search(older.value) for pattern in change.state):
            continue
        return True
    return False


def _said(memory: Memory) -> str:
    return "\n".join(evidence.quote for evidence in memory.evidence).replace("’", "'")


def _first_ends(
    history: History, memories: Sequence[Memory], pairs: Iterator[tuple[int, int]] | Sequence[tuple[int, int]]
) -> dict[int, int]:
    """Return, for each memory that ended, the first later one that ended it."""
    first: dict[int, int] = {}
    for older, newer in sorted(set(pairs), key=lambda pair: (said_at(history, memories[pair[1]]) or (0, 0, 0), pair)):
        first.setdefault(older, newer)
    return first


def _places(history: History, memory: Memory) -> list[Place]:
    order = {session.session_id: number for number, session in enumerate(history.sessions)}
    places = []
    for evidence in memory.evidence:
        number = order.get(evidence.session_id)
        if number is None or evidence.turn >= len(history.sessions[number].turns):
            continue
        at = history.sessions[number].turns[evidence.turn].text.find(evidence.quote)
        places.append((number, evidence.turn, max(0, at)))
    return places


def _is_later(newer: Place | None, older: Place | None) -> bool:
    return newer is not None and older is not None and newer > older


def _day(history: History, memory: Memory) -> str | None:
    """Return the day a memory was said last, as the source dates its turn or session."""
    place = said_at(history, memory)
    return None if place is None else day_said(history.sessions[place[0]], place[1])


@cache
def _changes() -> dict[str, _Change]:
    rows: dict[str, dict[str, list[re.Pattern[str]]]] = defaultdict(lambda: defaultdict(list))
    text = (resources.files(__package__) / "data" / "superseding.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            label, side, pattern = line.split(None, 2)
            rows[label][side].append(re.compile(pattern, re.IGNORECASE))
    return {label: _Change(*(tuple(row[side]) for side in _Change._fields)) for label, row in rows.items()}
