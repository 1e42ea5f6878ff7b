"""`peregrm benchmark heartbench`: replies to Chinese conversations, judged by weighted rubrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peregrm.cli.benchmark import benchmarks, judge_reasons
from peregrm.cli.benchmark_run import Asked, DataDirOpt, FolderOpt, LimitOpt, RaterOpt, SeedOpt, run_benchmark
from peregrm.cli.common import settings_of
from peregrm.cli.options import BudgetOpt, ConfigOpt, DryOpt, JsonOpt, ModelOpt

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.common import Outcome
    from peregrm.mapping import Progress
    from peregrm.models.base import Model

__all__: list[str] = []


@benchmarks.command()
def heartbench(
    data: DataDirOpt,
    model: ModelOpt = None,
    judge: RaterOpt = None,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    failure_budget: BudgetOpt = None,
    out: FolderOpt = Path("peregrm-heartbench"),
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """HeartBench: one reply to each Chinese conversation, by its weighted rubric; 15 dimensions and a total."""
    from peregrm.evaluation.benchmarks.heartbench.questions import read_questions
    from peregrm.evaluation.benchmarks.speech import Manner

    read_questions(data)  # what is wrong with the files is said before a folder is made
    settings = settings_of(config, failure_budget=failure_budget)
    spec = model or settings.run.model
    judge_spec = judge or spec
    manner = Manner(settings.run.max_new_tokens, settings.run.temperature, seed, judge_reasons(judge_spec, settings))

    async def work(models: Sequence[Model], bars: Progress) -> Outcome:
        from peregrm.evaluation.benchmarks.heartbench.run import run_heartbench

        return await run_heartbench(data, models[0], models[1], manner, bars, limit=limit)

    run_benchmark(Asked([spec, judge_spec], settings, out, dry_run, json_), work)
