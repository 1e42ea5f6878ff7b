"""The commands of evaluation: `evaluate`, and `reply`, which asks policies for replies to evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import print_planned, say, settings_of, with_bars
from peregrm.cli.loop import run_stage
from peregrm.cli.options import (
    DEFAULT_OUT,
    BudgetOpt,
    ConfigOpt,
    CriteriaOpt,
    DatasetArg,
    DimensionsOpt,
    DryOpt,
    JsonOpt,
    JudgeTemperatureOpt,
    MemoryAtOpt,
    ModelOpt,
    SamplesOpt,
)

if TYPE_CHECKING:
    from peregrm.pipeline.evaluating import Wanted
    from peregrm.settings import Settings

__all__: list[str] = []

_SETTINGS = (
    "generic (the message alone), history (all that was said), memories (the true ones), personalized (persona and memories) or "
    "retrieved (what a memory store finds)"
)

SettingOpt = Annotated[
    list[str] | None, typer.Option("--setting", help=f"What the policy sees: {_SETTINGS}; may be repeated.")
]
MemoryOpt = Annotated[
    list[str] | None, typer.Option("--memory", help="Memory store of the setting retrieved; may be repeated.")
]


@app.command()
def evaluate(
    dataset: DatasetArg = DEFAULT_OUT,
    replies: Annotated[
        list[Path] | None,
        typer.Argument(help="JSONL of replies, one file or more. Default: the run's own, unless --policy is given."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the evaluation: report, figures, what they rest on.")
    ] = Path("evaluation"),
    judge: Annotated[
        list[str] | None,
        typer.Option("--judge", help="A judge, named like --model; may be repeated. Default: the run's."),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="A model that is to answer the cases; may be repeated.")
    ] = None,
    setting: SettingOpt = None,
    memory: MemoryOpt = None,
    memory_at: MemoryAtOpt = None,
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    dimensions: DimensionsOpt = "empathy",
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the order of calls, draws and models.")] = None,
    failure_budget: BudgetOpt = None,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Compare policies by fixed criteria a case and any number of judges: intervals, tests, agreement, one report."""
    from peregrm.pipeline.answering import histories_beside, policy_specs
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.criteria_files import criteria_name
    from peregrm.pipeline.evaluating import Wanted
    from peregrm.pipeline.finish import check_cases
    from peregrm.pipeline.reply_files import read_dataset, read_policies

    if not policy and (setting or memory or memory_at):
        raise typer.BadParameter(
            "--setting, --memory and --memory-at say how a --policy is asked", param_hint="--policy"
        )
    settings = settings_of(
        config,
        samples=samples,
        judge_temperature=judge_temperature,
        criteria=criteria,
        seed=seed,
        failure_budget=failure_budget,
    )
    check_cases(dataset)
    known = read_dataset(dataset, dimensions)
    folder = dataset if dataset.is_dir() else dataset.parent
    files = replies or ([] if policy else [folder / "replies.jsonl"])
    wanted = Wanted(
        dataset=known,
        replies=read_policies(files, known.cases),
        options=reward_options(settings, judge, "shared", dataset).model_copy(update={"dimensions": dimensions}),
        criteria_file=folder / f"{criteria_name(dimensions)}.jsonl",
        policies=policy_specs(policy, setting or ["generic", "personalized"], memory or [], memory_at)
        if policy
        else (),
        histories=histories_beside(dataset) if policy else {},
    )
    _evaluate(wanted, settings, out, dry_run=dry_run, as_json=json_)


def _evaluate(wanted: Wanted, settings: Settings, out: Path, *, dry_run: bool, as_json: bool) -> None:
    from rich.console import Console

    from peregrm.evaluation.console import print_usage
    from peregrm.evaluation.evaluation_console import print_evaluation
    from peregrm.pipeline.evaluating import check_budget, evaluate_policies, plan_evaluation
    from peregrm.pipeline.evaluation_report import write_reports

    if dry_run:
        planned = with_bars(lambda bars: plan_evaluation(wanted, settings, bars), counting=True)
        print_planned(planned, as_json=as_json)
        return
    done = with_bars(lambda bars: evaluate_policies(wanted, settings, out=out, progress=bars, say=say))
    written = write_reports(out, done)
    if as_json:
        typer.echo((out / "evaluation.json").read_text(encoding="utf-8"), nl=False)
    else:
        console = Console()
        print_evaluation(console, done.evaluation)
        print_usage(console, done.ledger.used_usage(), done.ledger, done.seconds)
        say(f"Report: {', '.join(map(str, written))}")
    check_budget(done, wanted, settings.run.failure_budget, out)


@app.command()
def reply(
    dataset: Annotated[Path, typer.Argument(help="Folder of a run; with --out also a file of cases.")] = DEFAULT_OUT,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="JSONL of the replies. Default: the run's own replies.jsonl, in its two settings."
        ),
    ] = None,
    model: ModelOpt = None,
    setting: SettingOpt = None,
    memory: MemoryOpt = None,
    memory_at: MemoryAtOpt = None,
    failure_budget: BudgetOpt = None,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Write replies to each case: the run's generic and personalized ones, or with --out those of any policy and setting."""
    if out is None:
        if setting or memory or memory_at:
            raise typer.BadParameter("name the file for replies in other settings", param_hint="--out")
        run_stage("reply", dataset, {"model": model}, failure_budget, config, dry_run=dry_run, as_json=json_)
        return
    from peregrm.pipeline.answering import answer_to_file, histories_beside, plan_answers, policy_specs
    from peregrm.pipeline.asked import policy_model
    from peregrm.pipeline.finish import check_cases
    from peregrm.pipeline.reply_files import read_dataset
    from peregrm.pipeline.scoring import parts_folder

    settings = settings_of(config, model=model, failure_budget=failure_budget)
    asked = [policy_model(settings, dataset)]
    specs = policy_specs(asked, setting or ["generic", "personalized"], memory or [], memory_at)
    check_cases(dataset)
    cases = list(read_dataset(dataset).cases.values())
    histories, folder = histories_beside(dataset), parts_folder(out)
    if dry_run:
        planned = with_bars(lambda bars: plan_answers(specs, cases, histories, settings, bars), counting=True)
        print_planned(planned, as_json=json_)
        return
    if json_:
        raise typer.BadParameter("--json goes with --dry-run and with the run's own replies", param_hint="--json")
    done = with_bars(
        lambda bars: answer_to_file(specs, cases, histories, settings, path=out, folder=folder, progress=bars, say=say)
    )
    failed = sum(one.failure is not None for one in done)
    say(f"{len(done)} replies of {len(specs)} policies ({failed} failed): {out}")
