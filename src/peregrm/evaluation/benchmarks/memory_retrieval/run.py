"""Run memory stores over the retrieval task: what they rank where, and when they keep silent.

Each query has a user of its own in the store, with all its candidates; two more hold the candidates without the right one, and the
memories that the file has of that user, which all other users' queries are put to. Left out on purpose: judging whether a memory of
somebody else would fit by chance; it counts as irrelevant, so the shares of false finds are upper bounds.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from peregrm.evaluation.benchmarks.memory_retrieval.result import RetrievalResult, StoreRow
from peregrm.evaluation.benchmarks.memory_retrieval.tasks import Fact, Task, notes
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.mapping import Progress
from peregrm.memory.base import Found, MemoryStore, Note
from peregrm.memory.embedding import Embeds, Vectors

__all__ = ["OpenStore", "Remembering", "run_retrieval"]

OpenStore = Callable[[Path, Embeds | None], MemoryStore]
"""Opens a store on a file; with the embedder, where one is given and it embeds."""

_TIMED = 3
"""Queries with their candidates over which times are taken."""

_EVERYTHING = 1000
_FIRST = 5
_STAGE = "memory stores"


class Remembering:
    """An embedder that embeds each text once, so that stores and searches can share the work."""

    def __init__(self, inner: Embeds) -> None:
        self._inner = inner
        self._known: dict[str, Vectors] = {}

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._inner.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


class _Outcome(NamedTuple):
    """What one store did with one query.

    `rank` is that of the right memory, or None; `own` whether it is among the first found in the user's own memories, None where these do
    not hold it; `answered`, `withheld` and `others` say whether anything was found, and the latter for every other user.
    """

    user: str
    rank: int | None
    own: bool | None
    answered: bool
    withheld: bool
    others: tuple[bool, ...]


class _Run(NamedTuple):
    outcomes: list[_Outcome]
    add_ms: float
    search_ms: float
    bytes_a_note: float | None
    failures: Counter[str]


async def run_retrieval(
    tasks: Sequence[Task],
    stores: Mapping[str, OpenStore],
    progress: Progress,
    *,
    embedder: Embeds | None = None,
    reference: str,
) -> RetrievalResult:
    """Run every store over every query.

    Args:
        tasks: The queries with their candidates.
        stores: How to open each store, by the name it has in the report.
        progress: Where the work is shown.
        embedder: In place of the stores' own; it embeds each text once, but not while times are taken.
        reference: The name of the store that the others are compared with.

    Raises:
        ModelError: A fatal one of a store that asks a model, or any of a store on a server.
    """
    shared = None if embedder is None else Remembering(embedder)
    runs: dict[str, _Run] = {}
    progress.start(_STAGE, len(stores) * len(tasks))
    for name, opener in stores.items():
        runs[name] = await _run(tasks, opener, shared, embedder, progress)
    return RetrievalResult(
        queries=len(tasks),
        candidates=sum(len(task.candidates) for task in tasks) / len(tasks),
        pairs=sum(len(outcome.others) for outcome in next(iter(runs.values())).outcomes),
        reference=reference,
        rows=tuple(_row(name, run, None if name == reference else runs.get(reference)) for name, run in runs.items()),
    )


async def _run(
    tasks: Sequence[Task], opener: OpenStore, shared: Embeds | None, embedder: Embeds | None, progress: Progress
) -> _Run:
    failures: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "memory.sqlite"
        store = opener(file, shared)
        try:
            for task in tasks:
                await _add(store, f"own {task.user}", task.own, failures)
            outcomes = []
            for task in tasks:
                outcomes.append(await _outcome(store, task, tasks, failures))
                progress.advance(_STAGE)
            keeps = store.capabilities.keeps
        finally:
            await store.aclose()
        held = sum(len(task.own) + 2 * len(task.candidates) - 1 for task in tasks)
        size = file.stat().st_size / held if keeps and file.is_file() else None
        add_ms, search_ms = await _times(tasks[:_TIMED], opener(Path(folder) / "timed.sqlite", embedder), failures)
    return _Run(outcomes, add_ms, search_ms, size, failures)


async def _add(store: MemoryStore, user: str, facts: Sequence[Fact], failures: Counter[str]) -> None:
    added = await store.add(user, _notes(store, user, facts))
    failures.update(failure.kind for failure in added.failures)


def _notes(store: MemoryStore, user: str, facts: Sequence[Fact]) -> list[Note]:
    return notes(user, facts, store.capabilities.takes)


async def _outcome(store: MemoryStore, task: Task, tasks: Sequence[Task], failures: Counter[str]) -> _Outcome:
    user = f"all of {task.user}"
    await _add(store, user, task.candidates, failures)
    found = await store.search(user, task.query, limit=_EVERYTHING)
    rest = f"wrong of {task.user}"
    await _add(store, rest, [fact for fact in task.candidates if fact != task.right], failures)
    strangers = [other for other in tasks if other.user != task.user and other.own]
    return _Outcome(
        user=task.user,
        rank=_rank(found, _notes(store, user, [task.right])[0].id),
        own=await _in_own(store, task),
        answered=bool(found),
        withheld=bool(await store.search(rest, task.query, limit=1)),
        others=tuple([bool(await store.search(f"own {other.user}", task.query, limit=1)) for other in strangers]),
    )


async def _in_own(store: MemoryStore, task: Task) -> bool | None:
    user = f"own {task.user}"
    right = next((fact for fact in task.own if fact.text == task.right.text), None)
    if right is None:
        return None
    found = await store.search(user, task.query, limit=_FIRST)
    return _rank(found, _notes(store, user, [right])[0].id) is not None


def _rank(found: Sequence[Found], right: str) -> int | None:
    """Return the place, from 1, of the first note that is the right one or was derived from it."""
    places = (place for place, (note, _) in enumerate(found, start=1) if right == note.id or right in note.sources)
    return next(places, None)


async def _times(tasks: Sequence[Task], store: MemoryStore, failures: Counter[str]) -> tuple[float, float]:
    """Return the milliseconds of this process's CPU that adding one note and one search take; waiting for others is none."""
    try:
        await store.search(tasks[0].user, tasks[0].query, limit=1)  # whatever is loaded at first use
        start = time.process_time()
        for task in tasks:
            await _add(store, task.user, task.candidates, failures)
        added = time.process_time()
        for task in tasks:
            await store.search(task.user, task.query, limit=10)
        searched = time.process_time()
    finally:
        await store.aclose()
    held = sum(len(task.candidates) for task in tasks)
    return 1000 * (added - start) / held, 1000 * (searched - added) / len(tasks)


def _row(name: str, run: _Run, reference: _Run | None) -> StoreRow:
    def recall(first: int) -> list[tuple[str, float]]:
        return [(each.user, _hit(each, first)) for each in run.outcomes]

    def gain(measure: Callable[[_Outcome], float]) -> Estimate | None:
        if reference is None:
            return None
        pairs = zip(reference.outcomes, run.outcomes, strict=True)
        return clustered_mean([(mine.user, measure(theirs) - measure(mine)) for theirs, mine in pairs], bounds=(-1, 1))

    return StoreRow(
        store=name,
        recall_at_1=_share(recall(1)),
        recall_at_5=_share(recall(_FIRST)),
        recall_at_10=_share(recall(10)),
        mrr=_share([(each.user, _reciprocal(each)) for each in run.outcomes]),
        own=clustered_mean([(each.user, _number(each.own)) for each in run.outcomes], bounds=(0, 1)),
        answered=_share([(each.user, each.answered) for each in run.outcomes]),
        others=_share([(each.user, hit) for each in run.outcomes for hit in each.others]),
        withheld=_share([(each.user, each.withheld) for each in run.outcomes]),
        gain_at_5=gain(lambda each: _hit(each, _FIRST)),
        gain_mrr=gain(_reciprocal),
        add_ms=run.add_ms,
        search_ms=run.search_ms,
        bytes_a_note=run.bytes_a_note,
        failures=dict(sorted(run.failures.items())),
    )


def _hit(outcome: _Outcome, first: int) -> float:
    return float(outcome.rank is not None and outcome.rank <= first)


def _reciprocal(outcome: _Outcome) -> float:
    return 0.0 if outcome.rank is None else 1 / outcome.rank


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)


def _share(values: Sequence[tuple[str, float]]) -> Estimate:
    return clustered_mean([(user, float(value)) for user, value in values], bounds=(0, 1))
