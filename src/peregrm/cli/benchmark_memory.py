"""`peregrm benchmark memory`: how well memory stores find the right memory, and keep silent where there is none."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from peregrm.cli.benchmark import benchmarks
from peregrm.cli.benchmark_run import FolderOpt, LimitOpt, SeedOpt, check_answers
from peregrm.cli.common import print_planned, say, settings_of, with_bars
from peregrm.cli.options import BudgetOpt, ConfigOpt, DryOpt, JsonOpt, MemoryAtOpt, ModelOpt
from peregrm.errors import InputError, SettingsError

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.memory_retrieval.result import RetrievalResult
    from peregrm.evaluation.benchmarks.memory_retrieval.run import OpenStore
    from peregrm.evaluation.benchmarks.memory_retrieval.tasks import Task
    from peregrm.evaluation.benchmarks.memory_retrieval.tune import Tuned
    from peregrm.mapping import Progress
    from peregrm.memory.base import MemoryStore
    from peregrm.memory.embedding import Embeds
    from peregrm.models.base import Model
    from peregrm.models.ledger import Ledger
    from peregrm.pipeline.plan import PlannedCalls
    from peregrm.settings import Settings

__all__: list[str] = []

UNGATED = "default without gate"
"""Our own store when it may not keep silent: what its ranking is compared by."""

OWN = ("default", "minilm", "bm25", "recent", "whole")
"""The stores that need neither a model nor a server."""

DEFAULT_OUT = Path("peregrm-memory-retrieval")

DataOpt = Annotated[Path, typer.Option("--data", help="AlpsBench packets (file, or a folder with one such file).")]
StoreOpt = Annotated[
    list[str] | None, typer.Option("--store", help=f"A memory store; repeat. Default: {', '.join(OWN)}.")
]
TuneOpt = Annotated[
    Path | None,
    typer.Option(
        "--tune", help="AlpsBench sessions: also find the default store's constants anew, on users not in --data."
    ),
]


@benchmarks.command()
def memory(
    data: DataOpt,
    store: StoreOpt = None,
    memory_at: MemoryAtOpt = None,
    model: ModelOpt = None,
    tune: TuneOpt = None,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    failure_budget: BudgetOpt = None,
    out: FolderOpt = DEFAULT_OUT,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Memory stores on AlpsBench's retrieval task: recall, mean reciprocal rank, silence, time and space."""
    import time

    from peregrm.evaluation.benchmarks.common import choose
    from peregrm.evaluation.benchmarks.memory_retrieval.tasks import read_tasks
    from peregrm.models.ledger import Ledger
    from peregrm.models.registry import prices

    settings = settings_of(config, failure_budget=failure_budget)
    asked = _Asked(_names(store, model, memory_at), model, memory_at, settings)
    every = read_tasks(_file(data))
    tasks = choose(every, limit, seed, lambda task: task.user)
    if dry_run:
        print_planned(_plan(tasks, asked), as_json=json_)
        return
    started, ledger = time.monotonic(), Ledger(prices({model} if model else set(), settings))
    result = _run(tasks, asked, out / "calls.sqlite", ledger)
    tuned = None if tune is None else _tune(tune, every)
    _show(result, tuned, out, as_json=json_)
    if ledger.summary() and not json_:
        _print_spent(ledger, time.monotonic() - started)
    _check_budget(result, ledger, settings, out)


class _Asked(NamedTuple):
    """The stores to run, the model they ask, if any does, and where one of others is."""

    names: list[str]
    model: str | None
    at: str | None
    settings: Settings


def _names(asked: list[str] | None, model: str | None, at: str | None) -> list[str]:
    """Return the stores to run, each once."""
    from peregrm.memory.factory import asks_model, check_place

    names = list(dict.fromkeys(OWN if asked is None else asked))
    for name in names:
        if asks_model(name) and model is None:
            raise SettingsError(f"the memory store {name} asks a language model: give --model")
    check_place(names, at)
    check_answers([model] if model else [])
    return names


def _file(data: Path) -> Path:
    """Return the file of packets that `data` is, or holds."""
    if not data.is_dir():
        return data
    found = sorted(path for path in data.iterdir() if "packets" in path.name and ".jsonl" in path.name)
    if len(found) != 1:
        raise InputError(f"{data}: holds {len(found)} files of packets (*packets*.jsonl); name the file")
    return found[0]


def _run(tasks: list[Task], asked: _Asked, calls: Path, ledger: Ledger) -> RetrievalResult:
    from peregrm.memory.factory import asks_model
    from peregrm.models.cache import CallCache
    from peregrm.models.registry import open_model

    async def work(bars: Progress) -> RetrievalResult:
        async with AsyncExitStack() as open_things:
            model: Model | None = None
            if asked.model is not None and any(map(asks_model, asked.names)):
                cache = open_things.enter_context(CallCache(calls))
                model = open_model(asked.model, asked.settings, cache=cache, ledger=ledger)
                open_things.push_async_callback(model.aclose)
            return await _measure(tasks, asked, model, bars)

    return with_bars(work)


def _plan(tasks: list[Task], asked: _Asked) -> list[PlannedCalls]:
    """Return what the stores would ask the model at most, by filling those that do with a model that only counts."""
    from peregrm.memory.factory import asks_model, is_elsewhere
    from peregrm.models.planning import PlanningModel
    from peregrm.models.registry import model_name, prices
    from peregrm.pipeline.plan import planned_calls

    asking = [name for name in asked.names if asks_model(name)]
    if asked.model is None or not asking:
        return []
    model = PlanningModel(model_name(asked.model, asked.settings))
    at = asked.at if any(map(is_elsewhere, asking)) else None
    with_bars(lambda bars: _measure(tasks, asked._replace(names=asking, at=at), model, bars), counting=True)
    return planned_calls([model], prices({asked.model}, asked.settings))


async def _measure(tasks: list[Task], asked: _Asked, model: Model | None, bars: Progress) -> RetrievalResult:
    from peregrm.evaluation.benchmarks.memory_retrieval.run import run_retrieval

    stores: dict[str, OpenStore] = {name: partial(_open, name, model, asked.at) for name in asked.names}
    if "default" in stores:
        stores = {UNGATED: _open_ungated, **stores}
    return await run_retrieval(tasks, stores, bars, embedder=_embedder(asked.names), reference=UNGATED)


def _show(result: RetrievalResult, tuned: Tuned | None, out: Path, *, as_json: bool) -> None:
    """Write the result, and print it."""
    import json

    from rich.console import Console

    from peregrm.evaluation.benchmarks.memory_retrieval.console import print_retrieval, print_tuned
    from peregrm.store import replace_text

    text = json.dumps({**result.model_dump(), "tuned": tuned.model_dump() if tuned else None}, indent=1)
    replace_text(out / "result.json", text + "\n")
    if as_json:
        typer.echo(text)
        return
    print_retrieval(Console(), result)
    if tuned is not None:
        print_tuned(Console(), tuned)
    say(f"Result: {out / 'result.json'}")


def _print_spent(ledger: Ledger, seconds: float) -> None:
    from rich.console import Console

    from peregrm.evaluation.console import print_usage

    print_usage(Console(), ledger.used_usage(), ledger, seconds)


def _check_budget(result: RetrievalResult, ledger: Ledger, settings: Settings, out: Path) -> None:
    """Raise, once everything is written and printed, where too many answers of the stores' model could not be used."""
    from peregrm.pipeline.job import Budget
    from peregrm.records import Failure

    budget = Budget(settings.run.failure_budget)
    lost = [
        Failure(
            stage=f"memory store {row.store}",
            kind=kind,
            reason=f"{count} answers of its model could not be used ({kind})",
        )
        for row in result.rows
        for kind, count in row.failures.items()
        for _ in range(count)
    ]
    budget.add(max(ledger.used_usage().calls + ledger.failures().total(), len(lost)), lost)
    budget.check(out)


def _embedder(names: list[str]) -> Embeds | None:
    """Return the offline embeddings where any store wants them."""
    from peregrm.memory.embedding import default_embedder

    return None if set(names) <= {"recent", "whole", "bm25"} else default_embedder()


def _open(name: str, model: Model | None, at: str | None, path: Path, embedder: Embeds | None) -> MemoryStore:
    from peregrm.memory.factory import Options, open_fitting

    return open_fitting(name, Options(path, model, embedder, at, passing=True))


def _open_ungated(path: Path, embedder: Embeds | None) -> MemoryStore:
    from peregrm.memory.default import DefaultStore

    return DefaultStore(path, embedder=embedder, gate=None)


def _tune(path: Path, tasks: list[Task]) -> Tuned:
    from peregrm.evaluation.benchmarks.memory_retrieval.run import Remembering
    from peregrm.evaluation.benchmarks.memory_retrieval.tasks import read_examples
    from peregrm.evaluation.benchmarks.memory_retrieval.tune import tune
    from peregrm.memory.embedding import default_embedder

    examples = read_examples(path, frozenset(task.user for task in tasks))

    async def work(bars: Progress) -> Tuned:
        return tune(examples, Remembering(default_embedder()), bars)

    return with_bars(work)
