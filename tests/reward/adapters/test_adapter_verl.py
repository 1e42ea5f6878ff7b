"""The verl adapter, loaded by its path and called row by row as verl 0.9 does; with the real managers in test_adapter_verl_real."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import math
import random
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peregrm
from peregrm.errors import ModelAuthError, SettingsError
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case
from peregrm.reward.adapters.common import MEASURES, Unscored
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.store import write_records

PATH = Path(peregrm.__file__).parent / "reward" / "adapters" / "verl.py"
Score = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture(scope="module")
def compute_score() -> Score:
    """Load the file as verl does: under a name of its own, without entering it into `sys.modules`."""
    spec = importlib.util.spec_from_file_location("custom_module_1", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "custom_module_1" not in sys.modules
    score: Score = module.compute_score
    return score


async def call(score: Score, case: object, text: str, **reward_kwargs: Any) -> dict[str, Any]:
    """Call as verl's default manager does: by keyword, with what it adds to `extra_info`."""
    return await score(
        data_source="peregrm",
        solution_str=text,
        ground_truth=case,
        extra_info={"num_turns": 2, "rollout_reward_scores": {}},
        **reward_kwargs,
    )


def test_verl_sees_that_it_is_asynchronous_even_with_its_settings_bound(compute_score: Score) -> None:
    assert inspect.iscoroutinefunction(compute_score)
    assert inspect.iscoroutinefunction(partial(compute_score, judge="embedded"))


async def test_rows_of_one_group_share_criteria_and_each_has_its_own_score(
    compute_score: Score, cases: list[Case], judge: ScriptedModel
) -> None:
    worth = [1, 2, 3, 4, 5, 2, 4, 1]
    rows = [call(compute_score, cases[n % 2].model_dump_json(), f"worth {w}", judge=judge) for n, w in enumerate(worth)]
    random.Random(1).shuffle(rows)
    answers = await asyncio.gather(*rows)
    assert sum(request.purpose == "criteria" for request in judge.requests) == 2
    direct = await open_reward(RewardOptions(), (judge,)).score(cases[0], [f"worth {w}" for w in worth])
    assert sorted(answer["score"] for answer in answers) == sorted(one.total or math.nan for one in direct)
    assert [answer["resonation"] for answer in answers] == [answer["empathy"] for answer in answers]
    assert {answer["failure"] for answer in answers} == {""}


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=10))
def test_any_interleaving_of_cases_gives_each_row_its_own_score(
    compute_score: Score, cases: list[Case], verdicts: Callable[[], ScriptedModel], rows: list[tuple[int, int]]
) -> None:
    async def together() -> list[dict[str, Any]]:
        judge = verdicts()
        calls = [call(compute_score, cases[n], f"worth {w}", judge=judge, criteria="fixed") for n, w in rows]
        return list(await asyncio.gather(*calls))

    answers = asyncio.run(together())
    assert [answer["reception"] for answer in answers] == pytest.approx([w / 5 for _, w in rows])


@pytest.fixture(scope="session")
def verdicts(answer: Callable[[dict[str, Any], int], Any]) -> Callable[[], ScriptedModel]:
    """Build a fresh judge that gives what a reply says it is worth."""

    def make() -> ScriptedModel:
        def play(request: Any) -> str:
            worth = int(request.messages[-1].content.split("worth ")[1][0])
            return json.dumps(answer(request.json_schema, worth))

        return ScriptedModel(play, name="judge-1")

    return make


async def test_every_row_has_the_same_keys_of_the_same_types(
    compute_score: Score, cases: list[Case], half_judge: ScriptedModel, silent_judge: ScriptedModel
) -> None:
    kwargs: dict[str, Any] = {"judge": half_judge, "criteria": "fixed", "on_failure": "nan"}
    rows = [await call(compute_score, cases[0], text, **kwargs) for text in ("worth 4", "lost", "<think>hm", "")]
    rows.append(await call(compute_score, cases[0], "worth 4", judge=silent_judge, on_failure="nan"))
    kinds = [{key: type(value) for key, value in row.items()} for row in rows]
    assert all(kind == kinds[0] for kind in kinds)
    assert set(kinds[0]) == {
        *("score", "resonation", "expression", "reception", "empathy", "bystander", "coverage"),
        *(*MEASURES, "judge_failed", "no_reply", "flagged", "failure"),
    }
    assert [math.isnan(row["score"]) for row in rows] == [False, True, True, False, True]
    assert [row["judge_failed"] for row in rows] == [0, 1, 0, 0, 1]
    assert [row["failure"] for row in rows] == ["", "timeout", "unclosed_thinking", "", "timeout"]


async def test_with_the_judge_down_a_row_raises_and_never_scores(
    compute_score: Score, cases: list[Case], silent_judge: ScriptedModel
) -> None:
    with pytest.raises(Unscored, match=r"no reward \(timeout\)"):
        await call(compute_score, cases[0], "worth 4", judge=silent_judge)
    refused = ScriptedModel(lambda _: ModelAuthError("key refused"))
    for on_failure in ("raise", "nan"):
        with pytest.raises(ModelAuthError):
            await call(compute_score, cases[0], "worth 4", judge=refused, on_failure=on_failure)


async def test_where_exceptions_would_become_zero_the_answer_is_nan(
    compute_score: Score, cases: list[Case], silent_judge: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl's rate-limited manager, once it exists in a process, catches everything and scores 0.0."""
    module = ModuleType("verl.experimental.reward_loop.reward_manager.limited")
    manager = type("RateLimitedRewardManager", (), {"_class_initialized": False})
    module.RateLimitedRewardManager = manager  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(Unscored):
        await call(compute_score, cases[0], "worth 4", judge=silent_judge)
    manager._class_initialized = True  # type: ignore[attr-defined]
    answer = await call(compute_score, cases[0], "worth 4", judge=silent_judge)
    assert math.isnan(answer["score"])
    assert answer["judge_failed"] == 1.0
    refused = ScriptedModel(lambda _: ModelAuthError("key refused"))
    for wrong in (
        {"judge": refused},
        {"judge": silent_judge, "sampels": 2},
        {"judge": silent_judge, "on_failure": "0"},
    ):
        answer = await call(compute_score, cases[0], "worth 4", **wrong)
        assert math.isnan(answer["score"])
        assert answer["failure"] in ("auth", "SettingsError")


async def test_it_answers_before_verl_gives_up(compute_score: Score, cases: list[Case]) -> None:
    class Deaf(ScriptedModel):
        async def complete(self, request: Any) -> Any:
            await asyncio.Event().wait()

    with pytest.raises(Unscored, match="deadline"):
        await call(compute_score, cases[0], "worth 4", judge=Deaf([]), criteria="fixed", deadline_s=0.05)
    default = inspect.signature(compute_score).parameters["deadline_s"].default
    assert default < 300


async def test_a_reply_that_never_came_may_have_a_price(
    compute_score: Score, cases: list[Case], judge: ScriptedModel
) -> None:
    answer = await call(compute_score, cases[0], "<think>hm", judge=judge, no_reply_score=-0.5)
    assert (answer["score"], answer["failure"], answer["judge_failed"]) == (-0.5, "unclosed_thinking", 0.0)


async def test_settings_come_as_a_configuration_file_gives_them(
    compute_score: Score, cases: list[Case], judge_server: str, tmp_path: Path
) -> None:
    """A judge by name, a dataset to look the case up in, a cache, and verl's own keywords beside them."""
    write_records(tmp_path / "cases.jsonl", cases)
    answer = await call(
        compute_score,
        cases[2].id,
        "worth 5",
        judge=f"m@{judge_server}",
        dataset=str(tmp_path),
        cache=str(tmp_path / "calls.sqlite"),
        samples=1,
        guards={"length_coefficient": 0.0},
        reward_router_address=None,
        reward_model_tokenizer=None,
    )
    assert answer["score"] == pytest.approx(1.0)
    assert (tmp_path / "calls.sqlite").exists()


@pytest.mark.parametrize(
    "wrong", [{"on_failure": "zero"}, {"sampels": 2}, {"reward": "listwise"}, {"judge": ["a", "b"]}]
)
async def test_settings_that_make_no_sense_are_errors(
    compute_score: Score, cases: list[Case], wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError):
        await call(compute_score, cases[0], "worth 4", **wrong)
