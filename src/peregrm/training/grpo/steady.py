"""TRL's group trainers (GRPO, RLOO) made steady: what they do with a batch without rewards, a loss that is none, and a full disk.

A step whose every reply stayed without a reward, and one whose gradient is not finite, change no weight: there is nothing to learn from
the one (TRL would still pull the policy by the divergence and by Adam's momentum), and the other would destroy what was learned. Such a
step is passed over and logged as `skipped_update`; several that are not finite in a row stop training. Nothing is done here where part of
the replies have a reward: TRL compares these among themselves and gives the others no advantage, which is right.

torch and trl are imported inside.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from peregrm.errors import FailureBudgetExceeded, TrainingStopped
from peregrm.training.careful import careful
from peregrm.training.grpo.checkpoints import keep_newest, written_or_gone
from peregrm.training.policies import training_library

__all__ = ["replies_alone", "steady", "stopper", "without_warnings"]

SKIPPED = "skipped_update"
_KEPT = 2
_MOST_NOT_FINITE = 3
"""Steps in a row whose gradient is not finite, after which it is no accident."""


@cache
def steady(trainer: Any) -> Any:
    """Return a trainer's class made steady as the module docstring says; `trainer` is TRL's `GRPOTrainer` or `RLOOTrainer`."""
    torch = training_library("torch")

    class Steady(careful(trainer)):  # type: ignore[misc]
        blind = False
        """No reply of this step has a reward."""

        odd_loss = False
        """The loss of this step is not finite."""

        odd_steps = 0
        """Steps in a row, up to the last one, whose gradient was not finite."""

        def _calculate_rewards(self, *arguments: Any, **named: Any) -> Any:
            # where a reward is missing TRL shows a whole row, what is known of the user included
            with without_warnings(trainer.__module__):
                rewards = super()._calculate_rewards(*arguments, **named)
            self.blind = bool(torch.isnan(rewards).all())
            return rewards

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            if torch.isfinite(loss):
                return loss
            self.odd_loss = True  # as a number it would stay in the trainer's sums for ever
            return torch.zeros_like(loss)

        def _clip_grad_norm(self, model: Any) -> Any:
            norm = super()._clip_grad_norm(model)
            odd = self.odd_loss or not math.isfinite(float(norm))
            self.odd_steps = self.odd_steps + 1 if odd else 0
            if odd or self.blind:
                for parameter in model.parameters():
                    parameter.grad = None  # an optimizer passes over what has no gradient, its momentum included
            self._metrics["train"][SKIPPED].append(float(odd or self.blind))
            return norm

        def log(self, logs: dict[str, Any], *arguments: Any, **named: Any) -> None:
            if self.odd_loss and "loss" in logs:
                logs["loss"] = math.nan
                self.odd_loss = False
            super().log(logs, *arguments, **named)

        def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
            folder = Path(self.args.output_dir)
            written_or_gone(folder, lambda: super(Steady, self)._save_checkpoint(*arguments, **named))
            keep_newest(folder, _KEPT)

    Steady.__name__ = trainer.__name__
    return Steady


def stopper(check: Callable[[], None], stopped: list[Exception], updates: int = 1) -> Any:
    """Return a callback that ends training, with a checkpoint, after the step in which `check` raises or gradients keep being not finite.

    It looks after the last of the `updates` on the same replies, where nothing half-used has to be kept. What was raised is put into
    `stopped`. Its attribute `trainer` is the trainer, once there is one.
    """
    transformers = training_library("transformers")

    class Stopper(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        trainer: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step % updates:
                return
            try:
                check()
                _check_gradients(state.global_step // updates, self.trainer.odd_steps)
            except (TrainingStopped, FailureBudgetExceeded) as error:
                stopped.append(error)
                control.should_save = control.should_training_stop = True

    return Stopper()


def _check_gradients(step: int, odd_steps: int) -> None:
    if odd_steps >= _MOST_NOT_FINITE:
        raise TrainingStopped(
            f"step {step}: the gradient was not finite in {odd_steps} steps in a row, which were passed over: no weight was changed, and a "
            "checkpoint is kept. A lower learning rate may help"
        )


@contextmanager
def replies_alone(device: str) -> Iterator[None]:
    """Have TRL put the tokens of replies alone through the head over the vocabulary on a CPU too, as it does on a GPU.

    Otherwise it takes those of the prompts along, ten times as many here, and throws the results away (a fixed shape suits devices that
    compile). Where a later TRL has no such switch, nothing is done.
    """
    utils = training_library("trl.trainer.utils")
    own = getattr(utils, "_use_triton", None)
    if device != "cpu" or own is None:
        yield
        return
    utils._use_triton = lambda _: True
    try:
        yield
    finally:
        utils._use_triton = own


@contextmanager
def without_warnings(logger: str) -> Iterator[None]:
    """Keep the warnings of a logger to themselves."""
    own = logging.getLogger(logger)

    def quiet(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    own.addFilter(quiet)
    try:
        yield
    finally:
        own.removeFilter(quiet)
