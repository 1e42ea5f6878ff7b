"""A trained head wherever `--judge` is: run, report, score, compare, evaluate, explain; and the command that trains one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from head_parts import WordEmbedder, gold_folder, trained_file
from peregrm import PereGRM
from peregrm.errors import SettingsError
from peregrm.models import embeddings
from peregrm.models.heads import head_name
from peregrm.records import Case, Judgement, Reward
from peregrm.reward.heads import judge
from peregrm.store import read_records


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_file(tmp_path_factory.mktemp("head"))


@pytest.fixture
def spec(head_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(judge, "Embedder", WordEmbedder)
    judge._opened.cache_clear()
    return f"head:{head_file}"


def test_a_run_judged_by_a_head_and_what_works_on_it(
    spec: str, here: Callable, small: Any, server: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = (
        "run",
        small.histories,
        "--gold",
        small.gold,
        "--model",
        server.spec,
        "--judge",
        spec,
        "--memories",
        "model",
    )
    planned = json.loads(here(*told, "-o", out, "--dry-run", "--json").stdout)
    assert not {row["purpose"] for row in planned} & {"judge", "bystander", "criteria"}
    ended = here(*told, "-o", out)
    assert ended.code == 0, ended.stderr
    assert "small trained head" in " ".join(ended.stdout.split())
    rewards = read_records(out / "rewards.jsonl", Reward)
    assert {(one.judge, one.method) for one in rewards} == {(head_name(spec), "head")}
    assert all(one.total is not None and 0 <= one.total <= 1 for one in rewards)
    judgements = read_records(out / "judgements.jsonl", Judgement)
    assert sum(one.usage.calls for one in judgements) == 0
    assert "small trained head" in (out / "report.md").read_text()
    criteria = [json.loads(line)["method"] for line in (out / "criteria.jsonl").read_text().splitlines()]
    assert set(criteria) <= {"composed", "fixed"}
    assert here("score", out).code == 0, "the stage again, with the judge it was told before"
    explained = here("explain", rewards[0].reply_id, out)
    assert explained.code == 0, explained.stderr
    assert "log_odds" in explained.stdout

    case = read_records(out / "cases.jsonl", Case)[0]
    mine = tmp_path / "mine.jsonl"
    mine.write_text(
        "".join(json.dumps({"case_id": case.id, "policy": p, "output": p}) + "\n" for p in ("Ha.", "Leave it."))
    )
    scored = here("score", out, mine, "--judge", spec, "-o", tmp_path / "scores.jsonl")
    assert scored.code == 0, scored.stderr
    assert "small trained head" in " ".join((scored.stdout + scored.stderr).split())
    compared = here("compare", out, mine, "--judge", spec, "-o", tmp_path / "compared", "--json")
    assert compared.code == 0, compared.stderr
    assert [row["method"] for row in json.loads(compared.stdout)["rows"]] == ["shared"], "it judges in one way"
    evaluated = here(
        "evaluate", out, mine, "--judge", spec, "--judge", server.spec, "--criteria", "composed", "-o", tmp_path / "e"
    )
    assert evaluated.code == 0, evaluated.stderr
    assert "small trained head" in (tmp_path / "e" / "report.md").read_text()


def test_the_command_trains_a_head_that_can_judge(
    here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "Embedder", WordEmbedder)
    out = tmp_path / "new" / "head.json"
    ended = here("train", "judge-head", gold_folder(tmp_path / "gold"), "--licence", "CC0-1.0", "-o", out)
    assert ended.code == 0, ended.stderr
    assert "persona swap noticed" in ended.stdout
    card = json.loads(out.read_text())["card"]
    assert (card["users"], card["datasets"][0]["licence"]) == (12, "CC0-1.0")
    here("train", "judge-head", tmp_path / "none.jsonl", "-o", out).failed_with_one_line("none.jsonl")


def test_a_head_is_no_model(spec: str, here: Callable, small: Any, tmp_path: Path) -> None:
    ended = here("run", small.histories, "--model", spec, "--cases", "1", "-o", tmp_path / "out")
    ended.failed_with_one_line("cannot be asked anything else")
    with pytest.raises(SettingsError, match="open_reward"):
        PereGRM(judge=spec)
    gone = here("run", small.histories, "--judge", "head:/nowhere.json", "--cases", "0", "-o", tmp_path / "out")
    gone.failed_with_one_line("/nowhere.json", "cannot be read")
