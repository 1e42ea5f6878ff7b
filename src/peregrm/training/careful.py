"""Trainers of transformers and TRL that never write anything corrupt, and tell nobody that they run.

A checkpoint counts once a mark stands in it, which is written last: whatever was being written when a run was killed or a disk was full is
passed over and cleared away. A gradient that is not finite stops training before it changes a weight. TRL's note to its makers that a
trainer was started, and its card of a model, are left out.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from peregrm.errors import TrainingStopped
from peregrm.store import replace_text
from peregrm.training.policies import training_library

__all__ = ["careful", "last_checkpoint", "updates_of"]

MARK = "whole"
_NAME = re.compile(r"checkpoint-(\d+)")


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in a folder, and delete what is not whole; None where there is none."""
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        name = _NAME.fullmatch(path.name)
        if name and (path / MARK).exists():
            found[int(name[1])] = path
        elif name:
            shutil.rmtree(path)
    return found[max(found)] if found else None


def updates_of(args: Any) -> int:
    """Return how many updates a step has by a trainer's arguments: those that TRL's group trainers make on the same replies, else one."""
    return int(getattr(args, "num_iterations", 1))


@cache
def careful(trainer: Any) -> Any:
    """Return a trainer's class made careful as the module docstring says."""
    transformers = training_library("transformers")

    class Guard(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        """Stops before a step whose gradient is not finite."""

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
            torch = training_library("torch")
            for name, parameter in model.named_parameters():
                if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                    raise TrainingStopped(
                        f"step {state.global_step // updates_of(args) + 1}: the gradient of {name} is not finite: stopped before it "
                        "changed a weight; a lower learning rate may help"
                    )

    class Careful(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.add_callback(Guard())

        def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
            super()._save_checkpoint(*arguments, **named)
            folder = Path(self._get_output_dir(trial=None)) / f"checkpoint-{self.state.global_step}"
            replace_text(folder / MARK, "")

        def _issue_warnings_after_load(self, load_result: Any) -> None:
            """Leave out that a weight is not in a checkpoint which is one with another that is."""
            state = self.model.state_dict()
            there = {tensor.data_ptr() for name, tensor in state.items() if name not in load_result.missing_keys}
            lost = [name for name in load_result.missing_keys if state[name].data_ptr() not in there]
            if lost or load_result.unexpected_keys:
                super()._issue_warnings_after_load(load_result)

        def _send_telemetry(self) -> None:
            """Tell nobody."""

        def create_model_card(self, *arguments: Any, **named: Any) -> None:
            """Write none."""

    Careful.__name__ = trainer.__name__
    return Careful
