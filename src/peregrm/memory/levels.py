"""A memory of three levels, after MemoryOS (arXiv 2506.06326): the last notes, segments by topic, and a profile of lines.

New notes stand in a queue. What the queue has no room for goes, a stretch at a time, into a segment: the model says which topic it goes
on with, or names a new one, and sums it up. A segment has heat: how often a search brought something of it up, how many of its notes are
not worked up yet, and how recently it was touched. The hottest segment, once hot, is worked up: the model edits the profile (`block`) by
its notes. Every note stays as it was, in whatever level; where an answer cannot be used the stretch becomes a segment without a title, or
the profile stays as it was and the segment hot, and the failure is told. Time is counted in notes, so that a run repeated is the same.
Left out on purpose: throwing cold segments away, and what the assistant knows of itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from peregrm.memory.base import Found, Note
from peregrm.memory.block import Line, block_value, edit_block, lines_as_notes, read_block, without
from peregrm.memory.embedding import Vectors, pack, unpack
from peregrm.memory.held import HeldStore, Value, near
from peregrm.memory.local import best
from peregrm.memory.written import STRETCH, clipped, numbered, shown, unfounded
from peregrm.models.base import Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Part

__all__ = ["QUEUE", "LevelsStore"]

STAGE = "memory_levels"

QUEUE = 10
"""Notes that the queue holds."""

_MOVED = 5
"""Notes that leave a full queue together."""

_SEGMENT = 40
"""Notes that a segment holds; what would not fit opens a new one."""

_TOPICS = 3
"""Segments that the model is shown beside a stretch, the nearest."""

_SEARCHED = 5
"""Segments that a search looks into."""

_HOT = 3.0
_NOTES_A_DEGREE = 5
_COOLING = 50
"""Notes after which the part of the heat that is recency has fallen to 1/e."""

_LEAST = 0.1
"""What scores lower is not found."""

_ANSWER_TOKENS = 500
_PROFILE = "profile"


class _Summed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    topic: int
    title: Annotated[str, Field(min_length=1, max_length=80)]
    summary: Annotated[str, Field(min_length=1, max_length=600)]


class _Segment(Part):
    """Notes on one topic. `worked` of them, from the first on, are in the profile; `touched` is how many notes there were by then."""

    title: str = ""
    summary: str = ""
    notes: tuple[str, ...]
    worked: int = 0
    visits: int = 0
    touched: int = 0

    def heat(self, now: int) -> float:
        """Return visits, length and recency in one number; see the module."""
        fresh = (len(self.notes) - self.worked) / _NOTES_A_DEGREE
        return self.visits + fresh + math.exp(-max(0, now - self.touched) / _COOLING)

    def without(self, note_id: str) -> _Segment:
        """Return what is left when a note goes: its summary rested on it."""
        at = self.notes.index(note_id)
        worked = self.worked - (at < self.worked)
        notes = (*self.notes[:at], *self.notes[at + 1 :])
        return self.model_copy(update={"title": "", "summary": "", "notes": notes, "worked": worked})


class _Levels(NamedTuple):
    """All that was made of a user's notes."""

    segments: dict[str, _Segment]
    vectors: dict[str, Vectors]
    profile: tuple[Line, ...]
    profile_vectors: Vectors


class LevelsStore(HeldStore):
    """A queue, segments and a profile; `HeldStore` says what it is made from."""

    name: ClassVar[str] = "levels"
    abstains: ClassVar[bool] = True

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return what is nearest of all three levels: lines of the profile, summaries and notes of five segments, notes of the queue.

        The score is the greatest cosine with the query; under 0.1 nothing is found. Segments of which something is found get warmer.
        """
        async with self._turn(user_id, limit):
            kept = await self._kept(user_id)
            levels = self._levels(user_id)
            if limit == 0 or not query.strip() or not (kept or levels.profile):
                return []
            asked = await self._asked(query)
            near_notes = {one.note.id: Found(one.note, near(asked, one.vectors)) for one in kept}
            found = [
                Found(note, near(asked, levels.profile_vectors[place : place + 1]))
                for place, note in enumerate(lines_as_notes(user_id, levels.profile, _PROFILE))
            ]
            places: dict[str, str] = {}
            for key, parts in _nearest_segments(user_id, levels, asked, near_notes):
                found += parts
                places.update((part.note.id, key) for part in parts)
            filed = {id_ for segment in levels.segments.values() for id_ in segment.notes}
            found += [one for id_, one in near_notes.items() if id_ not in filed]
            result = best([one for one in found if one.score >= _LEAST], limit)
            self._visit(user_id, levels, {places[one.note.id] for one in result if one.note.id in places})
            return result

    def _units(self, notes: Sequence[Note]) -> list[Sequence[Note]]:
        return [[note] for note in notes]

    async def _take(self, user_id: str, notes: Sequence[Note]) -> list[Failure]:
        levels = self._levels(user_id)
        profile = levels.profile
        values: dict[str, Value | None] = {}
        failures: list[Failure] = []
        rows = [*(row.note for row in self._file.rows(user_id)), *notes]
        ended = {old for note in rows for old in note.supersedes}
        now = len(rows)
        filed = {id_ for segment in levels.segments.values() for id_ in segment.notes}
        queue = [note for note in rows if note.id not in filed | ended]
        if len(queue) > QUEUE:
            moved = queue[:_MOVED]
            key, segment, failure = await self._sum_up(levels, moved, now)
            failures += [failure] if failure is not None else []
            segments = {**levels.segments, key: segment}
            hottest = max(segments, key=lambda one: (segments[one].heat(now), one))
            by_id = {note.id: note for note in rows}
            if segments[hottest].heat(now) >= _HOT:
                profile, segments[hottest], failure = await self._work_up(profile, segments[hottest], by_id)
                failures += [failure] if failure is not None else []
            for one in sorted({key, hottest}):
                values[one] = await self._segment_value(segments[one])
        if profile != levels.profile:
            values[_PROFILE] = await block_value(self._embedded, profile)
        self._file.keep(user_id, [(note, pack(await self._vectors_of(note))) for note in notes], values)
        return failures

    async def _sum_up(self, levels: _Levels, moved: Sequence[Note], now: int) -> tuple[str, _Segment, Failure | None]:
        """Return the segment that notes leaving the queue go to, with its key, and why it has no title."""
        key = f"{1 + max(map(int, levels.segments), default=0):06d}"
        new = _Segment(notes=tuple(note.id for note in moved), touched=now)
        if not any(note.role == "user" for note in moved):
            return key, new, None
        lines = [shown(note) for note in moved]
        vectors = await self._embedded(["\n".join(lines)])
        open_ = [one for one, segment in levels.segments.items() if segment.title and len(segment.notes) < _SEGMENT]
        topics = sorted(open_, key=lambda one: (-near(vectors, levels.vectors[one]), one))[:_TOPICS]
        old = [f"{levels.segments[one].title}: {levels.segments[one].summary}" for one in topics]
        request = Request(
            messages=render("memory_segment", topics=Untrusted(numbered(old)), notes=Untrusted(numbered(lines))),
            max_tokens=_ANSWER_TOKENS,
            schema_name="segment",
            purpose=STAGE,
        )
        answer = await ask(self._model, request, _Summed, check=lambda summed: _ungrounded(lines, old, summed))
        if answer.value is None:
            return key, new, answer.failure
        summed = answer.value
        said = {"title": clipped(summed.title, 80), "summary": clipped(summed.summary, 600)}
        if summed.topic == 0:
            return key, new.model_copy(update=said), None
        key = topics[summed.topic - 1]
        before = levels.segments[key]
        notes = (*before.notes, *new.notes)
        return key, before.model_copy(update={**said, "notes": notes, "touched": now}), None

    async def _work_up(
        self, profile: tuple[Line, ...], segment: _Segment, by_id: dict[str, Note]
    ) -> tuple[tuple[Line, ...], _Segment, Failure | None]:
        """Return the profile as edited by the notes of a hot segment, the segment, cooled, and why nothing was edited."""
        stretch = segment.notes[segment.worked : segment.worked + STRETCH]
        notes = [by_id[id_] for id_ in stretch]
        if any(note.role == "user" for note in notes):
            profile, failure = await edit_block(self._model, profile, notes, purpose=STAGE)
            if failure is not None:
                return profile, segment, failure
        return profile, segment.model_copy(update={"worked": segment.worked + len(stretch), "visits": 0}), None

    def _visit(self, user_id: str, levels: _Levels, keys: set[str]) -> None:
        """Note that a search brought up something of these segments."""
        now = len(self._file.rows(user_id))
        values: dict[str, Value | None] = {}
        for key in sorted(keys):
            segment = levels.segments[key]
            visited = segment.model_copy(update={"visits": segment.visits + 1, "touched": now})
            values[key] = Value(visited.model_dump_json(), pack(levels.vectors[key]))
        if values:
            self._file.keep(user_id, [], values)

    async def _forget(self, user_id: str, note_id: str) -> None:
        levels = self._levels(user_id)
        values: dict[str, Value | None] = {}
        for key, segment in levels.segments.items():
            if note_id in segment.notes:
                left = segment.without(note_id)
                values[key] = await self._segment_value(left) if left.notes else None
        profile = without(levels.profile, {note_id})
        if profile != levels.profile:
            values[_PROFILE] = await block_value(self._embedded, profile)
        self._file.keep(user_id, [], values)

    def _derived(self, user_id: str) -> list[Note]:
        levels = self._levels(user_id)
        summed = (_summary(user_id, segment) for segment in levels.segments.values())
        return [*(note for note in summed if note), *lines_as_notes(user_id, levels.profile, _PROFILE)]

    def _levels(self, user_id: str) -> _Levels:
        values = self._file.values(user_id)
        profile = read_block(values.pop(_PROFILE, None))
        return _Levels(
            {key: _Segment.model_validate_json(value.text) for key, value in values.items()},
            {key: unpack(value.vectors) for key, value in values.items()},
            *profile,
        )

    async def _segment_value(self, segment: _Segment) -> Value:
        return Value(segment.model_dump_json(), pack(await self._embedded([f"{segment.title}. {segment.summary}"])))


def _nearest_segments(
    user_id: str, levels: _Levels, asked: Vectors, near_notes: dict[str, Found]
) -> list[tuple[str, list[Found]]]:
    """Return the segments nearest to a query, each with what could be found of it: its summary and its notes."""
    ranked = []
    for key, segment in levels.segments.items():
        summary = _summary(user_id, segment)
        parts = [Found(summary, near(asked, levels.vectors[key]))] if summary is not None else []
        parts += [near_notes[id_] for id_ in segment.notes if id_ in near_notes]
        if parts:
            ranked.append((-max(part.score for part in parts), key, parts))
    return [(key, parts) for _, key, parts in sorted(ranked, key=lambda one: one[:2])[:_SEARCHED]]


def _summary(user_id: str, segment: _Segment) -> Note | None:
    """Return the title and summary of a segment as a derived note, None where it has none."""
    if not segment.title:
        return None
    text = f"{segment.title}: {segment.summary}"
    return Note(user_id=user_id, text=text, kind="derived", label="segment", sources=segment.notes)


def _ungrounded(lines: Sequence[str], old: Sequence[str], summed: _Summed) -> str | None:
    """Say what is wrong with a summary, or return None."""
    if not 0 <= summed.topic <= len(old):
        return f"there is no topic {summed.topic}; the numbers go from 0 to {len(old)}"
    grounds = [*lines, old[summed.topic - 1]] if summed.topic else lines
    return unfounded(summed.summary, grounds)
