"""A distilled judge as a model: what it answers, what it refuses, and how it is named."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distilled_parts import TAUGHT, case_of, judge_folder, reply_of
from peregrm.errors import InputError, ModelRequestError, ModelUnavailable, SettingsError
from peregrm.models.base import Message, Request
from peregrm.models.ledger import Ledger
from peregrm.models.local_judge import JUDGE_FILE, LocalJudge, is_local, local_name
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import describe, model_name, open_model, prices
from peregrm.reward.base import ABSTAINED
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judge_folder(tmp_path_factory.mktemp("judge") / "model")


@pytest.fixture
def judge(folder: Path) -> Iterator[LocalJudge]:
    model = LocalJudge(f"local:{folder}")
    yield model
    asyncio.run(model.aclose())


def request_of(text: str = "warm reply", **changes: Any) -> Request:
    score = {"type": "integer", "minimum": 1, "maximum": 5}
    part = {"type": "object", "properties": {"s1": score, "s2": score}}
    fields = {
        "messages": (Message(role="user", content=text),),
        "max_tokens": 900,
        "json_schema": {"type": "object", "properties": {"resonation": part, "reception": part}},
        "top_logprobs": 10,
        **changes,
    }
    return Request.model_validate(fields)


def test_a_reward_gets_whole_verdicts_with_expected_scores(folder: Path) -> None:
    pytest.importorskip("torch", reason="a distilled judge needs torch")
    reward = open_reward(RewardOptions(judges=(f"local:{folder}",), samples=2))
    case = case_of("ada")
    replies = [reply_of(case, level, f"policy-{level}") for level in (1, 3, 5)]

    async def score() -> list[Any]:
        try:
            return await reward.score(case, replies)
        finally:
            await reward.aclose()

    scored = asyncio.run(score())
    assert all(one.total is not None and one.coverage == 1 for one in scored)
    judged = [judgement for one in scored for judgement in one.judgements if judgement.aspect == "dimensions"]
    assert all(judgement.expected and judgement.judge == local_name(f"local:{folder}") for judgement in judged)
    assert all(json.loads(judgement.raw).keys() == {"resonation", "expression", "reception"} for judgement in judged)
    first, second = judged[0], judged[1]
    assert first.item_scores == second.item_scores, "trials draw digits, and leave the means alone"


async def test_a_temperature_draws_by_seed_and_trial(judge: LocalJudge) -> None:
    drawn = [(await judge.complete(request_of(temperature=1.0, seed=3, trial=trial))).text for trial in range(8)]
    again = [(await judge.complete(request_of(temperature=1.0, seed=3, trial=trial))).text for trial in range(8)]
    assert drawn == again
    assert len(set(drawn)) > 1
    greedy = {(await judge.complete(request_of(trial=trial))).text for trial in range(3)}
    assert len(greedy) == 1


async def test_tokens_add_up_to_the_text(judge: LocalJudge) -> None:
    done = await judge.complete(request_of())
    assert done.logprobs is not None
    assert "".join(token.token for token in done.logprobs) == done.text
    assert all(len(token.top) == 5 for token in done.logprobs if token.top)
    assert (await judge.complete(request_of(top_logprobs=0))).logprobs is None
    assert done.usage.calls == 1


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"json_schema": None}, "not_a_judgement"),
        ({"json_schema": {"type": "object", "properties": {"analysis": {"type": "string"}}}}, "not_a_judgement"),
        ({"text": "warm " * 600}, "context"),
    ],
)
async def test_what_is_no_question_for_it_is_a_failure(judge: LocalJudge, changes: dict[str, Any], kind: str) -> None:
    if kind == "context":  # the short template of the tests shows the end alone
        judge._digits = judge._loaded()
        judge._digits.context = 10
    with pytest.raises(ModelRequestError) as caught:
        await judge.complete(request_of(**changes))
    assert caught.value.kind == kind
    assert not caught.value.fatal


async def test_what_it_was_not_taught_it_declines(tmp_path: Path) -> None:
    folder = judge_folder(
        tmp_path / "model", TAUGHT.model_copy(update={"dimensions": ("resonation",), "bystander": False})
    )
    judge = LocalJudge(f"local:{folder}")
    points = {"content": {"type": "integer", "minimum": 0, "maximum": 20}}
    for request in (request_of(), request_of(json_schema={"type": "object", "properties": points})):
        with pytest.raises(ModelRequestError) as caught:
            await judge.complete(request)
        assert caught.value.kind == "untaught"
    assert "untaught" in ABSTAINED
    await judge.aclose()


async def test_many_at_once_are_answered_each_for_itself(judge: LocalJudge) -> None:
    texts = ["dull", "grey", "fair", "warm", "bright"]
    together = await asyncio.gather(*(judge.complete(request_of(text)) for text in texts))
    alone = [await judge.complete(request_of(text)) for text in texts]
    assert [one.text for one in together] == [one.text for one in alone]


async def test_a_closed_judge_says_so_and_lost_weights_stop_the_run(tmp_path: Path) -> None:
    folder = judge_folder(tmp_path / "model")
    judge = LocalJudge(f"local:{folder}")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(SettingsError, match="cannot be loaded"):
        await judge.complete(request_of())
    await judge.aclose()
    await judge.aclose()
    with pytest.raises(ModelUnavailable, match="closed"):
        await judge.complete(request_of())


def test_the_name_changes_with_the_weights(folder: Path, tmp_path: Path) -> None:
    name = local_name(f"local:{folder}")
    assert is_local(name)
    assert name.startswith(f"local:{folder}@")
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    data = bytearray((other / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (other / "model.safetensors").write_bytes(data)
    assert local_name(f"local:{other}").rpartition("@")[2] != name.rpartition("@")[2]
    settings = Settings()
    assert model_name(f"local:{folder}", settings) == name
    assert prices([f"local:{folder}"], settings)[name].of(request_usage()) == 0
    assert "distilled judge" in describe(f"local:{folder}", settings)
    opened = open_model(f"local:{folder}", settings, cache=None, ledger=Ledger())
    assert opened.name == name
    asyncio.run(opened.aclose())


def request_usage() -> Any:
    from peregrm.records import Usage

    return Usage(calls=1, input_tokens=1000, output_tokens=10)


def test_a_folder_that_is_no_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no distilled judge"):
        local_name(f"local:{tmp_path}")
    (tmp_path / JUDGE_FILE).write_text('{"teacher": 1}')
    with pytest.raises(InputError, match="cannot be used"):
        LocalJudge(f"local:{tmp_path}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reward": "listwise"}, "shared mode"),
        ({"reward": "holistic"}, "own way"),
        ({"reasons": "yes"}, "no reasons"),
        ({"criteria": "model"}, "writes no criteria"),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_is_asked(changes: dict[str, str], says: str) -> None:
    options = RewardOptions.model_validate({"judges": ("local:anywhere",), **changes})
    with pytest.raises(SettingsError, match=says):
        open_reward(options)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"bystander": False}, {}, "bystander"),
        ({"dimensions": ("resonation",)}, {}, "never taught expression, reception"),
        ({}, {"dimensions": "politeness"}, "never taught"),
    ],
)
def test_a_reward_without_any_total_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    (tmp_path / JUDGE_FILE).write_text(TAUGHT.model_copy(update=changes).model_dump_json())
    spec = f"local:{tmp_path}"
    asked = RewardOptions.model_validate({"judges": (spec,), "criteria": "fixed", **options})
    for judges in (None, (PlanningModel(local_name(spec)),)):
        with pytest.raises(SettingsError, match=says):
            open_reward(asked, judges)
    if "bystander" in changes:
        open_reward(asked.model_copy(update={"bystander_weight": 0.0}))


def test_a_judge_of_other_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / JUDGE_FILE).write_text(TAUGHT.model_copy(update={"prompts": ("judge@0",)}).model_dump_json())
    spec = f"local:{tmp_path}"
    with pytest.raises(InputError, match="teach it again"):
        LocalJudge(spec)
    with pytest.raises(InputError, match="judge@0"):
        open_reward(RewardOptions(judges=(spec,)))


def test_the_home_of_nobody_is_no_folder() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        local_name("local:~nobody-of-this-name/judge")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("CUDA out of memory. Tried"), "memory"),
        (RuntimeError("size mismatch"), "error"),
    ],
)
async def test_what_broke_is_told(judge: LocalJudge, error: Exception, kind: str) -> None:
    digits = judge._loaded()

    def broken(*_: object) -> None:
        raise error

    digits.read = broken  # type: ignore[method-assign, assignment]
    judge._digits = digits
    with pytest.raises(ModelUnavailable) as caught:
        await judge.complete(request_of())
    assert caught.value.kind == kind
