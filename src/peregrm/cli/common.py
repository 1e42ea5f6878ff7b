"""What all commands do alike: read settings, speak on standard error, run with progress bars."""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from peregrm.mapping import Progress
    from peregrm.pipeline.plan import PlannedCalls
    from peregrm.reward.guards import Guards
    from peregrm.settings import Settings

__all__ = ["collect_less_often", "guards_of", "made_of", "print_planned", "say", "settings_of", "stopped", "with_bars"]

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")


def collect_less_often() -> None:
    """Have Python look for reference cycles after 20,000 new objects instead of 700.

    A run keeps thousands of records and has as many calls in flight: at 700 the looking takes about a quarter of its processor time
    (`benchmarks/reward_speed.py`), for cycles that are rare here and small. For commands: a library leaves this to its caller.
    """
    gc.set_threshold(20_000, 20, 20)


def made_of(kind: type[M], **fields: Any) -> M:
    """Return a record made of flags; raises `SettingsError` where one makes no sense."""
    from pydantic import ValidationError

    from peregrm.errors import SettingsError
    from peregrm.store import summarise_validation

    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        said = summarise_validation(error).replace("value error, ", "")
        raise SettingsError(said.removeprefix("record: ")) from None


def say(line: str) -> None:
    """Say something that is not the result."""
    typer.echo(line, err=True)


def settings_of(path: Path | None, **flags: object) -> Settings:
    """Read the settings; a flag that was not given is None and changes nothing."""
    from peregrm.settings import load_settings

    return load_settings(path, flags)


def guards_of(length_limit: int | None, length: float, parroting: float, sycophancy: float) -> Guards:
    """Return the guards that the flags ask for; None is the usual limit."""
    from peregrm.reward.guards import Guards

    usual: int = Guards.model_fields["length_limit"].default
    return Guards(
        length_limit=usual if length_limit is None else length_limit,
        length_coefficient=length,
        parroting_coefficient=parroting,
        sycophancy_coefficient=sycophancy,
    )


def print_planned(planned: list[PlannedCalls], *, as_json: bool) -> None:
    """Print what a command would ask for, as a table or as JSON."""
    import json

    from peregrm.pipeline.plan import print_plan

    if as_json:
        typer.echo(json.dumps([row._asdict() for row in planned], indent=1))
    else:
        print_plan(planned)


@contextmanager
def stopped(told: str) -> Iterator[None]:
    """Have Ctrl-C end the block with `told`, what is kept and how to go on, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"peregrm: stopped. {told}")
        raise typer.Exit(130) from None


def with_bars(work: Callable[[Progress], Coroutine[Any, Any, T]], *, counting: bool = False) -> T:
    """Run `work` with progress bars on standard error; Ctrl-C ends it with a word on what is kept and exit code 130.

    `counting` is for work that a dry run only counts.
    """
    import asyncio

    from rich.console import Console

    from peregrm.progress import Bars

    with (
        stopped("Nothing is lost: the same command goes on where it was."),
        Bars(Console(stderr=True), counting=counting) as bars,
    ):
        return asyncio.run(work(bars))
