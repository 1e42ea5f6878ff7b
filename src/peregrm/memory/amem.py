"""A checkout of A-MEM (`agiresearch/A-mem`) as a store: linked notes by its own code, for those who have it.

A-MEM knows no users and keeps its notes in memory, in a vector database that all instances of a process share and that a new instance
empties. So every user has an instance of their own, with an index of their own over this package's offline embeddings, and nothing
outlives the process. Its calls of a model go through this package's. Where they fail it keeps the note as it is, and the failure is told.
Left out on purpose: mending its code. Contexts that it wrote from a note are not undone when the note is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from peregrm.errors import SettingsError
from peregrm.memory.base import Added, Capabilities, Found, Note
from peregrm.memory.checkouts import find_package, forget_module, load_module
from peregrm.memory.embedding import Embeds
from peregrm.memory.factory import Options
from peregrm.memory.foreign import Bridge, PerUser, needed, no_such_note
from peregrm.memory.local import check_notes
from peregrm.models.base import Model
from peregrm.records import Failure

__all__ = ["AMemStore"]

STAGE = "memory_amem"

_PROJECT = "A-MEM"
_PLAIN = "General"
"""The context that A-MEM gives a note it knows nothing of."""


class _Kept(NamedTuple):
    note: Note
    key: str


class _Instance(NamedTuple):
    module: ModuleType
    system: Any
    kept: dict[str, _Kept]
    """By note id, in the order in which they were added."""


class AMemStore:
    """A checkout of A-MEM behind the interface of memory stores.

    Args:
        model: Who answers A-MEM's questions.
        checkout: The folder of the checkout.
        embedder: In place of the offline MiniLM.

    Raises:
        SettingsError: There is no such checkout in that folder.
        DependencyError: The offline embeddings are not installed. A package that A-MEM needs is missed at the first call.
    """

    name: ClassVar[str] = "amem"
    opened_with: ClassVar[frozenset[str]] = frozenset({"model", "embedder", "at"})
    place: ClassVar[str] = f"the folder of your checkout of {_PROJECT}"

    def __init__(self, model: Model, checkout: Path, *, embedder: Embeds | None = None) -> None:
        folder = find_package(checkout, ("agentic_memory", "."), "memory_system.py", _PROJECT)
        self.capabilities = Capabilities(takes=("memory", "turn"))
        self._users: PerUser[_Instance] = PerUser(
            None,
            model,
            STAGE,
            lambda _, bridge: _start(folder, bridge),
            lambda one: forget_module(one.module),
            embedder=embedder,
        )

    @classmethod
    def open(cls, options: Options) -> Self:
        """Open the store as the options say. Raises `SettingsError` where they name no model, no checkout, or a file to keep notes in."""
        if options.path is not None:
            raise SettingsError("the memory store amem keeps its notes in memory only: leave the file out")
        model, checkout = needed(options, cls.name, cls.place)
        return cls(model, Path(checkout), embedder=options.embedder)

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Have each note analysed, linked and kept. A note whose analysis failed is kept without."""
        check_notes(self.name, self.capabilities, user_id, notes)
        failures: list[Failure] = []
        for note in notes:
            _, failed = await self._users.call(user_id, partial(_add, note=note))
            failures += failed
        return Added(ids=tuple(dict.fromkeys(note.id for note in notes)), failures=tuple(failures))

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return what A-MEM finds, in its order, with the notes linked to it; the score is one part of the place, 1, 1/2, 1/3 ..."""
        if limit < 1 or not query.strip():
            return []
        return (await self._users.call(user_id, lambda one, _: _search(one, query, limit)))[0]

    async def update(self, user_id: str, note_id: str, text: str) -> str:
        """Give a note another text; A-MEM keeps its keywords, context and links as they were."""
        return (await self._users.call(user_id, lambda one, _: _update(one, note_id, text)))[0]

    async def delete(self, user_id: str, note_id: str) -> None:
        """Remove a note. Contexts of other notes that A-MEM wrote from it stay."""
        await self._users.call(user_id, lambda one, _: _delete(one, note_id))

    async def delete_all(self, user_id: str) -> None:
        """Remove the user's instance."""
        await self._users.forget(user_id)

    async def export(self, user_id: str) -> list[Note]:
        """Return the notes, then the contexts that A-MEM wrote, as derived notes."""
        return (await self._users.call(user_id, lambda one, _: _export(user_id, one)))[0]

    async def aclose(self) -> None:
        """Drop all instances. Safe to call twice."""
        await self._users.aclose()


class _Index:
    """Stands where A-MEM has its shared vector database: an index of one instance."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._rows: dict[str, tuple[np.ndarray[Any, Any], Mapping[str, Any]]] = {}
        self.client = SimpleNamespace(reset=lambda: None)

    def add_document(self, document: str, metadata: Mapping[str, Any], doc_id: str) -> None:
        self._rows[doc_id] = np.array(self._bridge.embed(document)), dict(metadata)

    def delete_document(self, doc_id: str) -> None:
        self._rows.pop(doc_id, None)

    def search(self, query: str, k: int = 5) -> dict[str, list[list[Any]]]:
        at = np.array(self._bridge.embed(query))
        near = sorted((1 - float(vector @ at), key) for key, (vector, _) in self._rows.items())[:k]
        return {
            "ids": [[key for _, key in near]],
            "metadatas": [[self._rows[key][1] for _, key in near]],
            "distances": [[distance for distance, _ in near]],
        }


class _Llm:
    """Stands where A-MEM has its client of a model."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.llm = self

    def get_completion(self, prompt: str, response_format: Mapping[str, Any], temperature: float = 0.0) -> str:
        schema = response_format.get("json_schema", {}).get("schema")
        return self._bridge.complete([{"role": "user", "content": prompt}], json_schema=schema)


def _start(folder: Path, bridge: Bridge) -> _Instance:
    module = load_module(folder, "memory_system", _PROJECT, "AgenticMemorySystem", "ChromaRetriever", "LLMController")
    module.__dict__["ChromaRetriever"] = lambda *_, **__: _Index(bridge)
    module.__dict__["LLMController"] = lambda *_, **__: _Llm(bridge)
    return _Instance(module, module.AgenticMemorySystem(), {})


def _add(one: _Instance, _: Path, note: Note) -> None:
    if note.id in one.kept:
        return
    known = one.system.analyze_content(note.text)
    told = {key: known[key] for key in ("keywords", "context", "tags") if known.get(key)}
    one.kept[note.id] = _Kept(note, one.system.add_note(note.text, time=note.time, **told))


def _search(one: _Instance, query: str, limit: int) -> list[Found]:
    by_key = {kept.key: kept.note for kept in one.kept.values()}
    rows = one.system.search_agentic(query, k=limit)
    notes = [by_key[row["id"]] for row in rows if row["id"] in by_key]
    return [Found(note, 1 / place) for place, note in enumerate(notes[:limit], start=1)]


def _of(one: _Instance, note_id: str) -> _Kept:
    if note_id not in one.kept:
        raise no_such_note(note_id)
    return one.kept[note_id]


def _update(one: _Instance, note_id: str, text: str) -> str:
    note, key = _of(one, note_id)
    one.system.update(key, content=text)
    new = note.model_copy(update={"text": text})
    rows = [(new.id, _Kept(new, key)) if old == note_id else (old, kept) for old, kept in one.kept.items()]
    one.kept.clear()
    one.kept.update(rows)
    return new.id


def _delete(one: _Instance, note_id: str) -> None:
    one.system.delete(_of(one, note_id).key)
    del one.kept[note_id]


def _export(user_id: str, one: _Instance) -> list[Note]:
    notes = [kept.note for kept in one.kept.values()]
    for kept in one.kept.values():
        row = one.system.read(kept.key)
        if row is not None and row.context and row.context != _PLAIN:
            written = {"kind": "derived", "label": "context", "sources": (kept.note.id,)}
            notes.append(Note(user_id=user_id, text=row.context, **written))
    return notes
