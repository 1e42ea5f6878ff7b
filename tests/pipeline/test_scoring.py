"""`peregrm score DATASET REPLIES -o FILE`, end to end against a server that fills schemas and logs every call."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import pytest

from peregrm.records import Case, Criteria, Judgement, Reply, Reward
from peregrm.reward.pool import pool_totals
from peregrm.store import read_records, write_records
from scored_rows import POLICIES, rows_of

PARTS = ["cases", "replies", "judgements", "criteria", "judges"]


def check_sum(reward: Reward, weight: float = 0.5) -> None:
    """Check that the parts of a reward add up to it."""
    assert reward.empathy == pytest.approx(harmonic_mean([score for _, score in reward.scores if score is not None]))
    assert reward.empathy is not None
    assert reward.bystander is not None
    assert reward.total == pytest.approx(reward.empathy + weight * (reward.bystander - 1) - (reward.penalty or 0))


# The modes


@pytest.mark.parametrize(
    ("options", "calls", "trials"),
    [
        (("--mode", "shared"), 3 + 9 * 2, 2),
        (("--mode", "shared", "--samples", "3"), 3 + 9 * 2 * 3, 6),
        (("--mode", "paper"), 9 * 4, 4),
        (("--mode", "paper", "--samples", "3"), 9 * 10, 10),
        (("--mode", "listwise"), 3 + 3 * 2, 4),
        (("--mode", "listwise", "--samples", "3"), 3 + 3 * 2 * 3, 12),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mode_announces_makes_and_never_repeats_its_calls(
    options: tuple[str, ...], calls: int, trials: int, task: Any
) -> None:
    before = task.asked()
    planned = json.loads(task.score("dry", *options, "--dry-run", "--json").stdout)
    assert list(task.folder.iterdir()) == []
    assert task.asked() == before
    assert {row["model"] for row in planned} == {task.server.spec}
    assert all(row["input_tokens"] > 0 and row["output_tokens"] > 0 and row["cost"] is None for row in planned)

    task.score("scores", *options)
    assert task.asked() - before == calls
    used = {purpose: usage["calls"] for purpose, usage in task.summary("scores")["summary"]["costs"]}
    assert used == {row["purpose"]: row["calls"] for row in planned}
    assert sum(used.values()) == calls

    rewards = task.rewards("scores")
    assert Counter(reward.case_id for reward in rewards) == Counter({case.id: 3 for case in task.cases})
    judgements = task.part("scores", "judgements", Judgement)
    assert Counter(j.reply_id for j in judgements) == Counter({reward.reply_id: trials for reward in rewards})
    for reward in rewards:
        assert (reward.method, reward.judge, reward.coverage) == (options[1], task.server.spec, 1.0)
        check_sum(reward)
    replies = task.part("scores", "replies", Reply)
    assert [(r.case_id, r.policy) for r in replies] == [(r.case_id, r.policy) for r in rewards]
    assert {reply.policy: reply.text for reply in replies} == POLICIES
    criteria = task.part("scores", "criteria", Criteria)
    assert [c.case_id for c in criteria] == ([] if "paper" in options else [case.id for case in task.cases])
    assert task.part("scores", "cases", Case) == task.cases
    assert task.part("scores", "judges", Reward) == []

    whole = task.bytes("scores")
    assert "0 calls made" in " ".join(task.score("scores", *options).stdout.split())
    assert task.asked() - before == calls
    assert task.bytes("scores") == whole


@pytest.mark.parametrize("mode", ["shared", "paper", "listwise"])
def test_the_order_of_the_lines_changes_nothing(mode: str, task: Any) -> None:
    judges = ("--judge", task.server.spec, "--judge", task.server.spec.replace("scripted@", "other@"))
    task.score("one", "--mode", mode, *judges)
    mixed = task.folder / "mine.jsonl"
    mixed.write_text("\n".join(reversed(task.replies.read_text().split("\n"))))
    task.score("two", "--mode", mode, *judges, replies=mixed)
    assert task.bytes("one") == task.bytes("two")


def test_output_says_n_coverage_calls_and_where(task: Any) -> None:
    ended = task.score("scores")
    words = " ".join(ended.stdout.split())
    for part in ("plain", "warm", "short", "cover", "21 model calls", "21 calls made, 0 answered from the cache"):
        assert part in words, part
    assert "Agreement" not in words
    assert str(task.folder / "scores.jsonl") in ended.stderr
    assert str(task.folder / "scores.parts") in ended.stderr


def test_json_is_the_only_thing_on_standard_output(task: Any) -> None:
    said = json.loads(task.score("scores", "--json").stdout)
    assert said == task.summary("scores")
    assert {row["policy"] for row in said["summary"]["policies"]} == set(POLICIES)
    assert [name for name, _ in said["summary"]["prompts"]] == ["bystander", "criteria", "judge"], (
        "those that were asked with"
    )
    assert said["agreement"] == []


def test_another_quality(task: Any) -> None:
    before = task.asked()
    said = task.score("scores", "--dimensions", "politeness").stdout
    assert task.asked() - before == 21
    assert "dimensions" in said
    assert "empathy" not in said
    names = {tuple(name for name, _ in reward.scores) for reward in task.rewards("scores")}
    assert len(names) == 1
    assert "resonation" not in names.pop()
    for reward in task.rewards("scores"):
        check_sum(reward)


# Criteria


def test_criteria_of_the_dataset_are_used(task: Any, finished_once: Any) -> None:
    shutil.copy(finished_once.out / "criteria.jsonl", task.dataset)
    before = task.asked()
    planned = json.loads(task.score("scores", "--dry-run", "--json").stdout)
    assert {row["purpose"]: row["calls"] for row in planned} == {"judge": 9, "bystander": 9}
    task.score("scores")
    assert task.asked() - before == 18
    there = read_records(task.dataset / "criteria.jsonl", Criteria)
    assert task.part("scores", "criteria", Criteria) == there
    judged_by = {j.case_id: j.criteria_id for j in task.part("scores", "judgements", Judgement)}
    assert judged_by == {c.case_id: c.id for c in there}


def test_criteria_of_the_dataset_for_other_dimensions_or_without_items_are_not_used(
    task: Any, finished_once: Any
) -> None:
    there = read_records(finished_once.out / "criteria.jsonl", Criteria)
    first = there[0].model_copy(update={"items": (("wit", there[0].items[0][1]), *there[0].items[1:])})
    failed = Criteria.model_validate(
        {
            "case_id": there[1].case_id,
            "method": "model",
            "failure": {"stage": "criteria", "kind": "empty", "reason": "x"},
        }
    )
    write_records(task.dataset / "criteria.jsonl", [first, failed, *there[2:]])
    before = task.asked()
    task.score("scores")
    assert task.asked() - before == 2 + 18
    assert task.part("scores", "criteria", Criteria)[2:] == there[2:]


# Several judges


def test_judges_share_criteria_and_are_pooled(task: Any) -> None:
    one, two, three = (task.server.spec.replace("scripted@", f"{name}@") for name in ("one", "two", "three"))
    judges = [part for spec in (one, two, three) for part in ("--judge", spec)]
    before = task.asked()
    planned = json.loads(task.score("scores", *judges, "--dry-run", "--json").stdout)
    calls = {(row["model"], row["purpose"]): row["calls"] for row in planned}
    assert calls == {(one, "criteria"): 3, **{(j, p): 9 for j in (one, two, three) for p in ("judge", "bystander")}}
    ended = task.score("scores", *judges)
    assert task.asked() - before == sum(calls.values()) == 57

    assert "Agreement between judges" in ended.stdout
    agreement = task.summary("scores")["agreement"]
    assert [(pair["one"], pair["other"], pair["n"]) for pair in agreement] == [
        (one, two, 9), (one, three, 9), (two, three, 9)
    ]  # fmt: skip
    rewards, parts = task.rewards("scores"), task.part("scores", "judges", Reward)
    assert Counter(part.judge for part in parts) == {one: 9, two: 9, three: 9}
    assert {reward.judge for reward in rewards} == {" + ".join((one, two, three))}
    by_judge = {(part.judge, part.reply_id): part for part in parts}
    assert all(part.total is not None for part in parts)
    for case in task.cases:
        group = [reward for reward in rewards if reward.case_id == case.id]
        totals = [[by_judge[judge, reward.reply_id].total for reward in group] for judge in (one, two, three)]
        assert [reward.total for reward in group] == pool_totals(totals, 0.5)
    used = {(j.judge, j.criteria_id) for j in task.part("scores", "judgements", Judgement)}
    criteria = task.part("scores", "criteria", Criteria)
    assert used == {(judge, c.id) for judge in (one, two, three) for c in criteria}

    whole = task.bytes("scores")
    task.score("scores", *judges)
    assert task.asked() - before == 57
    assert task.bytes("scores") == whole


# Guards


def test_guards_take_off_exactly_their_price(task: Any) -> None:
    task.score("free")
    limit, length, flattery = 3, 0.01, 0.25
    task.score(
        "dear", "--length-limit", str(limit), "--length-penalty", str(length), "--sycophancy-penalty", str(flattery)
    )
    taken: dict[str, set[float]] = {}
    for free, dear in zip(task.rewards("free"), task.rewards("dear"), strict=True):
        measured = dict(free.measured)
        assert (free.penalty, free.measured, free.scores) == (0.0, dear.measured, dear.scores)
        wanted = length * max(0, measured["tokens"] - limit) + flattery * measured["sycophancy"]
        assert dear.penalty == pytest.approx(wanted)
        assert free.total is not None
        assert dear.total == free.total - (dear.penalty or 0)
        taken.setdefault(free.policy, set()).add(dear.penalty or 0)
    assert taken["short"] == {0.0}
    assert min(taken["warm"]) > min(taken["plain"]) > 0


def test_recital_costs_what_was_said(task: Any) -> None:
    known = [memory.value for memory in task.cases[0].memories if memory.status == "kept"]
    task.replies.write_text(rows_of(task.cases[:1], {"parrot": max(known, key=len), "own": "No."})[0])
    task.score("scores", "--parroting-penalty", "0.5")
    (reward,) = task.rewards("scores")
    assert dict(reward.measured)["parroting"] > 0
    assert reward.penalty == pytest.approx(0.5 * dict(reward.measured)["parroting"])
    check_sum(reward)


@pytest.mark.parametrize("option", ["--length-penalty", "--parroting-penalty", "--sycophancy-penalty"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1001", "much"])
def test_prices_that_make_no_sense(option: str, value: str, task: Any) -> None:
    ended = task.here(*task.command("scores", option, value))
    assert ended.code in (1, 2)
    assert "Traceback" not in ended.stderr
    assert list(task.folder.iterdir()) == []


# A run's own


def test_the_judge_of_the_run_is_the_default(finished: Any, here: Callable, tmp_path: Path) -> None:
    cases = finished.read("cases", Case)
    (tmp_path / "mine.jsonl").write_text("\n".join(rows_of(cases)))
    before = len(finished.server.starts())
    ended = here("score", finished.out, tmp_path / "mine.jsonl", "-o", tmp_path / "scores.jsonl")
    assert ended.code == 0, ended.stderr
    assert {reward.judge for reward in read_records(tmp_path / "scores.jsonl", Reward)} == {finished.server.spec}
    assert len(finished.server.starts()) - before == 18, "the run's criteria are used"


def test_replies_of_the_run_itself_can_be_scored_again(finished: Any, here: Callable, tmp_path: Path) -> None:
    """The run's own replies as a file, by the run's own rules, give the run's own rewards."""
    ended = here(
        "score", finished.out, finished.out / "replies.jsonl", "-o", tmp_path / "scores.jsonl", "--samples", "2"
    )
    assert ended.code == 0, ended.stderr
    again = {reward.reply_id: reward for reward in read_records(tmp_path / "scores.jsonl", Reward)}
    assert again == {reward.reply_id: reward for reward in finished.read("rewards", Reward)}


def test_names_in_brackets_are_shown_as_they_are(task: Any) -> None:
    rows = rows_of(task.cases[:1], {"[red]best[/red]": "No.", "worse [/x]\x1b[2J": "Yes."})
    task.replies.write_text("\n".join(rows))
    judges = ("--judge", task.server.spec.replace("scripted@", "a[/b]@"), "--judge", task.server.spec)
    ended = task.score("scores", *judges)
    assert "[red]best[/red]" in ended.stdout
    assert "a[/b]@" in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "a[/b]@" in task.score("dry", *judges, "--dry-run").stdout
