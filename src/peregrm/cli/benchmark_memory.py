"""`peregrm benchmark memory`: how well memory stores find the right memory, and keep silent where there is none."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.benchmark import benchmarks
from peregrm.cli.benchmark_run import FolderOpt, LimitOpt, SeedOpt
from peregrm.cli.common import say, settings_of, with_bars
from peregrm.cli.options import ConfigOpt, JsonOpt, ModelOpt
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
    model: ModelOpt = None,
    tune: TuneOpt = None,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    out: FolderOpt = DEFAULT_OUT,
    config: ConfigOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Memory stores on AlpsBench's retrieval task: recall, mean reciprocal rank, silence, time and space."""
    import json

    from rich.console import Console

    from peregrm.evaluation.benchmarks.common import choose
    from peregrm.evaluation.benchmarks.memory_retrieval.console import print_retrieval, print_tuned
    from peregrm.evaluation.benchmarks.memory_retrieval.tasks import read_tasks
    from peregrm.store import replace_text

    names = _names(store, model)
    every = read_tasks(_file(data))
    tasks = choose(every, limit, seed, lambda task: task.user)
    result = _run(tasks, names, model, out / "calls.sqlite", config)
    tuned = None if tune is None else _tune(tune, every)
    text = json.dumps({**result.model_dump(), "tuned": tuned.model_dump() if tuned else None}, indent=1)
    replace_text(out / "result.json", text + "\n")
    if json_:
        typer.echo(text)
        return
    print_retrieval(Console(), result)
    if tuned is not None:
        print_tuned(Console(), tuned)
    say(f"Result: {out / 'result.json'}")


def _names(asked: list[str] | None, model: str | None) -> list[str]:
    """Return the stores to run, each once."""
    from peregrm.memory.factory import asks_model

    if asked is None:
        return list(OWN)
    for name in asked:
        if asks_model(name) and model is None:
            raise SettingsError(f"the memory store {name} asks a language model: give --model")
    return list(dict.fromkeys(asked))


def _file(data: Path) -> Path:
    """Return the file of packets that `data` is, or holds."""
    if not data.is_dir():
        return data
    found = sorted(path for path in data.iterdir() if "packets" in path.name and ".jsonl" in path.name)
    if len(found) != 1:
        raise InputError(f"{data}: holds {len(found)} files of packets (*packets*.jsonl); name the file")
    return found[0]


def _run(tasks: list[Task], names: list[str], spec: str | None, calls: Path, config: Path | None) -> RetrievalResult:
    from peregrm.evaluation.benchmarks.memory_retrieval.run import run_retrieval
    from peregrm.memory.factory import asks_model

    embedder = _embedder(names)

    async def work(bars: Progress) -> RetrievalResult:
        async with AsyncExitStack() as open_things:
            model: Model | None = None
            if spec is not None and any(map(asks_model, names)):
                model = await _open_model(spec, calls, config, open_things)
            stores: dict[str, OpenStore] = {name: partial(_open, name, model) for name in names}
            if "default" in stores:
                stores = {UNGATED: _open_ungated, **stores}
            return await run_retrieval(tasks, stores, bars, embedder=embedder, reference=UNGATED)

    return with_bars(work)


async def _open_model(spec: str, calls: Path, config: Path | None, open_things: AsyncExitStack) -> Model:
    """Return the model, which answers from the cache in the file `calls` where it can."""
    from peregrm.models.cache import CallCache
    from peregrm.models.ledger import Ledger
    from peregrm.models.registry import open_model, prices

    settings = settings_of(config)
    cache = open_things.enter_context(CallCache(calls))
    model = open_model(spec, settings, cache=cache, ledger=Ledger(prices({spec}, settings)))
    open_things.push_async_callback(model.aclose)
    return model


def _embedder(names: list[str]) -> Embeds | None:
    """Return the offline embeddings where any store wants them."""
    from peregrm.memory.embedding import default_embedder

    return None if set(names) <= {"recent", "whole", "bm25"} else default_embedder()


def _open(name: str, model: Model | None, path: Path, embedder: Embeds | None) -> MemoryStore:
    from peregrm.memory.factory import asks_model, open_store

    return open_store(name, path, model=model if asks_model(name) else None, embedder=embedder)


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
