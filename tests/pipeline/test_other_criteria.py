"""Criteria for other dimensions than empathy in a run: written, shown, edited, kept, and judged by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.dimension_files import load_dimensions
from peregrm.pipeline.criteria_files import criteria_name
from peregrm.records import Case, Criteria, Judgement
from peregrm.store import read_records

HUMOUR = tuple(dimension.name for dimension in load_dimensions("humour"))


def names(criteria: Criteria) -> tuple[str, ...]:
    return tuple(name for name, _ in criteria.items)


@pytest.mark.parametrize(
    ("dimensions", "name"),
    [("empathy", "criteria"), ("humour", "criteria.humour"), ("my sets/wit.v2.toml", "criteria.wit.v2")],
)
def test_each_set_has_a_name_of_its_own(dimensions: str, name: str) -> None:
    assert criteria_name(dimensions) == name


def test_they_are_written_edited_kept_and_judged_by(finished: Any, here: Callable, tmp_path: Path) -> None:
    empathy = (finished.out / "criteria.jsonl").read_bytes()
    before = len(finished.server.starts())
    command = ("criteria", finished.out, "--dimensions", "humour")
    ended = here(*command)
    assert ended.code == 0, ended.stderr
    cases = finished.read("cases", Case)
    written = finished.read("criteria.humour", Criteria)
    assert [one.case_id for one in written] == [case.id for case in cases]
    assert {names(one) for one in written} == {HUMOUR}
    assert len(finished.server.starts()) - before == len(cases)

    toml = tmp_path / "edit.toml"
    ended = here(*command, "--edit", toml)
    assert "--dimensions humour --take" in ended.stderr
    old = written[0].items[0][1][0].text
    toml.write_text(toml.read_text().replace(old, "The joke is at nobody's expense."))
    ended = here(*command, "--take", toml, "--show", written[0].case_id)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith("1 sets")
    assert "The joke is at nobody's expense." in " ".join(ended.stdout.split())
    by_hand = finished.read("criteria.humour", Criteria)
    assert (by_hand[0].method, by_hand[1:]) == ("hand", written[1:])

    assert "edited by hand: kept" in here(*command).stderr
    assert finished.read("criteria.humour", Criteria) == by_hand
    assert (finished.out / "criteria.jsonl").read_bytes() == empathy

    before = len(finished.server.starts())
    scores = tmp_path / "scores.jsonl"
    replies = finished.out / "replies.jsonl"
    ended = here("score", finished.out, replies, "-o", scores, "--dimensions", "humour", "--samples", "1")
    assert ended.code == 0, ended.stderr
    judgements = read_records(tmp_path / "scores.parts" / "judgements.jsonl", Judgement)
    assert {(j.case_id, j.criteria_id) for j in judgements} == {(one.case_id, one.id) for one in by_hand}
    assert len(finished.server.starts()) - before == len(judgements), "no criteria were written"


def test_without_a_model_they_are_the_fixed_ones(finished: Any, here: Callable) -> None:
    before = len(finished.server.starts())
    ended = here("criteria", finished.out, "--dimensions", "politeness", "--criteria", "composed")
    assert ended.code == 0, ended.stderr
    assert {one.method for one in finished.read("criteria.politeness", Criteria)} == {"fixed"}
    assert len(finished.server.starts()) == before


def test_what_is_not_there_or_does_not_fit_is_said_in_one_line(finished: Any, here: Callable, tmp_path: Path) -> None:
    show = ("criteria", finished.out, "--dimensions", "humour", "--show", "all")
    here(*show).failed_with_one_line("criteria.humour.jsonl", f"peregrm criteria {finished.out} --dimensions humour")
    here("criteria", finished.out, "--dimensions", "wit").failed_with_one_line("wit")
    assert here("criteria", finished.out, "--dimensions", "humour").code == 0
    stored = (finished.out / "criteria.humour.jsonl").read_bytes()
    toml = tmp_path / "edit.toml"
    assert here("criteria", finished.out, "--edit", toml).code == 0
    take = ("criteria", finished.out, "--dimensions", "humour", "--take", toml)
    here(*take).failed_with_one_line(toml.name, "other dimensions", HUMOUR[0])
    assert (finished.out / "criteria.humour.jsonl").read_bytes() == stored
