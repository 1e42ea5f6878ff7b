"""The command line itself: what it lists, what it prints, what it refuses, and what it never does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm import __version__

COMMANDS = [
    "run", "build", "read", "select", "memories", "persona", "situations", "queries", "inspect", "criteria", "reply", "score",
    "report", "explain", "evaluate", "compare", "serve", "validate", "benchmark", "safety", "export", "import", "show", "forget", "doctor",
    "study", "train",
]  # fmt: skip
NOBODY = "m@http://127.0.0.1:9/v1"


def test_help_lists_every_command(here: Callable) -> None:
    ended = here("--help")
    assert ended.code == 0
    listed = re.findall(r"^  ([a-z-]+)", ended.stdout.split("Commands:")[1], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(command: str, here: Callable) -> None:
    ended = here(command, "--help")
    assert ended.code == 0
    usage, _, options = ended.stdout.partition("Options:")
    assert len(usage.split("\n\n")[1].strip()) > 20, "the command says what it does"
    for line in options.splitlines():
        if line.startswith("  -"):
            assert len(line.split()) > 2 or line.strip() == "--help", line


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from peregrm.cli import main
try:
    main(["--help"])
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(said.stderr.split())
    assert not loaded & {"openai", "pydantic", "numpy", "scipy", "aiohttp", "xllamacpp", "onnxruntime", "sqlite3"}


def test_version(here: Callable, peregrm: Callable) -> None:
    assert here("--version").stdout == f"{__version__}\n"
    whole = peregrm("--version")
    assert (whole.returncode, whole.stdout, whole.stderr) == (0, f"{__version__}\n", "")


def test_nothing_asked_for_shows_the_help(here: Callable) -> None:
    ended = here()
    assert "Usage:" in ended.stdout + ended.stderr


@pytest.mark.parametrize("command", ["run", "build"])
def test_dry_run_asks_and_writes_nothing(command: str, here: Callable, small: Any, server: Any, tmp_path: Path) -> None:
    before = len(server.starts())
    everything = set(tmp_path.rglob("*"))
    options = ("--model", server.spec, "--memories", "model", "-o", tmp_path / "out", "--dry-run")
    ended = here(command, small.histories, "--gold", small.gold, *options)
    assert ended.code == 0, ended.stderr
    for word in ("memories", "persona", "situations", "nothing was asked"):
        assert word in ended.stdout
    rows = json.loads(here(command, small.histories, "--gold", small.gold, *options, "--json").stdout)
    assert {"purpose", "model", "calls", "input_tokens", "output_tokens", "cost"} == set(rows[0])
    assert all(row["calls"] > 0 and row["input_tokens"] > 0 and row["output_tokens"] > 0 for row in rows)
    assert len(server.starts()) == before
    assert set(tmp_path.rglob("*")) == everything


def test_dry_run_of_build_plans_no_judging(here: Callable, small: Any) -> None:
    rows = json.loads(here("build", small.histories, "--model", NOBODY, "--dry-run", "--json").stdout)
    assert not {row["purpose"] for row in rows} & {"criteria", "replies", "judge", "bystander"}


def test_json_of_every_command_is_the_only_thing_on_standard_output(finished: Any, here: Callable) -> None:
    summary = json.loads(here(*finished.command, "--json").stdout)
    assert summary["users"] == 1
    assert summary == json.loads((finished.out / "report.json").read_text())
    assert json.loads(here("report", finished.out, "--json").stdout) == summary
    counts = json.loads(here("score", finished.out, "--json").stdout)
    assert counts["histories.jsonl"] == 1
    assert counts["rewards.jsonl"] == counts["replies.jsonl"] > 0


def test_report_on_the_terminal_names_n_and_coverage(finished: Any, here: Callable) -> None:
    """A figure without its n is worth nothing, on a narrow terminal too."""
    ended = here("report", finished.out, "--show", "1")
    assert ended.code == 0, ended.stderr
    heads = [
        line.split() for line in ended.stdout.splitlines() if "bystander" in line.split() and "total" in line.split()
    ]
    assert heads
    for head in heads:
        assert head[-3:] == ["n", "users", "cover"], head


def test_text_in_brackets_is_shown_as_it_is(
    here: Callable, small: Any, server: Any, make_gold: Callable, tmp_path: Path
) -> None:
    """Names of models, folders and policies are data, not markup of the terminal."""
    replies = [
        {"policy": "[red]best[/red]", "rank": 1, "text": "Tell him [/b] the time."},
        {"policy": "worse [/x]", "rank": 2, "text": "[bold]So sorry[/bold]."},
    ]
    small.gold = make_gold(tmp_path / "odd", replies=replies)
    spec = server.spec.replace("scripted@", "scripted[/b]@")
    ended = here(
        "run", small.histories, "--gold", small.gold, "--model", spec, "--cases", "0", "-o", tmp_path / "run [final]"
    )
    assert ended.code == 0, ended.stderr
    for text in ("[red]best[/red]", "worse [/x]", "Tell him [/b] the time.", "[bold]So sorry[/bold].", "scripted[/b]@"):
        assert text in ended.stdout, text
    assert "run [final]" in "".join(ended.stdout.split("\n"))
    dry = here("run", small.histories, "--model", spec, "--dry-run")
    assert dry.code == 0


def test_terminal_that_knows_only_ascii(finished: Any) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "peregrm.cli", "report", str(finished.out)]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment)
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"personalized" in ended.stdout


def test_reader_that_hangs_up(finished: Any) -> None:
    command = [sys.executable, "-m", "peregrm.cli", "report", str(finished.out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["run", "--nonsense"], ["run", "a", "b"], ["run", "--users", "0"], ["run", "--users", "-1"],
        ["run", "--users", "many"], ["run", "--cases", "7"], ["run", "--cases", "-1"], ["run", "--samples", "0"],
        ["run", "--failure-budget", "1.5"], ["run", "--show", "-1"], ["run", "--model"], ["report", "a", "b"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_usage_errors_exit_with_two_and_write_nothing(arguments: list[str], here: Callable, tmp_path: Path) -> None:
    ended = here(*arguments)
    assert ended.code == 2
    assert "Error: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list((tmp_path / "cwd").iterdir()) == []


@pytest.mark.parametrize("option", ["--memories", "--criteria", "--format"])
def test_unknown_choice_names_the_known_ones(option: str, here: Callable, small: Any, tmp_path: Path) -> None:
    ended = here("run", small.histories, "--model", NOBODY, option, "nonsense", "-o", tmp_path / "out")
    assert ended.code in (1, 2)
    known = {"--memories": "extractive", "--criteria": "composed", "--format": "peregrm"}[option]
    assert known in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_file_that_cannot_be_used(here: Callable, tmp_path: Path) -> None:
    path = tmp_path / "peregrm.toml"
    here("run", "--config", path, "--dry-run").failed_with_one_line("peregrm.toml: cannot be read")
    path.write_text("[run\n")
    here("run", "--config", path, "--dry-run").failed_with_one_line("peregrm.toml: not TOML")
    path.write_text("[run]\nmodle = 'x'\n")
    here("run", "--config", path, "--dry-run").failed_with_one_line("run.modle: unknown setting")


def test_histories_and_output_with_spaces_and_other_scripts(
    here: Callable, server: Any, make_history: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "my chats 我的"
    folder.mkdir()
    path = folder / "小 文 ü %s {x}.jsonl"
    path.write_text(make_history())
    out = tmp_path / "out ü 小"
    ended = here("build", path, "--model", server.spec, "--cases", "0", "-o", out)
    assert ended.code == 0, ended.stderr
    assert str(path) in ended.stderr
    assert here("read", out).code == 0
    assert here("build", folder, "--model", server.spec, "--cases", "0", "-o", out).code == 0


def test_doctor_with_a_server_that_answers(here: Callable, server: Any) -> None:
    before = len(server.starts())
    ended = here("doctor", "--model", server.spec)
    assert ended.code == 0, ended.stdout
    assert len(server.starts()) == before + 1
    line = next(line for line in ended.stdout.splitlines() if server.spec in line)
    assert line.startswith("ok ")
    assert "answered" in line
    found = json.loads(here("doctor", "--model", server.spec, "--json").stdout)
    assert all(finding["good"] or finding["optional"] for finding in found)
    assert found[-1]["what"] == f"model {server.spec}"


def test_doctor_with_nobody_there(here: Callable, tmp_path: Path) -> None:
    (tmp_path / "dead.toml").write_text(
        '[run]\nmodel = "dead"\n[models.dead]\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\nretries = 0\n'
    )
    ended = here("doctor", "--config", tmp_path / "dead.toml")
    assert ended.code == 1
    assert "Traceback" not in ended.stderr
    line = ended.stdout.splitlines()[-1]
    assert line.startswith("WRONG")
    assert "http://127.0.0.1:9/v1" in line
    assert "refused" in line
    found = json.loads(here("doctor", "--config", tmp_path / "dead.toml", "--json").stdout)
    assert [finding["what"] for finding in found if not finding["good"] and not finding["optional"]] == ["model dead"]


@pytest.mark.parametrize("spec", ["nonsense", "m@nowhere"])
def test_doctor_with_a_model_that_means_nothing(spec: str, here: Callable) -> None:
    ended = here("doctor", "--model", spec)
    assert ended.code == 1
    assert ended.stdout.splitlines()[-1].startswith("WRONG")
