"""Flat batches become groups and back: every row gets its own score, or its own failure."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import InputError, ModelAuthError, SettingsError
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case, Failure, Reply, Reward
from peregrm.reward.adapters.common import (
    COMPARING,
    MEASURES,
    CaseReader,
    Outcome,
    Row,
    Unscored,
    last_reply,
    numbers,
    row_scorer,
    score_rows,
)
from peregrm.reward.base import Scored, as_replies
from peregrm.reward.factory import open_reward, reward_names
from peregrm.reward.options import RewardOptions
from peregrm.store import write_records


class Echo:
    """A reward that gives each reply the number it says, and notes the groups it was asked for."""

    method = "echo"

    def __init__(self) -> None:
        self.groups: list[tuple[str, int]] = []

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        group = as_replies(case, replies)
        self.groups.append((case.id, len(group)))
        await asyncio.sleep(0)
        return [Scored(reply, self._reward(case, reply)) for reply in group]

    def _reward(self, case: Case, reply: Reply) -> Reward:
        said = None if reply.text.startswith("lost") else float(reply.text)
        failure = None if said is not None else Failure(stage="reward", kind="timeout", reason="lost")
        parts: dict[str, Any] = {"scores": (), "empathy": said, "bystander": None, "total": said, "failure": failure}
        return Reward(
            case_id=case.id, reply_id=reply.id, policy="p", judge="j", coverage=1.0, judgement_ids=(), **parts
        )

    async def aclose(self) -> None:
        """There is nothing to close."""


@given(
    which=st.lists(st.integers(0, 3), max_size=24),
    data=st.data(),
)
def test_any_mixture_of_rows_gives_each_row_its_own_score(
    cases: list[Case], which: list[int], data: st.DataObject
) -> None:
    """However rows of several cases stand in a batch, a row's total is its own, and a case is one group."""
    worth = [data.draw(st.one_of(st.none(), st.integers(0, 9))) for _ in which]
    rows = [Row(cases[n], "lost" if w is None else str(w)) for n, w in zip(which, worth, strict=True)]
    reward = Echo()
    outcomes = asyncio.run(score_rows(reward, rows))
    assert [outcome.total for outcome in outcomes] == worth
    assert [outcome.failure is None for outcome in outcomes] == [w is not None for w in worth]
    assert dict(reward.groups) == {cases[n].id: which.count(n) for n in set(which)}
    assert len(reward.groups) == len(set(which))


async def test_groups_run_side_by_side_and_a_late_one_fails_alone(cases: list[Case]) -> None:
    class Slow(Echo):
        async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
            if case.id == cases[0].id:
                await asyncio.Event().wait()
            return await super().score(case, replies)

    rows = [Row(cases[0], "1"), Row(cases[1], "2"), Row(cases[0], "3")]
    outcomes = await score_rows(Slow(), rows, deadline_s=0.05)
    assert [outcome.total for outcome in outcomes] == [None, 2.0, None]
    late = outcomes[0].failure
    assert late is not None
    assert (late.kind, late.reason) == ("deadline", "the judge was not done after 0.05 s")
    assert not outcomes[0].no_reply


async def test_what_the_reward_raises_is_raised_even_a_timeout_of_its_own(cases: list[Case]) -> None:
    class Broken(Echo):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
            raise self.error

    for error in (ModelAuthError("no"), TimeoutError("its own")):
        with pytest.raises(type(error)):
            await score_rows(Broken(error), [Row(cases[0], "1"), Row(cases[1], "2")], deadline_s=60)


async def test_thinking_that_never_ended_is_a_failure_or_what_its_user_said_it_is_worth(
    cases: list[Case], judge: ScriptedModel
) -> None:
    reward = open_reward(RewardOptions(criteria="fixed"), (judge,))
    rows = [Row(cases[0], "<think>hm"), Row(cases[0], "<think>hm</think>worth 4"), Row(cases[0], "")]
    failed, scored, empty = await score_rows(reward, rows)
    assert (failed.total, failed.no_reply) == (None, True)
    assert failed.failure is not None
    assert failed.failure.kind == "unclosed_thinking"
    assert scored.scored is not None
    assert (scored.scored.reply.text, scored.failure) == ("worth 4", None)
    assert empty.total is not None
    priced, _, same = await score_rows(reward, rows, no_reply_score=-1.0)
    assert (priced.total, priced.no_reply) == (-1.0, True)
    assert same.total == empty.total


def test_a_case_nobody_looked_at_is_said_once(cases: list[Case], caplog: pytest.LogCaptureFixture) -> None:
    reader = CaseReader()
    reader.read(cases[0].model_copy(update={"flags": ()}))
    assert not caplog.messages
    for case in (cases[0], cases[1], cases[0]):
        reader.read(case.model_copy(update={"flags": None}))
    (said,) = caplog.messages
    assert "never looked at for danger" in said


def test_a_case_may_be_given_in_four_ways(cases: list[Case], tmp_path: Path) -> None:
    write_records(tmp_path / "cases.jsonl", cases)
    reader = CaseReader(tmp_path)
    one = cases[1]
    forms: list[object] = [one, one.model_dump(), one.model_dump(mode="json"), one.model_dump_json(), one.id]
    assert [reader.read(form) for form in forms] == [one] * 5


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("case-0000000000000000", "there is no case 'case-0000000000000000' (no dataset was given"),
        ('{"user_id": "ada"}', "case column: language: field required"),
        ("{", "case column: record: invalid json"),
        ({"user_id": "ada"}, "case column: language"),
        (7, "not int"),
        (None, "not NoneType"),
    ],
)
def test_a_cell_that_holds_no_case_is_an_error_that_says_why(value: object, why: str) -> None:
    with pytest.raises(InputError) as caught:
        CaseReader().read(value)
    assert why in str(caught.value)


def test_an_id_that_the_dataset_lacks_names_the_dataset(cases: list[Case], tmp_path: Path) -> None:
    write_records(tmp_path / "cases.jsonl", cases[:1])
    with pytest.raises(InputError, match="there is no case"):
        CaseReader(tmp_path).read(cases[1].id)
    with pytest.raises(InputError, match=r"cases\.jsonl: no such file"):
        CaseReader(tmp_path / "elsewhere").read(cases[1].id)


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("as it is <think>x</think>", "as it is <think>x</think>"),
        ([{"role": "assistant", "content": "hello"}], "hello"),
        (
            [
                {"role": "assistant", "content": "a"},
                {"role": "tool", "content": "t"},
                {"role": "assistant", "content": "b"},
            ],
            "b",
        ),
        ([{"role": "assistant", "content": None, "tool_calls": []}], ""),
        (
            [
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}],
                }
            ],
            "ab",
        ),
    ],
)
def test_the_reply_is_the_last_thing_the_assistant_said(completion: object, text: str) -> None:
    assert last_reply(completion) == text


@pytest.mark.parametrize("completion", [7, None, ["text"], [{"role": "user", "content": "hi"}], []])
def test_a_completion_without_an_assistant_is_an_error(completion: object) -> None:
    with pytest.raises(InputError, match="completion"):
        last_reply(completion)


async def test_numbers_have_the_same_names_whatever_became_of_the_row(
    cases: list[Case], half_judge: ScriptedModel
) -> None:
    reward = open_reward(RewardOptions(criteria="fixed"), (half_judge,))
    names = ("resonation", "expression", "reception")
    rows = [Row(cases[0], text) for text in ("worth 4", "lost", "<think>hm")]
    outcomes = [
        *await score_rows(reward, rows),
        Outcome(None, None, Failure(stage="reward", kind="deadline", reason="late")),
    ]
    scored, lost, silent, late = (numbers(outcome, names) for outcome in outcomes)
    assert list(scored) == list(lost) == list(silent) == list(late)
    assert set(scored) >= {*names, *MEASURES, "empathy", "bystander", "coverage", "judge_failed", "no_reply"}
    assert not any(map(math.isnan, scored.values()))
    assert all(isinstance(value, float) for row in (scored, lost, silent, late) for value in row.values())
    assert (lost["coverage"], lost["judge_failed"], lost["no_reply"]) == (0.0, 1.0, 0.0)
    assert (silent["judge_failed"], silent["no_reply"]) == (0.0, 1.0)
    assert (late["coverage"], late["judge_failed"]) == (0.0, 1.0)
    for row in (lost, silent, late):
        assert all(math.isnan(row[name]) for name in (*names, "empathy", "bystander"))


def test_a_total_can_be_demanded() -> None:
    failure = Failure(stage="reward", kind="timeout", reason="no answer")
    assert Outcome(0.5, None, None).required() == 0.5
    with pytest.raises(Unscored, match=r"no reward \(timeout\): no answer") as caught:
        Outcome(None, None, failure).required()
    assert caught.value.failure is failure


def test_the_error_survives_the_way_between_processes() -> None:
    error = Unscored(Failure(stage="reward", kind="timeout", reason="no answer"))
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.failure) == (str(error), error.failure)


async def test_one_scorer_serves_all_calls_of_a_loop(cases: list[Case], judge: ScriptedModel) -> None:
    one = row_scorer(judge=judge, samples=2)
    assert row_scorer(judge=judge, samples=2) is one
    assert row_scorer(judge=judge, samples=3) is not one
    assert row_scorer(judge=judge, samples=2, deadline_s=1.0) is not one
    assert one.dimensions == ("resonation", "expression", "reception")
    rows = [one.score(cases[n % 2], f"worth {1 + n % 5}") for n in range(8)]
    outcomes = await asyncio.gather(*rows)
    assert sum(request.purpose == "criteria" for request in judge.requests) == 2
    assert [outcome.total for outcome in outcomes[:5]] == sorted(
        total for outcome in outcomes[:5] if (total := outcome.total) is not None
    )


async def test_settings_that_cannot_work_row_by_row_are_refused(judge: ScriptedModel) -> None:
    assert set(reward_names()) >= COMPARING
    other = ScriptedModel([], name="judge-2")
    for settings in ({"reward": name} for name in COMPARING):
        with pytest.raises(SettingsError, match="compares the replies of a group"):
            row_scorer(judge=judge, **settings)
    with pytest.raises(SettingsError, match="pool"):
        row_scorer(judge=[judge, other])
    with pytest.raises(SettingsError, match="sampels"):
        row_scorer(judge=judge, sampels=2)
    with pytest.raises(SettingsError, match="name the judge as `judge`"):
        row_scorer(judges=["embedded"])
    with pytest.raises(SettingsError, match="name the judge as `judge`"):
        row_scorer(samples=2)
    with pytest.raises(SettingsError, match="there is no reward"):
        row_scorer(judge=judge, reward="shraed")
