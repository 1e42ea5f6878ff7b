"""The memory system mem0 (extra `mem0`) as a store, with this package's model and its offline embeddings.

mem0 reads one thing the user said, with the answer to it, and keeps the facts that the model draws from it: derived notes whose sources
are those turns. What is said is not kept itself: where the model gives no usable answer nothing is kept of it, and the failure says so.
Every user has a Qdrant folder of their own. mem0's telemetry is off. Its list of past changes and its window of recent messages are held
in memory alone, so that what is deleted is gone. Left out on purpose: mem0's hosted service, graph and rerankers.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from peregrm.errors import DependencyError, SettingsError
from peregrm.extras import install
from peregrm.memory.base import Added, Capabilities, Found, Note
from peregrm.memory.factory import Options
from peregrm.memory.foreign import Bridge, PerUser, exchanges, folder_name, no_such_note
from peregrm.memory.local import check_notes
from peregrm.models.base import Model
from peregrm.models.embeddings import EMBEDDING_SIZE
from peregrm.records import Failure

__all__ = ["Mem0Store"]

STAGE = "memory_mem0"

_SOURCES = "peregrm_sources"
_MOST = 10_000
"""Facts of one user that are listed."""

_THRESHOLD = 0.1
"""mem0's own default: facts that score lower are not found."""


class _Fact(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=8)
    text: str = Field(min_length=1, max_length=600)
    attributed_to: Literal["user", "assistant"]


class _Facts(BaseModel):
    """What mem0's prompt asks for, but for the links between facts, which its open version does not keep."""

    model_config = ConfigDict(extra="forbid")

    memory: list[_Fact] = Field(max_length=20)


class _Llm:
    """Stands where mem0 has its client of a model."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def generate_response(self, messages: Sequence[Mapping[str, Any]], **_: object) -> str:
        return self._bridge.value(messages, _Facts).model_dump_json()


class _Embeddings:
    """Stands where mem0 has its client of an embedder."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return self._bridge.embed(text)

    def embed_batch(self, texts: Sequence[str], memory_action: str | None = None) -> list[list[float]]:
        return [self._bridge.embed(text) for text in texts]


class Mem0Store:
    """mem0 behind the interface of memory stores.

    Args:
        model: Who draws the facts.
        path: The folder for mem0's files; None keeps them until the store is closed.

    Raises:
        DependencyError: mem0 or the offline embeddings are not installed.
        SettingsError: At the first call: mem0 was imported by others, with its telemetry on.
    """

    name: ClassVar[str] = "mem0"
    opened_with: ClassVar[frozenset[str]] = frozenset({"path", "model"})

    def __init__(self, model: Model, path: Path | None = None) -> None:
        if importlib.util.find_spec("mem0") is None:
            raise DependencyError(f"the memory store mem0 needs the package mem0ai: {install('mem0')}")
        self.capabilities = Capabilities(takes=("memory", "turn"), abstains=True, keeps=path is not None)
        self._users: PerUser[Any] = PerUser(path, model, STAGE, _start, _stop)

    @classmethod
    def open(cls, options: Options) -> Self:
        """Open the store as the options say. Raises `SettingsError` where they name no model, or embeddings of another size."""
        if options.model is None:
            raise SettingsError("the memory store mem0 asks a language model: name one")
        if options.embedder is not None:
            raise SettingsError("the memory store mem0 has files for the offline MiniLM alone")
        return cls(options.model, options.path)

    async def add(self, user_id: str, notes: Sequence[Note]) -> Added:
        """Have facts drawn from each thing the user said. The ids are those of the facts; what failed kept nothing."""
        check_notes(self.name, self.capabilities, user_id, notes)
        ids: list[str] = []
        failures: list[Failure] = []
        for exchange in exchanges(notes):

            def draw(memory: Any, _: Path, exchange: Sequence[Note] = exchange) -> list[Note]:
                return _draw(memory, user_id, exchange)

            kept, failed = await self._users.call(user_id, draw)
            ids += [note.id for note in kept]
            failures += failed
        return Added(ids=tuple(dict.fromkeys(ids)), failures=tuple(failures))

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return the facts that mem0 finds, by its own score, 0 to 1."""

        def find(memory: Any, _: Path) -> list[Found]:
            rows = memory.search(query, top_k=limit, filters={"user_id": folder_name(user_id)}, threshold=_THRESHOLD)
            return [Found(_note(user_id, row), float(row["score"])) for row in rows["results"]]

        if limit < 1 or not query.strip():
            return []
        found, _ = await self._users.call(user_id, find)
        return sorted(found, key=lambda one: (-one.score, one.note.id))[:limit]

    async def update(self, user_id: str, note_id: str, text: str) -> str:
        """Give a fact another text; it rests on the same turns."""

        def change(memory: Any, _: Path) -> str:
            row = _row(memory, user_id, note_id)
            memory.update(row["id"], text=text)
            _forget_messages(memory)
            return _note(user_id, {**row, "memory": text}).id

        return (await self._users.call(user_id, change))[0]

    async def delete(self, user_id: str, note_id: str) -> None:
        """Remove a fact."""

        def remove(memory: Any, _: Path) -> None:
            memory.delete(_row(memory, user_id, note_id)["id"])
            _forget_messages(memory)

        await self._users.call(user_id, remove)

    async def delete_all(self, user_id: str) -> None:
        """Remove the user's folder with everything in it."""
        await self._users.forget(user_id)

    async def export(self, user_id: str) -> list[Note]:
        """Return all facts, oldest first."""
        rows, _ = await self._users.call(user_id, lambda memory, _: _rows(memory, user_id))
        return [_note(user_id, row) for row in rows]

    async def aclose(self) -> None:
        """Close mem0's files. Safe to call twice."""
        await self._users.aclose()


def _start(folder: Path, bridge: Bridge) -> Any:
    os.environ["MEM0_TELEMETRY"] = "False"  # read by mem0 when it is imported
    from mem0 import Memory
    from mem0.memory import telemetry

    if telemetry.MEM0_TELEMETRY:
        raise SettingsError("mem0 was imported before with its telemetry on: set MEM0_TELEMETRY=False")
    idle = {"provider": "openai", "config": {"api_key": "none"}}
    memory = Memory.from_config(
        {
            "llm": idle,
            "embedder": idle,
            "vector_store": {
                "provider": "qdrant",
                "config": {
                    "path": str(folder / "qdrant"),
                    "collection_name": "facts",
                    "embedding_model_dims": EMBEDDING_SIZE,
                    "on_disk": True,
                },
            },
            "history_db_path": ":memory:",
        }
    )
    memory.llm = _Llm(bridge)
    memory.embedding_model = _Embeddings(bridge)
    return memory


def _stop(memory: Any) -> None:
    memory.close()
    memory.vector_store.client.close()


def _forget_messages(memory: Any) -> None:
    """Drop mem0's window of recent messages, which may hold what was just changed or deleted."""
    memory.db.close()
    memory.db = type(memory.db)(":memory:")


def _draw(memory: Any, user_id: str, exchange: Sequence[Note]) -> list[Note]:
    from mem0.exceptions import LLMError

    sources = [note.id for note in exchange]
    said = [{"role": note.role, "content": note.text} for note in exchange]
    try:
        answer = memory.add(said, user_id=folder_name(user_id), metadata={_SOURCES: sources})
    except LLMError:
        return []  # the bridge has noted why
    return [_note(user_id, {**row, "metadata": {_SOURCES: sources}}) for row in answer["results"]]


def _rows(memory: Any, user_id: str) -> list[Any]:
    rows: list[Any] = memory.get_all(filters={"user_id": folder_name(user_id)}, top_k=_MOST)["results"]
    return sorted(rows, key=lambda row: (row.get("created_at") or "", row["id"]))


def _row(memory: Any, user_id: str, note_id: str) -> Any:
    for row in _rows(memory, user_id):
        if _note(user_id, row).id == note_id:
            return row
    raise no_such_note(note_id)


def _note(user_id: str, row: Mapping[str, Any]) -> Note:
    sources = (row.get("metadata") or {}).get(_SOURCES, ())
    return Note(user_id=user_id, text=row["memory"], kind="derived", sources=tuple(sources))
