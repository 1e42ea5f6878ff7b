"""A run that is killed again and again ends with the same bytes as one that went through, and repeats no finished call."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stored_calls import stored_answers

OF_THE_PROCESS = {"ledger.json", "calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm"}
KILL_AT = (0.15, 0.5, 0.85)


def artifacts(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file() and path.name not in OF_THE_PROCESS)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_killed_run_ends_with_the_same_bytes_and_repeats_no_finished_call(
    tmp_path: Path, start_server: Callable, peregrm: Callable
) -> None:
    server = start_server(delay=0.03)
    command = ["run", "--users", "2", "--model", server.spec, "--memories", "model"]

    whole = tmp_path / "whole"
    done = peregrm(*command, "-o", whole)
    assert done.returncode == 0, done.stderr
    total = len(server.starts())
    assert total == len(set(server.starts())), "an uninterrupted run asks every question once"
    assert total > 100

    server.log.unlink()
    killed = tmp_path / "killed"
    finished_before: list[tuple[int, set[str]]] = []
    for share in KILL_AT:
        server.hold_at(math.ceil(share * total))
        process = subprocess.Popen(
            [sys.executable, "-m", "peregrm.cli", *command, "-o", str(killed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(set(server.starts())) < share * total:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
        finished_before.append((len(server.starts()), stored_answers(killed)))

    server.hold_at(None)
    resumed = peregrm(*command, "-o", killed)
    assert resumed.returncode == 0, resumed.stderr
    assert artifacts(killed) == artifacts(whole)

    key_of_answer = {line[2]: line[1] for line in server.lines() if line[0] == "done"}
    starts = server.starts()
    assert [count for count, _ in finished_before] == sorted({count for count, _ in finished_before})
    for count, stored in finished_before:
        finished_keys = {key_of_answer[answer] for answer in stored if answer in key_of_answer}
        assert len(finished_keys) >= 10
        assert not finished_keys & set(starts[count:]), "a call whose answer was on disk was made again"


def test_running_again_makes_no_call(tmp_path: Path, start_server: Callable, peregrm: Callable) -> None:
    server = start_server()
    command = ["run", "--users", "1", "--model", server.spec, "--memories", "model", "-o", tmp_path / "out"]
    assert peregrm(*command).returncode == 0
    before, calls = artifacts(tmp_path / "out"), len(server.starts())
    assert peregrm(*command).returncode == 0
    assert len(server.starts()) == calls
    assert artifacts(tmp_path / "out") == before


def test_a_history_edited_by_one_turn_runs_that_user_alone_again(
    tmp_path: Path, here: Callable, make_history: Callable, start_server: Callable
) -> None:
    server = start_server()
    said = {
        "ada": ["My brother Tom cancelled our dinner again.", "I am a nurse on nights."],
        "bea": ["My sister is moving to Leeds.", "I teach music to small children."],
        "cem": ["I have two cats and no patience.", "My boss calls me on Sundays."],
    }

    def build(out: str, users: list[str]) -> list[str]:
        """Build these users with the model in all stages, and return the calls that were made for it."""
        (tmp_path / "all.jsonl").write_text("".join(make_history(user, said[user]) for user in users))
        before = len(server.starts())
        flags = ["--model", server.spec, "--memories", "model", "--cases", "2", "--keep-ids"]
        ended = here("build", tmp_path / "all.jsonl", "-o", tmp_path / out, *flags)
        assert ended.code == 0, ended.stderr
        return server.starts()[before:]

    def lines(name: str) -> list[str]:
        text = (tmp_path / "out" / f"{name}.jsonl").read_text()
        return [line for line in text.splitlines() if '"user_id":"bea"' not in line]

    kept = ("histories", "memories", "personas", "situations", "queries", "cases")
    first = build("out", list(said))
    others = {name: lines(name) for name in kept}
    said["bea"][1] = "I teach music to grown-ups."
    again = build("out", list(said))
    of_bea = build("bea", ["bea"])
    assert len(first) > len(of_bea) > 5
    assert set(again) == set(of_bea)
    assert not set(again) & set(first)
    assert {name: lines(name) for name in kept} == others
    assert all(others.values())
