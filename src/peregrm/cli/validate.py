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
    from peregrm.evaluation.validity.card import PartName
    from peregrm.mapping import Progress
    from peregrm.pipeline.material import Material
    from peregrm.pipeline.plan import PlannedCalls
    from peregrm.pipeline.validate import Asked, ValidationRun
    from peregrm.reward.options import RewardOptions
    from peregrm.settings import Settings

__all__: list[str] = []

DatasetArg = Annotated[
    Path | None, typer.Argument(help="Folder of a run, or a file of cases. Default: the hand-written sample.")
]
RepliesArg = Annotated[
    Path | None, typer.Argument(help="JSONL of honest replies by any policy. Default: the run's own.")
]
JudgesOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="The judge to measure, named like --model. Default: the run's, or the model. Further ones: to be compared with it.",
    ),
]
PairsOpt = Annotated[
    list[Path] | None,
    typer.Option("--pairs", help="JSONL of pairs of which people prefer one ({id, context, a, b, better, gap, user})."),
]
RatingsOpt = Annotated[
    list[Path] | None, typer.Option("--ratings", help="File of ratings that people gave to replies; may be repeated.")
]
HumanOpt = Annotated[bool, typer.Option("--human", help="Agreement with people, beside length and source alone.")]
SensitivityOpt = Annotated[
    bool, typer.Option("--sensitivity", help="The same replies judged under another user, and under none.")
]
ReliabilityOpt = Annotated[
    bool, typer.Option("--reliability", help="Repeats, order, other criteria, agreement of the judges.")
]
StabilityOpt = Annotated[
    bool, typer.Option("--stability", help="Traits from two halves of a history, and early against late.")
]
RobustnessOpt = Annotated[
    bool, typer.Option("--robustness", help="The order of policies by other personas and datasets.")
]
AttacksOpt = Annotated[
    bool, typer.Option("--attacks", help="How far hostile replies move the score, and where hacking policies rank.")
]
CalibrationOpt = Annotated[bool, typer.Option("--calibration", help="Scores against the levels that people give.")]
AllOpt = Annotated[bool, typer.Option("--all", help="Every part whose data are there; the others are named.")]
ModeOpt = Annotated[
    str, typer.Option("--mode", help="shared, paper, listwise, or another reward: `peregrm compare --help` lists them.")
]
CountOpt = Annotated[int, typer.Option("--cases", min=1, help="How many cases at most, spread over the users.")]
SeedOpt = Annotated[int | None, typer.Option("--seed", min=0, help="Chooses the cases, and whatever else is drawn.")]
FamilyOpt = Annotated[str, typer.Option("--per-family", help="How many attacks of each family a case gets, or `all`.")]
FolderOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the card, its raw rows and the call cache.")]


@app.command()
def validate(
    dataset: DatasetArg = None,
    replies: RepliesArg = None,
    judge: JudgesOpt = None,
    pairs: PairsOpt = None,
    ratings: RatingsOpt = None,
    human: HumanOpt = False,
    sensitivity: SensitivityOpt = False,
    reliability: ReliabilityOpt = False,
    stability: StabilityOpt = False,
    robustness: RobustnessOpt = False,
    attacks: AttacksOpt = False,
    calibration: CalibrationOpt = False,
    all_: AllOpt = False,
    mode: ModeOpt = "shared",
    cases: CountOpt = 24,
    seed: SeedOpt = None,
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
    """Measure what a judge is worth and write its card. Choose the parts, or --all.

    Run the same command again after a stop: it goes on where it was and repeats no call. Other parts later widen the card.
    """
    chosen: dict[PartName, bool] = {
        "human": human,
        "sensitivity": sensitivity,
        "reliability": reliability,
        "stability": stability,
        "robustness": robustness,
        "attacks": attacks,
        "calibration": calibration,
    }
    must: frozenset[PartName] = frozenset(part for part, is_chosen in chosen.items() if is_chosen)
    if not must and not all_:
        raise typer.BadParameter(f"choose what to measure: {', '.join(f'--{part}' for part in chosen)}, or --all")
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.validate import Asked

    run = {
        "samples": samples,
        "judge_temperature": judge_temperature,
        "criteria": criteria,
        "failure_budget": failure_budget,
        "seed": seed,
    }
    settings = settings_of(config, **run)
    options = reward_options(settings, judge, mode, dataset)
    asked = Asked(
        parts=tuple(chosen) if all_ else tuple(part for part in chosen if part in must),
        must=must,
        pairs=tuple(pairs or ()),
        ratings=tuple(ratings or ()),
        cases=cases,
        seed=settings.run.seed,
        per_family=_count(per_family),
    )
    if dry_run:
        _print_plan(*_plan(dataset, replies, options, settings, asked), as_json=json_)
        return
    done = _measure(dataset, replies, options, settings, asked, out)
    _print_run(done, out, as_json=json_)
    _check(done, settings, out)


def _count(word: str) -> int | None:
    if word == "all":
        return None
    if not word.isdecimal() or int(word) < 1:
        raise typer.BadParameter("a number from 1, or `all`", param_hint="--per-family")
    return int(word)


def _plan(
    dataset: Path | None, replies: Path | None, options: RewardOptions, settings: Settings, asked: Asked
) -> tuple[list[PlannedCalls], dict[PartName, str]]:
    from tempfile import TemporaryDirectory

    from peregrm.pipeline.validate import plan_validation

    async def work(bars: Progress) -> tuple[list[PlannedCalls], dict[PartName, str]]:
        with TemporaryDirectory() as folder:
            material = await _material(dataset, replies, Path(folder), settings, bars)
            return await plan_validation(material, options, settings, asked, bars)

    return with_bars(work, counting=True)


def _print_plan(planned: list[PlannedCalls], left_out: dict[PartName, str], *, as_json: bool) -> None:
    print_planned(planned, as_json=as_json)
    for part, why in left_out.items():
        say(f"--{part} would not be measured: {why}")


def _measure(
    dataset: Path | None,
    replies: Path | None,
    options: RewardOptions,
    settings: Settings,
    asked: Asked,
    out: Path,
) -> ValidationRun:
    from peregrm.pipeline.validate import validate_judge

    async def work(bars: Progress) -> ValidationRun:
        material = await _material(dataset, replies, out / "sample", settings, bars)
        return await validate_judge(material, options, settings, asked, out=out, progress=bars, say=say)

    return with_bars(work)


async def _material(
    dataset: Path | None, replies: Path | None, folder: Path, settings: Settings, bars: Progress
) -> Material:
    from peregrm.pipeline.material import read_material, sample_material

    if dataset is None:
        return await sample_material(folder, settings, bars)
    return read_material(dataset, replies)


def _print_run(run: ValidationRun, out: Path, *, as_json: bool) -> None:
    from rich.console import Console

    from peregrm.evaluation.card_console import print_card
    from peregrm.evaluation.console import print_usage

    if as_json:
        typer.echo(run.card.model_dump_json(indent=1))
        return
    console = Console()
    print_card(console, run.card, run.measured)
    print_usage(console, run.ledger.used_usage(), run.ledger, run.seconds)
    say(f"Card: {out / 'card.html'}, {out / 'card.md'}, {out / 'card.json'}")


def _check(run: ValidationRun, settings: Settings, out: Path) -> None:
    from peregrm.pipeline.validate import check_failures

    check_failures(run, settings.run.failure_budget, out)
