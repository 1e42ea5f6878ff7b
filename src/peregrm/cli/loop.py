"""The main loop and its stages as commands: run, build, one command a stage, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from peregrm.cli.app import app
from peregrm.cli.building import Building, persona_flags, with_flags_of
from peregrm.cli.common import say, settings_of, with_bars
from peregrm.cli.options import (
    DEFAULT_OUT,
    BudgetOpt,
    CasesOpt,
    ConfigOpt,
    DirArg,
    DryOpt,
    JsonOpt,
    JudgeOpt,
    MemoriesOpt,
    ModelOpt,
    PersonaOpt,
    QuestionnaireOpt,
    SafetyOpt,
    SamplesOpt,
    ShowOpt,
)
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.pipeline.job import RunConfig, Stage
    from peregrm.settings import Settings

__all__ = ["run_stage"]

_KEPT = (
    "persona",
    "context",
    "select",
    "inspectors",
    "cases",
    "samples",
    "quorum",
    "bystander_weight",
    "seed",
    "max_new_tokens",
    "temperature",
    "judge_temperature",
)


@app.command()
@with_flags_of(Building)
def run(told: Building, samples: SamplesOpt = None, show: ShowOpt = 2) -> None:
    """Do the whole loop: histories, memories, personas, cases, criteria, replies, judgements, report.

    Run the same command again after a stop: it goes on where it was and repeats no call.
    """
    from peregrm.evaluation.validity.cards import checked_places
    from peregrm.pipeline.build import BUILD_STAGES
    from peregrm.pipeline.score import SCORE_STAGES

    settings = settings_of(told.config, **told.flags(), samples=samples)
    asked = _config(settings, told)
    if told.dry_run:
        _print_plan(asked, settings, as_json=told.json)
        return
    cards = checked_places(settings.run.cards)
    _execute(told.out, asked, settings, [*BUILD_STAGES, *SCORE_STAGES], told.engine)
    _publish(told.out, asked)
    _print_report(told.out, asked, cards, as_json=told.json, show=show)
    _say_why_no_case(told.out, asked)


@app.command()
@with_flags_of(Building)
def build(told: Building) -> None:
    """Build a dataset from histories: the stages read to safety, then cases.parquet, split by user, and the card README.md."""
    from peregrm.pipeline.build import BUILD_STAGES

    settings = settings_of(told.config, **told.flags())
    asked = _config(settings, told)
    if told.dry_run:
        _print_plan(asked, settings, as_json=told.json, build_only=True)
        return
    _execute(told.out, asked, settings, BUILD_STAGES, told.engine)
    _publish(told.out, asked)
    _print_counts(told.out, as_json=told.json)
    _say_why_no_case(told.out, asked)


_STAGES = {
    "read": "Read the histories of a run again into histories.jsonl.",
    "select": "Say which users are not built on for what they come for: selection.dropped.jsonl.",
    "memories": "Extract memories with evidence into memories.jsonl.",
    "persona": "Infer each user's persona and its depth gate into personas.jsonl.",
    "situations": "Write situations each user could be in into situations.jsonl.",
    "queries": "Write the query of each situation into queries.jsonl.",
    "inspect": "Inspect the queries; those that pass become cases.jsonl, looked at as by `safety`; then Parquet and card.",
    "safety": "Flag signs of self-harm, abuse, minors and emergencies in flags.jsonl and the cases; then Parquet and card.",
}


def _add_stage_commands() -> None:
    """Give every stage a command of its own over the files of a run, so that one can stop, look, edit and go on."""

    def command(name: str) -> Any:
        def stage_command(
            directory: DirArg = DEFAULT_OUT,
            model: ModelOpt = None,
            judge: JudgeOpt = None,
            memories: MemoriesOpt = None,
            persona: PersonaOpt = None,
            questionnaire: QuestionnaireOpt = None,
            safety: SafetyOpt = None,
            cases: CasesOpt = None,
            failure_budget: BudgetOpt = None,
            config: ConfigOpt = None,
            dry_run: DryOpt = False,
            json_: JsonOpt = False,
        ) -> None:
            flags = {"model": model, "judge": judge, "memories": memories, "safety": safety, "cases": cases}
            flags |= persona_flags(persona, questionnaire)
            run_stage(name, directory, flags, failure_budget, config, dry_run=dry_run, as_json=json_)

        return stage_command

    for name, says in _STAGES.items():
        app.command(name, help=says)(command(name))


_add_stage_commands()


def run_stage(
    name: str | Stage,
    directory: Path,
    flags: dict[str, Any],
    failure_budget: float | None,
    config: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run one stage over the files of a run; a flag that was not given is None and stays as the run was told before.

    Raises `InputError` where a stage after the cases finds none.
    """
    from peregrm.dataset.output.table import FOLDER
    from peregrm.pipeline.build import BUILD_STAGES
    from peregrm.pipeline.finish import check_cases
    from peregrm.pipeline.job import stage_named
    from peregrm.pipeline.score import SCORE_STAGES
    from peregrm.pipeline.session import load_config

    kept = load_config(directory)
    said = {name: value for name, value in flags.items() if value is not None}
    before = {
        name: getattr(kept, name) for name in ("model", "judge", "memories", "safety", "criteria", "reasons", *_KEPT)
    }
    before["questionnaire"] = kept.questionnaire
    if said.get("judge", kept.judge) != kept.judge:
        del before["reasons"]  # decided by what the judge before could do
    settings = settings_of(config, **{**before, **said}, failure_budget=failure_budget)
    asked = kept.model_copy(update=_of_settings(settings))
    stage = stage_named((*BUILD_STAGES, *SCORE_STAGES), name) if isinstance(name, str) else name
    if stage not in BUILD_STAGES:
        check_cases(directory)
    if dry_run:
        _print_plan(asked, settings, as_json=as_json, purposes=stage.purposes)
        return
    # Nobody may use a case that was not looked at, so new cases are looked at in the same command.
    looked = [stage_named(BUILD_STAGES, "safety")] if stage.name == "inspect" else []
    _execute(directory, asked, settings, [stage, *looked])
    if stage.name in ("inspect", "safety"):
        _publish(directory, asked)
    elif stage in BUILD_STAGES and (directory / "cases.jsonl").exists():
        say(
            f"Cases, {FOLDER} and card are still those from before: run the stages after {stage.name}, or `peregrm build`."
        )
    _print_counts(directory, as_json=as_json)


@app.command()
def report(
    directory: DirArg = DEFAULT_OUT,
    config: ConfigOpt = None,
    json_: JsonOpt = False,
    show: ShowOpt = 2,
) -> None:
    """Write and print the report of a run from its files; no model is asked."""
    from peregrm.evaluation.validity.cards import checked_places
    from peregrm.pipeline.finish import check_cases
    from peregrm.pipeline.session import load_config

    cards, asked = checked_places(settings_of(config).run.cards), load_config(directory)
    check_cases(directory)
    _print_report(directory, asked, cards, as_json=json_, show=show)


def _of_settings(settings: Settings) -> dict[str, Any]:
    """Return what a run keeps of its settings, so that later stage commands need not be told again."""
    from peregrm.models.heads import is_head
    from peregrm.models.local_judge import is_local
    from peregrm.pipeline.session import resolve_method, resolve_safety

    asked = settings.run
    judge = asked.judge_or_model
    memories = resolve_method(asked.memories, asked.model, without_model="extractive")
    return {
        "model": asked.model,
        "judge": asked.judge_or_model,
        "memories": memories,
        "safety": resolve_safety(asked.safety, asked.model, memories, asked.persona),
        "criteria": resolve_method(asked.criteria, asked.judge_or_model, without_model="composed"),
        "reasons": ("no" if judge == "embedded" or is_head(judge) or is_local(judge) else "yes")
        if asked.reasons == "auto"
        else asked.reasons,
        "questionnaire": str(Path(asked.questionnaire).absolute())
        if asked.questionnaire and asked.persona == "questionnaire"
        else None,
        **{name: getattr(asked, name) for name in _KEPT},
    }


def _config(settings: Settings, told: Building) -> RunConfig:
    from peregrm.histories import detect_formats
    from peregrm.pipeline.job import RunConfig
    from peregrm.pipeline.session import check_persona, sample

    histories, gold = told.histories, told.gold
    if histories is None:
        histories, sample_gold = sample()
        gold = gold or sample_gold
    if gold is not None and told.keep_ids is False:
        raise SettingsError("--hash-ids: hand-written cases name their users, so their ids must be kept")
    if told.format == "auto":
        say(f"{histories}: read as {', '.join(detect_formats(histories, skip_bad=told.skip_bad))}")
    config = RunConfig(
        histories=str(histories.absolute()),
        gold=None if gold is None else str(gold.absolute()),
        keep_ids=gold is not None if told.keep_ids is None else told.keep_ids,
        format=told.format,
        user=told.user,
        users=told.users,
        skip_bad=told.skip_bad,
        **_of_settings(settings),
    )
    check_persona(config)
    return config


def _execute(out: Path, asked: RunConfig, settings: Settings, stages: Sequence[Stage], engine: str = "local") -> None:
    from peregrm.pipeline.session import execute

    with_bars(lambda bars: execute(out, asked, settings, stages, bars, say, engine=engine))


def _publish(out: Path, asked: RunConfig) -> None:
    """Write what is handed on of the cases as they are now."""
    from peregrm.pipeline.publish import publish
    from peregrm.store import Workspace

    publish(Workspace(out), asked, say=say)


def _print_plan(
    asked: RunConfig,
    settings: Settings,
    *,
    as_json: bool,
    build_only: bool = False,
    purposes: Sequence[str] | None = None,
) -> None:
    from peregrm.pipeline.build import read_source
    from peregrm.pipeline.plan import plan, print_plan

    planned = plan(list(read_source(asked)), asked, settings, build_only=build_only)
    planned = [row for row in planned if purposes is None or row.purpose in purposes]
    if as_json:
        import json

        typer.echo(json.dumps([row._asdict() for row in planned], indent=1))
        return
    print_plan(planned)


def _print_counts(out: Path, *, as_json: bool) -> None:
    import json

    counts = {path.name: path.read_text(encoding="utf-8").count("\n") for path in sorted(out.glob("*.jsonl"))}
    if as_json:
        typer.echo(json.dumps(counts, indent=1))
        return
    for name, count in counts.items():
        typer.echo(f"{count:6} {out / name}")


def _say_why_no_case(out: Path, asked: RunConfig) -> None:
    """Where no case came of a build, say what was left out on the way and what would bring some."""
    from peregrm.dataset.output.counts import count_reasons
    from peregrm.pipeline.publish import read_build
    from peregrm.store import Workspace

    records, cases = read_build(Workspace(out))
    if cases:
        return
    reasons = [f"{one.stage}/{one.kind} {one.n}" for one in count_reasons(records)]
    shallow = sum(not persona.is_deep for persona in records.personas)
    lines = [
        "No case came of these histories"
        + ("." if asked.cases else ": --cases 0 asks for none, --gold brings hand-written ones."),
        f"Left out on the way: {', '.join(reasons) or 'nothing'}. {out}/*.dropped.jsonl have the reasons in full.",
        f"Of {len(records.personas)} personas {shallow} are not deep enough to write situations for."
        if shallow
        else "",
        "The embedded model is too small to write situations: --model NAME@URL names another."
        if asked.model == "embedded" and asked.cases
        else "",
    ]
    say(" ".join(filter(None, lines)))


def _print_report(out: Path, asked: RunConfig, cards: Sequence[Path], *, as_json: bool, show: int) -> None:
    from rich.console import Console

    from peregrm.evaluation.console import print_cases, print_ledger, print_summary
    from peregrm.evaluation.report import case_views
    from peregrm.pipeline.finish import write_report
    from peregrm.store import Workspace

    summary, artifacts = write_report(Workspace(out), asked, cards)
    if as_json:
        typer.echo(summary.model_dump_json(indent=1))
        return
    console = Console()
    views = case_views(artifacts)
    print_cases(console, views[:show])
    print_summary(console, summary)
    print_ledger(console, summary, out / "ledger.json")
    console.print(f"All {len(views)} cases in full: {out / 'report.md'}", highlight=False, markup=False, soft_wrap=True)
