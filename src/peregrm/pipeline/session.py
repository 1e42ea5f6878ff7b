"""Opening a run's directory with everything a job needs, and closing it whatever happens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from peregrm.errors import InputError, SettingsError
from peregrm.mapping import Progress
from peregrm.models.cache import CallCache
from peregrm.models.heads import is_head
from peregrm.models.ledger import Ledger
from peregrm.models.local_judge import is_local
from peregrm.models.registry import open_model, prices
from peregrm.pipeline.engine import ENGINES, Engine, LocalEngine
from peregrm.pipeline.finish import save_ledger
from peregrm.pipeline.job import Budget, Job, RunConfig, Stage, run_stages
from peregrm.settings import Settings
from peregrm.store import Workspace, held_alone, replace_text, summarise_validation

__all__ = [
    "check_persona",
    "execute",
    "load_config",
    "open_job",
    "resolve_method",
    "resolve_safety",
    "sample",
    "save_config",
]

_BESIDES = ("README.md", "flags.jsonl", "inspections.jsonl", "judgements.jsonl", "report.md", "report.json")
"""What a run writes besides the main artifact of each stage."""


def sample() -> tuple[Path, Path]:
    """Return the paths of the sample histories and of the hand-written cases that go with them."""
    inside = Path(str(resources.files("peregrm"))) / "examples"
    root = inside if inside.is_dir() else Path(__file__).resolve().parents[3] / "examples"
    if not (root / "histories").is_dir():
        raise InputError(f"{root}: the sample is not there; name the histories to read")
    return root / "histories", root / "gold.jsonl"


def resolve_method(choice: str, model: str, *, without_model: str) -> str:
    """Return how memories or criteria are made: `auto` is without a model for the embedded one, whose own are useless."""
    if choice == "auto":
        return without_model if model == "embedded" or is_head(model) or is_local(model) else "model"
    return choice


def resolve_safety(choice: str, model: str, memories: str, persona: str) -> str:
    """Return who flags signs of danger: rules alone, or the model besides; `auto` trusts it where it finds memories or rates people.

    Raises `SettingsError` where the embedded model is asked to.
    """
    if choice == "both" and model == "embedded":
        raise SettingsError(
            "--safety both needs a model: name one with --model. The embedded one cannot tell danger, and rules look in any case"
        )
    if choice != "auto":
        return choice
    return "both" if model != "embedded" and (memories == "model" or persona == "bigfive") else "rules"


def check_persona(config: RunConfig) -> None:
    """Raise `SettingsError` where personas cannot be made the way that was asked for."""
    if config.persona == "questionnaire" and config.questionnaire is None:
        raise SettingsError("--persona questionnaire needs the users' answers: --questionnaire FILE")
    if config.persona == "bigfive" and config.model == "embedded" and config.memories != "model":
        raise SettingsError(
            "--persona bigfive needs a model: name one with --model. The embedded one cannot rate people and there is no method without "
            "a model; with --memories model it may try all the same"
        )


def save_config(root: Path, config: RunConfig) -> None:
    """Keep what a run was asked for."""
    replace_text(root / "run.json", config.model_dump_json(indent=1) + "\n")


def load_config(root: Path) -> RunConfig:
    """Read what the run in `root` was asked for; raises `InputError` where there is no run."""
    path = root / "run.json"
    try:
        return RunConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{root}: there is no run here; start one with `peregrm run` or `peregrm build`") from None
    except ValidationError as error:
        raise SettingsError(f"{path}: damaged: {summarise_validation(error)}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: damaged: {error}") from None


@asynccontextmanager
async def open_job(
    root: Path,
    config: RunConfig,
    settings: Settings,
    progress: Progress,
    say: Callable[[str], None],
    *,
    engine: str = "local",
) -> AsyncIterator[Job]:
    """Open cache, ledger, models and engine for the run in `root`; the ledger is saved even when a stage fails."""
    started = time.monotonic()
    workspace = Workspace(root)
    ledger = Ledger(prices({config.model, config.judge}, settings))
    runner = _open_engine(engine, root, ledger)
    with CallCache(root / "calls.sqlite") as cache:
        model = open_model(config.model, settings, cache=cache, ledger=ledger)
        judge = (
            model if config.judge == config.model else open_model(config.judge, settings, cache=cache, ledger=ledger)
        )
        job = Job(
            workspace=workspace,
            config=config,
            settings=settings,
            model=model,
            judge=judge,
            ledger=ledger,
            progress=progress,
            say=say,
            budget=Budget(settings.run.failure_budget),
            engine=runner,
        )
        try:
            yield job
        finally:
            await runner.aclose()
            save_ledger(workspace, ledger, time.monotonic() - started, job.purposes)
            await model.aclose()
            await judge.aclose()


def _open_engine(name: str, root: Path, ledger: Ledger) -> Engine:
    """Return the engine `name`; raises `SettingsError` where there is none, `DependencyError` where it is not installed."""
    if name == "local":
        return LocalEngine()
    if name != "ray":
        raise SettingsError(f"--engine {name}: the engines are {', '.join(ENGINES)}")
    from peregrm.pipeline.ray_engine import RayEngine

    return RayEngine(root, ledger)


async def execute(
    root: Path,
    config: RunConfig,
    settings: Settings,
    stages: Sequence[Stage],
    progress: Progress,
    say: Callable[[str], None],
    *,
    engine: str = "local",
) -> None:
    """Run stages in the directory `root` on an engine of `ENGINES`. What was asked for is kept as soon as the first of them is done.

    Raises `ArtifactError` where another command is at work in `root`, `SettingsError` where the run would replace what is not its own.
    """
    _check_folder(root, config, stages)
    with held_alone(root):
        async with open_job(root, config, settings, progress, say, engine=engine) as job:
            await run_stages(job, stages[:1])
            save_config(root, config)
            await run_stages(job, stages[1:])


def _check_folder(root: Path, config: RunConfig, stages: Sequence[Stage]) -> None:
    """Raise `SettingsError` where `root` holds the histories to be read or, before any run was in it, a file that would be replaced."""
    source = Path(config.histories).resolve()
    if source in (root.resolve(), root.resolve() / "histories.jsonl"):
        raise SettingsError(f"{root} holds the histories that are to be read: name another folder with --out")
    if (root / "run.json").exists() or (root / "manifest.json").exists():
        return
    names = [*_BESIDES, *(f"{stage.writes}.jsonl" for stage in stages)]
    there = [name for name in names if (root / name).exists()]
    if there:
        raise SettingsError(f"{root / there[0]} is of no run and would be replaced: name another folder with --out")
