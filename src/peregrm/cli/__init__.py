"""The command `peregrm`: argument parsing and calls, nothing else. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence

from peregrm.cli import (  # noqa: F401 - each adds its commands
    benchmark,
    benchmark_emobench,
    benchmark_eqbench,
    benchmark_esc_eval,
    benchmark_heartbench,
    benchmark_memory,
    checks,
    dataset,
    evaluate,
    loop,
    privacy,
    reward,
    serve,
    study,
    train,
    train_grpo,
    train_judge,
    train_offline,
    train_reward,
    train_soups,
    train_verl,
    validate,
)
from peregrm.cli.app import app
from peregrm.cli.common import collect_less_often, say
from peregrm.errors import PeregrmError

__all__ = ["app", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error made on purpose, or by the system, is one line on standard error and exit code 1."""
    collect_less_often()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what the terminal cannot show must not end a run
    try:
        app(args=None if arguments is None else list(arguments))
    except PeregrmError as error:
        say("peregrm: " + re.sub("[\x00-\x1f\x7f-\x9f]+", " ", str(error)))  # names of files and keys may hold anything
        sys.exit(1)
    except OSError as error:
        where = error.filename2 or error.filename
        say("peregrm: " + (f"{where}: " if where else "") + (error.strerror or str(error)))
        sys.exit(1)
