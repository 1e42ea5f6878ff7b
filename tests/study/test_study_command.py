"""The commands, from a dataset to an analysis."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peregrm.cli.study
from peregrm.cli import main
from peregrm.records import Case, Reply
from peregrm.store import write_records
from peregrm.study.answers import Answers


@pytest.fixture
def dataset(make_cases: Callable[..., dict[str, Case]], tmp_path: Path) -> Path:
    cases = make_cases(6)
    write_records(tmp_path / "data" / "cases.jsonl", cases.values())
    replies = [
        Reply(case_id=one, policy=policy, text=f"said by {n}")
        for one in cases
        for n, policy in enumerate(("warm", "cold"))
    ]
    write_records(tmp_path / "data" / "replies.jsonl", replies)
    return tmp_path / "data"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["study", *map(str, arguments)])
    return int(end.value.code or 0)


def test_from_a_dataset_to_a_plan_and_an_empty_analysis(dataset: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "study"
    assert (
        run("new", dataset, "-o", out, "--policies", "warm", "cold", "--per-participant", 2, "--participants", 9) == 0
    )
    said = capsys.readouterr()
    digest = said.out.split("plan ")[-1].strip()
    assert "6 cases, 2 a participant, 9 participants planned" in said.out
    assert run("new", dataset, "-o", out) == 1
    assert run("analyse", out) == 1
    Answers(out).close()
    assert run("analyse", out, "--plan-hash", "0" * 64) == 1
    capsys.readouterr()
    assert run("analyse", out, "--plan-hash", digest, "--json") == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == digest
    assert run("export", out) == 0
    assert {path.name for path in out.iterdir()} >= {"analysis.md", "analysis.json", "answers.csv", "answers.jsonl"}
    assert run("export", out, "-o", tmp_path / "x.xls") == 1


def test_power_is_said_in_people(capsys: Any) -> None:
    assert run("power", "--effect", 0.5, "--cases-per-participant", 1, "--icc", 0, "--case-icc", 0, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["participants"] > 34  # alpha is a quarter of 0.05: four statements
    assert run("power", "--choice-share", 0.6, "--participants", 40) == 0
    assert "40 participants, power 0." in capsys.readouterr().out
    assert run("power") == 2


def test_what_does_not_go_together_is_refused(dataset: Path, tmp_path: Path) -> None:
    assert run("serve", tmp_path, "--model", "embedded") == 2
    assert run("serve", tmp_path) == 1
    assert run("new", dataset, "-o", tmp_path / "s", "--policies", "warm", "hot") == 1


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    assert run("serve", tmp_path) == 1
    assert "'.[study]'" in capsys.readouterr().err


def test_the_commands_are_there() -> None:
    assert {command.name or command.callback.__name__ for command in peregrm.cli.study.study.registered_commands} == {  # type: ignore[union-attr]
        "new", "power", "serve", "export", "analyse",
    }  # fmt: skip


def test_what_cannot_be_planned_is_one_line(dataset: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("power", "--effect", "nan") == 1
    assert run("new", dataset, "-o", tmp_path / "s", "--effect", "nan") == 1
    (tmp_path / "about.txt").write_bytes(b"\xff\xfe")
    capsys.readouterr()
    assert run("new", dataset, "-o", tmp_path / "s", "--about", tmp_path / "about.txt") == 1
    assert "not UTF-8" in capsys.readouterr().err
    assert run("new", dataset, "-o", tmp_path / "s", "--about", tmp_path / "gone.txt") == 1
    assert not (tmp_path / "s" / "plan.json").exists()
