"""The TRL adapter, called as TRL 1.16 calls a reward function; with the real trainer in test_adapter_trl_real."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from peregrm.errors import InputError, ModelAuthError
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case
from peregrm.reward.adapters.trl import trl_reward
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions

Completion = str | list[dict[str, str]]


class Log:
    """What TRL passes as `log_metric` and `log_extra`: values of one step, and columns that only grow."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.columns: dict[str, list[Any]] = {}

    def metric(self, name: str, value: float) -> None:
        self.metrics[name] = value

    def extra(self, column: str, values: list[Any]) -> None:
        self.columns.setdefault(column, []).extend(values)


async def call(
    function: Callable[..., Awaitable[list[float | None]]],
    cases: Sequence[object],
    completions: Sequence[Completion],
    log: Log,
) -> list[float | None]:
    """Call a reward function with everything TRL gives one, by keyword, as it does."""
    return await function(
        prompts=[[{"role": "user", "content": "hi"}] for _ in completions],
        completions=completions,
        completion_ids=[[1, 2, 3] for _ in completions],
        case=list(cases),
        source=["x" for _ in completions],
        trainer_state=SimpleNamespace(global_step=3),
        log_extra=log.extra,
        log_metric=log.metric,
        environments=[None for _ in completions],
    )


async def test_a_batch_of_groups_comes_back_row_by_row(cases: list[Case], judge: ScriptedModel) -> None:
    reward = open_reward(RewardOptions(), (judge,))
    function = trl_reward(reward)
    assert inspect.iscoroutinefunction(function)
    assert function.__name__ == "peregrm_shared"
    log = Log()
    worth = [1, 2, 3, 4, 5, 1, 3, 5]
    completions: list[Completion] = [[{"role": "assistant", "content": f"<think>so</think>worth {w}"}] for w in worth]
    asked = [cases[0].id if n < 4 else cases[1].model_dump_json() for n in range(8)]
    asked[:4] = [cases[0].model_dump_json()] * 4
    got = await call(function, asked, completions, log)
    expected = await reward.score(cases[0], [f"worth {w}" for w in worth])
    assert got == [one.total for one in expected]
    assert sum(request.purpose == "criteria" for request in judge.requests) == 2
    assert log.metrics["peregrm/total"] == pytest.approx(sum(t for t in got if t is not None) / 8)
    assert log.metrics["peregrm/failed"] == 0.0
    assert log.metrics["peregrm/coverage"] == 1.0
    for name in ("resonation", "expression", "reception", "empathy", "bystander", "tokens", "parroting", "sycophancy"):
        assert f"peregrm/{name}" in log.metrics
    assert log.metrics["peregrm/resonation"] == pytest.approx(sum(worth) / 8 / 5)
    assert log.columns["peregrm/total"] == got
    assert [json.loads(text)["reception"] for text in log.columns["peregrm/scores"]] == [w / 5 for w in worth]


async def test_a_row_without_a_reward_is_none_and_enters_no_mean(cases: list[Case], half_judge: ScriptedModel) -> None:
    function = trl_reward(open_reward(RewardOptions(criteria="fixed"), (half_judge,)))
    log = Log()
    got = await call(function, [cases[0]] * 4, ["worth 5", "lost, worth 1", "worth 3", "<think>hm"], log)
    assert got[1] is None
    assert got[3] is None
    scored = [got[0], got[2]]
    assert all(isinstance(total, float) for total in scored)
    assert log.metrics["peregrm/total"] == pytest.approx(sum(t for t in scored if t is not None) / 2)
    assert log.metrics["peregrm/resonation"] == pytest.approx((1 + 0.6) / 2)
    assert (log.metrics["peregrm/failed"], log.metrics["peregrm/no_reply"]) == (0.5, 0.25)
    assert log.metrics["peregrm/coverage"] == pytest.approx(2 / 3)
    assert log.columns["peregrm/failure"] == ["", "timeout", "", "unclosed_thinking"]
    assert log.columns["peregrm/empathy"][1] is None


async def test_an_outage_gives_no_number_and_the_same_columns(
    cases: list[Case], judge: ScriptedModel, silent_judge: ScriptedModel
) -> None:
    log, before = Log(), Log()
    await call(trl_reward(open_reward(RewardOptions(), (judge,))), cases, ["worth 3"] * 4, before)
    got = await call(trl_reward(open_reward(RewardOptions(), (silent_judge,))), cases, ["worth 3"] * 4, log)
    assert got == [None] * 4
    assert log.metrics["peregrm/failed"] == 1.0
    assert log.metrics["peregrm/coverage"] == 0.0
    assert set(log.metrics) <= {
        f"peregrm/{name}" for name in ("failed", "no_reply", "flagged", "coverage", "tokens", "parroting", "sycophancy")
    }
    assert set(log.columns) == set(before.columns)
    assert {len(values) for values in log.columns.values()} == {4}


async def test_what_is_fatal_is_raised(cases: list[Case]) -> None:
    refused = ScriptedModel(lambda _: ModelAuthError("key refused"))
    function = trl_reward(open_reward(RewardOptions(), (refused,)))
    with pytest.raises(ModelAuthError):
        await call(function, cases, ["worth 3"] * 4, Log())


async def test_a_set_without_the_case_column_is_an_error(cases: list[Case], judge: ScriptedModel) -> None:
    function = trl_reward(open_reward(RewardOptions(), (judge,)), case_column="moment")
    with pytest.raises(InputError, match="no column 'moment'"):
        await call(function, cases, ["worth 3"] * 4, Log())


async def test_it_works_without_the_two_ways_to_log(cases: list[Case], judge: ScriptedModel) -> None:
    function = trl_reward(open_reward(RewardOptions(reward="no-bystander"), (judge,)))
    assert function.__name__ == "peregrm_no_bystander"
    (total,) = await function(prompts=["hi"], completions=["worth 5"], completion_ids=[[1]], case=[cases[0]])
    assert total == pytest.approx(1.0)


async def test_thinking_that_the_prompt_opened_and_never_ended_is_no_reply(
    cases: list[Case], judge: ScriptedModel
) -> None:
    function = trl_reward(open_reward(RewardOptions(), (judge,)), opened="<think>")
    log = Log()
    got = await call(function, [cases[0]] * 2, ["worth 5, the user says", "hm</think>worth 5"], log)
    assert (got[0] is None, got[1] is None) == (True, False)
    assert log.columns["peregrm/failure"] == ["unclosed_thinking", ""]
