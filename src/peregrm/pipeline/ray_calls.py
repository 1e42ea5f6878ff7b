"""Model calls of several processes: every answer in the one call cache of a run before it is used, wherever it was asked.

The cache file belongs to the machine of the run. There one actor (`CallStore`) reads and writes it; workers ask it over Ray, many calls
in one message. What calls were made is noted per record (`Uses`) and entered in the run's ledger when the record is there, so that a
record that is done again after a worker died is not counted twice. Left out on purpose: sharing a call that two workers make at the same
time; both are then made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import ModelError, PeregrmError
from peregrm.models.base import Completion, Model, Request, request_key
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.samples import complete_samples, each_outcome
from peregrm.records import Usage

__all__ = ["Ask", "CallStore", "NotingLedger", "SharedCalls", "Use", "noting"]

Row = tuple[str, Request, Completion]


class CallStore:
    """Owns the call cache of a run: the body of a Ray actor on the run's machine. An error that names the file is returned as a value."""

    def __init__(self, path: str) -> None:
        self._cache = CallCache(Path(path))

    def get_all(self, keys: Sequence[str]) -> list[Completion | None] | PeregrmError:
        """Return what is stored under each key."""
        try:
            return [self._cache.get(key) for key in keys]
        except PeregrmError as error:
            return error

    def put_all(self, rows: Sequence[Row]) -> list[None] | PeregrmError:
        """Store answers; they are on disk when this returns."""
        try:
            self._cache.put_all(rows)
        except PeregrmError as error:
            return error
        return [None] * len(rows)


class Use(NamedTuple):
    """One use of a model as a ledger counts it; `failure` is the kind of a call that failed."""

    model: str
    purpose: str
    usage: Usage = Usage()
    seconds: float = 0.0
    cached: bool = False
    failure: str | None = None

    def enter(self, ledger: Ledger, *, anew: bool) -> None:
        """Enter the use in a ledger; one that is not `anew` was paid for by an earlier run."""
        if self.failure is not None:
            ledger.fail(self.model, self.purpose, self.failure)
            return
        completion = Completion(text="", usage=self.usage, seconds=self.seconds, cached=self.cached or not anew)
        ledger.record(self.model, self.purpose, completion)


_NOTES: ContextVar[list[Use]] = ContextVar("notes")


def noting() -> list[Use]:
    """Begin a new list of uses for the task that calls this and those it starts; return the list."""
    notes: list[Use] = []
    _NOTES.set(notes)
    return notes


class NotingLedger(Ledger):
    """A ledger that notes each use for the record in work instead of adding it up."""

    def record(self, model: str, purpose: str, completion: Completion) -> None:
        """Note one answer."""
        _NOTES.get().append(Use(model, purpose, completion.usage, completion.seconds, completion.cached))

    def fail(self, model: str, purpose: str, kind: str) -> None:
        """Note one failed call."""
        _NOTES.get().append(Use(model, purpose, failure=kind))


class Ask:
    """Sends what many tasks ask in as few messages as possible: while one message is on its way, the next gathers.

    Args:
        send: Takes a list and returns as many results in the same order, or an error, which every asker gets.
    """

    def __init__(self, send: Callable[[list[Any]], Awaitable[Any]]) -> None:
        self._send = send
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def __call__(self, item: Any) -> Any:
        """Return the result for one item."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await future

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._send_batch(batch)
        finally:
            self._sender = None

    async def _send_batch(self, batch: list[tuple[Any, asyncio.Future[Any]]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - every asker gets it
            results = error
        for number, (_, future) in enumerate(batch):
            if future.done():
                continue  # who asked was cancelled
            if isinstance(results, Exception):
                future.set_exception(results)
            else:
                future.set_result(results[number])


class SharedCalls:
    """A model that looks into the run's call cache before it asks, and stores what it gets before it gives it on.

    Args:
        inner: The model to ask, which enters what it is asked in `ledger`.
        ledger: Where answers from the cache are entered.
        get: Returns the stored completion of a key, or None.
        put: Stores a row.
        share: Of all calls this run may have in flight, how many may be this worker's.
    """

    def __init__(self, inner: Model, ledger: Ledger, get: Ask, put: Ask, share: int) -> None:
        self._inner = inner
        self._ledger = ledger
        self._get = get
        self._put = put
        self._share = share
        self._gate = asyncio.Semaphore(share)

    @property
    def name(self) -> str:
        """The name of the inner model."""
        return self._inner.name

    @property
    def concurrency(self) -> int:
        """The worker's share of the calls in flight."""
        return self._share

    async def complete(self, request: Request) -> Completion:
        """Answer from the cache or from the inner model; raises what that raises."""
        key = request_key(self.name, request)
        stored: Completion | None = await self._get(key)
        if stored is not None:
            self._ledger.record(self.name, request.purpose, stored)
            return stored
        async with self._gate:
            completion = await self._inner.complete(request)
        if not completion.cached:
            await self._put((key, request, completion))
        return completion

    async def complete_many(self, request: Request, n: int) -> list[Completion | ModelError]:
        """Draw `n` samples: in one call where none is stored yet, else each as `complete` does."""
        samples = [request.sample(number) for number in range(n)]
        keys = [request_key(self.name, sample) for sample in samples]
        stored = await asyncio.gather(*(self._get(key) for key in keys))
        if any(completion is not None for completion in stored):
            return await each_outcome(self.complete(sample) for sample in samples)
        async with self._gate:
            outcomes = await complete_samples(self._inner, request, n)
        for key, sample, outcome in zip(keys, samples, outcomes, strict=True):
            if isinstance(outcome, Completion) and not outcome.cached:
                await self._put((key, sample, outcome))
        return outcomes

    async def aclose(self) -> None:
        """Close the inner model."""
        await self._inner.aclose()
