"""Group training of a tiny policy: it learns what can be learned, and a run that was stopped ends with the weights of one that was not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from group_parts import TINY, Logs, TopicReward, same_weights, train, warnings_of, weights
from peregrm.errors import SettingsError
from peregrm.records import Case
from peregrm.training.grpo.order import prompt_order
from peregrm.training.grpo.settings import GroupSettings
from peregrm.training.policies import Lora

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated and will be removed in v6:FutureWarning",  # TRL asks transformers by an old name
)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_a_policy_learns_to_mention_its_users_topic(
    policy: Path, cases: list[Case], tmp_path: Path, algorithm: Any
) -> None:
    reward, losses = TopicReward(), Logs()
    settings = TINY.model_copy(update={"algorithm": algorithm, "learning_rate": 2e-2})
    train(tmp_path, policy, cases, reward, settings, max_steps=30, callbacks=[losses.callback()])
    size = settings.replies
    steps = [sum(reward.totals[n : n + size]) / size for n in range(0, len(reward.totals), size)]
    assert len(steps) == 30
    assert sum(steps[-5:]) / 5 > 3 * sum(steps[:5]) / 5
    logged = [row for row in losses.rows if "loss" in row]
    assert len(logged) == 30
    assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in logged)
    assert all(row["skipped_update"] == 0 for row in logged)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    policy: Path, cases: list[Case], tmp_path: Path, algorithm: Any
) -> None:
    settings = TINY.model_copy(
        update={"algorithm": algorithm, "at_once": 4, "lora": Lora(rank=2) if algorithm == "rloo" else None}
    )
    said: list[str] = []
    whole = TopicReward()
    one = train(tmp_path / "one", policy, cases, whole, settings, max_steps=6, save_every=2)
    first, rest = TopicReward(), TopicReward()
    train(tmp_path / "two", policy, cases, first, settings, max_steps=3, save_every=2)
    two = train(tmp_path / "two", policy, cases, rest, settings, max_steps=6, save_every=2, say=said.append)
    assert said == [f"going on from {tmp_path / 'two' / 'checkpoints' / 'checkpoint-3'}"]
    assert first.texts + rest.texts == whole.texts
    assert same_weights(one, two)
    assert not same_weights(one, tmp_path / "one" / "checkpoints" / "checkpoint-4")
    for name in ("optimizer.pt", "rng_state.pth"):
        left, right = (torch.load(path / name, weights_only=False) for path in (one, two))
        assert str(left) == str(right)


def test_a_checkpoint_that_was_half_written_is_passed_over(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    one = train(tmp_path / "one", policy, cases, TopicReward(), max_steps=3, save_every=1)
    shutil.copytree(tmp_path / "one" / "checkpoints", tmp_path / "two" / "checkpoints")
    half = tmp_path / "two" / "checkpoints" / "checkpoint-3"
    (half / "whole").unlink()
    (half / "model.safetensors").write_bytes(b"half of it")
    with warnings_of("transformers.trainer") as said:
        two = train(tmp_path / "two", policy, cases, TopicReward(), max_steps=3, save_every=1)
    assert same_weights(one, two)
    assert not [line for line in said if "missing keys" in line], "the head is one with the embedding"


def test_the_reference_is_the_policy_as_it_began(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    """The divergence is none at first, and pulls back: with a heavy weight the policy stays where it was."""
    losses = Logs()
    light = train(tmp_path / "light", policy, cases, TopicReward(), max_steps=4, callbacks=[losses.callback()])
    heavy = train(tmp_path / "heavy", policy, cases, TopicReward(), TINY.model_copy(update={"kl": 100.0}), max_steps=4)
    logged = [row for row in losses.rows if "loss" in row]
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert logged[-1]["kl"] > 0
    assert not same_weights(light, heavy)


def test_only_the_adapter_is_trained(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    last = train(tmp_path, policy, cases, TopicReward(), TINY.model_copy(update={"lora": Lora(rank=2)}), max_steps=2)
    names = weights(last)
    assert names
    assert all("lora_" in name for name in names)
    assert any(value.abs().sum() > 0 for name, value in names.items() if "lora_B" in name)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_what_this_machine_or_the_trainer_cannot_do_is_said(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be trained so"):
        train(
            tmp_path,
            policy,
            cases,
            TopicReward(),
            TINY.model_copy(update={"lora": Lora(rank=2, modules=("lm_head",))}),
            max_steps=1,
        )


def test_every_prompt_is_used_as_often_as_was_asked_and_none_twice_before_all_were() -> None:
    order = prompt_order(7, 7 * 3, seed=1)
    assert [sorted(order[n : n + 7]) for n in (0, 7, 14)] == [list(range(7))] * 3
    assert order[:7] != order[7:14]
    assert prompt_order(7, 10, seed=1) == order[:10]
    assert prompt_order(7, 10, seed=2) != order[:10]
    assert prompt_order(3, 0, seed=0) == prompt_order(0, 5, seed=0) == []


def test_steps_use_every_prompt_and_replies_divide() -> None:
    assert [TINY.steps(prompts) for prompts in (1, 2, 7, 8)] == [1, 1, 4, 4]
    with pytest.raises(ValueError, match="8 replies a step, which cannot be taken 3 at a time"):
        GroupSettings(rollouts=4, batch=2, at_once=3)
    paper = GroupSettings()
    assert (paper.rollouts, paper.batch, paper.learning_rate, paper.kl, paper.max_new_tokens, paper.epochs) == (
        8,
        8,
        1e-6,
        0.001,
        1024,
        1,
    )


def test_on_a_cpu_too_replies_alone_are_put_through_the_head(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    """Prompts are ten times as long; their positions would take most of the memory, and nobody looks at them."""
    from trl.trainer import utils

    seen: list[int] = []

    def made(trainer: Any) -> None:
        score = utils._ChunkedLogProbFunction.apply

        class Watched:
            @staticmethod
            def apply(hidden: Any, *rest: Any) -> Any:
                seen.append(hidden.shape[0])
                return score(hidden, *rest)

        utils._ChunkedLogProbFunction = Watched

    before = utils._ChunkedLogProbFunction, utils._use_triton
    try:
        train(tmp_path, policy, cases, TopicReward(), max_steps=1, made=made)
    finally:
        utils._ChunkedLogProbFunction = before[0]
    assert seen
    assert max(seen) <= TINY.at_once * TINY.max_new_tokens
    assert utils._use_triton is before[1]
