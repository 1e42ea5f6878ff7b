"""One run of a trainer of TRL over examples that do not change: settings, what was asked before, checkpoints, the end.

A run's folder holds `asked.json` (what was asked for, so that another run is not mixed into it), `checkpoints/` while it lasts, `log.jsonl`
with a line for every step, and at its end the weights and `result.json`. The same command again goes on from the last whole checkpoint,
with the same optimizer, random numbers and order of examples, so that the weights are those of a run that was never stopped; after the end
it does nothing. Left out on purpose: evaluation in between, which is that of `peregrm train grpo`, and training on several machines.

torch, transformers and trl are imported inside.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, RootModel

from peregrm.errors import SettingsError
from peregrm.models.precision import takes_bf16
from peregrm.records import Part, content_id
from peregrm.store import read_one, replace_text
from peregrm.training.careful import careful, last_checkpoint
from peregrm.training.grpo.checkpoints import naming_checkpoint, written_or_gone
from peregrm.training.logs import log_callback
from peregrm.training.policies import Policy, quietly, training_library

__all__ = [
    "ASKED",
    "CHECKPOINTS",
    "POLICY",
    "Fit",
    "FitSettings",
    "Fitted",
    "Tell",
    "dataset_of",
    "finished",
    "fit",
    "has_adapter",
    "keep_asked",
    "state_gib",
    "steps_of",
    "trainer_arguments",
]

CHECKPOINTS = "checkpoints"
ASKED = "asked.json"
RESULT = "result.json"
POLICY = "policy"

_WARM_UP = 0.05
"""The share of steps, rounded down, over which the learning rate rises."""

Tell = Callable[[str], None]


class FitSettings(Part):
    """How a model is fitted to examples that do not change."""

    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often every example is seen."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The highest rate, after the warm-up; it falls as a cosine. None: what is usual for the method, ten times that for an adapter."""

    batch: Annotated[int, Field(ge=1)] = 16
    """Examples a step."""

    at_once: Annotated[int, Field(ge=1)] = 4
    """Examples in memory at once; a divisor of `batch`. It changes memory and speed, not what is learned, but for rounding."""

    save_every: Annotated[int, Field(ge=1)] = 50
    """Steps between two checkpoints."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the order of examples, and of every weight that starts at random."""

    def rate(self, usual: float, *, adapter: bool) -> float:
        """Return the learning rate: that which was asked for, else the usual one of full training, or ten times it for an adapter."""
        usual *= 10 if adapter else 1
        return usual if self.learning_rate is None else self.learning_rate


class Fitted(Part):
    """How a fit ended: steps, the loss of the first and of the last step, seconds, and other figures of the method by name."""

    steps: int
    first_loss: float
    last_loss: float
    seconds: float
    figures: dict[str, float] = Field(default_factory=dict)


class Fit(NamedTuple):
    """What is to be fitted: a trainer's class and arguments (its configuration apart), and how its weights are written at the end."""

    trainer: Any
    arguments: Mapping[str, Any]
    save: Callable[[Fitted], None]


def steps_of(examples: int, settings: FitSettings) -> int:
    """Return how many steps a fit takes."""
    batches = math.ceil(examples / settings.at_once)
    each = max(1, math.ceil(batches / (settings.batch // settings.at_once)))
    return math.ceil(settings.epochs * each)


def state_gib(model: Any) -> float:
    """Return the GiB of weights, gradients and the two moments of Adam; what lies between the layers comes on top."""
    taken = sum(
        parameter.numel() * parameter.element_size() * (4 if parameter.requires_grad else 1)
        for parameter in model.parameters()
    )
    return round(float(taken) / 2**30, 2)


def has_adapter(policy: Policy) -> bool:
    """Tell whether an adapter alone is trained."""
    return hasattr(policy.model, "peft_config")


def dataset_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a dataset in memory; nothing is written into any cache of the machine."""
    return training_library("datasets").Dataset.from_list([dict(row) for row in rows])


def trainer_arguments(settings: FitSettings, out: Path, rate: float, model: Any) -> dict[str, Any]:
    """Return the arguments that every configuration of TRL takes here. Raises `SettingsError` where they do not fit together."""
    if settings.batch % settings.at_once:
        raise SettingsError(f"a step of {settings.batch} examples cannot be made of {settings.at_once} at once")
    torch = training_library("torch")
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    return {
        "output_dir": str(out / CHECKPOINTS),
        "per_device_train_batch_size": settings.at_once,
        "gradient_accumulation_steps": settings.batch // settings.at_once,
        "num_train_epochs": settings.epochs,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": 2,
        "seed": settings.seed,
        "bf16": takes_bf16(torch, device.type),
        "use_cpu": not on_gpu,
        "activation_checkpointing": True,
        "dataloader_pin_memory": on_gpu,
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": None,
    }


def finished(out: Path, asked: Mapping[str, Any], settings: FitSettings, rows: Sequence[Any]) -> Fitted | None:
    """Return how this fit ended, if it did; else keep what was asked for, settings and a hash of the rows with it, and return None.

    Raises `SettingsError` where the folder holds a fit of something else, and `ArtifactError` where its files are damaged.
    """
    keep_asked(
        out / ASKED,
        {**asked, **settings.model_dump(mode="json", exclude={"save_every"}), "data": content_id("data", list(rows))},
    )
    result = out / RESULT
    return read_one(result, Fitted) if result.exists() else None


class _Asked(RootModel[dict[str, Any]]):
    """What a fit hangs on, by name."""


def keep_asked(path: Path, now: Mapping[str, Any]) -> None:
    """Keep what was asked for in a file.

    Raises `SettingsError` naming what differs where it holds something else, and `ArtifactError` where it is damaged.
    """
    before = read_one(path, _Asked).root if path.exists() else now
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        raise SettingsError(
            f"{path.parent} holds a training with another {', '.join(changed)}: name another folder, or delete this one"
        )
    if not path.exists():
        replace_text(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n")


@quietly()
def fit(what: Fit, out: Path, tell: Tell, figures: Callable[[], dict[str, float]] = dict) -> Fitted:
    """Train from the last whole checkpoint, or from the start, to the end; then write weights and result.

    `figures` is asked for further figures once training is over, before the weights are written. Raises `TrainingStopped` where a gradient
    is not finite or something cannot be written; the checkpoints before stay as they were.
    """
    checkpoint = last_checkpoint(out / CHECKPOINTS)
    if checkpoint is not None:
        tell(f"going on from {checkpoint}")
    with _without_bars():
        trainer = _kept(what.trainer)(**what.arguments, callbacks=[log_callback(out, tell)])
    trainer.remove_callback(training_library("transformers").PrinterCallback)
    with naming_checkpoint(out / CHECKPOINTS):
        done = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    fitted = Fitted(
        steps=trainer.state.global_step,
        first_loss=losses[0],
        last_loss=losses[-1],
        seconds=round(done.metrics["train_runtime"], 1),
        figures=figures(),
    )
    written_or_gone(out / CHECKPOINTS, lambda: what.save(fitted), what="what was trained")
    with naming_checkpoint(out / CHECKPOINTS):
        replace_text(out / RESULT, fitted.model_dump_json(indent=1) + "\n")
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return fitted


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the bars of a trainer that works over its examples before it begins off the console."""
    datasets = training_library("datasets")
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@cache
def _kept(trainer: Any) -> Any:
    class Kept(careful(trainer)):  # type: ignore[misc]
        """A careful trainer that takes away what it could not write, and in which every example of a step counts alike."""

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            # transformers rounds a share up: a step at rate 0, which would be all of a short fit
            self.args.warmup_steps = math.floor(_WARM_UP * num_training_steps)
            return super().create_scheduler(num_training_steps, optimizer)

        def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
            batches, items = super().get_batch_samples(*arguments, **named)
            self._usual_size = sum(map(_size, batches)) / max(1, len(batches))
            return batches, items

        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
            share = _size(inputs) / self._usual_size
            loss = super().compute_loss(model, inputs, *arguments, **named)
            # a mean over fewer examples than those beside it weighs less; a loss that knows the number of tokens is weighed already
            return loss * share if named.get("num_items_in_batch") is None else loss

        def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
            written_or_gone(Path(self.args.output_dir), lambda: super(Kept, self)._save_checkpoint(*arguments, **named))

    Kept.__name__ = trainer.__name__
    return Kept


def _size(batch: Mapping[str, Any]) -> int:
    """Return how many rows a batch has, by its first entry."""
    return len(next(iter(batch.values())))
