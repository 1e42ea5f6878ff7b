"""The verdict of a judge's card stands beside its scores, in the report of a run, in an evaluation and in scores of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peregrm.evaluation.validity.card import Finding, JudgeCard, card_verdict


def card_of(judge: str, reward: str = "shared") -> JudgeCard:
    finding = Finding(part="attacks", verdict="bad", words=("Talked into anything.",))
    return JudgeCard(judge=judge, reward=reward, criteria="model", seed=0, findings=(finding,))


def lay(folder: Path, card: JudgeCard) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(card.model_dump_json())


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_report_says_what_the_card_says_or_that_there_is_none(here: Callable, finished: Any) -> None:
    said = here("report", finished.out, "--show", "0")
    assert said.code == 0, said.stderr
    assert "This judge has not been validated" in one_line(said.stdout)
    card = card_of(finished.server.spec)
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
    card = card_of(finished.server.spec)
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
