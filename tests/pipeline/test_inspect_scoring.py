"""What the tasks for Inspect rest on, without Inspect."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import InputError, SettingsError
from peregrm.pipeline.inspect_scoring import (
    Judging,
    explanation,
    policy_requests,
    replies_of_policy,
    setting_and_store,
    shared_judging,
)
from peregrm.pipeline.reply_files import read_dataset
from peregrm.records import Case, Criteria, Reply
from peregrm.replies import policy_messages
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings
from peregrm.store import read_records, write_records


@pytest.fixture
def folder(case: Case, tmp_path: Path) -> Path:
    fields = case.model_dump(exclude={"id"})
    cases = [Case.model_validate({**fields, "query": f"{case.query} ({n})", "flags": ()}) for n in range(3)]
    write_records(tmp_path / "cases.jsonl", cases)
    return tmp_path


@pytest.fixture
def judging(folder: Path, server: Any) -> Judging:
    return Judging(folder, RewardOptions(judges=(server.spec,)), Settings())


@pytest.mark.parametrize("setting", ["generic", "personalized", "memories"])
async def test_a_policy_is_asked_what_evaluate_would_ask(folder: Path, setting: Any) -> None:
    cases = list(read_dataset(folder).cases.values())
    requests = policy_requests(folder, cases, setting, None, Settings())  # inside a running event loop
    assert [request.messages for request in requests] == [policy_messages(case, setting) for case in cases]
    assert {(r.max_tokens, r.temperature) for r in requests} == {
        (Settings().run.max_new_tokens, Settings().run.temperature)
    }


def test_retrieved_memories_come_from_the_store(folder: Path) -> None:
    cases = list(read_dataset(folder).cases.values())
    requests = policy_requests(folder, cases, *setting_and_store("retrieved:whole"), Settings())
    assert all("has a brother called Tom" in request.messages[0].content for request in requests)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("telepathy", "no setting 'telepathy'"),
        ("retrieved", "write retrieved:STORE"),
        ("generic:bm25", "any other setting alone"),
        ("retrieved:elephant", "no memory store 'elephant'"),
        ("retrieved:linked", "peregrm reply"),
    ],
)
def test_a_setting_that_cannot_be_had_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        setting_and_store(text)


def test_one_policy_of_a_file_is_taken(folder: Path) -> None:
    dataset = read_dataset(folder)
    cases = list(dataset.cases)
    replies = [
        Reply(case_id=case_id, policy=policy, text=policy) for case_id, policy in zip(cases[:2], "ab", strict=True)
    ]
    write_records(folder / "mine.jsonl", replies)
    assert replies_of_policy(folder / "mine.jsonl", "b", dataset) == ("b", {cases[1]: replies[1]})
    with pytest.raises(InputError, match="a, b: name one"):
        replies_of_policy(folder / "mine.jsonl", None, dataset)
    with pytest.raises(InputError, match="no replies of 'c'"):
        replies_of_policy(folder / "mine.jsonl", "c", dataset)


async def test_criteria_are_kept_when_the_last_sample_is_done(folder: Path, judging: Judging) -> None:
    first, second, third = judging.dataset.cases.values()
    judging.begin("one")
    done = await asyncio.gather(
        *(judging.judge(case, Reply(case_id=case.id, policy="p", text="No.")) for case in (first, second, second))
    )
    assert not (folder / "criteria.jsonl").exists()
    others = done[0].criteria.model_copy(update={"case_id": third.id})
    write_records(folder / "criteria.jsonl", [others])  # by a task of another process
    await judging.end("one")
    kept = read_records(folder / "criteria.jsonl", Criteria)
    assert [c.case_id for c in kept] == [first.id, second.id, third.id]
    assert kept[:2] == [done[0].criteria, done[1].criteria]
    assert done[1].criteria == done[2].criteria
    judging.refresh()
    assert judging.dataset.criteria[third.id].items == others.items
    words = explanation(done[0])
    assert words.startswith(f"**total {done[0].scored.total:.3f}**")
    assert all(item.text in words for _, items in kept[0].items for item in items)


async def test_what_was_judged_is_not_asked_again(judging: Judging, server: Any) -> None:
    case = next(iter(judging.dataset.cases.values()))
    once = await judging.judge(case, Reply(case_id=case.id, policy="p", text="No."))
    made = len(server.starts())
    twice = await judging.judge(case, Reply(case_id=case.id, policy="p", text="No."))
    assert (twice.scored.reward, len(server.starts())) == (once.scored.reward, made)


async def test_an_empty_reply_says_why_it_scores_lowest(judging: Judging) -> None:
    case = next(iter(judging.dataset.cases.values()))
    judged = await judging.judge(case, Reply(case_id=case.id, policy="p", text=" "))
    (rule,) = {words for judgement in judged.scored.judgements for _, words in judgement.analysis}
    assert explanation(judged).count(rule) == 1


def test_tasks_of_one_process_share_a_judge(folder: Path, server: Any) -> None:
    options, settings = RewardOptions(judges=(server.spec,)), Settings()
    one = shared_judging(folder, options, settings)
    assert shared_judging(folder, options, settings) is one
    assert shared_judging(folder, options.model_copy(update={"samples": 2}), settings) is not one
    with pytest.raises(InputError, match="no case 'x'"):
        one.case("x")
    with pytest.raises(SettingsError, match="one judge"):
        shared_judging(folder, options.model_copy(update={"judges": ("a", "b")}), settings)
