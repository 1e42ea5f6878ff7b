"""One run of a group trainer of TRL: from prompts, a reward and settings to trained weights, or to a checkpoint from which it goes on.

Each checkpoint stands between two batches of replies and holds weights, optimizer, scheduler and random numbers; the order of prompts
hangs on the seed alone. So a run that was stopped ends with the weights of one that was not. TRL asks for rewards while nothing else
runs: the groups of a step are judged side by side, but judging does not overlap the writing of the next replies, which come from weights
that this step makes.

torch, datasets, transformers and trl are imported inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peregrm.errors import SettingsError, TrainingStopped
from peregrm.models.precision import takes_bf16
from peregrm.replies import opened_thinking
from peregrm.reward.adapters.trl import trl_reward
from peregrm.reward.base import RewardModel
from peregrm.text import error_line
from peregrm.training.careful import last_checkpoint
from peregrm.training.grpo.checkpoints import written_or_gone
from peregrm.training.grpo.order import prompt_order
from peregrm.training.grpo.settings import GroupSettings, Pace
from peregrm.training.grpo.steady import replies_alone, steady, stopper, without_warnings
from peregrm.training.policies import Policy, quietly, save_policy, training_library
from peregrm.training.ppo import CLIP, with_critic
from peregrm.training.rows import PromptRow

__all__ = ["CHECKPOINTS", "REFERENCE", "GroupRun", "steps_asked"]

CHECKPOINTS = "checkpoints"
REFERENCE = "reference"

_REPORTERS = "transformers.integrations.integration_utils"
"""Who warns of every figure that a step does not have."""


@dataclass
class GroupRun:
    """What a run trains on and what it is accompanied by.

    Attributes:
        policy: Weights on their device, loaded under the settings' seed.
        rows: The prompts, all of which fit.
        reward: Scores groups; it may be asked from any event loop.
        folder: Holds `checkpoints/`.
        check: Is called after every step; raises `FailureBudgetExceeded` to end training after a checkpoint.
        say: Gets lines for a person.
        callbacks: Of transformers, told of everything.
        made: Is given the trainer once there is one.
    """

    policy: Policy
    rows: Sequence[PromptRow]
    reward: RewardModel
    settings: GroupSettings
    pace: Pace
    folder: Path
    check: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda line: None
    callbacks: Sequence[Any] = ()
    made: Callable[[Any], None] = lambda trainer: None
    _stopped: list[Exception] = field(default_factory=list)

    def train(self) -> int:
        """Train from the last checkpoint, or from the start, to the end; return how many steps there are in all.

        Raises:
            SettingsError: TRL or this machine cannot train so.
            TrainingStopped: A checkpoint could not be written, gradients kept being not finite, or the policy broke down.
            Exception: What the reward raises, and what `check` raised.
        """
        with quietly(), replies_alone(self._device()), without_warnings(_REPORTERS):
            trainer = self._trainer()
            self.made(trainer)
            checkpoint = last_checkpoint(self.folder / CHECKPOINTS)
            if checkpoint is not None:
                self.say(f"going on from {checkpoint}")
            try:
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            except RuntimeError as error:
                raise _told(error, trainer.state.global_step // self.settings.updates) from error
        if self._stopped:
            raise self._stopped[0]
        return int(trainer.state.global_step) // self.settings.updates

    def _device(self) -> str:
        return str(next(self.policy.model.parameters()).device.type)

    def _trainer(self) -> Any:
        trl, transformers = training_library("trl"), training_library("transformers")
        kind = {
            "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
            "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
            "ppo": (with_critic(trl.GRPOTrainer), trl.GRPOConfig),
        }
        base, config = kind[self.settings.algorithm]
        stop = stopper(self.check, self._stopped, self.settings.updates)
        steps = steps_asked(self.settings, self.pace, len(self.rows))
        self._keep_reference()
        try:
            trainer = steady(base)(
                model=self.policy.model,
                reward_funcs=trl_reward(
                    self.reward, opened=opened_thinking(self.rows[0].rendered(self.policy.tokenizer))
                ),
                args=config(**_arguments(self.settings, self.pace, steps, self.folder, self._device())),
                train_dataset=self._prompts(steps),
                processing_class=self.policy.tokenizer,
                callbacks=[stop, *self.callbacks],
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise SettingsError(f"{self.policy.name}: it cannot be trained so: {error_line(error)}") from error
        trainer.remove_callback(transformers.PrinterCallback)
        stop.trainer = trainer
        return trainer

    def _prompts(self, steps: int) -> Any:
        """Return the prompts in the order of their use, as many as the steps take."""
        known = training_library("datasets").Dataset.from_list(
            [{"prompt": row.chat, "case": row.case.model_dump_json()} for row in self.rows]
        )
        return known.select(prompt_order(len(self.rows), steps * self.settings.batch, self.settings.seed))

    def _keep_reference(self) -> None:
        """Put the weights that training starts from where TRL reads its reference, if it could not read them where they came from.

        It needs none beside an adapter, and reads a folder or a model of a hub by its name; weights from a GGUF file have none.
        """
        from_file = self.policy.base == "embedded" or self.policy.base.startswith("gguf:")
        if not from_file or not self.settings.kl or hasattr(self.policy.model, "peft_config"):
            return
        folder = self.folder / REFERENCE
        if not folder.exists():
            written_or_gone(
                self.folder / CHECKPOINTS, lambda: save_policy(self.policy, folder), what="the policy as it begins"
            )
        self.policy.model.config._name_or_path = str(folder)


def steps_asked(settings: GroupSettings, pace: Pace, prompts: int) -> int:
    """Return how many steps a run has in all."""
    return pace.max_steps or settings.steps(prompts)


def _arguments(settings: GroupSettings, pace: Pace, steps: int, folder: Path, device: str) -> dict[str, Any]:
    torch = training_library("torch")
    own = {} if settings.algorithm == "rloo" else {"loss_type": "dapo"}  # the mean over the tokens of a step
    several = {"num_iterations": settings.updates, "epsilon": CLIP} if settings.algorithm == "ppo" else {}
    return (
        own
        | several
        | {
            "output_dir": str(folder / CHECKPOINTS),
            "per_device_train_batch_size": settings.at_once,
            "gradient_accumulation_steps": settings.replies // settings.at_once,
            "num_generations": settings.rollouts,
            "max_completion_length": settings.max_new_tokens,
            "temperature": settings.temperature,
            "beta": settings.kl,
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": "constant",
            "max_steps": steps * settings.updates,
            "shuffle_dataset": False,
            "seed": settings.seed,
            "use_cpu": device == "cpu",
            "bf16": takes_bf16(torch, device),
            "gradient_checkpointing": True,  # a third more work in the update for a tenth of its memory
            "dataloader_pin_memory": device == "cuda",
            "logging_steps": settings.updates,
            "save_strategy": "steps",
            "save_steps": pace.save_every * settings.updates,
            "report_to": pace.report_to,
            "disable_tqdm": True,
        }
    )


def _told(error: RuntimeError, step: int) -> Exception:
    """Return what a person can do about an error of torch; the error itself where that is not known."""
    text = error_line(error)
    if "out of memory" in text or "can't allocate memory" in text:
        return TrainingStopped(
            f"step {step + 1}: there is not enough memory ({text}): take fewer replies --at-once, fewer --rollouts, a smaller --batch or "
            "fewer --max-new-tokens"
        )
    if "probability tensor contains" in text:
        return TrainingStopped(
            f"step {step + 1}: the policy gives no probabilities any more ({text}): its weights went out of range; go on from an older "
            "checkpoint, or start again with a lower learning rate"
        )
    return error
