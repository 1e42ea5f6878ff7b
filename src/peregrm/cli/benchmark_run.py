"""What the commands of benchmarks do alike: open models, plan, run with bars, write a folder, print, check the budget of failures.

A folder holds `result.json`, `items.jsonl`, further files of the adapter, and `calls.sqlite`, from which the same command goes on after
a stop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from peregrm.cli.common import say, with_bars
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.common import Outcome
    from peregrm.mapping import Progress
    from peregrm.models.base import Model
    from peregrm.models.ledger import Ledger
    from peregrm.settings import Settings

__all__ = [
    "Asked",
    "DataDirOpt",
    "FolderOpt",
    "LimitOpt",
    "RaterOpt",
    "SeedOpt",
    "Work",
    "check_answers",
    "run_benchmark",
]

DataDirOpt = Annotated[Path, typer.Option("--data", help="Folder with the benchmark's own files.")]
FolderOpt = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of result, items and call cache; the same command goes on there.")
]
RaterOpt = Annotated[
    str | None,
    typer.Option("--judge", help="The judge, named like --model. Default: the model, embedded where none is named."),
]
LimitOpt = Annotated[int | None, typer.Option("--limit", min=1, help="Only N items, spread and drawn by the seed.")]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Draws the items of --limit and whatever else is drawn.")]

FEW_ITEMS = 5
"""Of fewer items a share is no share."""

Work = Callable[[Sequence["Model"], "Progress"], Awaitable["Outcome"]]
"""Runs a benchmark with models in the order of their specs."""


class Asked(NamedTuple):
    """What the command line says, for every benchmark. `specs` name the models; one that stands there twice is opened once."""

    specs: Sequence[str]
    settings: Settings
    out: Path
    dry_run: bool
    as_json: bool


def run_benchmark(asked: Asked, work: Work) -> None:
    """Run `work`, or plan it where that is asked for.

    Raises what `check_answers` raises, before anything is opened, and `FailureBudgetExceeded`, once everything is written and printed,
    where too many answers of models could not be used.
    """
    check_answers(asked.specs)
    if asked.dry_run:
        _print_plan(asked, work)
        return
    import time

    from peregrm.models.ledger import Ledger
    from peregrm.models.registry import prices

    started = time.monotonic()
    ledger = Ledger(prices(set(asked.specs), asked.settings))
    outcome = with_bars(lambda bars: _with_models(asked, ledger, work, bars))
    _write(asked.out, outcome)
    _print(asked, outcome, ledger, time.monotonic() - started)
    _check_budget(asked, outcome)


def check_answers(specs: Iterable[str]) -> None:
    """Raise `SettingsError` for a judge of replies that answers no other question, where a language model is wanted."""
    from peregrm.models.heads import is_head
    from peregrm.models.local_judge import is_local

    for spec in specs:
        if is_head(spec) or is_local(spec):
            raise SettingsError(
                f"{spec} judges replies by the criteria of a case and answers nothing else: a benchmark asks its own questions, so name a "
                "language model with --model and --judge"
            )


async def _with_models(asked: Asked, ledger: Ledger, work: Work, bars: Progress) -> Outcome:
    from peregrm.models.cache import CallCache
    from peregrm.models.registry import open_model

    asked.out.mkdir(parents=True, exist_ok=True)
    opened: dict[str, Model] = {}
    with CallCache(asked.out / "calls.sqlite") as cache:
        try:
            for spec in asked.specs:
                if spec not in opened:
                    opened[spec] = open_model(spec, asked.settings, cache=cache, ledger=ledger)
            return await work([opened[spec] for spec in asked.specs], bars)
        finally:
            for model in opened.values():
                await model.aclose()


def _print_plan(asked: Asked, work: Work) -> None:
    import json

    from peregrm.models.planning import PlanningModel
    from peregrm.models.registry import model_name, prices
    from peregrm.pipeline.plan import planned_calls, print_plan

    stand_ins = {spec: PlanningModel(model_name(spec, asked.settings)) for spec in asked.specs}

    async def count(bars: Progress) -> None:
        await work([stand_ins[spec] for spec in asked.specs], bars)

    with_bars(count, counting=True)
    planned = planned_calls(list(stand_ins.values()), prices(set(asked.specs), asked.settings))
    if asked.as_json:
        typer.echo(json.dumps([row._asdict() for row in planned], indent=1))
    else:
        print_plan(planned)


def _write(out: Path, outcome: Outcome) -> None:
    from peregrm.store import replace_text, write_records

    write_records(out / "items.jsonl", outcome.items)
    for name, records in outcome.files.items():
        write_records(out / name, records)
    replace_text(out / "result.json", outcome.result.model_dump_json(indent=1) + "\n")


def _print(asked: Asked, outcome: Outcome, ledger: Ledger, seconds: float) -> None:
    if asked.as_json:
        typer.echo(outcome.result.model_dump_json(indent=1))
        return
    from rich.console import Console

    from peregrm.evaluation.benchmarks.common import print_result
    from peregrm.evaluation.console import print_usage

    console = Console()
    print_result(console, outcome.result)
    print_usage(console, ledger.used_usage(), ledger, seconds)
    say(f"Result: {asked.out / 'result.json'}; every item: {asked.out / 'items.jsonl'}")


def _check_budget(asked: Asked, outcome: Outcome) -> None:
    """Raise where too many answers failed, or too many items lost a score by it: a judge may be one call in ten, and all that counts."""
    from peregrm.errors import FailureBudgetExceeded
    from peregrm.pipeline.job import Budget

    share = asked.settings.run.failure_budget
    budget = Budget(share)
    budget.add(outcome.result.asked, [failure for item in outcome.items for failure in item.failures])
    budget.check(asked.out)
    items = outcome.items
    lost = [item for item in items if item.failures and any(value is None for _, value in item.scores)]
    if len(items) >= FEW_ITEMS and len(lost) > share * len(items):
        first = lost[0].failures[0]
        raise FailureBudgetExceeded(
            f"{len(lost)} of {len(items)} items lack a score because an answer could not be used (the budget is {share:.0%}). The first: "
            f"{first.stage}: {first.reason}. What was computed is kept in {asked.out}; raise --failure-budget to go on"
        )
