"""`peregrm benchmark emobench`: accuracy in understanding emotions and acting by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.benchmark import benchmarks
from peregrm.cli.benchmark_run import Asked, DataDirOpt, FolderOpt, LimitOpt, SeedOpt, run_benchmark
from peregrm.cli.common import settings_of
from peregrm.cli.options import BudgetOpt, ConfigOpt, DryOpt, JsonOpt, ModelOpt
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.common import Outcome
    from peregrm.mapping import Progress
    from peregrm.models.base import Model

__all__: list[str] = []

TaskOpt = Annotated[str, typer.Option("--task", help="EA (acting), EU (understanding) or both.")]
LanguageOpt = Annotated[str, typer.Option("--language", help="en, zh or both.")]
OrdersOpt = Annotated[int, typer.Option("--orders", min=1, help="In how many orders of its options an item is asked.")]
TokensOpt = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer, thinking included.")]

_BOTH = "both"


@benchmarks.command()
def emobench(
    data: DataDirOpt,
    model: ModelOpt = None,
    task: TaskOpt = _BOTH,
    language: LanguageOpt = _BOTH,
    orders: OrdersOpt = 4,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    max_tokens: TokensOpt = 512,
    failure_budget: BudgetOpt = None,
    out: FolderOpt = Path("peregrm-emobench"),
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """EmoBench: multiple choice on emotions, in English and Chinese, each item in several orders of its options."""
    from peregrm.evaluation.benchmarks.emobench.data import LANGUAGES, TASKS, read_emobench
    from peregrm.evaluation.benchmarks.emobench.run import EmoOptions, run_emobench

    items = read_emobench(data, _of(task, TASKS, "--task"), _of(language, LANGUAGES, "--language"))
    settings = settings_of(config, failure_budget=failure_budget)
    options = EmoOptions(limit, orders, seed, max_tokens)

    async def work(models: Sequence[Model], bars: Progress) -> Outcome:
        return await run_emobench(data, items, models[0], options, bars)

    run_benchmark(Asked([model or settings.run.model], settings, out, dry_run, json_), work)


def _of(word: str, known: tuple[str, ...], flag: str) -> tuple[str, ...]:
    if word == _BOTH:
        return known
    if word not in known:
        raise SettingsError(f"{flag} {word!r}: there is {', '.join(known)} and {_BOTH}")
    return (word,)
