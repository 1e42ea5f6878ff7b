"""The verdict of a judge's card stands beside its scores, in the report of a run, in an evaluation and in scores of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from head_parts import WordEmbedder, trained_file
from peregrm.cli.loop import _of_settings
from peregrm.evaluation.validity import cards
from peregrm.evaluation.validity.card import Finding, JudgeCard, Way, card_verdict
from peregrm.evaluation.validity.ways import way_of
from peregrm.pipeline.asked import reward_options
from peregrm.pipeline.finish import _way
from peregrm.pipeline.job import RunConfig
from peregrm.reward.factory import open_reward
from peregrm.reward.heads import judge
from peregrm.settings import RunSettings, Settings

USUAL = Way(criteria="model", reasons=True, bystander_weight=0.5)
"""What `score` and `evaluate` ask for of themselves."""
IN_THE_RUN = USUAL.model_copy(update={"samples": 2, "temperature": 0.7})
"""How the finished run was judged."""


def card_of(judge: str, reward: str = "shared", way: Way = USUAL) -> JudgeCard:
    finding = Finding(part="attacks", verdict="bad", words=("Talked into anything.",))
    return JudgeCard(judge=judge, reward=reward, way=way, seed=0, findings=(finding,))


def lay(folder: Path, card: JudgeCard) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(card.model_dump_json())


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_report_says_what_the_card_says_or_that_there_is_none(here: Callable, finished: Any) -> None:
    said = here("report", finished.out, "--show", "0")
    assert said.code == 0, said.stderr
    assert "This judge has not been validated" in one_line(said.stdout)
    card = card_of(finished.server.spec, way=IN_THE_RUN)
    lay(Path("peregrm-validation"), card)
    said = here("report", finished.out, "--show", "0")
    assert card_verdict(card) in one_line(said.stdout)
    assert "FAILS: attacks" in (finished.out / "report.md").read_text()
    standing = json.loads((finished.out / "report.json").read_text())["standing"]
    assert standing["parts"] == [["attacks", "bad"]]
    lay(Path("peregrm-validation"), card_of(finished.server.spec, "paper"))
    said = here("report", finished.out, "--show", "0")
    assert "Its card in mode paper does not count for mode shared." in one_line(said.stdout)


def test_a_named_place_is_looked_at_alone_and_must_be_there(here: Callable, finished: Any) -> None:
    card = card_of(finished.server.spec, way=IN_THE_RUN)
    lay(Path("peregrm-validation"), card)
    Path("peregrm.toml").write_text("[run]\ncards = []\n")
    assert "has not been validated" in one_line(here("report", finished.out, "--show", "0").stdout)
    Path("peregrm.toml").write_text('[run]\ncards = "elsewhere"\n')
    here("report", finished.out).failed_with_one_line("elsewhere")
    lay(Path("elsewhere"), card)
    assert card_verdict(card) in one_line(here("report", finished.out, "--show", "0").stdout)


def test_an_evaluation_says_it_of_each_judge(here: Callable, finished: Any, tmp_path: Path) -> None:
    card = card_of(finished.server.spec)
    lay(Path("peregrm-validation"), card)
    out = tmp_path / "evaluation"
    ended = here("evaluate", finished.out, "--judge", finished.server.spec, "-o", out)
    assert ended.code == 0, ended.stderr
    verdict = card_verdict(card)
    assert verdict in one_line(ended.stdout)
    assert verdict in (out / "report.html").read_text()
    assert "FAILS: attacks" in (out / "report.md").read_text()
    (standing,) = json.loads((out / "evaluation.json").read_text())["standings"]
    assert (standing["judge"], standing["parts"]) == (finished.server.spec, [["attacks", "bad"]])


def test_scores_of_a_file_say_it_for_their_own_mode(here: Callable, finished: Any, tmp_path: Path) -> None:
    lay(Path("peregrm-validation"), card_of(finished.server.spec, "paper"))
    replies = finished.out / "replies.jsonl"
    ended = here("score", finished.out, replies, "--judge", finished.server.spec, "-o", tmp_path / "scores.jsonl")
    assert ended.code == 0, ended.stderr
    assert "does not count for mode shared" in one_line(ended.stdout)


def test_a_damaged_card_stops_before_anything_is_asked(here: Callable, finished: Any, tmp_path: Path) -> None:
    lay(Path("peregrm-validation"), card_of("x"))
    Path("peregrm-validation/card.json").write_text("{")
    calls = len(finished.server.starts())
    ended = here("evaluate", finished.out, "--judge", finished.server.spec, "-o", tmp_path / "evaluation")
    ended.failed_with_one_line("no judge card")
    assert len(finished.server.starts()) == calls


def test_the_card_of_a_head_that_comes_with_the_package_counts_for_a_run_by_default_settings(
    here: Callable, finished: Any, small: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "Embedder", WordEmbedder)
    judge._opened.cache_clear()
    spec = f"head:{trained_file(tmp_path / 'head')}"
    measured = here("validate", finished.out, "--attacks", "--judge", spec, "--cases", "1", "-o", tmp_path / "v")
    assert measured.code == 0, measured.stderr
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(cards, "_shipped", lambda: shipped)
    (shipped / "head.json").write_bytes((tmp_path / "v" / "card.json").read_bytes())
    told = ("run", small.histories, "--gold", small.gold, "--model", server.spec, "--judge", spec, "--cases", "0")
    ended = here(*told, "-o", tmp_path / "out")
    assert ended.code == 0, ended.stderr
    assert "too little data: attacks; not measured: human agreement" in one_line(ended.stdout)
    scores = here("score", tmp_path / "out", tmp_path / "out" / "replies.jsonl", "--judge", spec, "--length-penalty", "0.5",
                  "-o", tmp_path / "scores.jsonl")  # fmt: skip
    assert scores.code == 0, scores.stderr
    assert "does not count here, it was measured another way: guards" in one_line(scores.stdout)


@pytest.mark.parametrize("named", ["head", "embedded", "big@http://127.0.0.1:1/v1"])
def test_a_run_and_a_validation_by_default_settings_ask_in_the_same_way(named: str) -> None:
    settings = Settings(run=RunSettings(judge=named))
    config = RunConfig.model_construct(**_of_settings(settings))
    assert _way(config) == way_of(open_reward(reward_options(settings, None, "shared")))


def test_scores_of_other_dimensions_are_not_what_the_card_is_about(
    here: Callable, finished: Any, tmp_path: Path
) -> None:
    lay(Path("peregrm-validation"), card_of(finished.server.spec))
    told = ("score", finished.out, finished.out / "replies.jsonl", "--judge", finished.server.spec)
    same = here(*told, "-o", tmp_path / "a.jsonl")
    assert "FAILS: attacks" in one_line(same.stdout)
    other = here(*told, "--dimensions", "politeness", "-o", tmp_path / "b.jsonl")
    assert other.code == 0, other.stderr
    assert "FAILS: attacks" not in one_line(other.stdout)
    assert "measured another way: dimensions empathy, not" in one_line(other.stdout)
