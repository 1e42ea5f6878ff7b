"""PPO on TRL's GRPOTrainer: the group's mean gives way to a critic, everything else of the trainer stays.

TRL has no PPO of its own any more. Its GRPO trainer has PPO's clipped ratio, token by token, takes several updates on the same replies, and
lets advantages differ between tokens; what is added here is where these come from: a critic that says of each token what the reply will be
worth, and generalised advantage estimates (Schulman et al., 2016, equation 16) with a discount of 1, made zero in mean and 1 in spread over
the batch. The reward stands at a reply's last token. Two things differ from PPO as it is usually done for language models, and whoever
reports results says so: the critic is one linear layer on the policy's own last hidden states, solved and not trained by gradients, and
never changes them (so there is no second network and no shared gradient), and the divergence from the start is a term of the loss, not of
the reward. `critic/error` in the log is the root mean square of what rewards are off from what the critic expected, `critic/learned` 1
where it used its layer.

The critic's constant is the mean reward of the batch itself, so that no advantage stands for the whole batch being good or bad. Its layer
is a ridge regression, in closed form, of rewards on states, both as they lie around their batch's mean: solved from the batches before
this one, each of which counts for less the older it is, because states change with the policy. How strong the ridge must be is not known:
several are tried on each batch before it is learned from, and the one that was least wrong so far is used, no layer at all among them.
So a layer is used only after it was nearer to rewards it had not seen than the constant was.

With the constant alone an advantage fades with lambda towards the beginning of a reply: what its last 20 tokens or so did is learned
first. A reply without a reward has no advantage and teaches the critic nothing. The critic is part of every checkpoint: a square matrix as
wide as the states. One process only. torch and trl are imported inside.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from peregrm.training.policies import training_library

__all__ = ["CLIP", "LAMBDA", "Critic", "advantages_of", "with_critic"]

CLIP = 0.2
"""How far the ratio of new to old probability may go before it stops counting, on either side."""

LAMBDA = 0.95
"""How far an advantage looks ahead past what the critic says: 0 one token, 1 to the end of the reply."""

_STRENGTHS = (1.0, 10.0, 100.0)
"""Ridges that are tried: as many replies, for each dimension, as would have to speak against a layer of zeros."""

_KEPT = 0.9
"""What a batch counts for against the one after it."""

_FILE = "critic.pt"


def advantages_of(values: Any, mask: Any, rewards: Any, spread: float = LAMBDA) -> Any:
    """Return the advantage of each token, 0 where `mask` is.

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
    return found * mask


class Critic:
    """Expects rewards by hidden states, as the module docstring says; nothing in it is drawn at random.

    Args:
        size: The width of the states.
        device: Where they lie.
    """

    def __init__(self, size: int, device: Any) -> None:
        torch = training_library("torch")
        self._torch = torch
        self._state = {
            "scatter": torch.zeros(size, size, device=device),
            "cross": torch.zeros(size, device=device),
            "replies": torch.zeros((), device=device),
            "wrong": torch.zeros(1 + len(_STRENGTHS), device=device),
        }

    @property
    def learned(self) -> bool:
        """Whether the next batch is judged by a layer, and not by the constant alone."""
        return bool(self._state["wrong"].argmin() > 0)

    def expect(self, states: Any, mask: Any, rewards: Any) -> Any:
        """Return what is expected before each token, 0 where `mask` is, and learn from the batch afterwards.

        Args:
            states: A tensor of replies by tokens by width, in float32.
            mask: 1 for the tokens of a reply, 0 else.
            rewards: One for each reply, all finite. What is expected of one hangs on them by their mean alone.
        """
        kept = mask.bool()
        share = (mask / mask.sum(1, keepdim=True).clamp(min=1) / len(mask))[
            kept
        ]  # each reply counts as much as any other
        own = rewards.mean()
        around = states[kept]
        around = around - share @ around
        left = (rewards[:, None] - own).expand_as(mask)[kept]
        guesses = self._torch.stack([self._torch.zeros_like(left), *(around @ layer for layer in self._layers())])
        chosen = guesses[self._state["wrong"].argmin()]
        self._learn(around, left, share * len(mask), guesses)
        values = self._torch.zeros_like(mask)
        values[kept] = own + chosen
        return values

    def _layers(self) -> list[Any]:
        """Return a layer for each strength; zeros before there is anything to solve."""
        scatter, cross = self._state["scatter"], self._state["cross"]
        spread = scatter.diagonal().clamp(min=1e-12 * self._state["replies"].clamp(min=1)).sqrt()
        scale = self._state["replies"].clamp(min=1).sqrt() / spread  # states in units of their spread
        size = len(cross)
        square, side = scatter * scale[:, None] * scale, cross * scale
        alone = self._torch.eye(size, device=scatter.device) * size
        return [self._torch.linalg.solve(square + strength * alone, side) * scale for strength in _STRENGTHS]

    def _learn(self, around: Any, left: Any, weight: Any, guesses: Any) -> None:
        """Add a batch: how wrong each layer was on it, then what it tells of states and rewards."""
        more = {
            "scatter": around.T @ (around * weight[:, None]),
            "cross": around.T @ (left * weight),
            "replies": weight.sum(),
            "wrong": ((left - guesses) ** 2 * weight).sum(1),
        }
        self._state = {name: _KEPT * self._state[name] + tensor for name, tensor in more.items()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: tensors by name."""
        return dict(self._state)

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._state = {name: state[name].to(tensor.device) for name, tensor in self._state.items()}


@cache
def with_critic(trainer: Any) -> Any:
    """Return TRL's `GRPOTrainer`, given as `trainer`, with a critic in place of the group's mean."""
    torch = training_library("torch")

    class WithCritic(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            size = self.model.config.get_text_config().hidden_size
            self._critic = Critic(size, self.accelerator.device)

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
            states, mask = self._states(made)[scored], mask[scored]
            totals = self._totals[scored].float()
            self._metrics["train"]["critic/learned"].append(float(self._critic.learned))
            values = self._critic.expect(states, mask, totals)
            wrong = ((totals[:, None] - values) ** 2 * mask).sum() / mask.sum()
            self._metrics["train"]["critic/error"].append(float(wrong.sqrt()))
            advantages[scored] = _standard(advantages_of(values, mask, totals), mask)
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
                self._critic.load(torch.load(Path(checkpoint) / _FILE, weights_only=True, map_location="cpu"))

    WithCritic.__name__ = trainer.__name__
    WithCritic.__module__ = trainer.__module__
    return WithCritic


def _standard(advantages: Any, mask: Any) -> Any:
    """Return advantages with mean 0 and spread 1 over the tokens of `mask`; without a spread they are all 0."""
    count = mask.sum()
    mean = (advantages * mask).sum() / count
    spread = (((advantages - mean) ** 2 * mask).sum() / count).sqrt()
    return (advantages - mean) / (spread + 1e-6) * mask
