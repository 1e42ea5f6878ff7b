"""Ctrl-C: one line, exit code 130, and the same command goes on without repeating what was answered."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stored_calls import stored_answers


def test_interrupted_run_says_so_and_goes_on(
    tmp_path: Path, here: Callable, small: Any, start_server: Callable, artifacts: Callable
) -> None:
    server = start_server()
    server.hold_at(3)
    out = tmp_path / "out"
    command = small.command(out, server, "--cases", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "peregrm.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(server.done()) < 3 or len(stored_answers(out)) < 3:
        assert process.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, warned = process.communicate(timeout=30)
    assert process.returncode == 130, warned
    assert said == ""
    assert "Traceback" not in warned
    assert [line for line in warned.splitlines() if line.startswith("peregrm: ")] == [
        "peregrm: stopped. Nothing is lost: the same command goes on where it was."
    ]
    assert warned.splitlines()[-1].startswith("peregrm: ")

    first_three = server.done()
    asked = len(server.starts())
    server.hold_at(None)
    resumed = here(*command)
    assert resumed.code == 0, resumed.stderr
    assert not set(first_three) & set(server.starts()[asked:])

    whole = tmp_path / "whole"
    assert here(*small.command(whole, server, "--cases", "1")).code == 0
    assert {**artifacts(whole), "manifest.json": b""} == {**artifacts(out), "manifest.json": b""}
