"""`peregrm evaluate` and `peregrm reply -o`, end to end against a server that fills schemas and logs every call."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkout_parts import amem_at
from letta_parts import serving_letta
from peregrm.evaluation.evaluation import Evaluation
from peregrm.mapping import NoProgress
from peregrm.memory import Note, foreign, open_store
from peregrm.models.base import Request
from peregrm.models.cache import CachedModel
from peregrm.models.ledger import Ledger
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.answering import _Counting, answer_cases, plan_answers, policy_specs
from peregrm.records import Case, Criteria, Failure, Message, Reply
from peregrm.reward.peregrm import PereGRM
from peregrm.settings import Settings
from peregrm.store import read_records, write_records

OF_THE_PROCESS = {"ledger.json", "calls.sqlite", "calls.sqlite-wal", "calls.sqlite-shm"}


class OneDirection:
    def embed(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), 4), dtype=np.float32) / 2


def figures(out: Path) -> Evaluation:
    return Evaluation.model_validate_json((out / "evaluation.json").read_text())


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and p.name not in OF_THE_PROCESS}


def judges(finished: Any) -> list[str]:
    spec = finished.server.spec
    return ["--judge", spec, "--judge", spec.replace("scripted@", "other@")]


def test_policies_and_judges_are_compared_and_no_call_is_repeated(here: Any, finished: Any, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    command = ["evaluate", finished.out, "-o", out, *judges(finished), "--samples", "2"]
    before = len(finished.server.starts())
    planned = json.loads(here(*command, "--dry-run", "--json").stdout)
    assert not out.exists()
    ended = here(*command)
    assert ended.code == 0, ended.stderr
    made = len(finished.server.starts()) - before
    assert made == sum(row["calls"] for row in planned)
    found = figures(out)
    replies = finished.read("replies", Reply)
    names = sorted({reply.policy for reply in replies})
    assert [facts.policy for facts in found.policies] == names
    assert len(found.judges) == 2
    assert {(score.judge, score.policy) for score in found.scores} == {
        (j.judge, p) for j in found.judges for p in names
    }
    assert found.measures == ("resonation", "expression", "reception", "empathy", "arithmetic", "bystander", "total")
    pairs = len(names) * (len(names) - 1) // 2
    assert len(found.differences) == 2 * 7 * pairs
    assert all(one.p is None for one in found.differences)  # one user: there is nothing to test with
    assert {repeats.trials for repeats in found.noise} == {2 * len(replies)}
    assert found.criteria == (("model", found.cases),)
    whole = files(out)
    again = here(*command)
    assert len(finished.server.starts()) - before == made
    assert "0 calls made" in " ".join(again.stdout.split())
    assert files(out) == whole


def test_the_order_of_files_and_lines_changes_nothing(here: Any, finished: Any, tmp_path: Path) -> None:
    replies = finished.read("replies", Reply)
    chance = random.Random(1)
    mixed = []
    for number, policy in enumerate(sorted({reply.policy for reply in replies}, reverse=True)):
        own = [reply for reply in replies if reply.policy == policy]
        write_records(tmp_path / f"{number}.jsonl", chance.sample(own, len(own)))
        mixed.append(tmp_path / f"{number}.jsonl")
    here("evaluate", finished.out, finished.out / "replies.jsonl", "-o", tmp_path / "one", *judges(finished))
    here("evaluate", finished.out, *mixed, "-o", tmp_path / "two", *judges(finished))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_missing_reply_is_named_and_an_empty_one_scores_lowest(here: Any, finished: Any, tmp_path: Path) -> None:
    cases = finished.read("cases", Case)
    rows = [{"case_id": case.id, "policy": "silent", "text": ""} for case in cases]
    rows += [{"case_id": case.id, "policy": "partial", "text": "Tell him when."} for case in cases[1:]]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    ended = here("evaluate", finished.out, path, "-o", tmp_path / "figures", *judges(finished)[:2])
    found = figures(tmp_path / "figures")
    facts = {one.policy: one for one in found.policies}
    assert (facts["silent"].empty, facts["silent"].missing) == (len(cases), ())
    assert facts["partial"].missing == (cases[0].id,)
    assert "1 case without a reply" in ended.stdout
    scores = {score.policy: dict(score.measures) for score in found.scores}
    for dimension in ("resonation", "expression", "reception", "empathy", "arithmetic"):
        assert scores["silent"][dimension].mean == pytest.approx(0.2)
    assert scores["partial"]["total"].n == len(cases) - 1
    assert scores["partial"]["total"].asked == len(cases)


def test_criteria_are_made_once_and_kept_with_the_dataset(here: Any, finished: Any, tmp_path: Path) -> None:
    (finished.out / "criteria.jsonl").unlink()
    here("evaluate", finished.out, "-o", tmp_path / "one", *judges(finished)[:2])
    kept = read_records(finished.out / "criteria.jsonl", Criteria)
    assert [c.case_id for c in kept] == [case.id for case in finished.read("cases", Case)]
    planned = json.loads(
        here("evaluate", finished.out, "-o", tmp_path / "two", *judges(finished)[2:], "--dry-run", "--json").stdout
    )
    assert {row["purpose"] for row in planned} == {"judge", "bystander"}
    here("evaluate", finished.out, "-o", tmp_path / "two", *judges(finished)[2:])
    assert read_records(tmp_path / "two" / "criteria.jsonl", Criteria) == sorted(kept, key=lambda c: c.case_id)


def test_policies_answer_in_their_settings(here: Any, finished: Any, tmp_path: Path) -> None:
    spec = finished.server.spec
    asked = [
        "--policy",
        spec,
        "--setting",
        "history",
        "--setting",
        "memories",
        "--setting",
        "retrieved",
        "--memory",
        "bm25",
    ]
    command = ["evaluate", finished.out, "-o", tmp_path / "figures", "--judge", spec, *asked]
    planned = json.loads(here(*command, "--dry-run", "--json").stdout)
    assert {row["purpose"]: row["calls"] for row in planned}["replies"] == 3 * len(finished.read("cases", Case))
    ended = here(*command)
    assert ended.code == 0, ended.stderr
    names = ["scripted/history", "scripted/memories", "scripted/retrieved:bm25"]
    assert [facts.policy for facts in figures(tmp_path / "figures").policies] == names
    writing = ("reply", finished.out, "-o", tmp_path / "mine.jsonl", "--model", spec, *asked[2:])
    (counted,) = json.loads(here(*writing, "--dry-run", "--json").stdout)
    assert (counted["purpose"], counted["calls"]) == ("replies", 3 * len(finished.read("cases", Case)))
    assert not (tmp_path / "mine.jsonl").exists()
    written = here(*writing)
    assert written.code == 0, written.stderr
    mine = {reply.id for reply in read_records(tmp_path / "mine.jsonl", Reply)}
    assert mine == {reply.id for reply in read_records(tmp_path / "figures" / "replies.jsonl", Reply)}
    assert "answers were in" not in written.stderr
    again = here(*writing)
    assert f"{len(mine)} answers were in {tmp_path / 'mine.parts' / 'calls.sqlite'}" in again.stderr


def test_replies_come_from_a_memory_store_of_others(
    here: Any, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "default_embedder", OneDirection)
    command = ("reply", finished.out, "-o", tmp_path / "mine.jsonl", "--model", finished.server.spec)
    retrieved = ("--setting", "retrieved", "--memory", "amem")
    before = len(finished.server.starts())
    ended = here(*command, "--setting", "generic", *retrieved)
    ended.failed_with_one_line("amem needs the folder of your checkout of A-MEM: name it with --memory-at")
    assert len(finished.server.starts()) == before
    ended = here(*command, *retrieved, "--memory-at", amem_at(tmp_path), "--failure-budget", "1")
    assert ended.code == 0, ended.stderr
    assert {reply.policy for reply in read_records(tmp_path / "mine.jsonl", Reply)} == {"scripted/retrieved:amem"}
    refused = here("evaluate", finished.out, "-o", tmp_path / "figures", "--memory-at", "here")
    assert refused.code == 2
    assert "--memory-at say how a --policy is asked" in " ".join(refused.stderr.split())


async def test_a_server_of_memories_is_left_as_it_was(finished: Any) -> None:
    cases, asked = finished.read("cases", Case), []

    def reply(request: Request) -> str:
        asked.append(request)
        return "That sounds hard."

    async with serving_letta() as (fake, url):
        own = open_store("letta", at=url)
        for user in {case.user_id for case in cases}:
            await own.add(user, [Note(user_id=user, text="what lay there before")])
        before = copy.deepcopy((fake.agents, fake.passages))
        fake.calls.clear()
        specs = policy_specs(
            ["one@http://127.0.0.1:9/v1", "other@http://127.0.0.1:9/v1"], ["retrieved"], ["letta"], url
        )
        (planned, _) = await plan_answers(specs, cases, {}, Settings(), NoProgress())
        assert (planned.calls, fake.calls) == (len(cases), [])
        found = await answer_cases(
            specs, cases, {}, Settings(), opened=lambda spec: ScriptedModel(reply, name=spec), progress=NoProgress()
        )
        assert len(found) == 2 * len(cases)
        assert (fake.agents, fake.passages) == before
        assert not [each for each in asked if "what lay there before" in str(each.messages)]
        assert [each.messages for each in asked[: len(cases)]] == [each.messages for each in asked[len(cases) :]]
        await own.aclose()


async def test_only_answers_of_earlier_commands_are_told(tmp_path: Path) -> None:
    async def ask_twice() -> int:
        with _Counting(tmp_path / "calls.sqlite") as cache:
            model = CachedModel(ScriptedModel(lambda _: "yes"), cache, Ledger())
            for _ in range(2):
                await model.complete(Request(messages=(Message(role="user", content="well?"),), max_tokens=9))
            return cache.before

    assert [await ask_twice(), await ask_twice()] == [0, 1]


def test_judged_by_one_and_then_by_two_is_judged_by_two(here: Any, finished: Any, tmp_path: Path) -> None:
    here("evaluate", finished.out, "-o", tmp_path / "one", *judges(finished)[:2])
    here("evaluate", finished.out, "-o", tmp_path / "one", *judges(finished))
    here("evaluate", finished.out, "-o", tmp_path / "two", *judges(finished))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_killed_evaluation_goes_on_to_the_same_figures(
    here: Any, finished: Any, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    slow = start_server("slow")
    slow.hold_at(4)
    command = ["evaluate", str(finished.out), "-o", str(tmp_path / "one"), "--judge", slow.spec]
    process = subprocess.Popen([sys.executable, "-m", "peregrm.cli", *command], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if len(slow.done()) == 4:
            break
        time.sleep(0.05)
    assert len(slow.done()) == 4
    process.kill()
    process.wait()
    slow.hold_at(None)
    assert not (tmp_path / "one" / "evaluation.json").exists()
    assert here(*command).code == 0
    assert here(*command[:3], str(tmp_path / "two"), *command[4:]).code == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_case_without_criteria_is_judged_by_nobody_and_asked_again(
    here: Any, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = finished.read("cases", Case)
    kept = [one for one in finished.read("criteria", Criteria) if one.case_id != cases[0].id]
    lost = Criteria(case_id=cases[0].id, method="model", failure=Failure(stage="criteria", kind="http", reason="gone"))
    write_records(finished.out / "criteria.jsonl", [lost, *kept])

    async def fails(self: PereGRM, case: Case) -> Criteria:
        return lost

    out = tmp_path / "figures"
    command = ["evaluate", finished.out, "-o", out, *judges(finished), "--samples", "2", "--failure-budget", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(PereGRM, "_make_criteria", fails)
        assert here(*command).code == 0
    found = figures(out)
    assert found.criteria == (("model", len(cases) - 1),)
    assert [(one.stage, one.kind, one.n) for one in found.failures] == [("criteria", "http", 1)]
    replies = finished.read("replies", Reply)
    for one in found.scores:
        there = [r for r in replies if r.policy == one.policy and r.case_id != cases[0].id]
        assert dict(one.measures)["total"].n == len(there)
    assert finished.read("criteria", Criteria) == [lost, *kept]
    assert here(*command).code == 0
    assert all(dict(one.measures)["total"].coverage for one in figures(out).scores)
    judged = [one for one in figures(out).scores for r in replies if r.policy == one.policy]
    assert sum(dict(one.measures)["total"].n for one in figures(out).scores) == len(judged)
    assert all(one.failure is None for one in finished.read("criteria", Criteria))


def test_criteria_of_cases_that_are_not_asked_for_stay(here: Any, finished: Any, tmp_path: Path) -> None:
    """A file of a few of the cases lies beside the criteria of all."""
    cases = finished.read("cases", Case)
    kept = finished.read("criteria", Criteria)
    write_records(finished.out / "criteria.jsonl", kept[1:])
    write_records(finished.out / "few.jsonl", cases[:1])
    replies = [reply for reply in finished.read("replies", Reply) if reply.case_id == cases[0].id]
    write_records(tmp_path / "replies.jsonl", replies)
    command = ["evaluate", finished.out / "few.jsonl", tmp_path / "replies.jsonl", "-o", tmp_path / "figures"]
    assert here(*command, *judges(finished)[:2]).code == 0
    assert {one.case_id for one in finished.read("criteria", Criteria)} == {one.id for one in cases}


def test_too_many_failures_end_it_with_the_reports_written(
    here: Any, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finished.out / "criteria.jsonl").unlink()

    async def fails(self: PereGRM, case: Case) -> Criteria:
        failure = Failure(stage="criteria", kind="http", reason="gone")
        return Criteria(case_id=case.id, method="model", failure=failure)

    monkeypatch.setattr(PereGRM, "_make_criteria", fails)
    out = tmp_path / "figures"
    ended = here("evaluate", finished.out, "-o", out, *judges(finished)[:2])
    ended.failed_with_one_line("could not be used", "gone")
    assert all(dict(one.measures)["total"].mean is None for one in figures(out).scores)
    assert "gone" in (out / "report.html").read_text()
    assert "gone" in (out / "report.md").read_text()
    assert not (finished.out / "criteria.jsonl").exists()


def test_the_folder_of_the_dataset_is_no_place_for_an_evaluation(here: Any, finished: Any, tmp_path: Path) -> None:
    spec = finished.server.spec
    before = (finished.out / "cases.jsonl").read_bytes()
    here("evaluate", finished.out, "-o", finished.out, "--judge", spec).failed_with_one_line("--out")
    here("reply", finished.out, "-o", finished.out / "cases.jsonl", "--model", spec).failed_with_one_line(
        "of the dataset"
    )
    here("reply", finished.out, "-o", tmp_path, "--model", spec).failed_with_one_line("is a folder")
    assert (finished.out / "cases.jsonl").read_bytes() == before


def test_a_dataset_that_cannot_be_written_is_evaluated_all_the_same(
    here: Any, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is shared: its criteria are kept with the evaluation."""
    (finished.out / "criteria.jsonl").unlink()

    def write(path: Path, records: Any) -> int:
        if path.parent == finished.out:
            raise PermissionError(13, "Permission denied", str(path))
        return write_records(path, records)

    monkeypatch.setattr("peregrm.pipeline.evaluating.write_records", write)
    ended = here("evaluate", finished.out, "-o", tmp_path / "figures", "--judge", finished.server.spec)
    assert ended.code == 0, ended.stderr
    assert f"for this evaluation alone: {finished.out / 'criteria.jsonl'} cannot be written" in ended.stderr
    assert not (finished.out / "criteria.jsonl").exists()
    assert len(read_records(tmp_path / "figures" / "criteria.jsonl", Criteria)) == figures(tmp_path / "figures").cases


@pytest.mark.parametrize("is_run", [True, False], ids=["a run", "cases"])
def test_the_folder_of_another_dataset_is_no_place_for_an_evaluation(
    is_run: bool, here: Any, finished: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("cases.jsonl", "criteria.jsonl", "replies.jsonl", *(["run.json", "calls.sqlite"] if is_run else [])):
        (other / name).write_text("mine")
    ended = here("evaluate", finished.out, "-o", other, "--judge", finished.server.spec)
    ended.failed_with_one_line(str(other), "another dataset", "--out")
    assert {path.read_text() for path in other.iterdir()} == {"mine"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--policy", "SPEC", "--setting", "telepathy"], "there is no setting 'telepathy'"),
        (["--policy", "SPEC", "--setting", "retrieved"], "--memory STORE"),
        (["--policy", "SPEC", "--memory", "bm25"], "with the setting retrieved"),
        (["--judge", "SPEC"], "named twice"),
        (["--policy", "SPEC", "--setting", "retrieved", "--memory", "elephant"], "no memory store 'elephant'"),
    ],
)
def test_what_makes_no_sense_is_one_line(here: Any, finished: Any, tmp_path: Path, more: list[str], said: str) -> None:
    spec = finished.server.spec
    asked = [spec if word == "SPEC" else word for word in more]
    before = len(finished.server.starts())
    here("evaluate", finished.out, "-o", tmp_path / "figures", "--judge", spec, *asked).failed_with_one_line(said)
    assert len(finished.server.starts()) == before
