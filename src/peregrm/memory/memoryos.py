"""A checkout of MemoryOS (`BAI-LAB/MemoryOS`) as a store: three levels by its own code, for those who have it.

MemoryOS takes exchanges of a user and an assistant, keeps what it knows of the assistant for all users together, and cannot delete.
So every user has a folder with an instance and an assistant of their own in it, and forgetting somebody is removing the folder; single
notes cannot be changed or removed. Its calls of a model and of an embedder go through this package's; where a call fails it goes on with
an empty answer, and the failure is told. It does not say which turns its profile and knowledge rest on: those notes have no sources.
Left out on purpose: mending its code, and its own answers to the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import numpy as np

from peregrm.errors import SettingsError
from peregrm.memory.base import Added, Capabilities, Found, Note
from peregrm.memory.checkouts import find_package, forget_module, load_module, modules_beside
from peregrm.memory.embedding import Embeds
from peregrm.memory.factory import Options
from peregrm.memory.foreign import Bridge, PerUser, exchanges, needed
from peregrm.memory.local import check_notes
from peregrm.models.base import Model
from peregrm.records import Failure
from peregrm.store import read_records

__all__ = ["MemoryOsStore"]

STAGE = "memory_memoryos"

_PROJECT = "MemoryOS"
_TURNS = "peregrm_turns.jsonl"
_NOTHING = frozenset({"", "none"})


class _Instance(NamedTuple):
    module: ModuleType
    system: Any


class MemoryOsStore:
    """A checkout of MemoryOS behind the interface of memory stores.

    Args:
        model: Who answers MemoryOS's questions.
        checkout: The folder of the checkout.
        path: The folder for its files; None keeps them until the store is closed.
        embedder: In place of the offline MiniLM.

    Raises:
        SettingsError: There is no such checkout in that folder.
        DependencyError: The offline embeddings are not installed. A package that MemoryOS needs is missed at the first call.
    """

    name: ClassVar[str] = "memoryos"
    opened_with: ClassVar[frozenset[str]] = frozenset({"path", "model", "embedder", "at"})
    place: ClassVar[str] = f"the folder of your checkout of {_PROJECT}"

    def __init__(
        self, model: Model, checkout: Path, path: Path | None = None, *, embedder: Embeds | None = None
    ) -> None:
        folder = find_package(checkout, ("memoryos-pypi", "."), "memoryos.py", _PROJECT)
        self.capabilities = Capabilities(takes=("turn",), update=False, delete=False, keeps=path is not None)
        self._users: PerUser[_Instance] = PerUser(
            path,
            model,
            STAGE,
            lambda place, bridge: _start(folder, place, bridge),
            lambda one: forget_module(one.module),
            embedder=embedder,
        )

    @classmethod
    def open(cls, options: Options) -> Self:
        """Open the store as the options say. Raises `SettingsError` where they name no model or no checkout."""
        model, checkout = needed(options, cls.name, cls.place)
        return cls(model, Path(checkout), options.path, embedder=options.embedder)

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Give it each turn of the user with the answer to it. Turns of others before the first one of the user are not kept."""
        check_notes(self.name, self.capabilities, user_id, notes)
        ids: list[str] = []
        failures: list[Failure] = []
        for exchange in exchanges(notes):
            _, failed = await self._users.call(user_id, partial(_add, exchange=exchange))
            ids += [note.id for note in exchange]
            failures += failed
        return Added(ids=tuple(dict.fromkeys(ids)), failures=tuple(failures))

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return what it brings up: knowledge of the user, turns it retrieves, the profile, then the last turns, newest first.

        The score is one part of the place, 1, 1/2, 1/3 ...
        """
        if limit < 1 or not query.strip():
            return []
        notes, _ = await self._users.call(user_id, lambda one, place: _search(user_id, one, place, query))
        return [Found(note, 1 / place) for place, note in enumerate(notes[:limit], start=1)]

    async def update(self, user_id: str, note_id: str, text: str) -> NoReturn:
        """Refuse: MemoryOS cannot."""
        raise SettingsError("the memory store memoryos cannot change a note")

    async def delete(self, user_id: str, note_id: str) -> NoReturn:
        """Refuse: MemoryOS cannot."""
        raise SettingsError("the memory store memoryos cannot delete a note, only everything about a user")

    async def delete_all(self, user_id: str) -> None:
        """Remove the user's folder with everything in it."""
        await self._users.forget(user_id)

    async def export(self, user_id: str) -> list[Note]:
        """Return the turns it was given, then its knowledge of the user and the profile."""

        def read(one: _Instance, place: Path) -> list[Note]:
            known = one.system.user_long_term_memory.get_user_knowledge()
            return [*_turns(place), *_knowledge(user_id, known), *_profile(user_id, one)]

        return (await self._users.call(user_id, read))[0]

    async def aclose(self) -> None:
        """Drop all instances. Safe to call twice."""
        await self._users.aclose()


class _Client:
    """Stands where MemoryOS has its client of a model."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def chat_completion(self, model: str, messages: Sequence[Mapping[str, Any]], **_: object) -> str:
        return self._bridge.complete(messages).strip()


def _start(folder: Path, place: Path, bridge: Bridge) -> _Instance:
    module = load_module(folder, "memoryos", _PROJECT, "Memoryos", "OpenAIClient")

    def embedding(text: str, *_: object, **__: object) -> np.ndarray[Any, Any]:
        return np.array(bridge.embed(text), dtype=np.float32)

    for part in modules_beside(module):
        if hasattr(part, "get_embedding"):
            part.__dict__["get_embedding"] = embedding
    module.__dict__["OpenAIClient"] = lambda *_, **__: _Client(bridge)
    system = module.Memoryos(
        user_id="user",
        openai_api_key="none",
        data_storage_path=str(place),
        assistant_id="assistant",
        llm_model=bridge.model.name,
    )
    return _Instance(module, system)


def _add(one: _Instance, place: Path, exchange: Sequence[Note]) -> None:
    known = {note.id for note in _turns(place)}
    if exchange[0].id in known:
        return
    with (place / _TURNS).open("a", encoding="utf-8") as file:
        file.writelines(note.model_dump_json() + "\n" for note in exchange if note.id not in known)
    answer = "\n".join(note.text for note in exchange[1:])
    one.system.add_memory(user_input=exchange[0].text, agent_response=answer, timestamp=exchange[0].time)


def _turns(place: Path) -> list[Note]:
    path = place / _TURNS
    return read_records(path, Note) if path.exists() else []


def _search(user_id: str, one: _Instance, place: Path, query: str) -> list[Note]:
    turns = {note.text: note for note in _turns(place) if note.role == "user"}
    found = one.system.retriever.retrieve_context(query, user_id="user")
    recent = list(reversed(one.system.short_term_memory.get_all()))
    pages = [
        [turns[page["user_input"]] for page in rows if page["user_input"] in turns]
        for rows in (found["retrieved_pages"], recent)
    ]
    known = _knowledge(user_id, found["retrieved_user_knowledge"])
    return list(dict.fromkeys([*known, *pages[0], *_profile(user_id, one), *pages[1]]))


def _knowledge(user_id: str, rows: Sequence[Mapping[str, Any]]) -> list[Note]:
    return [Note(user_id=user_id, text=row["knowledge"], kind="derived", label="knowledge") for row in rows]


def _profile(user_id: str, one: _Instance) -> list[Note]:
    text = (one.system.get_user_profile_summary() or "").strip()
    return [] if text.lower() in _NOTHING else [Note(user_id=user_id, text=text, kind="derived", label="profile")]
