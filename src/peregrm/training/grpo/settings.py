"""What a group-relative training is asked for: what decides the weights, and apart from it what does not.

The defaults are those of the paper's training, which makes one update on its replies; PPO makes several. A step here is a batch of replies
with all updates on it, and every checkpoint stands between two, so nothing half-used has to be kept. Left out on purpose: everything that
several GPUs need.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from peregrm.records import Part
from peregrm.training.policies import Lora

__all__ = ["GroupSettings", "Pace", "Reporter"]

Reporter = Literal["none", "tensorboard", "trackio"]


class GroupSettings(Part):
    """What decides the weights: the same settings, data, reward and start give the same policy."""

    algorithm: Literal["grpo", "rloo", "ppo"] = "grpo"

    updates: Annotated[int, Field(ge=1)] = 1
    """Updates on the same replies; more than one for PPO alone."""

    setting: Literal["generic", "memories", "personalized"] = "memories"
    """What the policy is shown of the user, as in evaluation."""

    rollouts: Annotated[int, Field(ge=2)] = 8
    """Replies to each prompt, which are compared with one another."""

    batch: Annotated[int, Field(ge=1)] = 8
    """Prompts a step."""

    epochs: Annotated[int, Field(ge=1)] = 1
    """How often every prompt is used, where the number of steps is not given."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    """Constant, so that a run that goes on for longer than it was first asked to is no other run."""

    kl: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.001
    """Weight of the divergence from the policy that training started from: in the loss (GRPO) or in the reward (RLOO)."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 1024
    """The most tokens of a reply."""

    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0

    at_once: Annotated[int, Field(ge=1)] = 8
    """Replies that go through the network together when gradients are computed: less takes less memory and more time."""

    lora: Lora | None = None
    """The adapter that is trained; None: all weights, or those of the adapter that the policy is."""

    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fits(self) -> GroupSettings:
        if self.updates > 1 and self.algorithm != "ppo":
            raise ValueError(f"{self.algorithm} makes one update on its replies, not {self.updates}: that is PPO's way")
        if self.replies % self.at_once:
            raise ValueError(
                f"{self.rollouts} rollouts of {self.batch} prompts are {self.replies} replies a step, which cannot be taken "
                f"{self.at_once} at a time: name a divisor"
            )
        return self

    @property
    def replies(self) -> int:
        """Replies a step."""
        return self.rollouts * self.batch

    def steps(self, prompts: int) -> int:
        """Return how many steps use each of so many prompts `epochs` times; the last step is filled up with prompts of a next epoch."""
        return math.ceil(self.epochs * prompts / self.batch)


class Pace(Part):
    """What does not decide the weights, so a run may go on with other values."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps in all. None: as many as the epochs take."""

    save_every: Annotated[int, Field(ge=1)] = 50
    """Steps between two checkpoints; there is one at the end in any case."""

    eval_every: Annotated[int, Field(ge=1)] = 50
    """Steps between two held-out evaluations."""

    wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1800.0
    """Seconds that training waits for a judge that went away, before replies stay without a reward."""

    failure_budget: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of replies without a reward, over the last steps, beyond which training stops."""

    report_to: Reporter = "none"
    """Who gets the figures of each step, besides the console and `log.jsonl`."""
