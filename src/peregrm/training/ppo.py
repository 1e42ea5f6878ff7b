"""PPO on TRL's GRPOTrainer: the group's mean gives way to a critic, everything else of the trainer stays.

TRL has no PPO of its own any more. Its GRPO trainer has PPO's clipped ratio, token by token, takes several updates on the same replies, and
lets advantages differ between tokens; what is added here is where these come from: a critic that says of each token what the reply will be
worth, and generalised advantage estimates (Schulman et al., 2016, equation 16) with a discount of 1, made zero in mean and 1 in spread over
the batch. The reward stands at a reply's last token. Two things differ from PPO as it is usually done for language models, and whoever
reports results says so: the critic is one linear layer on the policy's own last hidden states, fitted to each batch apart, and never
changes them (so there is no second network and no shared gradient), and the divergence from the start is a term of the loss, not of the
reward. `critic/error` in the log is the root mean square of what rewards are off from what the critic expected.

A reply without a reward has no advantage and teaches the critic nothing. The critic and its optimizer are part of every checkpoint. One
process only. torch and trl are imported inside.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.training.policies import training_library

__all__ = ["CLIP", "LAMBDA", "advantages_of", "with_critic"]

CLIP = 0.2
"""How far the ratio of new to old probability may go before it stops counting, on either side."""

LAMBDA = 0.95
"""How far an advantage looks ahead past what the critic says: 0 one token, 1 to the end of the reply."""

_STEPS = 20
_RATE = 0.01
_FILE = "critic.pt"


class _Estimates(NamedTuple):
    advantages: Any
    returns: Any


def advantages_of(values: Any, mask: Any, rewards: Any, spread: float = LAMBDA) -> _Estimates:
    """Return advantages and returns of each token, 0 where `mask` is.

    Args:
        values: What the critic expects before each token of each reply; a tensor of replies by tokens.
        mask: 1 for the tokens of a reply, which begin at its left, 0 after them.
        rewards: One for each reply, all finite.
        spread: The lambda of the estimate.
    """
    torch = training_library("torch")
    last = mask.sum(1).long() - 1
    found = torch.zeros_like(values)
    carried = torch.zeros_like(rewards)
    for place in range(values.shape[1] - 1, -1, -1):
        after = values[:, place + 1] if place + 1 < values.shape[1] else torch.zeros_like(rewards)
        gained = torch.where(last == place, rewards, torch.where(last > place, after, 0.0))
        surprise = gained - values[:, place]
        carried = torch.where(last > place, surprise + spread * carried, torch.where(last == place, surprise, 0.0))
        found[:, place] = carried
    found = found * mask
    return _Estimates(found, (found + values) * mask)


class _Critic:
    """A linear layer on hidden states and its optimizer; it begins at zero, so it draws nothing at random."""

    def __init__(self, size: int, device: Any) -> None:
        torch = training_library("torch")
        self._torch = torch
        self.layer = torch.nn.Linear(size, 1, device=device)
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.optimizer = torch.optim.Adam(self.layer.parameters(), lr=_RATE)

    def values(self, states: Any) -> Any:
        with self._torch.no_grad():
            return self.layer(states)[..., 0]

    def fit(self, states: Any, mask: Any, returns: Any) -> None:
        for _ in range(_STEPS):
            self.optimizer.zero_grad()
            wrong = (self.layer(states)[..., 0] - returns) ** 2 * mask
            (wrong.sum() / mask.sum()).backward()
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        return {"layer": self.layer.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])


@cache
def with_critic(trainer: Any) -> Any:
    """Return TRL's `GRPOTrainer`, given as `trainer`, with a critic in place of the group's mean."""
    torch = training_library("torch")

    class WithCritic(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            size = self.model.config.get_text_config().hidden_size
            self._critic = _Critic(size, self.accelerator.device)

        def _calculate_rewards(self, *arguments: Any, **named: Any) -> Any:
            rewards = super()._calculate_rewards(*arguments, **named)
            self._totals = rewards[:, 0]
            return rewards

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            made = super()._generate_and_score_completions(inputs)
            made["advantages"] = self._judged(made)
            return made

        def _judged(self, made: dict[str, Any]) -> Any:
            """Return the advantages of a batch's tokens and let the critic learn from it."""
            mask = made["completion_mask"].float()
            scored = torch.isfinite(self._totals)
            advantages = torch.zeros_like(mask)
            if not scored.any():
                return advantages
            states = self._states(made)[scored]
            values, mask = self._critic.values(states) * mask[scored], mask[scored]
            totals = self._totals[scored].float()
            found = advantages_of(values, mask, totals)
            wrong = ((totals[:, None] - values) ** 2 * mask).sum() / mask.sum()
            self._metrics["train"]["critic/error"].append(float(wrong.sqrt()))
            advantages[scored] = _standard(found.advantages, mask)
            self._critic.fit(states, mask, found.returns)
            return advantages

        def _states(self, made: dict[str, Any]) -> Any:
            """Return the policy's last hidden states before each token of each reply, in float32."""
            ids = torch.cat([made["prompt_ids"], made["completion_ids"]], dim=1)
            mask = torch.cat([made["prompt_mask"], made["completion_mask"]], dim=1)
            model = self.accelerator.unwrap_model(self.model)
            whole = model.get_base_model() if hasattr(model, "peft_config") else model
            length, each = made["completion_ids"].shape[1], self.args.per_device_train_batch_size
            with torch.no_grad(), self.accelerator.autocast():
                parts = [
                    whole.base_model(input_ids=some, attention_mask=seen, use_cache=False).last_hidden_state
                    for some, seen in zip(ids.split(each), mask.split(each), strict=True)
                ]
            return torch.cat(parts)[:, -length - 1 : -1].float()

        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            super()._save_optimizer_and_scheduler(output_dir)
            torch.save(self._critic.state(), Path(output_dir) / _FILE)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            super()._load_optimizer_and_scheduler(checkpoint)
            if checkpoint is not None:
                self._critic.load(torch.load(Path(checkpoint) / _FILE, weights_only=True))

    WithCritic.__name__ = trainer.__name__
    WithCritic.__module__ = trainer.__module__
    return WithCritic


def _standard(advantages: Any, mask: Any) -> Any:
    """Return advantages with mean 0 and spread 1 over the tokens of `mask`; without a spread they are all 0."""
    count = mask.sum()
    mean = (advantages * mask).sum() / count
    spread = (((advantages - mean) ** 2 * mask).sum() / count).sqrt()
    return (advantages - mean) / (spread + 1e-6) * mask
