"""The command that says what a judge is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import print_planned, say, settings_of, with_bars
from peregrm.cli.options import (
    BudgetOpt,
    ConfigOpt,
    CriteriaOpt,
    DryOpt,
    JsonOpt,
    JudgeTemperatureOpt,
    SamplesOpt,
)

if TYPE_CHECKING:
    from peregrm.mapping import Progress
    from peregrm.pipeline.material import Material
    from peregrm.pipeline.plan import PlannedCalls
    from peregrm.pipeline.validate import AttackOptions, AttackRun
    from peregrm.reward.options import RewardOptions
    from peregrm.settings import Settings

__all__: list[str] = []

DatasetArg = Annotated[
    Path | None, typer.Argument(help="Folder of a run, or a file of cases. Default: the hand-written sample.")
]
RepliesArg = Annotated[
    Path | None, typer.Argument(help="JSONL of honest replies by any policy. Default: the run's own.")
]
AttacksOpt = Annotated[
    bool, typer.Option("--attacks", help="How far hostile replies move the score, and where hacking policies rank.")
]
ModeOpt = Annotated[
    str, typer.Option("--mode", help="shared, paper, listwise, or another reward: `peregrm compare --help` lists them.")
]
JudgeOpt = Annotated[
    str | None,
    typer.Option("--judge", help="The judge to measure, named like --model. Default: the run's, or the model."),
]
CountOpt = Annotated[int, typer.Option("--cases", min=1, help="How many cases, spread over the users.")]
FamilyOpt = Annotated[str, typer.Option("--per-family", help="How many attacks of each family a case gets, or `all`.")]
FolderOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the results and of the call cache.")]


@app.command()
def validate(
    dataset: DatasetArg = None,
    replies: RepliesArg = None,
    attacks: AttacksOpt = False,
    judge: JudgeOpt = None,
    mode: ModeOpt = "shared",
    cases: CountOpt = 12,
    per_family: FamilyOpt = "1",
    criteria: CriteriaOpt = None,
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    failure_budget: BudgetOpt = None,
    out: FolderOpt = Path("peregrm-validation"),
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Measure what a judge is worth. Choose what is measured: --attacks.

    Run the same command again after a stop: it goes on where it was and repeats no call.
    """
    if not attacks:
        raise typer.BadParameter("choose what to measure; there is: --attacks")
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.validate import AttackOptions

    run = {
        "samples": samples,
        "judge_temperature": judge_temperature,
        "criteria": criteria,
        "failure_budget": failure_budget,
    }
    settings = settings_of(config, **run)
    options = reward_options(settings, [judge] if judge else None, mode, dataset)
    asked = AttackOptions(cases=cases, per_family=_count(per_family), seed=settings.run.seed)
    if dry_run:
        print_planned(_plan(dataset, replies, options, settings, asked), as_json=json_)
        return
    _print_run(_measure(dataset, replies, options, settings, asked, out), out, as_json=json_)


def _count(word: str) -> int | None:
    if word == "all":
        return None
    if not word.isdecimal() or int(word) < 1:
        raise typer.BadParameter("a number from 1, or `all`", param_hint="--per-family")
    return int(word)


def _plan(
    dataset: Path | None, replies: Path | None, options: RewardOptions, settings: Settings, asked: AttackOptions
) -> list[PlannedCalls]:
    from tempfile import TemporaryDirectory

    from peregrm.pipeline.validate import plan_attacks

    async def work(bars: Progress) -> list[PlannedCalls]:
        with TemporaryDirectory() as folder:
            material = await _material(dataset, replies, Path(folder), settings, bars)
        return await plan_attacks(material, options, settings, asked, bars)

    return with_bars(work)


def _measure(
    dataset: Path | None,
    replies: Path | None,
    options: RewardOptions,
    settings: Settings,
    asked: AttackOptions,
    out: Path,
) -> AttackRun:
    from peregrm.pipeline.validate import measure_attacks

    async def work(bars: Progress) -> AttackRun:
        material = await _material(dataset, replies, out / "sample", settings, bars)
        return await measure_attacks(material, options, settings, asked, out=out, progress=bars)

    return with_bars(work)


async def _material(
    dataset: Path | None, replies: Path | None, folder: Path, settings: Settings, bars: Progress
) -> Material:
    from peregrm.pipeline.material import read_material, sample_material

    if dataset is None:
        return await sample_material(folder, settings, bars)
    return read_material(dataset, replies)


def _print_run(run: AttackRun, out: Path, *, as_json: bool) -> None:
    from rich.console import Console

    from peregrm.evaluation.attacks.report import print_attacks
    from peregrm.evaluation.console import print_usage

    if as_json:
        typer.echo(run.result.model_dump_json(indent=1))
        return
    console = Console()
    print_attacks(console, run.result)
    print_usage(console, run.result.usage, run.ledger, run.seconds)
    say(f"Result: {out / 'attacks.md'}; every reply and judgement: {out / 'attacks.parts'}")
