"""The commands of the controlled study with people: `peregrm study NAME`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import say, settings_of
from peregrm.cli.options import ConfigOpt, DatasetArg, JsonOpt, ModelOpt
from peregrm.errors import DependencyError, InputError, SettingsError
from peregrm.extras import install

if TYPE_CHECKING:
    from fastapi import FastAPI

    from peregrm.models.base import Model
    from peregrm.settings import Settings

__all__ = ["study"]

study = typer.Typer(
    help="A controlled study with people: blind, counterbalanced, pre-registered.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(study, name="study")

FolderArg = Annotated[Path, typer.Argument(help="Folder of the study.")]
PerOpt = Annotated[
    int, typer.Option("--per-participant", "--cases-per-participant", min=1, help="Cases that each participant reads.")
]
CasesOpt = Annotated[int, typer.Option("--cases", min=1, help="Cases in the study.")]
AlphaOpt = Annotated[float, typer.Option("--alpha", min=0.0001, max=0.5, help="Level of the tests.")]
WantedOpt = Annotated[float, typer.Option("--power", min=0.05, max=0.999, help="Power that is wanted.")]
EffectOpt = Annotated[
    float, typer.Option("--effect", help="Mean difference of ratings, in standard deviations of such differences.")
]
ShareOpt = Annotated[float, typer.Option("--choice-share", min=0.01, max=0.99, help="How often A is chosen over B.")]
IccOpt = Annotated[
    float, typer.Option("--icc", min=0, max=1, help="Share of the variance that lies between participants.")
]
CaseIccOpt = Annotated[float, typer.Option("--case-icc", min=0, max=1, help="Share that lies between cases.")]


@study.command()
def new(
    dataset: DatasetArg,
    replies: Annotated[
        list[Path] | None, typer.Argument(help="JSONL of replies by any policies. Default: the dataset's own.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study; it must not hold one.")] = Path(
        "peregrm-study"
    ),
    policies: Annotated[
        tuple[str, str] | None, typer.Option("--policies", help="The two policies, A and B. Default: the only two.")
    ] = None,
    cases: CasesOpt = 24,
    per_participant: PerOpt = 8,
    participants: Annotated[
        int | None,
        typer.Option("--participants", min=2, help="How many are planned. Default: as many as the power takes."),
    ] = None,
    effect: EffectOpt = 0.3,
    choice_share: ShareOpt = 0.6,
    icc: IccOpt = 0.1,
    case_icc: CaseIccOpt = 0.05,
    power: WantedOpt = 0.8,
    alpha: AlphaOpt = 0.05,
    title: Annotated[
        str, typer.Option("--title", help="What participants see as the study's name.")
    ] = "Which reply is better?",
    contact: Annotated[str, typer.Option("--contact", help="Who runs the study and how to reach them.")] = "",
    about: Annotated[
        Path | None, typer.Option("--about", help="Text file that stands on top of the consent page.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of cases, blinding and order.")] = 0,
) -> None:
    """Draw cases and two policies' replies, blind and counterbalance them, and freeze the plan."""
    from peregrm.pipeline.reply_files import read_dataset, read_policies
    from peregrm.study.drawing import Asked, make_study

    known = read_dataset(dataset)
    files = replies or [(dataset if dataset.is_dir() else dataset.parent) / "replies.jsonl"]
    asked = Asked(
        title=title,
        contact=contact,
        about=_text_of(about) if about else "",
        policies=policies,
        cases=cases,
        per_participant=per_participant,
        participants=participants,
        effect=effect,
        choice_share=choice_share,
        icc=icc,
        case_icc=case_icc,
        power=power,
        alpha=alpha,
        seed=seed,
    )
    plan, digest = make_study(out, known.cases, read_policies(files, known.cases), asked)
    typer.echo(
        f"{plan.cases} cases, {plan.per_participant} a participant, {plan.participants} participants planned: {out}"
    )
    typer.echo(
        f"power: choice {plan.assumed.power_choice:.2f}, each rating {plan.assumed.power_ratings:.2f} (alpha {alpha:g}, Holm at worst)"
    )
    if plan.cases < cases:
        say(f"{cases} cases were asked for; only {plan.cases} can be used")
    for why, n in plan.left_out.items():
        say(f"left out: {n} cases, {why}")
    typer.echo(f"plan {digest}")
    say("Register this hash or plan.json before the first participant; the plan cannot be changed any more.")
    if not contact:
        say("No --contact was given: participants will not see who runs this study.")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


@study.command()
def power(
    effect: Annotated[
        float | None, typer.Option("--effect", help="As in `study new`; gives the power of ratings.")
    ] = None,
    choice_share: Annotated[
        float | None,
        typer.Option("--choice-share", min=0.01, max=0.99, help="As in `study new`; the power of the choice."),
    ] = None,
    participants: Annotated[
        int | None,
        typer.Option("--participants", min=2, help="Say the power of this many. Default: how many it takes."),
    ] = None,
    per_participant: PerOpt = 8,
    cases: CasesOpt = 24,
    icc: IccOpt = 0.1,
    case_icc: CaseIccOpt = 0.05,
    wanted: WantedOpt = 0.8,
    alpha: AlphaOpt = 0.05,
    json_: JsonOpt = False,
) -> None:
    """Say how many people a study needs, or what it can show with as many as it gets."""
    import json

    from peregrm.study.plan import OUTCOMES
    from peregrm.study.power import MOST, Crossed, needed, power_choice, power_ratings

    if effect is None and choice_share is None:
        raise typer.BadParameter("say what is to be seen: --effect, --choice-share, or both")
    design = Crossed(per_participant, cases, icc, case_icc)
    ways: list[tuple[str, float, Callable[[int], float]]] = []
    if effect is not None:
        tests = len(OUTCOMES)
        ways.append(("ratings", effect, lambda n: power_ratings(effect, n, design, alpha=alpha, tests=tests)))
    if choice_share is not None:
        ways.append(("choice", choice_share, lambda n: power_choice(choice_share, n, design, alpha=alpha)))
    found = []
    for name, size, power_of in ways:
        n = participants or needed(power_of, wanted)
        found.append(
            {"test": name, "size": size, "participants": n, "power": None if n is None else round(power_of(n), 4)}
        )
    if json_:
        typer.echo(json.dumps(found, indent=1))
        return
    for row in found:
        if row["participants"] is None:
            typer.echo(f"{row['test']}: not even {MOST} participants have a power of {wanted:g}; use more cases")
        else:
            typer.echo(f"{row['test']} ({row['size']:g}): {row['participants']} participants, power {row['power']:.2f}")


@study.command()
def serve(
    folder: FolderArg,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8400,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    own_histories: Annotated[
        bool, typer.Option("--own-histories", help="Participants may bring a history of their own; --model answers it.")
    ] = False,
    model: ModelOpt = None,
    config: ConfigOpt = None,
) -> None:
    """Serve the page on which participants take part."""
    if model and not own_histories:
        raise typer.BadParameter("only goes with --own-histories", param_hint="--model")
    settings = settings_of(config, model=model)
    _need_server()
    from peregrm.study.web.run import serve as listen

    if host not in ("127.0.0.1", "localhost", "::1"):
        say("Other machines can reach this page unencrypted: put a proxy with TLS before it.")
    listen(_application(folder, settings, own_histories=own_histories), host, port, lambda url: say(f"Study: {url}"))


def _need_server() -> None:
    try:
        import python_multipart  # noqa: F401

        import peregrm.study.web.run  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"the study's page needs {error.name}: {install('study')}") from None


def _application(folder: Path, settings: Settings, *, own_histories: bool) -> FastAPI:
    from peregrm.study.answers import Answers
    from peregrm.study.material import read_material
    from peregrm.study.plan import read_plan
    from peregrm.study.web.app import create_app
    from peregrm.study.web.visit import Study

    _, digest = read_plan(folder)
    if own_histories and settings.run.model == "embedded":
        say(
            "The model is the small embedded one: it shows how the page works, and its replies are worth nobody's time."
        )
    model, where = _model(settings) if own_histories else (None, "")
    served = Study(
        material=read_material(folder),
        plan=digest,
        answers=Answers(folder),
        model=model,
        where=where,
        max_tokens=settings.run.max_new_tokens,
        temperature=settings.run.temperature,
    )
    return create_app(served)


def _model(settings: Settings) -> tuple[Model, str]:
    """Open the model without a cache, so that nothing of what participants write is kept beside their answers; say where it is."""
    from peregrm.models.ledger import Ledger
    from peregrm.models.registry import open_model, prices
    from peregrm.study.own import whereabouts

    spec = settings.run.model
    model = open_model(spec, settings, cache=None, ledger=Ledger(prices({spec}, settings)))
    return model, whereabouts(spec, settings)


@study.command()
def export(
    folder: FolderArg,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help=".csv or .jsonl. Default: both, in the study's folder.")
    ] = None,
) -> None:
    """Write all answers with the blind resolved: who wrote which reply."""
    from peregrm.study.rows import read_rows, write_rows

    rows = read_rows(folder)
    files = [out] if out else [folder / "answers.csv", folder / "answers.jsonl"]
    for path in files:
        if path.suffix not in (".csv", ".jsonl"):
            raise SettingsError(f"{path}: the ending says the format: .csv or .jsonl")
        write_rows(path, rows)
    say(f"{len(rows)} answers of {len({row.participant for row in rows})} participants: {', '.join(map(str, files))}")
    if out:
        say(
            "A participant who withdraws later is not taken out of this file: export again then, and delete the old one."
        )


@study.command()
def analyse(
    folder: FolderArg,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The report as .md or .json. Default: both, in the study's folder."),
    ] = None,
    registered: Annotated[
        str | None, typer.Option("--plan-hash", help="The hash that was registered; another plan is refused.")
    ] = None,
    json_: JsonOpt = False,
) -> None:
    """Hold the answers against the plan: mixed-effects estimates, exact tests, exclusions, and what deviates."""
    from importlib.util import find_spec

    from peregrm.store import replace_text
    from peregrm.study.analysis import analyse_study
    from peregrm.study.report import report_markdown

    if find_spec("statsmodels") is None:
        raise DependencyError(f"the analysis needs statsmodels: {install('study')}")
    result = analyse_study(folder, registered=registered)
    text, data = report_markdown(result), result.model_dump_json(indent=1) + "\n"
    for path in [out] if out else [folder / "analysis.md", folder / "analysis.json"]:
        replace_text(path, data if path.suffix == ".json" else text)
        say(f"Report: {path}")
    typer.echo(data if json_ else text, nl=False)
