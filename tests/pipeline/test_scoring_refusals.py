"""What `peregrm score` cannot score, and what it refuses before any call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.records import Criteria
from peregrm.store import read_records, write_records
from scored_rows import rows_of

# What cannot be scored


def test_replies_that_failed_or_are_empty(task: Any) -> None:
    rows = [
        {"case_id": task.cases[0].id, "policy": "thinker", "output": "<think>I never end"},
        {"case_id": task.cases[0].id, "policy": "silent", "output": " \n"},
        {"case_id": task.cases[1].id, "policy": "thinker", "output": "<think>I never end either"},
    ]
    task.replies.write_text("\n".join(map(json.dumps, rows)))
    before = task.asked()
    task.score("scores")
    assert task.asked() - before == 1, "criteria for the case with a reply, and no call about what is not there"
    rewards = {(reward.case_id, reward.policy): reward for reward in task.rewards("scores")}
    assert len(rewards) == 3
    for case in task.cases[:2]:
        reward = rewards[case.id, "thinker"]
        assert reward.total is None
        assert reward.failure is not None
        assert reward.failure.kind == "unclosed_thinking"
    assert dict(rewards[task.cases[0].id, "silent"].scores) == {
        "resonation": 0.2, "expression": 0.2, "reception": 0.2
    }  # fmt: skip
    assert "unclosed_thinking 2" in " ".join(task.here(*task.command("scores")).stdout.split())


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    ).encode()


@pytest.mark.parametrize("with_criteria", [True, False], ids=["judgements fail", "criteria fail"])
def test_too_many_failures_stop_with_an_error_after_all_is_written(
    with_criteria: bool, task: Any, finished_once: Any, always: Callable
) -> None:
    """Five unusable answers of five, whether of the judge or of the writer of criteria, are no result."""
    copies = [task.cases[0].model_copy(update={"query": f"{n}. am I daft?"}) for n in range(6)]
    write_records(task.dataset / "cases.jsonl", copies)
    if with_criteria:
        there = read_records(finished_once.out / "criteria.jsonl", Criteria)[0]
        write_records(task.dataset / "criteria.jsonl", [there.model_copy(update={"case_id": c.id}) for c in copies])
    task.replies.write_text("\n".join(rows_of(copies, {"plain": "No."})))
    mute = always(200, "application/json", completion("I would rather not say."))
    judge = ("--judge", f"mute@{mute.url}")
    ended = task.here(*task.command("scores", *judge))
    ended.failed_with_one_line("of", "could not be used", "--failure-budget")
    rewards = task.rewards("scores")
    assert [reward.total for reward in rewards] == [None] * 6
    assert all(reward.failure is not None for reward in rewards)
    assert task.here(*task.command("scores", *judge, "--failure-budget", "1")).code == 0
    failed = {row["stage"] for row in task.summary("scores")["summary"]["failures"]}
    assert failed == ({"judge", "bystander"} if with_criteria else {"criteria"})


def test_a_judge_that_is_not_there_stops_at_once(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peregrm.models.endpoint._FIRST_WAIT_S", 0.001)
    ended = task.here(*task.command("scores", "--judge", "m@http://127.0.0.1:9/v1"))
    ended.failed_with_one_line("http://127.0.0.1:9/v1")


# What is refused before any call


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--mode", "nonsense"), "there is no reward 'nonsense'"),
        (("--dimensions", "nonsense"), "nonsense"),
        (("--judge", "nonsense"), "nonsense"),
        (("--samples", "2", "--judge-temperature", "0"), "judge_temperature above 0"),
        (("--dimensions", "humour", "--criteria", "composed"), "--criteria model"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_options_that_make_no_sense(more: tuple[str, ...], says: str, dry: tuple[str, ...], task: Any) -> None:
    before = task.asked()
    task.here(*task.command("scores", *more, *dry)).failed_with_one_line(says)
    assert task.asked() == before
    assert not (task.folder / "scores.jsonl").exists()


def test_input_that_is_not_there_or_empty(task: Any, tmp_path: Path) -> None:
    before = task.asked()
    task.here(*task.command("scores", replies=tmp_path / "none.jsonl")).failed_with_one_line("none.jsonl: no such file")
    (tmp_path / "empty.jsonl").write_text("\n")
    task.here(*task.command("scores", replies=tmp_path / "empty.jsonl")).failed_with_one_line(
        "empty.jsonl", "no replies"
    )
    task.here("score", tmp_path / "nowhere", task.replies).failed_with_one_line("nowhere", "no such file")
    assert task.asked() == before
    assert list(task.folder.iterdir()) == []


def test_the_input_is_never_written_over(task: Any) -> None:
    """`-o` that names the replies, the cases or what stands with them would lose what cannot be made again."""
    before = task.asked()
    (task.dataset / "memories.jsonl").write_text("")
    for path in (task.replies, task.dataset / "cases.jsonl", task.dataset / "memories.jsonl"):
        content = path.read_bytes()
        ended = task.here("score", task.dataset, task.replies, "-o", path, "--judge", task.server.spec)
        ended.failed_with_one_line(path.name)
        assert path.read_bytes() == content
    assert task.asked() == before


@pytest.mark.parametrize(
    "more",
    [
        ("--mode", "paper"),
        ("--dimensions", "humour"),
        ("--length-penalty", "0.1"),
        ("--length-limit", "9"),
        ("--out", "x.jsonl"),
    ],
    ids=" ".join,
)
def test_options_that_would_do_nothing_are_refused(more: tuple[str, ...], finished: Any, here: Callable) -> None:
    """Without a file of replies the run's own are scored by the shared mode: what asks for more must not pass unheard."""
    ended = here("score", finished.out, *more)
    assert ended.code == 2, ended.stdout
    said = " ".join(ended.stderr.split())
    assert "replies.jsonl" in said
    assert more[0] in said


@pytest.mark.parametrize("name", ["", "odd.parts", "scores.json", "scores"])
def test_output_that_cannot_be_a_file_is_refused_before_any_call(name: str, task: Any) -> None:
    before = task.asked()
    ended = task.here("score", task.dataset, task.replies, "-o", task.folder / name, "--judge", task.server.spec)
    ended.failed_with_one_line(str(task.folder / name))
    assert task.asked() == before
    assert list(task.folder.iterdir()) == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_a_judge_named_twice_is_refused(dry: tuple[str, ...], task: Any) -> None:
    before = task.asked()
    judges = ("--judge", task.server.spec, "--judge", task.server.spec)
    task.here(*task.command("scores", *judges, *dry)).failed_with_one_line("named twice")
    assert task.asked() == before


def test_several_judges_without_a_file_of_replies(finished: Any, here: Callable) -> None:
    ended = here("score", finished.out, "--judge", "a@http://127.0.0.1:9/v1", "--judge", "b@http://127.0.0.1:9/v1")
    assert ended.code == 2
    said = " ".join(ended.stderr.split())
    assert "for several --judge name a file of replies" in said
