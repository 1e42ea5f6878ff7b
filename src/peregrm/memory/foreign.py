"""Systems that others wrote, driven from here: one instance a user, in worker threads, with this package's model and embeddings.

Such a system is synchronous code with a model and an embedder of its own choosing, often keeps users apart by a field or not at all, and
passes over failures in silence. Here every user has an instance and a folder of their own, named by a hash, so that nothing can be mixed
up and forgetting somebody is removing a folder; what it asks of a model goes through the one seam to models and is limited, cached and
counted like any other call; and calls that failed are told. Left out on purpose: systems with several threads inside one call that share
an instance, other than those that wait for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from peregrm.errors import ArtifactError, ModelError, SettingsError
from peregrm.memory.base import Note
from peregrm.memory.embedding import Embeds, default_embedder
from peregrm.memory.factory import Options
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.records import Failure, Message

__all__ = ["Bridge", "PerUser", "exchanges", "folder_name", "needed", "no_such_note"]

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T", bound=BaseModel)

_ANSWER_TOKENS = 2000


def folder_name(user_id: str) -> str:
    """Return a name for a user's folder that no user id can turn into another place."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def needed(options: Options, store: str, what: str) -> tuple[Model, str]:
    """Return the model and the place that a store of a foreign system cannot do without; raises `SettingsError` where one is missing."""
    if options.model is None:
        raise SettingsError(f"the memory store {store} asks a language model: name one")
    if options.at is None:
        raise SettingsError(f"the memory store {store} needs {what}: name it with --memory-at (in code, at=)")
    return options.model, options.at


def no_such_note(note_id: str) -> ArtifactError:
    """Return the error for an id that a user has no note under."""
    return ArtifactError(f"the memory store has no note {note_id} of this user")


def exchanges(notes: Sequence[Note]) -> Iterator[Sequence[Note]]:
    """Yield each note of the user with the turns of others that follow it; what stands before the first is left out."""
    exchange: list[Note] = []
    for note in notes:
        if note.role == "user":
            if exchange:
                yield exchange
            exchange = [note]
        elif exchange:
            exchange.append(note)
    if exchange:
        yield exchange


@dataclass
class Bridge:
    """What a foreign system is given in place of its own model and embedder. To be called from a worker thread.

    `failures` are the calls that brought nothing usable since they were last cleared; `fatal` is an error after which no call can succeed,
    kept because foreign code may pass over it.
    """

    model: Model
    embedder: Embeds
    purpose: str
    loop: asyncio.AbstractEventLoop
    failures: list[Failure] = field(default_factory=list)
    fatal: ModelError | None = None

    def complete(self, messages: Sequence[Mapping[str, Any]], *, json_schema: dict[str, Any] | None = None) -> str:
        """Return the model's answer to chat messages in the form of OpenAI's API; an empty text where the call failed.

        Such systems take an empty answer for no news and an exception for a reason to lose what they hold. With a schema, an answer that
        is no JSON object counts as failed as well.
        """
        request = self._request(messages).model_copy(update={"json_schema": json_schema})

        async def call() -> str:
            return (await self.model.complete(request)).text

        try:
            text = self._wait(call())
        except ModelError:
            return ""
        if json_schema is not None and not _is_object(text):
            reason = "the answer is not a JSON object"
            self.failures.append(Failure(stage=self.purpose, kind="unparsable", reason=reason))
            return ""
        return text

    def value(self, messages: Sequence[Mapping[str, Any]], schema: type[T]) -> T:
        """Return the model's answer as a value of `schema`, asked for twice at most.

        Raises:
            ModelError: There is no usable answer; it is among `failures` as well.
        """

        async def call() -> T:
            answer = await ask(self.model, self._request(messages), schema)
            if answer.value is None:
                failure = answer.failure or Failure(stage=self.purpose, kind="no answer", reason="there is no answer")
                raise ModelError(failure.reason, kind=failure.kind)
            return answer.value

        return self._wait(call())

    def embed(self, text: str) -> list[float]:
        """Return the unit vector of a text."""
        vector: list[float] = self.embedder.embed([text])[0].tolist()
        return vector

    def _wait(self, call: Coroutine[Any, Any, R]) -> R:
        """Run a call on the event loop and wait for it in this thread; note it where it fails."""
        try:
            return asyncio.run_coroutine_threadsafe(call, self.loop).result()
        except ModelError as error:
            self.failures.append(Failure(stage=self.purpose, kind=error.kind, reason=str(error)))
            if error.fatal:
                self.fatal = error
            raise

    def _request(self, messages: Sequence[Mapping[str, Any]]) -> Request:
        said = tuple(Message(role=str(m["role"]), content=str(m["content"])) for m in messages)
        return Request(messages=said, max_tokens=_ANSWER_TOKENS, purpose=self.purpose)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


class PerUser(Generic[S]):
    """Instances of a foreign system, one a user, made when first needed; calls about one user take turns.

    Args:
        path: The folder under which each user's folder lies; None for one that goes when this is closed.
        model: Who answers what the systems ask.
        purpose: The stage of failures, and of the calls in the ledger.
        start: Makes the instance of a user from their folder, which exists, and a bridge. Runs in a worker thread.
        stop: Frees an instance.
        embedder: In place of the offline MiniLM.

    Raises:
        DependencyError: The embeddings are not installed.
    """

    def __init__(
        self,
        path: Path | None,
        model: Model,
        purpose: str,
        start: Callable[[Path, Bridge], S],
        stop: Callable[[S], None],
        *,
        embedder: Embeds | None = None,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="peregrm-") if path is None else None
        self._path = Path(self._temporary.name) if self._temporary is not None else path
        self._model = model
        self._purpose = purpose
        self._start = start
        self._stop = stop
        self._embedder = embedder or default_embedder()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._systems: dict[str, tuple[S, Bridge]] = {}
        self._closed = False

    def folder(self, user_id: str) -> Path:
        """Return the folder of a user, whether or not it exists.

        Raises:
            SettingsError: The store is closed.
        """
        if self._closed or self._path is None:
            raise SettingsError("this memory store is closed")
        return self._path / folder_name(user_id)

    async def call(self, user_id: str, use: Callable[[S, Path], R]) -> tuple[R, tuple[Failure, ...]]:
        """Run `use` on a user's instance and folder in a worker thread; return its result and the calls that failed meanwhile.

        Raises:
            ModelError: A fatal one that a call of the system met.
            SettingsError: The store is closed.
        """
        async with self._locks[user_id]:
            folder = self.folder(user_id)

            def work() -> tuple[R, tuple[Failure, ...]]:
                system, bridge = self._system(user_id, folder, loop)
                bridge.failures.clear()
                result = use(system, folder)
                if bridge.fatal is not None:
                    raise bridge.fatal
                return result, tuple(bridge.failures)

            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(work)

    async def forget(self, user_id: str) -> None:
        """Stop a user's instance and remove their folder with all that is in it."""
        async with self._locks[user_id]:
            folder = self.folder(user_id)
            await asyncio.to_thread(self._forget, user_id, folder)

    async def aclose(self) -> None:
        """Stop all instances; remove the folders where they were to go. Safe to call twice."""
        self._closed = True
        for user_id in list(self._systems):
            async with self._locks[user_id]:
                found = self._systems.pop(user_id, None)
                if found is not None:
                    await asyncio.to_thread(self._stop, found[0])
        if self._temporary is not None:
            await asyncio.to_thread(self._temporary.cleanup)

    def _system(self, user_id: str, folder: Path, loop: asyncio.AbstractEventLoop) -> tuple[S, Bridge]:
        if user_id not in self._systems:
            folder.mkdir(parents=True, exist_ok=True)
            bridge = Bridge(self._model, self._embedder, self._purpose, loop)
            self._systems[user_id] = self._start(folder, bridge), bridge
        system, bridge = self._systems[user_id]
        bridge.loop = loop
        return system, bridge

    def _forget(self, user_id: str, folder: Path) -> None:
        found = self._systems.pop(user_id, None)
        if found is not None:
            self._stop(found[0])
        if folder.exists():
            shutil.rmtree(folder)
