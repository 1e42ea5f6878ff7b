"""Stage by stage the same bytes as in one go; what was edited by hand is kept, said, and used by the stages after it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.records import Case, Criteria, History, Inspection, Judgement, Memory, Persona, Reply, Reward
from peregrm.store import Workspace, write_records

STAGES = [
    "read",
    "select",
    "memories",
    "persona",
    "situations",
    "queries",
    "inspect",
    "safety",
    "criteria",
    "reply",
    "score",
]


def test_every_stage_again_gives_the_same_bytes_and_asks_nothing(
    finished: Any, here: Callable, artifacts: Callable
) -> None:
    before, asked = artifacts(finished.out), len(finished.server.starts())
    for stage in STAGES:
        ended = here(stage, finished.out)
        assert ended.code == 0, ended.stderr
        assert "edited by hand" not in ended.stderr
        assert artifacts(finished.out) == before, stage
    assert here("report", finished.out, "--show", "0").code == 0
    assert artifacts(finished.out) == before
    assert len(finished.server.starts()) == asked


def test_stages_one_by_one_from_nothing_give_the_same_bytes(finished: Any, here: Callable, artifacts: Callable) -> None:
    whole = artifacts(finished.out)
    for path in finished.out.iterdir():
        if path.is_file() and path.name not in ("run.json", "calls.sqlite"):
            path.unlink()
    for stage in STAGES:
        ended = here(stage, finished.out)
        assert ended.code == 0, ended.stderr
    assert here("report", finished.out, "--show", "0").code == 0
    assert artifacts(finished.out) == whole


def test_report_recomputes_without_a_call(finished: Any, here: Callable) -> None:
    asked = len(finished.server.starts())
    texts = {name: (finished.out / name).read_bytes() for name in ("report.md", "report.json")}
    for name in texts:
        (finished.out / name).unlink()
    (finished.out / "calls.sqlite").unlink()
    ended = here("report", finished.out, "--json")
    assert ended.code == 0
    assert json.loads(ended.stdout) == json.loads(texts["report.json"])
    assert {name: (finished.out / name).read_bytes() for name in texts} == texts
    assert len(finished.server.starts()) == asked


def test_report_names_the_judge_that_scored(finished: Any, here: Callable) -> None:
    """A later command with another judge does not change who gave the scores that are there."""
    judge = finished.read("rewards", Reward)[0].judge
    other = finished.server.spec.replace("scripted@", "other@")
    assert here("memories", finished.out, "--judge", other).code == 0
    ended = here("report", finished.out, "--json")
    assert ended.code == 1 or json.loads(ended.stdout)["judge"] == judge


def test_edited_memory_is_kept_said_and_used(finished: Any, here: Callable) -> None:
    first = next(m for m in finished.read("memories", Memory) if m.status == "kept")
    edited = first.model_copy(update={"value": "keeps a three-legged greyhound"})
    others = [m for m in finished.read("memories", Memory) if m.id != first.id]
    write_records(finished.out / "memories.jsonl", [edited, *others])
    by_hand = (finished.out / "memories.jsonl").read_bytes()

    ended = here(*finished.command)
    assert ended.code == 0, ended.stderr
    assert "memories.jsonl was edited by hand: kept" in ended.stderr
    assert (finished.out / "memories.jsonl").read_bytes() == by_hand
    for case in finished.read("cases", Case):
        values = [memory.value for memory in case.memories]
        assert edited.value in values
        assert first.value not in values
    assert {c.case_id for c in finished.read("criteria", Criteria)} == {c.id for c in finished.read("cases", Case)}

    again = here("memories", finished.out)
    assert "memories.jsonl was edited by hand: kept" in again.stderr
    assert (finished.out / "memories.jsonl").read_bytes() == by_hand


def test_deleted_file_is_made_again(finished: Any, here: Callable, artifacts: Callable) -> None:
    before = artifacts(finished.out)
    finished.edit(
        "memories", Memory, finished.read("memories", Memory)[0].model_copy(update={"value": "loves the sea"})
    )
    (finished.out / "memories.jsonl").unlink()
    assert here(*finished.command).code == 0
    assert artifacts(finished.out) == before


def test_edited_reply_is_kept_and_scored(finished: Any, here: Callable) -> None:
    reply = finished.read("replies", Reply)[0]
    edited = reply.model_copy(update={"text": "Written by hand, and better."})
    finished.edit("replies", Reply, edited)
    here("report", finished.out).failed_with_one_line("score the replies again")
    ended = here("score", finished.out)
    assert ended.code == 0, ended.stderr
    assert here("report", finished.out, "--show", "0").code == 0
    assert edited.id in {reward.reply_id for reward in finished.read("rewards", Reward)}
    assert "Written by hand, and better." in (finished.out / "report.md").read_text()


def test_edited_inspection_is_kept_and_used(finished: Any, here: Callable) -> None:
    """Somebody who overrules a gate gets the case, or at least is not overruled in silence."""
    inspections = finished.read("inspections", Inspection)
    assert inspections
    overruled = inspections[0].model_copy(update={"kept": not inspections[0].kept})
    finished.edit("inspections", Inspection, overruled)
    ended = here("inspect", finished.out)
    assert ended.code == 0, ended.stderr
    assert "inspections.jsonl was edited by hand: kept" in ended.stderr
    assert finished.read("inspections", Inspection)[0] == overruled
    queries = {case.query_id for case in finished.read("cases", Case)}
    assert (overruled.query_id in queries) == overruled.kept


def test_edited_judgement_is_kept_and_used(finished: Any, here: Callable) -> None:
    first = next(j for j in finished.read("judgements", Judgement) if j.item_scores)
    top = tuple((name, (5.0,) * len(scores)) for name, scores in first.item_scores or ())
    judgements = [first.model_copy(update={"item_scores": top}) if j.id == first.id else j
                  for j in finished.read("judgements", Judgement)]  # fmt: skip
    write_records(finished.out / "judgements.jsonl", judgements)
    old = {reward.reply_id: reward for reward in finished.read("rewards", Reward)}[first.reply_id]
    ended = here("score", finished.out)
    assert ended.code == 0, ended.stderr
    assert "judgements.jsonl was edited by hand: kept" in ended.stderr
    new = {reward.reply_id: reward for reward in finished.read("rewards", Reward)}[first.reply_id]
    assert new.empathy is not None
    assert old.empathy is not None
    assert new.empathy > old.empathy


@pytest.mark.parametrize("name", ["personas.dropped.jsonl", "rewards.jsonl"])
def test_no_edit_is_overwritten_in_silence(name: str, finished: Any, here: Callable) -> None:
    path = finished.out / name
    path.write_bytes(path.read_bytes() + b"\n")
    ended = here("persona" if "persona" in name else "score", finished.out)
    assert ended.code == 0, ended.stderr
    assert f"{name} was edited by hand: kept" in ended.stderr
    assert path.read_bytes().endswith(b"\n\n") or path.read_bytes() == b"\n"


@pytest.mark.parametrize(
    ("name", "stage"),
    [("histories", "memories"), ("memories", "persona"), ("personas", "situations"), ("situations", "queries"),
     ("queries", "inspect"), ("cases", "criteria"), ("criteria", "score"), ("replies", "score")],
)  # fmt: skip
def test_damaged_line_names_file_and_line(name: str, stage: str, finished: Any, here: Callable) -> None:
    path = finished.out / f"{name}.jsonl"
    line = len(path.read_text().splitlines()) + 1
    with path.open("a") as file:
        file.write('{"user_id": "broken')
    here(stage, finished.out).failed_with_one_line(f"{path}:{line}: ")
    here(*finished.command).failed_with_one_line(f"{path}:{line}: ")


@pytest.mark.parametrize("name", ["cases", "criteria", "replies", "rewards"])
def test_report_of_files_that_do_not_fit_says_so(name: str, finished: Any, here: Callable) -> None:
    path = finished.out / f"{name}.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    here("report", finished.out).failed_with_one_line()


def test_stage_without_its_input_says_which_file(finished: Any, here: Callable) -> None:
    (finished.out / "memories.jsonl").unlink()
    here("persona", finished.out).failed_with_one_line("memories.jsonl: no such file", "run the stage that writes it")


def test_no_run_here(tmp_path: Path, here: Callable) -> None:
    for command in ("score", "report"):
        here(command, tmp_path / "nothing").failed_with_one_line("nothing", "there is no run here")


def test_stage_commands_work_from_another_folder(
    tmp_path: Path, here: Callable, small: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small.histories, small.gold = small.histories.relative_to(tmp_path), small.gold.relative_to(tmp_path)
    assert here(*small.command(Path("out"), server)).code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for command in ("read", "inspect", "report"):
        ended = here(command, Path("..") / "out")
        assert ended.code == 0, ended.stderr


def test_other_settings_in_the_same_folder_replace_the_run(
    finished: Any, here: Callable, small: Any, tmp_path: Path, artifacts: Callable
) -> None:
    """A second run with other settings leaves what the same run in a fresh folder leaves: nothing of the first stays."""
    other = ("--cases", "0", "--samples", "1", "--memories", "extractive", "--criteria", "composed")
    source = tmp_path / "with memories.json"
    item = {"memory_id": "m1", "type": "direct", "label": "Social_Relationships/Family", "value": "has a brother, Tom",
            "evidence": {"session_id": "s1", "utterance_index": 0, "text": "My brother Tom"}, "confidence": 0.9}  # fmt: skip
    history = json.loads(small.histories.read_text())
    source.write_text(json.dumps({**history, "memory_items": [item]}))
    small.histories = source
    for out in (finished.out, tmp_path / "fresh"):
        ended = here(*small.command(out, finished.server, *other))
        assert ended.code == 0, ended.stderr
    assert artifacts(finished.out) == artifacts(tmp_path / "fresh")


def test_fewer_users_leave_nothing_of_the_others(
    tmp_path: Path, here: Callable, small: Any, server: Any, make_history: Callable, artifacts: Callable
) -> None:
    small.histories.write_text(
        make_history() + make_history("bea", ["I miss the sea, and my flat is too quiet for me."])
    )
    one, two = tmp_path / "one", tmp_path / "two"
    assert here(*small.command(two, server, "--cases", "1")).code == 0
    assert {h.user_id for h in Workspace(two).read("histories.jsonl", History)} == {"ada", "bea"}
    for out in (two, one):
        assert here(*small.command(out, server, "--cases", "1", "--users", "1")).code == 0
    assert artifacts(two) == artifacts(one)
    assert {p.user_id for p in Workspace(two).read("personas.jsonl", Persona)} == {"ada"}


def test_failed_start_does_not_relabel_a_finished_run(finished: Any, here: Callable, tmp_path: Path) -> None:
    """After a run that never got going, the report still describes the records that are there."""
    before = (finished.out / "report.json").read_bytes()
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"user_id": "u", "sessions": []}\n')
    here("run", empty, "--model", "other@http://127.0.0.1:9/v1", "-o", finished.out).failed_with_one_line("empty.jsonl")
    assert here("report", finished.out, "--show", "0").code == 0
    after = json.loads((finished.out / "report.json").read_bytes())
    assert after == json.loads(before)


def test_two_runs_into_copies_of_one_folder_agree(
    finished: Any, here: Callable, tmp_path: Path, artifacts: Callable
) -> None:
    copy = tmp_path / "a copy, ü 小"
    shutil.copytree(finished.out, copy)
    command = [copy if part == finished.out else part for part in finished.command]
    assert here(*command).code == 0
    assert artifacts(copy) == artifacts(finished.out)
