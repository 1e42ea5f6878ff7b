"""The commands that run public benchmarks: `peregrm benchmark NAME`, each in a module of its own; here AlpsBench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from peregrm.cli.app import app
from peregrm.cli.benchmark_run import Asked as Models
from peregrm.cli.benchmark_run import LimitOpt, RaterOpt, SeedOpt, check_answers, run_benchmark
from peregrm.cli.common import say, settings_of, with_bars
from peregrm.cli.options import BudgetOpt, ConfigOpt, DryOpt, JsonOpt, ModelOpt
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.alpsbench.packets import Packet
    from peregrm.evaluation.benchmarks.alpsbench.result import Task1Result
    from peregrm.evaluation.benchmarks.alpsbench.run import Method
    from peregrm.evaluation.benchmarks.common import Outcome
    from peregrm.mapping import Progress
    from peregrm.models.base import Model
    from peregrm.models.ledger import Ledger
    from peregrm.pipeline.plan import PlannedCalls
    from peregrm.settings import Settings

__all__ = ["benchmarks", "judge_reasons"]

EXTRACTIVE, MODEL = "extractive", "model"
TASKS = (1, 2, 3, 4)
EMBEDDED_CONTEXT = 4096

DataOpt = Annotated[Path, typer.Option("--data", help="File of the benchmark.")]
TaskOpt = Annotated[
    int, typer.Option("--task", min=1, help="1 extraction, 2 update, 3 retrieval, 4 response (with a judge).")
]
MethodOpt = Annotated[
    str | None,
    typer.Option(
        "--method", help="Task 1: extractive or model. Default: extractive, and model too where --model is given."
    ),
]
OutOpt = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder of result, items and call cache. Default: peregrm-alpsbench-taskN."),
]


class _Asked(NamedTuple):
    """What the command line says."""

    data: Path
    task: int
    model: str | None
    judge: str | None
    method: str | None
    limit: int | None
    seed: int
    settings: Settings
    dry_run: bool
    as_json: bool
    out: Path


benchmarks = typer.Typer(
    help="Run a public benchmark on files you have.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
"""The group that every benchmark's command joins."""

app.add_typer(benchmarks, name="benchmark")


@benchmarks.callback()
def _group() -> None:
    """Run a public benchmark on files you have."""


@benchmarks.command()
def alpsbench(
    data: DataOpt,
    task: TaskOpt = 1,
    model: ModelOpt = None,
    judge: RaterOpt = None,
    method: MethodOpt = None,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    failure_budget: BudgetOpt = None,
    out: OutOpt = None,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """AlpsBench: memories from a dialogue, their update, the one a message needs, answers that use them."""
    settings = settings_of(config, failure_budget=failure_budget)
    folder = out or Path(f"peregrm-alpsbench-task{task}")
    asked = _Asked(data, task, model, judge, method, limit, seed, settings, dry_run, json_, folder)
    if task not in TASKS:
        raise SettingsError(f"alpsbench: there is no task {task}; there is: {', '.join(map(str, TASKS))}")
    if task != 4 and judge is not None:
        raise SettingsError(f"alpsbench: task {task} has no judge: leave out --judge")
    if task == 1:
        _extraction(asked)
    else:
        _with_model(asked)


def _extraction(asked: _Asked) -> None:
    """Task 1, which other methods and recorded answers share."""
    from peregrm.evaluation.benchmarks.alpsbench.packets import read_packets
    from peregrm.evaluation.benchmarks.common import choose

    methods = _methods(asked)
    check_answers([asked.model or asked.settings.run.model] if MODEL in methods else [])
    packets = read_packets(asked.data)
    if asked.limit is not None:
        packets = choose(
            packets, asked.limit, asked.seed, lambda each: each.packet_id, lambda each: each.history.language
        )
    if asked.dry_run:
        _print_planned(packets, methods, asked)
    else:
        _run_extraction(packets, methods, asked)


def _with_model(asked: _Asked) -> None:
    """Tasks 2 to 4, which a model does."""
    from peregrm.evaluation.benchmarks.speech import Manner

    if asked.method not in (None, MODEL):
        raise SettingsError(f"alpsbench: task {asked.task} is done by a model: leave out --method")
    run = asked.settings.run
    spec = asked.model or run.model
    judge = asked.judge or spec
    context = EMBEDDED_CONTEXT if spec == "embedded" or spec.startswith("gguf:") else run.context
    manner = Manner(run.max_new_tokens, run.temperature, asked.seed, judge_reasons(judge, asked.settings))

    async def work(models: Sequence[Model], bars: Progress) -> Outcome:
        from peregrm.evaluation.benchmarks.alpsbench.response_run import run_task4
        from peregrm.evaluation.benchmarks.alpsbench.retrieval import run_task3
        from peregrm.evaluation.benchmarks.alpsbench.update_run import run_task2

        if asked.task == 2:
            return await run_task2(asked.data, models[0], manner, bars, context=context, limit=asked.limit)
        if asked.task == 3:
            return await run_task3(asked.data, models[0], manner, bars, limit=asked.limit)
        return await run_task4(asked.data, (models[0], models[-1]), manner, bars, context=context, limit=asked.limit)

    _read(asked)
    specs = [spec, judge] if asked.task == 4 else [spec]
    run_benchmark(Models(specs, asked.settings, asked.out, asked.dry_run, asked.as_json), work)


def _read(asked: _Asked) -> None:
    """Read the file of tasks 2 to 4, so that what is wrong with it is said before a folder is made."""
    from peregrm.evaluation.benchmarks.alpsbench.response import read_queries
    from peregrm.evaluation.benchmarks.alpsbench.retrieval import read_retrievals
    from peregrm.evaluation.benchmarks.alpsbench.update import read_updates

    {2: read_updates, 3: read_retrievals, 4: read_queries}[asked.task](asked.data)


def judge_reasons(spec: str, settings: Settings) -> bool:
    """Tell whether a model says why before it decides: as the settings have it, `auto` being all but the embedded one."""
    return spec != "embedded" if settings.run.reasons == "auto" else settings.run.reasons == "yes"


def _methods(asked: _Asked) -> list[str]:
    if asked.method not in (None, EXTRACTIVE, MODEL):
        raise SettingsError(f"unknown method {asked.method!r}; there is: {EXTRACTIVE}, {MODEL}")
    if asked.method == EXTRACTIVE and asked.model is not None:
        raise SettingsError("the extractive method asks no model: leave out --model or --method")
    if asked.method is not None:
        return [asked.method]
    return [EXTRACTIVE] if asked.model is None else [EXTRACTIVE, MODEL]


def _run_extraction(packets: list[Packet], methods: list[str], asked: _Asked) -> None:
    from peregrm.evaluation.benchmarks.alpsbench.run import run_task1
    from peregrm.models.cache import CallCache
    from peregrm.models.ledger import Ledger
    from peregrm.models.registry import model_name, open_model, prices
    from peregrm.store import replace_text

    spec = asked.model or asked.settings.run.model
    ledger = Ledger(prices({spec}, asked.settings) if MODEL in methods else {})

    async def work(bars: Progress) -> Task1Result:
        own = _extractive(methods)
        if MODEL not in methods:
            return await run_task1(packets, own, bars)
        with CallCache(asked.out / "calls.sqlite") as cache:
            opened = open_model(spec, asked.settings, cache=cache, ledger=ledger)
            try:
                return await run_task1(packets, {**own, model_name(spec, asked.settings): _of_model(opened)}, bars)
            finally:
                await opened.aclose()

    asked.out.mkdir(parents=True, exist_ok=True)
    result = with_bars(work)
    replace_text(asked.out / "result.json", result.model_dump_json(indent=1) + "\n")
    _print_result(result, ledger if MODEL in methods else None, asked)
    _check_budget(result, asked)


def _extractive(methods: list[str]) -> dict[str, Method]:
    if EXTRACTIVE not in methods:
        return {}
    from peregrm.evaluation.benchmarks.alpsbench.run import extractive_method
    from peregrm.models.embeddings import Embedder

    return {EXTRACTIVE: extractive_method(Embedder())}


def _of_model(model: Model) -> Method:
    from peregrm.evaluation.benchmarks.alpsbench.run import model_method

    return model_method(model)


def _print_planned(packets: list[Packet], methods: list[str], asked: _Asked) -> None:
    import json

    from peregrm.pipeline.plan import print_plan

    planned: list[PlannedCalls] = []
    if MODEL in methods:
        planned = with_bars(lambda bars: _plan(packets, asked, bars), counting=True)
    if asked.as_json:
        typer.echo(json.dumps([row._asdict() for row in planned], indent=1))
    else:
        print_plan(planned)


async def _plan(packets: list[Packet], asked: _Asked, bars: Progress) -> list[PlannedCalls]:
    """Return what a model would be asked at most, by asking one that only counts."""
    from peregrm.evaluation.benchmarks.alpsbench.run import run_task1
    from peregrm.models.planning import PlanningModel
    from peregrm.models.registry import model_name, prices
    from peregrm.pipeline.plan import PlannedCalls

    spec = asked.model or asked.settings.run.model
    model = PlanningModel(model_name(spec, asked.settings))
    await run_task1(packets, {model.name: _of_model(model)}, bars)
    price = prices({spec}, asked.settings).get(model.name)
    return [
        PlannedCalls(
            purpose,
            model.name,
            usage.calls,
            usage.input_tokens,
            usage.output_tokens,
            None if price is None else price.of(usage),
        )
        for purpose, usage in model.planned.items()
    ]


def _print_result(result: Task1Result, ledger: Ledger | None, asked: _Asked) -> None:
    from rich.console import Console

    from peregrm.evaluation.benchmarks.alpsbench.console import print_task1

    if asked.as_json:
        typer.echo(result.model_dump_json(indent=1))
        return
    print_task1(Console(), result)
    if ledger is not None:
        used, cost = ledger.used_usage(), ledger.total_cost()
        say(
            f"{used.calls} model calls, {used.input_tokens} input and {used.output_tokens} output tokens; "
            f"cost of this command {'unknown' if cost is None else f'{cost:.4f}'}"
        )
    say(f"Result: {asked.out / 'result.json'}")


def _check_budget(result: Task1Result, asked: _Asked) -> None:
    """Stop with an error, after the result is out, where a model left too many packets unanswered."""
    from peregrm.pipeline.job import Budget

    budget = Budget(asked.settings.run.failure_budget)
    for row in result.rows:
        if row.kind == "own":
            budget.add(len(row.packets), [packet.failure for packet in row.packets if packet.failure is not None])
    budget.check(asked.out)
