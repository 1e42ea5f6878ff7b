"""Nothing paid for is lost: every answer is on disk before it is used, and the same call is never made twice.

The store is one SQLite file with one row for each sample, whether it was drawn in a call of its own or with others.
Left out on purpose: expiry and size limits (an experiment's calls are its evidence) and the caching of failures (they
are asked again on the next run).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from peregrm.database import Layout, open_database
from peregrm.errors import ArtifactError, ModelError, ModelProtocolError, ModelTimeout, ModelUnavailable
from peregrm.models.base import Completion, Model, Request, SamplingModel, request_key
from peregrm.models.ledger import Ledger
from peregrm.models.samples import each_outcome

__all__ = ["CachedModel", "CallCache", "request_key"]

_CALLS = (
    "CREATE TABLE IF NOT EXISTS calls "
    "(key TEXT PRIMARY KEY, request TEXT NOT NULL, completion TEXT NOT NULL) WITHOUT ROWID"
)
_LAYOUT = Layout("call cache", 0x70677263, 1, (_CALLS,))
_LOOK = "SELECT (SELECT min(key) FROM calls), (SELECT max(key) FROM calls)"


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class CallCache:
    """The answers of past calls, in the SQLite file `path`, made if it does not exist.

    Several processes may share one file. Safe to use from several threads. Opening takes the same time however large the
    file is: it looks at the header and the edges of the tree. Damage further in is reported by the use that meets it.

    Raises:
        ArtifactError: The file is damaged, not a database, or the database of another program.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        with self._naming_the_file():
            self._db = open_database(self.path, _LAYOUT, look=_LOOK)

    def get(self, key: str) -> Completion | None:
        """Return the stored completion, marked `cached`, or None.

        Raises:
            ArtifactError: The file or the stored row is damaged.
        """
        with self._lock, self._naming_the_file():
            row = self._db.execute("SELECT completion FROM calls WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return Completion.model_validate({**json.loads(row[0]), "cached": True})
        except (ValueError, TypeError, ValidationError) as error:
            raise ArtifactError(f"{self.path}: the stored answer {key[:16]} is damaged") from error

    def has(self, key: str) -> bool:
        """Tell whether there is a completion under this key.

        Raises:
            ArtifactError: The file is damaged.
        """
        with self._lock, self._naming_the_file():
            return self._db.execute("SELECT 1 FROM calls WHERE key = ?", (key,)).fetchone() is not None

    def put(self, key: str, request: Request, completion: Completion) -> None:
        """Store a completion; it is committed when this returns and outlives a kill of the process.

        Raises:
            ArtifactError: The file cannot be written.
        """
        self.put_all([(key, request, completion)])

    def put_all(self, rows: Iterable[tuple[str, Request, Completion]]) -> None:
        """Store the samples of one call, as (key, request, completion): all of them or, when it fails, none.

        Raises:
            ArtifactError: The file cannot be written.
        """
        values = [
            (key, _canonical(request.model_dump(mode="json")), _canonical(completion.model_dump(mode="json")))
            for key, request, completion in rows
        ]
        with self._lock, self._naming_the_file():
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", values)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(f"{self.path}: cannot be used as a call cache: {error}") from error


_Outcomes = Mapping[str, Completion | ModelError]


@dataclass
class _Flight:
    """A call that is under way; it is cancelled when the last of those `waiting` gives up.

    `keys` are those of the samples it was asked for, of which it may bring fewer; `fresh` those that nobody has used yet.
    """

    task: asyncio.Task[_Outcomes]
    keys: frozenset[str]
    fresh: set[str]
    waiting: int = 1


class CachedModel:
    """A model that answers from the cache where it can, and enters every use in the ledger.

    Tasks that ask the same thing at the same time share one call; all but the first get the completion marked `cached`.
    The call is cancelled only when all of them are. Before the first fresh answer, `ModelUnavailable`,
    `ModelTimeout` and `ModelProtocolError` are made fatal: an endpoint that was never there stops the run instead of
    failing every call of it. (Not so where the endpoint did answer in form, by a refusal or with no content.)

    Args:
        inner: The model to ask. It is closed with this one.
        cache: Where answers are kept, or None to keep none. It stays open: models share it.
        ledger: Where uses are counted.
    """

    def __init__(self, inner: Model, cache: CallCache | None, ledger: Ledger) -> None:
        self._inner = inner
        self._sampler = inner if isinstance(inner, SamplingModel) else None
        self._cache = cache
        self._ledger = ledger
        self._flights: dict[str, _Flight] = {}
        self._has_answered = False

    @property
    def name(self) -> str:
        """The name of the inner model."""
        return self._inner.name

    @property
    def concurrency(self) -> int:
        """That of the inner model."""
        return self._inner.concurrency

    async def complete(self, request: Request) -> Completion:
        """Answer from the cache or from the inner model.

        Raises:
            ModelError: The inner model failed.
            ArtifactError: The cache file cannot be read or written.
        """
        return await self._use(request_key(self.name, request), request, None, [])

    async def complete_many(self, request: Request, n: int) -> list[Completion | ModelError]:
        """Return `n` samples, asking only for those that are neither stored nor under way.

        Where the inner model can draw several at once, each gap in the trials is one call. What a call brings is stored
        under the keys of its samples together, so that single calls find them; the first of them carries the usage of
        the call, the others none. So the usage of a run that uses some samples of a stored call, but not its first, does
        not hold the call's tokens.

        Raises:
            ModelError: A fatal one, when the other samples are there and stored.
            ArtifactError: The cache file cannot be read or written.
        """
        samples = {request_key(self.name, sample): sample for sample in map(request.sample, range(n))}
        flights = [self._take_off(gap) for gap in self._gaps(samples)]
        own = {key: flight for flight in flights for key in flight.keys}
        failures: list[ModelError] = []
        try:
            return await each_outcome(self._use(key, sample, own.get(key), failures) for key, sample in samples.items())
        finally:
            for flight in flights:
                self._leave(flight)

    async def aclose(self) -> None:
        """Close the inner model; the cache stays open."""
        await self._inner.aclose()

    async def _use(self, key: str, request: Request, flight: _Flight | None, failures: list[ModelError]) -> Completion:
        """Wait for `flight`, or else look up or call, and enter the use in the ledger.

        A failure that several samples of a call share counts once; `failures` holds those that were counted.
        """
        try:
            if flight is None:
                completion = await self._look_up_or_call(key, request)
            else:
                completion = await self._brought(key, request, flight)
        except ModelError as error:
            if not any(error is known for known in failures):
                failures.append(error)
                self._ledger.fail(self.name, request.purpose, error.kind)
            raise
        self._ledger.record(self.name, request.purpose, completion)
        return completion

    def _gaps(self, samples: Mapping[str, Request]) -> list[dict[str, Request]]:
        """Return the runs of two or more successive samples that one call has to bring, with their keys.

        They follow each other without a break because a server numbers the seeds of its samples so.
        """
        gaps: list[dict[str, Request]] = [{}]
        for key, sample in samples.items():
            if self._sampler is None or self._under_way(key) or (self._cache is not None and self._cache.has(key)):
                gaps.append({})
            else:
                gaps[-1][key] = sample
        return [gap for gap in gaps if len(gap) > 1]

    def _under_way(self, key: str) -> _Flight | None:
        flight = self._flights.get(key)
        return None if flight is None or flight.task.done() else flight

    async def _look_up_or_call(self, key: str, request: Request) -> Completion:
        flight = self._under_way(key)
        if flight is not None:
            flight.waiting += 1
        else:
            stored = self._cache.get(key) if self._cache is not None else None
            if stored is not None:
                return stored
            flight = self._take_off({key: request})
        try:
            return await self._brought(key, request, flight)
        finally:
            self._leave(flight)

    async def _brought(self, key: str, request: Request, flight: _Flight) -> Completion:
        """Wait for a call and return what it brought for this key; ask anew where it brought fewer samples."""
        outcome = (await asyncio.shield(flight.task)).get(key)
        if outcome is None:
            return await self._look_up_or_call(key, request)
        if isinstance(outcome, ModelError):
            raise outcome
        if key in flight.fresh:
            flight.fresh.remove(key)
            return outcome
        return outcome.model_copy(update={"cached": True})

    def _take_off(self, samples: Mapping[str, Request]) -> _Flight:
        """Start the one call for these samples; who starts it is the first to wait for it."""
        task = asyncio.create_task(self._call_and_store(samples))
        flight = _Flight(task, keys=frozenset(samples), fresh=set(samples))
        self._flights.update(dict.fromkeys(samples, flight))
        task.add_done_callback(lambda _: self._clear(flight))
        return flight

    def _leave(self, flight: _Flight) -> None:
        flight.waiting -= 1
        if flight.waiting == 0:
            flight.task.cancel()
            self._clear(flight)

    def _clear(self, flight: _Flight) -> None:
        """Clear the way for a new call."""
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def _call_and_store(self, samples: Mapping[str, Request]) -> _Outcomes:
        answers = await self._call(next(iter(samples.values())), len(samples))
        if any(isinstance(answer, Completion) for answer in answers):
            self._has_answered = True
        for answer in answers:
            if isinstance(answer, ModelError) and not self._has_answered and _is_absence(answer):
                answer.fatal = True
        outcomes = dict(zip(samples, _as_one_call(answers), strict=False))
        rows = [(key, samples[key], got) for key, got in outcomes.items() if isinstance(got, Completion)]
        if self._cache is not None and rows:
            self._cache.put_all(rows)
        return outcomes

    async def _call(self, request: Request, n: int) -> Sequence[Completion | ModelError]:
        try:
            if n > 1 and self._sampler is not None:
                return await self._sampler.complete_many(request, n)
            return [await self._inner.complete(request)]
        except ModelError as error:
            return [error] * n


def _as_one_call(answers: Sequence[Completion | ModelError]) -> list[Completion | ModelError]:
    """Count the completions of one call as one, on the first of them."""
    calls = 1
    counted: list[Completion | ModelError] = []
    for answer in answers:
        if isinstance(answer, Completion):
            if answer.usage.calls != calls:
                usage = answer.usage.model_copy(update={"calls": calls})
                answer = answer.model_copy(update={"usage": usage})  # noqa: PLW2901
            calls = 0
        counted.append(answer)
    return counted


def _is_absence(error: ModelError) -> bool:
    """Tell whether an error means that no working model is at that address."""
    if isinstance(error, ModelProtocolError):
        return error.kind == ModelProtocolError.kind
    return isinstance(error, ModelUnavailable | ModelTimeout)
