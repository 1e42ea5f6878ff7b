"""A build on Ray gives the local engine's bytes, whatever dies in the middle of it, and pays for no finished call twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="needs the extra ray")

USERS = 12
OF_THE_PROCESS = {"ledger.json", "calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm"}


@pytest.fixture
def command(tmp_path: Path, start_server: Callable, make_history: Callable) -> list[str]:
    """A build of several users against a server that takes its time; a log of its calls is at `tmp_path / calls.log`."""
    histories = tmp_path / "histories.jsonl"
    lines = [
        make_history(f"user {n}", [f"My brother Tom cancelled dinner number {n} again.", f"I am a nurse on ward {n}."])
        for n in range(USERS)
    ]
    histories.write_text("".join(lines))
    server = start_server(delay=0.4)
    return ["build", str(histories), "--model", server.spec, "--memories", "model", "--keep-ids"]


def start(command: list[str], out: Path, engine: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "peregrm.cli", *command, "-o", str(out), "--engine", engine]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    said = process.communicate(timeout=280)[1]
    assert process.returncode == 0, said
    return said


def artifacts(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in OF_THE_PROCESS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def calls(log: Path, what: str) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split()[1] for line in lines if line.startswith(f"{what} ")]


def wait_for(is_so: Callable[[], object], process: subprocess.Popen[str]) -> None:
    for _ in range(4000):
        if is_so():
            return
        assert process.poll() is None, "the build ended too early"
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def workers_of(pid: int) -> list[int]:
    """Return the processes below `pid` that run a step just now: Ray names a process by what it does."""
    parents, workers = {}, []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            said = path.with_name("cmdline").read_text()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
        if said.startswith("ray::") and "_work" in said:
            workers.append(int(path.parent.name))

    def below(child: int) -> bool:
        return child == pid or (child in parents and below(parents[child]))

    return [worker for worker in workers if below(worker)]


def killed_while_they_ask(pid: int, log: Path) -> bool:
    """Halt the workers below `pid`; kill them where a call is under way then, else let them go on. Halted, none can keep its answer."""
    workers = workers_of(pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    asking = bool(workers) and len(calls(log, "start")) > len(calls(log, "done"))
    for worker in workers:
        os.kill(worker, signal.SIGKILL if asking else signal.SIGCONT)
    return asking


def stored(folder: Path) -> set[str]:
    """Return the hashes, as the server notes them, of the answers that are on disk."""
    with closing(sqlite3.connect(folder / "calls.sqlite")) as database:
        rows = database.execute("SELECT completion FROM calls").fetchall()
    return {hashlib.sha256(json.loads(row[0])["text"].encode()).hexdigest()[:16] for row in rows}


def spent(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the calls of each purpose: those this process made, and those it took from the cache."""
    rows = json.loads((folder / "ledger.json").read_text())["calls"]
    return {row["purpose"]: (row["fresh_calls"], row["calls_from_cache"]) for row in rows}


def test_a_worker_killed_in_the_middle_changes_no_byte(command: list[str], tmp_path: Path) -> None:
    log = tmp_path / "calls.log"
    finish(start(command, tmp_path / "local", "local"))
    asked = calls(log, "start")
    log.unlink()

    process = start(command, tmp_path / "ray", "ray")
    wait_for(lambda: killed_while_they_ask(process.pid, log), process)
    said = finish(process)

    assert artifacts(tmp_path / "ray") == artifacts(tmp_path / "local")
    assert "Traceback" not in said
    again = calls(log, "start")
    assert len(again) > len(asked), "no call was under way when the worker was killed"
    assert set(again) == set(asked)
    used = {name: sum(both) for name, both in spent(tmp_path / "ray").items()}
    assert used == {name: sum(both) for name, both in spent(tmp_path / "local").items()}


def test_a_build_that_is_killed_goes_on_on_ray_and_can_end_on_either_engine(command: list[str], tmp_path: Path) -> None:
    log, out = tmp_path / "calls.log", tmp_path / "ray"
    process = start(command, out, "ray")
    wait_for(lambda: (out / "checkpoint.sqlite").exists() and len(calls(log, "done")) >= USERS + 2, process)
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
    time.sleep(2)  # Ray's own processes notice that nobody wants them any more

    kept = stored(out)
    assert kept
    answered = {line.split()[1] for line in log.read_text().splitlines() if line.split()[-1] in kept}
    log.unlink()
    finish(start(command, out, "ray"))
    assert not answered & set(calls(log, "start")), "a stored call was made again"
    assert not (out / "checkpoint.sqlite").exists()

    log.unlink()
    finish(start(command, tmp_path / "local", "local"))
    assert artifacts(out) == artifacts(tmp_path / "local")
    log.unlink()
    finish(start(command, out, "local"))
    assert calls(log, "start") == [], "one engine finds the other's calls"


def test_a_fatal_error_of_a_worker_is_the_same_one_line(command: list[str], tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[models.gone]\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\nretries = 0\n')
    command[command.index("--model") + 1] = "gone"
    command += ["--config", str(settings)]
    said = {}
    for engine in ("local", "ray"):
        process = start(command, tmp_path / engine, engine)
        said[engine] = process.communicate(timeout=280)[1].splitlines()
        assert process.returncode == 1
        assert "Traceback" not in "".join(said[engine])
    assert said["ray"][-1] == said["local"][-1]
    assert "connection refused" in said["ray"][-1]


def test_ctrl_c_ends_a_build_on_ray_with_one_line(command: list[str], tmp_path: Path) -> None:
    process = start(command, tmp_path / "ray", "ray")
    wait_for(lambda: calls(tmp_path / "calls.log", "start"), process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("peregrm: stopped.")
