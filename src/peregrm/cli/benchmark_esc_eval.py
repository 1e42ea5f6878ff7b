"""`peregrm benchmark esc-eval`: whole conversations with a simulated seeker, rated in seven dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.benchmark import benchmarks, judge_reasons
from peregrm.cli.benchmark_run import Asked, DataDirOpt, FolderOpt, LimitOpt, RaterOpt, SeedOpt, run_benchmark
from peregrm.cli.common import settings_of
from peregrm.cli.options import BudgetOpt, ConfigOpt, DryOpt, JsonOpt, ModelOpt
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.evaluation.benchmarks.common import Outcome
    from peregrm.mapping import Progress
    from peregrm.models.base import Model

__all__: list[str] = []

SeekerOpt = Annotated[
    str | None, typer.Option("--seeker", help="Who plays the seeker, named like --model. Default: the judge.")
]
LanguageOpt = Annotated[str, typer.Option("--language", help="Which cards: en, zh or both.")]
RoundsOpt = Annotated[int, typer.Option("--rounds", min=1, max=20, help="Turns of the seeker, each answered.")]


@benchmarks.command("esc-eval")
def esc_eval(
    data: DataDirOpt,
    model: ModelOpt = None,
    judge: RaterOpt = None,
    seeker: SeekerOpt = None,
    language: LanguageOpt = "both",
    rounds: RoundsOpt = 5,
    limit: LimitOpt = None,
    seed: SeedOpt = 0,
    failure_budget: BudgetOpt = None,
    out: FolderOpt = Path("peregrm-esc-eval"),
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """ESC-Eval: a seeker played from each role card talks with the model; the dialogue is rated in seven dimensions, 0 to 4."""
    from peregrm.evaluation.benchmarks.esc_eval.cards import LANGUAGES, read_cards
    from peregrm.evaluation.benchmarks.speech import Manner

    if language not in (*LANGUAGES, "both"):
        raise SettingsError(f"--language {language}: there is {', '.join(LANGUAGES)} and both")
    settings = settings_of(config, failure_budget=failure_budget)
    spec = model or settings.run.model
    judge_spec = judge or spec
    languages = LANGUAGES if language == "both" else (language,)
    read_cards(data, languages)  # what is wrong with the files is said before a folder is made
    manner = Manner(settings.run.max_new_tokens, settings.run.temperature, seed, judge_reasons(judge_spec, settings))

    async def work(models: Sequence[Model], bars: Progress) -> Outcome:
        from peregrm.evaluation.benchmarks.esc_eval.run import Cast, run_esc_eval

        policy, player, rater = models
        cast = Cast(policy, player, rater)
        return await run_esc_eval(data, cast, manner, bars, languages=languages, rounds=rounds, limit=limit)

    run_benchmark(Asked([spec, seeker or judge_spec, judge_spec], settings, out, dry_run, json_), work)
