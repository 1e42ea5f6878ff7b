"""Commands of the reward: criteria, score, explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import guards_of, print_planned, say, settings_of, with_bars
from peregrm.cli.loop import run_stage
from peregrm.cli.options import (
    DEFAULT_OUT,
    BudgetOpt,
    ConfigOpt,
    CriteriaOpt,
    DatasetArg,
    DimensionsOpt,
    DirArg,
    DryOpt,
    FlatteryOpt,
    JsonOpt,
    JudgeOpt,
    JudgeTemperatureOpt,
    LengthLimitOpt,
    LengthOpt,
    ParrotOpt,
    SamplesOpt,
)

if TYPE_CHECKING:
    from peregrm.reward.options import RewardOptions
    from peregrm.settings import Settings

__all__: list[str] = []

RepliesArg = Annotated[
    Path | None, typer.Argument(help="JSONL of replies by any policy. Default: the run's own, scored in its folder.")
]
JudgesOpt = Annotated[
    list[str] | None,
    typer.Option("--judge", help="The judge, named like --model; several are pooled. Default: the run's."),
]
ModeOpt = Annotated[
    str, typer.Option("--mode", help="shared, paper, listwise, or another reward: `peregrm compare --help` lists them.")
]


@app.command()
def score(
    dataset: DatasetArg = DEFAULT_OUT,
    replies: RepliesArg = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="JSONL of the rewards; what they rest on goes beside it. Default: scores.jsonl."
        ),
    ] = None,
    judge: JudgesOpt = None,
    mode: ModeOpt = "shared",
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    dimensions: DimensionsOpt = "empathy",
    length_limit: LengthLimitOpt = None,
    length_penalty: LengthOpt = 0.0,
    parroting_penalty: ParrotOpt = 0.0,
    sycophancy_penalty: FlatteryOpt = 0.0,
    failure_budget: BudgetOpt = None,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Score replies. With a file of replies: by any reward, into --out. Without: the run's own, into its folder."""
    flags = {"samples": samples, "judge_temperature": judge_temperature, "criteria": criteria}
    if replies is None:
        given = {
            "--out": out is not None,
            "several --judge": judge is not None and len(judge) > 1,
            "--mode": mode != "shared",
            "--dimensions": dimensions != "empathy",
            "--length-limit": length_limit is not None,
            "--length-penalty": bool(length_penalty),
            "--parroting-penalty": bool(parroting_penalty),
            "--sycophancy-penalty": bool(sycophancy_penalty),
        }
        _refuse_with_own_replies([name for name, is_given in given.items() if is_given], dataset)
        flags["judge"] = judge[0] if judge else None
        run_stage("score", dataset, flags, failure_budget, config, dry_run=dry_run, as_json=json_)
        return
    from peregrm.pipeline.asked import reward_options

    settings = settings_of(config, **flags, failure_budget=failure_budget)
    guards = guards_of(length_limit, length_penalty, parroting_penalty, sycophancy_penalty)
    changes = {"dimensions": dimensions, "guards": guards}
    options = reward_options(settings, judge, mode, dataset).model_copy(update=changes)
    _score(dataset, replies, out or Path("scores.jsonl"), options, settings, dry_run=dry_run, as_json=json_)


def _refuse_with_own_replies(given: list[str], dataset: Path) -> None:
    """Raise where something was asked for that the scoring of a run's own replies does not do."""
    if given:
        raise typer.BadParameter(
            f"the run's own replies are scored into its folder, by the shared mode and one judge; for {', '.join(given)} name a file "
            f"of replies: {dataset / 'replies.jsonl'}",
            param_hint="REPLIES",
        )


def _score(
    dataset: Path,
    replies: Path,
    out: Path,
    options: RewardOptions,
    settings: Settings,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from rich.console import Console

    from peregrm.errors import InputError
    from peregrm.evaluation.console import print_agreement, print_summary, print_usage
    from peregrm.pipeline.reply_files import is_of_dataset, read_dataset, read_replies
    from peregrm.pipeline.scoring import parts_folder, plan_scoring, score_replies

    known = read_dataset(dataset, options.dimensions)
    given = read_replies(replies, known.cases)
    inputs = (replies, dataset if dataset.is_file() else dataset / "cases.jsonl", dataset / "rewards.jsonl")
    is_taken = out.resolve() in [path.resolve() for path in inputs] or is_of_dataset(out, parts_folder(out))
    if is_taken or out.is_dir() or out == parts_folder(out):
        raise InputError(f"{out}: the rewards cannot be written there; name another file with --out")
    if out.suffix != ".jsonl":  # a name's parts stand in a folder called as it is without its ending
        raise InputError(f"{out}: rewards are JSON Lines; name a file that ends in .jsonl with --out")
    if dry_run:
        planned = with_bars(lambda bars: plan_scoring(known, given, options, settings, bars), counting=True)
        print_planned(planned, as_json=as_json)
        return
    done = with_bars(lambda bars: score_replies(known, given, options, settings, out=out, progress=bars))
    if as_json:
        typer.echo((parts_folder(out) / "summary.json").read_text(encoding="utf-8"), nl=False)
        return
    console = Console()
    print_summary(console, done.summary)
    print_agreement(console, done.agreement)
    print_usage(console, done.summary.usage, done.ledger, done.seconds)
    say(f"Rewards: {out}; what they rest on: {parts_folder(out)}")


_COMPARE = """Score the same replies by PereGRM, its ablations and its rivals, and print what each finds and what it takes.

\b
The rewards:
  modes      shared, paper, listwise
  ablations  static, no-criteria, no-persona, no-memories, no-situation,
             arithmetic, no-bystander
  rivals     perm, rlpa, holistic, pairwise, scalar
"""


@app.command(help=_COMPARE)
def compare(
    dataset: DatasetArg,
    replies: Annotated[
        Path | None,
        typer.Argument(help="JSONL of replies by any policy; a `rank` says which is better. Default: the run's own."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the comparison.")] = Path("comparison"),
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward", help="A reward to compare; may be repeated. Default: all, `scalar` with --scalar only."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="The judge of all rewards, named like --model. Default: the run's.")
    ] = None,
    scalar: Annotated[
        str | None, typer.Option("--scalar", help="Path or name of a sequence classifier, for the reward `scalar`.")
    ] = None,
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Score the same replies by PereGRM, its ablations and its rivals, and print what each finds and what it takes."""
    from rich.console import Console

    from peregrm.evaluation.reward_table import print_reward_table
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.comparing import compare_rewards, plan_comparison
    from peregrm.pipeline.material import read_material

    settings = settings_of(config, samples=samples, judge_temperature=judge_temperature, criteria=criteria)
    names = reward or _compared(settings, judge, dataset, scalar)
    chosen = {
        name: reward_options(
            settings, [scalar] if name == "scalar" and scalar else [judge] if judge else None, name, dataset
        )
        for name in names
    }
    material = read_material(dataset, replies)
    if dry_run:
        planned = with_bars(lambda bars: plan_comparison(material, chosen, settings, bars), counting=True)
        print_planned(planned, as_json=json_)
        return
    table = with_bars(lambda bars: compare_rewards(material, chosen, settings, out=out, progress=bars))
    if json_:
        typer.echo(table.model_dump_json(indent=1))
        return
    print_reward_table(Console(), table)


def _compared(settings: Settings, judge: str | None, dataset: Path, scalar: str | None) -> list[str]:
    """Return the rewards that are compared where none is named: all that the judge can give."""
    from peregrm.models.heads import is_head
    from peregrm.pipeline.asked import reward_options
    from peregrm.reward.factory import reward_names

    if all(map(is_head, reward_options(settings, [judge] if judge else None, "shared", dataset).judges)):
        return ["shared", *(["scalar"] if scalar else [])]  # a head judges in one way
    return [name for name in reward_names() if name != "scalar" or scalar]


@app.command()
def explain(
    reply_id: Annotated[str, typer.Argument(help="Id of a reply, or the beginning of it.")],
    where: Annotated[Path, typer.Argument(help="Folder of a run, or a file that `peregrm score` wrote.")] = DEFAULT_OUT,
    config: ConfigOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Say how a reply came to its reward: criteria, every score, the judge's words, prompt, raw output, tokens, cost."""
    from rich.console import Console

    from peregrm.evaluation.console import print_text
    from peregrm.evaluation.explain import explanation_text
    from peregrm.pipeline.audit import explain_reply

    found = explain_reply(reply_id, where, settings_of(config))
    if json_:
        typer.echo(found.model_dump_json(indent=1))
        return
    print_text(Console(), explanation_text(found))


@app.command()
def criteria(
    directory: DirArg = DEFAULT_OUT,
    dimensions: DimensionsOpt = "empathy",
    show: Annotated[
        str | None, typer.Option("--show", help="Print those of one case, named by its id, or of `all`.")
    ] = None,
    edit: Annotated[Path | None, typer.Option("--edit", help="Write them to this TOML file, to be edited.")] = None,
    take: Annotated[
        Path | None, typer.Option("--take", help="Take the edited ones from this file and keep them.")
    ] = None,
    judge: JudgeOpt = None,
    method: CriteriaOpt = None,
    failure_budget: BudgetOpt = None,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Write the criteria of each case of a run; or show those that are there, or have them edited by hand."""
    if show is None and edit is None and take is None:
        from peregrm.pipeline.other_criteria import criteria_stage

        stage = "criteria" if dimensions == "empathy" else criteria_stage(dimensions)
        flags = {"judge": judge, "criteria": method}
        run_stage(stage, directory, flags, failure_budget, config, dry_run=dry_run, as_json=json_)
        return
    if dry_run or json_:
        raise typer.BadParameter("--dry-run and --json go with writing criteria, not with --show, --edit and --take")
    _look_at_criteria(directory, dimensions, show, edit, take)


def _look_at_criteria(directory: Path, dimensions: str, show: str | None, edit: Path | None, take: Path | None) -> None:
    """Take edited criteria, write those to edit, and print some, each where it was asked for."""
    from rich.console import Console

    from peregrm.dimension_files import load_dimensions
    from peregrm.errors import InputError
    from peregrm.evaluation.console import print_text
    from peregrm.pipeline.criteria_files import (
        criteria_name,
        criteria_text,
        read_edited,
        replace_criteria,
        write_editable,
    )
    from peregrm.pipeline.flagging import read_cases
    from peregrm.records import Criteria
    from peregrm.store import Workspace, index_by_id

    workspace = Workspace(directory)
    name = f"{criteria_name(dimensions)}.jsonl"
    path, flag = workspace.path(name), "" if dimensions == "empathy" else f" --dimensions {dimensions}"
    cases = index_by_id(read_cases(workspace), "cases")
    if not path.exists():
        raise InputError(f"{path}: no such file; write them first: peregrm criteria {directory}{flag}")
    known = [one for one in workspace.read(name, Criteria) if one.case_id in cases]
    if take is not None:
        edited = read_edited(take, cases, load_dimensions(dimensions))
        changed = replace_criteria(path, known, edited)
        known = workspace.read(name, Criteria)
        say(f"{changed} sets of criteria were changed; later commands keep {path} as it is now")
    if edit is not None:
        count = write_editable(edit, cases, known)
        say(f"{edit}: {count} cases to edit; then: peregrm criteria {directory}{flag} --take {edit}")
    if show is not None:
        chosen = [one for one in known if show in ("all", one.case_id)]
        if not chosen:
            raise InputError(f"{show}: there are no criteria of such a case in {directory}")
        for one in chosen:
            print_text(Console(), criteria_text(cases[one.case_id], one) + "\n")
