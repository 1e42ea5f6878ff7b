"""A training planned without weights: counts that are the real ones, memory that is about what a run takes, calls by asking a stand-in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from held_out_parts import WORDS, rows_of
from peregrm.models.planning import PlanningModel
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from simulated_judges import many_cases

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("peft", reason="training needs peft")

from peregrm.training.grpo.settings import GroupSettings, Pace
from peregrm.training.plan import plan_judging, plan_memory, plan_training, shape_of
from peregrm.training.policies import Lora, load_policy, outline_policy, parameter_counts, save_policy
from training.conftest import tiny_policy

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_policy(tmp_path_factory.mktemp("policy"), WORDS))


@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
def test_an_outline_counts_what_the_policy_has(weights: str, lora: Lora | None) -> None:
    outline, policy = outline_policy(weights, lora=lora), load_policy(weights, lora=lora, device="cpu")
    assert parameter_counts(outline.model) == parameter_counts(policy.model)
    assert {parameter.device.type for parameter in outline.model.parameters()} == {"meta"}
    assert outline.context == policy.context
    assert outline.tokenizer.chat_template == policy.tokenizer.chat_template


def test_an_adapter_is_outlined_as_it_will_be_trained(weights: str, tmp_path: Path) -> None:
    save_policy(load_policy(weights, lora=Lora(rank=4), device="cpu"), tmp_path / "adapter")
    outline, policy = outline_policy(str(tmp_path / "adapter")), load_policy(str(tmp_path / "adapter"), device="cpu")
    assert parameter_counts(outline.model) == parameter_counts(policy.model)
    assert parameter_counts(outline.model)[1] > 0


def planned(weights: str, lora: Lora | None = None, **changes: Any) -> Any:
    settings = GroupSettings(**{"rollouts": 4, "batch": 2, "max_new_tokens": 10, "lora": lora, **changes})
    shape = shape_of(outline_policy(weights, lora=lora).model, device="cpu")
    rows = rows_of(many_cases(5, 1))
    return plan_training(shape, rows, rows[:2], settings, Pace(eval_every=2))


def test_steps_replies_and_tokens_are_counted(weights: str) -> None:
    plan = planned(weights)
    assert (plan.prompts, plan.steps, plan.replies) == (5, 3, 24)
    assert (plan.prompt_tokens, plan.new_tokens) == (24 * 8, 24 * 10)
    assert (plan.evaluations, plan.held_out_new_tokens, plan.held_out_prompt_tokens) == (3, 3 * 2 * 10, 3 * 2 * 8)
    text = "\n".join(plan.lines())
    assert "3 steps over 5 prompts: 24 replies, 192 prompt tokens, at most 240 new tokens" in text
    assert "3 held-out evaluations of 2 cases" in text
    assert "(100.0%)" in text


def test_memory_follows_what_is_trained_and_how(weights: str) -> None:
    whole, adapter, free = planned(weights), planned(weights, Lora(rank=4)), planned(weights, kl=0.0)
    size = 4 * whole.parameters
    assert whole.memory.weights == whole.memory.reference == whole.memory.gradients == size
    assert whole.memory.optimizer == 2 * size
    assert (adapter.memory.reference, adapter.memory.gradients) == (0, 4 * adapter.trained)
    assert free.memory.reference == 0
    half = planned(weights, at_once=4)
    assert half.memory.update == whole.memory.update / 2
    assert half.memory.writing == whole.memory.writing
    assert whole.memory.peak > whole.memory.weights + whole.memory.optimizer


def test_prompts_take_no_room_in_the_last_layer_and_layers_only_their_input(weights: str) -> None:
    """On a CPU as on a GPU: activations are recomputed and the last layer sees new tokens alone."""
    shape, settings = shape_of(outline_policy(weights).model, device="cpu"), GroupSettings(max_new_tokens=16)
    wordy = shape._replace(vocabulary=32768)
    short, long = (plan_memory(wordy, settings, prompt_tokens=tokens).update for tokens in (100, 500))
    inputs = 8 * 400 * (shape.layers * shape.width + 11 * shape.width + 4 * shape.inner) * 4
    assert long - short == inputs
    assert long > 9 * 8 * 16 * 32768 * 4
    deep = plan_memory(wordy._replace(layers=shape.layers + 10), settings, prompt_tokens=100).update
    assert deep - short == 8 * 116 * 10 * shape.width * 4


async def test_judges_are_asked_by_their_own_code() -> None:
    """Two visits and a half to six cases with four replies each: criteria once a case, everything else every time."""
    model = PlanningModel("judge")
    reward = PereGRM(model, criteria="model", samples=1)
    cases = many_cases(6, 1)
    await plan_judging(reward, [model], cases, replies=4, visits=2.5, reply_tokens=50)
    calls = {purpose: usage.calls for purpose, usage in model.planned.items()}
    assert calls["criteria"] == 6
    assert calls["judge"] == 6 * 4 * 2.5
    assert calls["bystander"] == 6 * 4 * 2.5
    longer = PlanningModel("judge")
    await plan_judging(
        PereGRM(longer, criteria="model", samples=1), [longer], cases, replies=4, visits=2.5, reply_tokens=90
    )
    more = longer.planned["judge"].input_tokens - model.planned["judge"].input_tokens
    assert more == pytest.approx(60 * 40, rel=0.02)


async def test_a_head_is_asked_nothing_and_a_part_of_a_visit_counts_as_such() -> None:
    model = PlanningModel("judge")
    reward = PereGRM(model, criteria="composed", samples=2)
    await plan_judging(reward, [model], many_cases(4, 1), replies=2, visits=0.5, reply_tokens=10)
    assert model.planned["judge"].calls == 4 * 2 * 2 * 0.5
    await plan_judging(reward, [model], [], replies=2, visits=0.5, reply_tokens=10)


def test_a_sample_stands_for_many_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from peregrm.training import plan

    monkeypatch.setattr(plan, "_MOST_CASES", 3)
    model = PlanningModel("judge")
    asyncio.run(
        plan_judging(PereGRM(model, criteria="model"), [model], many_cases(12, 1), replies=2, visits=1, reply_tokens=9)
    )
    assert model.planned["criteria"].calls == 12
    assert model.planned["judge"].calls == 24


def test_the_command_plans_without_loading_weights(weights: str, tmp_path: Path) -> None:
    from peregrm.pipeline.training import GroupTraining
    from peregrm.pipeline.training_plan import plan_group
    from peregrm.settings import Settings
    from peregrm.store import write_records

    write_records(tmp_path / "cases.jsonl", many_cases(12, 2))
    judge, other = "qwen@http://127.0.0.1:1/v1", "llama@http://127.0.0.1:1/v1"
    asked = GroupTraining(
        model=weights,
        reward=RewardOptions(judges=(judge,), samples=1),
        settings=GroupSettings(rollouts=4, batch=2, max_new_tokens=10, setting="generic"),
        pace=Pace(max_steps=20, eval_every=5),
        held_out=other,
    )
    found = plan_group(tmp_path, asked, Settings())
    assert found.training.steps == 20
    assert found.training.evaluations == 5
    calls = {(row.model.split("@")[0], row.purpose): row.calls for row in found.calls}
    assert len(calls) == len(found.calls), "one row a model and purpose"
    outside = found.training.held_out_cases  # which the training judge reads too
    assert calls["qwen", "judge"] == pytest.approx(20 * 2 * 4 + 5 * outside, abs=1)
    assert calls["qwen", "criteria"] == found.training.prompts + outside
    assert calls["llama", "judge"] == 5 * found.training.held_out_cases
    assert all(row.cost is None for row in found.calls)
    assert sum(line.endswith(f"0 flagged ones withheld, {outside} held out") for line in found.told) == 1
    compared = dataclasses.replace(asked, reward=asked.reward.model_copy(update={"reward": "listwise"}))
    alone = dataclasses.replace(compared, held_out=None)
    own = [
        [row for row in plan_group(tmp_path, one, Settings()).calls if row.model == judge] for one in (compared, alone)
    ]
    assert own[0] == own[1], "a judge that compares replies reads no held-out ones"


def test_that_a_held_out_judge_has_nobody_to_read_is_known_before(weights: str, tmp_path: Path) -> None:
    from peregrm.pipeline.publish import ExportOptions, save_options
    from peregrm.pipeline.training import GroupTraining
    from peregrm.pipeline.training_plan import plan_group
    from peregrm.settings import Settings
    from peregrm.store import write_records

    write_records(tmp_path / "cases.jsonl", many_cases(4, 1))
    save_options(tmp_path, ExportOptions(shares=(1.0, 0.0, 0.0)))
    asked = GroupTraining(
        model=weights,
        reward=RewardOptions(judges=("qwen@http://127.0.0.1:1/v1",), samples=1),
        settings=GroupSettings(rollouts=4, batch=2, max_new_tokens=10, setting="generic"),
        pace=Pace(max_steps=2),
        held_out="llama@http://127.0.0.1:1/v1",
    )
    told = plan_group(tmp_path, asked, Settings()).told
    assert sum("No held-out case" in line for line in told) == 1
    alone = plan_group(tmp_path, dataclasses.replace(asked, held_out=None), Settings()).told
    assert not any("No held-out case" in line for line in alone)
