"""PPO: estimates of advantages, a critic that learns what replies are worth, a policy that learns, and runs that are stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from group_parts import TINY, Logs, TopicReward, gone, same_weights, train
from peregrm.records import Case, Reply
from peregrm.reward.base import Scored
from peregrm.training.grpo.settings import GroupSettings
from peregrm.training.policies import Lora

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.ppo import LAMBDA, Critic, advantages_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")

PPO = TINY.model_copy(update={"algorithm": "ppo", "updates": 3, "at_once": 4})


def by_hand(values: list[float], reward: float, spread: float) -> list[float]:
    """The estimate as its sum is written: every surprise that lies ahead, each weighted by lambda to the power of its distance."""
    after = [*values[1:], reward]
    surprises = [later - now for now, later in zip(values, after, strict=True)]
    return [sum(spread ** (k - n) * surprises[k] for k in range(n, len(values))) for n in range(len(values))]


@given(
    st.lists(st.tuples(st.lists(st.floats(-2, 2), min_size=1, max_size=5), st.floats(-2, 2)), min_size=1, max_size=4),
    st.sampled_from([0.0, LAMBDA, 1.0]),
)
@hypothesis_settings(max_examples=30)
def test_advantages_are_the_sum_they_stand_for(replies: list[tuple[list[float], float]], spread: float) -> None:
    longest = max(len(values) for values, _ in replies)
    values = torch.tensor([[*row, *[9.0] * (longest - len(row))] for row, _ in replies], dtype=torch.float64)
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row, _ in replies], dtype=torch.float64)
    rewards = torch.tensor([reward for _, reward in replies], dtype=torch.float64)
    found = advantages_of(values, mask, rewards, spread)
    for n, (row, reward) in enumerate(replies):
        rest = [0.0] * (longest - len(row))
        expected = by_hand(row, reward, spread)
        assert found[n].tolist() == pytest.approx([*expected, *rest], abs=1e-9)
        if spread == 1.0:
            assert found[n][: len(row)].tolist() == pytest.approx([reward - value for value in row], abs=1e-9)


class Batch(NamedTuple):
    states: Any
    mask: Any
    rewards: Any


def batches(
    width: int, signal: float, *, count: int, replies: int = 48, tokens: int = 24, seed: int = 0
) -> list[Batch]:
    """Make batches of states of unit root mean square around a centre; the share `signal` of rewards' spread (0.2) hangs on them."""
    torch.set_num_threads(1)
    drawn = torch.Generator().manual_seed(seed)
    wanted, centre = torch.randn(width, generator=drawn), 0.5 * torch.randn(width, generator=drawn)
    found = []
    for _ in range(count):
        base = torch.randn(replies, 1, width, generator=drawn)
        states = base + 0.7 * torch.randn(replies, tokens, width, generator=drawn) + centre
        seen = base[:, 0] @ wanted / wanted.norm()
        rewards = 0.6 + 0.2 * (signal * seen + (1 - signal**2) ** 0.5 * torch.randn(replies, generator=drawn))
        lengths = torch.randint(4, tokens + 1, (replies, 1), generator=drawn)
        mask = (torch.arange(tokens)[None] < lengths).float()
        found.append(Batch(states / (states**2).mean(-1, keepdim=True).sqrt(), mask, rewards))
    return found


def off(values: Any, batch: Batch) -> float:
    """Return the root mean square of what rewards are off from these values, over tokens."""
    wrong = (batch.rewards[:, None] - values) ** 2 * batch.mask
    return float((wrong.sum() / batch.mask.sum()).sqrt())


@pytest.mark.parametrize("signal", [0.0, 0.9])
def test_the_critic_is_never_much_worse_than_a_constant(signal: float) -> None:
    """Wide states and few replies: where there is nothing to learn the constant stays, where there is something it is beaten."""
    critic, shares = Critic(512, "cpu"), []
    for batch in batches(512, signal, count=10):
        values = critic.expect(*batch)
        shares.append(off(values, batch) / off(batch.rewards.mean(), batch))
        advantages = advantages_of(values, batch.mask, batch.rewards)
        kept = batch.mask.bool()
        seen = torch.stack([advantages[kept], batch.rewards[:, None].expand_as(batch.mask)[kept]])
        assert torch.corrcoef(seen)[0, 1] > 0.5
    assert shares[0] == pytest.approx(1.0)
    assert max(shares) < 1.05
    assert sum(shares[-3:]) / 3 < (1.02 if signal == 0 else 0.95)


def test_a_critic_that_was_stored_goes_on_as_it_would_have(tmp_path: Path) -> None:
    made = batches(32, 0.9, count=6)
    whole, first, rest = Critic(32, "cpu"), Critic(32, "cpu"), Critic(32, "cpu")
    values = [whole.expect(*batch) for batch in made]
    for batch in made[:3]:
        first.expect(*batch)
    torch.save(first.state(), tmp_path / "critic.pt")
    rest.load(torch.load(tmp_path / "critic.pt", weights_only=True))
    assert rest.learned
    assert all(rest.expect(*batch).equal(value) for batch, value in zip(made[3:], values[3:], strict=True))


def errors(logs: Logs) -> list[float]:
    return [row["critic/error"] for row in logs.rows if "critic/error" in row]


@pytest.mark.slow
def test_a_policy_learns_to_mention_its_users_topic(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    reward, logs = TopicReward(), Logs()
    settings = PPO.model_copy(update={"learning_rate": 1e-2, "batch": 4})
    train(tmp_path, policy, cases, reward, settings, max_steps=25, callbacks=[logs.callback()])
    size = settings.replies
    steps = [sum(reward.totals[n : n + size]) / size for n in range(0, len(reward.totals), size)]
    assert len(steps) == 25  # replies are written once a step, whatever the updates
    assert sum(steps[-5:]) / 5 > 2 * sum(steps[:5]) / 5
    assert len([row for row in logs.rows if "loss" in row]) == 25
    assert any(row["clip_ratio/region_mean"] > 0 for row in logs.rows if "clip_ratio/region_mean" in row)


class Fixed(TopicReward):
    """Gives every reply the same."""

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        scored = await super().score(case, replies)
        return [Scored(one.reply, one.reward.model_copy(update={"total": 0.8})) for one in scored]


def test_what_all_replies_are_worth_is_no_advantage(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    """Nor is it at the first step: the critic begins at the mean of its first batch."""
    logs = Logs()
    settings = PPO.model_copy(update={"learning_rate": 1e-7, "updates": 1, "batch": 4})
    train(tmp_path, policy, cases, Fixed(), settings, max_steps=8, callbacks=[logs.callback()])
    assert errors(logs) == pytest.approx([0.0] * 8, abs=1e-6)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    policy: Path, cases: list[Case], tmp_path: Path, lora: Lora | None
) -> None:
    settings = PPO.model_copy(update={"lora": lora})
    whole, first, rest = TopicReward(), TopicReward(), TopicReward()
    train(tmp_path / "one", policy, cases, whole, settings, max_steps=4, save_every=2)
    train(tmp_path / "two", policy, cases, first, settings, max_steps=2, save_every=2)
    train(tmp_path / "two", policy, cases, rest, settings, max_steps=4, save_every=2)
    one, two = (tmp_path / name / "checkpoints" / "checkpoint-12" for name in ("one", "two"))
    assert first.texts + rest.texts == whole.texts
    assert same_weights(one, two)
    assert not same_weights(one, one.with_name("checkpoint-6"))
    left, right = (torch.load(path / "critic.pt", weights_only=True) for path in (one, two))
    assert all(left[name].equal(tensor) for name, tensor in right.items())
    assert left["scatter"].any()


def test_replies_without_a_reward_teach_nothing(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    """Where nothing is scored no weight changes and the critic stays at its beginning; where part is scored training goes on."""
    blind, logs = TopicReward(fail=lambda case: gone()), Logs()
    settings = PPO.model_copy(update={"kl": 0.5})
    train(
        tmp_path / "blind", policy, cases, blind, settings, max_steps=2, wait_s=0, failure_budget=1.0,
        callbacks=[logs.callback()],
    )  # fmt: skip
    from safetensors.torch import load_file

    checkpoint = tmp_path / "blind" / "checkpoints" / "checkpoint-6"
    before, after = load_file(policy / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    assert all(before[name].equal(tensor) for name, tensor in after.items())
    assert not errors(logs)
    assert not torch.load(checkpoint / "critic.pt", weights_only=True)["scatter"].any()
    half = TopicReward(fail=lambda case: gone() if int(case.user_id[-1]) % 2 else None)
    train(tmp_path / "half", policy, cases, half, settings, max_steps=2, wait_s=0, failure_budget=1.0)
    assert half.totals


def test_several_updates_are_for_ppo_alone() -> None:
    with pytest.raises(ValidationError, match="that is PPO's way"):
        GroupSettings(updates=2)
