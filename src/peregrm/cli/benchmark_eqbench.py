"""`peregrm benchmark eqbench3`: run EQ-Bench 3, or recompute its leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.benchmark import benchmarks, judge_reasons
from peregrm.cli.benchmark_run import Asked, DataDirOpt, FolderOpt, LimitOpt, RaterOpt, SeedOpt, run_benchmark
from peregrm.cli.common import say, settings_of
from peregrm.cli.options import BudgetOpt, ConfigOpt, DryOpt, JsonOpt, ModelOpt
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.common import Outcome
    from peregrm.mapping import Progress
    from peregrm.models.base import Model

__all__: list[str] = []

AgainstOpt = Annotated[
    str | None,
    typer.Option(
        "--against", help="Compare with another model, or with the transcripts of an earlier run (its folder)."
    ),
]
RecomputeOpt = Annotated[
    bool, typer.Option("--recompute", help="Recompute the leaderboard from the recorded comparisons; ask no model.")
]
TokensOpt = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest reply of the model, thinking included.")]


@benchmarks.command()
def eqbench3(
    data: DataDirOpt,
    model: ModelOpt = None,
    judge: RaterOpt = None,
    against: AgainstOpt = None,
    recompute: RecomputeOpt = False,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    max_tokens: TokensOpt = 4000,
    failure_budget: BudgetOpt = None,
    out: FolderOpt = Path("peregrm-eqbench3"),
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """EQ-Bench 3: role-plays, drafts and analyses, scored by a rubric and compared in pairs; or its leaderboard recomputed."""
    if recompute:
        if model or judge or against:
            raise SettingsError("--recompute asks no model: leave out --model, --judge and --against")
        _recompute(data, seed, out, json_)
        return
    from peregrm.evaluation.benchmarks.eqbench3.data import read_eqbench
    from peregrm.evaluation.benchmarks.eqbench3.run import EQOptions, read_transcripts, run_eqbench

    settings = settings_of(config, failure_budget=failure_budget)
    spec = model or settings.run.model
    earlier = Path(against) if against and Path(against).exists() else None
    specs = [spec, judge or spec, *([against] if against and earlier is None else [])]
    bench = read_eqbench(data)
    transcripts = read_transcripts(earlier) if earlier else None
    options = EQOptions(limit, seed, max_tokens, judge_reasons(specs[1], settings))

    async def work(models: Sequence[Model], bars: Progress) -> Outcome:
        other = models[2] if len(models) > 2 else transcripts
        return await run_eqbench(bench, models[0], models[1], options, bars, against=other)

    run_benchmark(Asked(specs, settings, out, dry_run, json_), work)


def _recompute(data: Path, seed: int, out: Path, as_json: bool) -> None:
    from rich.console import Console

    from peregrm.evaluation.benchmarks.eqbench3.leaderboard import print_leaderboard, recompute
    from peregrm.store import replace_text

    table = recompute(data, seed)
    text = table.model_dump_json(indent=1)
    replace_text(out / "leaderboard.json", text + "\n")
    if as_json:
        typer.echo(text)
    else:
        print_leaderboard(Console(), table)
        say(f"Result: {out / 'leaderboard.json'}")
