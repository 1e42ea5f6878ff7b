"""A memory of linked notes, after A-MEM (arXiv 2502.12110): a model files every note, links it with its like, and goes over theirs.

For each note of the user the model gives keywords, tags and a sentence on its context, then says which of the nearest notes belong with
it and whether their context should now say more. Filing and links serve to find notes; what a search brings up are the notes themselves,
in the user's words. Where an answer cannot be used the note is kept plain, or without links, and the failure is told; a linking that
failed is not made up for later. What others than the user say is kept plain. Left out on purpose: chains of links longer than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from peregrm.memory.base import Found, Note
from peregrm.memory.embedding import Vectors, pack, unpack
from peregrm.memory.held import HeldStore, Kept, Value, near
from peregrm.memory.local import best
from peregrm.memory.written import clipped, numbered, shown, unfounded
from peregrm.models.base import Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Part

__all__ = ["LinkedStore"]

STAGE = "memory_linked"

_NEAREST = 5
"""Older notes that the model is shown beside a new one, and hits of a search whose links are followed."""

_HOP = 0.8
"""Share of a note's score that its links pass on."""

_LONGEST_CONTEXT = 240
_ANSWER_TOKENS = 500

_Word = Annotated[str, Field(min_length=1, max_length=40)]
_Context = Annotated[str, Field(min_length=1, max_length=_LONGEST_CONTEXT)]


class _Filed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keywords: list[_Word] = Field(min_length=1, max_length=6)
    tags: list[_Word] = Field(min_length=1, max_length=4)
    context: _Context


class _Update(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: int
    context: _Context


class _Linked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    links: list[int] = Field(max_length=_NEAREST)
    updates: list[_Update] = Field(max_length=_NEAREST)


class _Filing(Part):
    """What the model wrote on a note. `rests` are other notes that the context rests on; `links` are older notes that belong with it."""

    keywords: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    context: str = ""
    rests: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    def without(self, note_id: str) -> _Filing:
        """Return what is left of it when another note goes."""
        links = tuple(link for link in self.links if link != note_id)
        if note_id not in self.rests:
            return self.model_copy(update={"links": links})
        return self.model_copy(update={"links": links, "context": "", "rests": ()})


class LinkedStore(HeldStore):
    """Notes with keywords, tags, contexts and links; `HeldStore` says what it is made from."""

    name: ClassVar[str] = "linked"

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return the notes whose filing is nearest to the query, and those linked with the first five of them.

        The score is the greatest cosine with the query, or 0.8 times that of a hit it is linked with where this is more.
        """
        async with self._turn(user_id, limit):
            kept = await self._kept(user_id)
            if not query.strip() or not kept:
                return []
            filings = self._filings(user_id)
            scores = self._scores(user_id, await self._asked(query), kept)
            hits = {id_: scores[id_] for id_ in sorted(scores, key=lambda id_: (-scores[id_], id_))[:_NEAREST]}
            for one, other in _pairs(filings):
                for hit, linked in ((one, other), (other, one)):
                    if hit in hits and linked in scores:
                        scores[linked] = max(scores[linked], round(_HOP * hits[hit], 6))
            return best([Found(one.note, scores[one.note.id]) for one in kept], limit)

    def _units(self, notes: Sequence[Note]) -> list[Sequence[Note]]:
        return [[note] for note in notes]

    async def _take(self, user_id: str, notes: Sequence[Note]) -> list[Failure]:
        (note,) = notes
        filing, failure = await self._file_note(note) if note.role == "user" else (None, None)
        values: dict[str, Value | None] = {}
        if filing is not None:
            ended = set(note.supersedes)
            older = [one for one in await self._kept(user_id) if one.note.id not in ended]
            filing, changed, failure = await self._link(user_id, note, filing, older)
            for one, text in ((note, filing), *changed):
                values[one.id] = await self._value(text, one.text)
        self._file.keep(user_id, [(note, pack(await self._vectors_of(note)))], values)
        return [failure] if failure is not None else []

    async def _file_note(self, note: Note) -> tuple[_Filing | None, Failure | None]:
        line = shown(note)
        request = _request("memory_note", note=Untrusted(line))
        answer = await ask(self._model, request, _Filed, check=lambda filed: _ungrounded(line, filed))
        if answer.value is None:
            return None, answer.failure
        filed = answer.value
        words = (tuple(dict.fromkeys(" ".join(word.split()) for word in part)) for part in (filed.keywords, filed.tags))
        keywords, tags = words
        return _Filing(keywords=keywords, tags=tags, context=clipped(filed.context, _LONGEST_CONTEXT)), None

    async def _link(
        self, user_id: str, note: Note, filing: _Filing, older: Sequence[Kept]
    ) -> tuple[_Filing, list[tuple[Note, _Filing]], Failure | None]:
        """Return the filing with its links, the older notes whose filing changes, and why there are no links."""
        if not older:
            return filing, [], None
        scores = self._scores(user_id, await self._embedded([_filed_text(note.text, filing)]), older)
        close = sorted((one.note for one in older), key=lambda other: (-scores[other.id], other.id))[:_NEAREST]
        filings = self._filings(user_id)
        lines = [_line(other, filings.get(other.id)) for other in close]
        line = _line(note, filing)
        request = _request("memory_links", note=Untrusted(line), neighbours=Untrusted(numbered(lines)))
        answer = await ask(self._model, request, _Linked, check=lambda linked: _misplaced(line, lines, linked))
        if answer.value is None:
            return filing, [], answer.failure
        links = tuple(dict.fromkeys(close[number - 1].id for number in answer.value.links))
        changed: list[tuple[Note, _Filing]] = []
        for update in answer.value.updates:
            other = close[update.note - 1]
            old = filings.get(other.id, _Filing())
            rests = tuple(dict.fromkeys((*old.rests, note.id)))
            context = clipped(update.context, _LONGEST_CONTEXT)
            changed.append((other, old.model_copy(update={"context": context, "rests": rests})))
        return filing.model_copy(update={"links": links}), changed, None

    async def _forget(self, user_id: str, note_id: str) -> None:
        values: dict[str, Value | None] = {}
        texts = {row.note.id: row.note.text for row in self._file.rows(user_id)}
        for key, filing in self._filings(user_id).items():
            left = filing.without(note_id)
            if key == note_id:
                values[key] = None
            elif left != filing:
                values[key] = await self._value(left, texts[key])
        self._file.keep(user_id, [], values)

    def _derived(self, user_id: str) -> list[Note]:
        filings = self._filings(user_id)
        notes = []
        for row in self._file.rows(user_id):
            id_ = row.note.id
            filing = filings.get(id_, _Filing())
            own = [("keywords", ", ".join(filing.keywords)), ("tags", ", ".join(filing.tags))]
            parts: list[tuple[str, str, tuple[str, ...]]] = [(label, text, (id_,)) for label, text in own]
            parts.append(("context", filing.context, (id_, *filing.rests)))
            parts += [("link", "belongs together", (link, id_)) for link in filing.links]
            notes += [
                Note(user_id=user_id, text=text, kind="derived", label=label, sources=sources)
                for label, text, sources in parts
                if text
            ]
        return notes

    def _filings(self, user_id: str) -> dict[str, _Filing]:
        return {key: _Filing.model_validate_json(value.text) for key, value in self._file.values(user_id).items()}

    def _scores(self, user_id: str, query: Vectors, kept: Sequence[Kept]) -> dict[str, float]:
        """Return by note id how near the filing of each note is, or its text where it is plain or this is nearer."""
        values = self._file.values(user_id)
        scores = {one.note.id: near(query, one.vectors) for one in kept}
        for id_ in scores.keys() & values.keys():
            scores[id_] = max(scores[id_], near(query, unpack(values[id_].vectors)))
        return scores

    async def _value(self, filing: _Filing, text: str) -> Value:
        return Value(filing.model_dump_json(), pack(await self._embedded([_filed_text(text, filing)])))


def _request(prompt: str, **values: Untrusted) -> Request:
    return Request(messages=render(prompt, **values), max_tokens=_ANSWER_TOKENS, schema_name=prompt, purpose=STAGE)


def _filed_text(text: str, filing: _Filing) -> str:
    return "\n".join((text, filing.context, ", ".join(filing.keywords), ", ".join(filing.tags)))


def _line(note: Note, filing: _Filing | None) -> str:
    context = f" [context: {filing.context}]" if filing is not None and filing.context else ""
    return f"{shown(note)}{context}"


def _ungrounded(line: str, filed: _Filed) -> str | None:
    """Say which keyword or context has nothing to do with the note, or return None."""
    return next((problem for text in (*filed.keywords, filed.context) if (problem := unfounded(text, [line]))), None)


def _misplaced(line: str, lines: Sequence[str], linked: _Linked) -> str | None:
    """Say which number is wrong, or which context has nothing to do with its notes, or return None."""
    wrong = sorted({number for number in linked.links if not 1 <= number <= len(lines)})
    if wrong:
        return f"there are no notes {wrong}; the numbers go from 1 to {len(lines)}"
    seen: set[int] = set()
    for update in linked.updates:
        if update.note not in linked.links or update.note in seen:
            return f"note {update.note} is updated and not linked, or updated twice"
        seen.add(update.note)
        problem = unfounded(update.context, [line, lines[update.note - 1]])
        if problem is not None:
            return problem
    return None


def _pairs(filings: dict[str, _Filing]) -> list[tuple[str, str]]:
    """Return the links as pairs of note ids."""
    return [(key, link) for key, filing in filings.items() for link in filing.links]
