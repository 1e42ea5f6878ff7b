"""What a training run says of itself as it goes: one line of `log.jsonl` and one on the console for every log of the trainer.

The trainer's names are made plain, everything else it logs is kept under `more`. A number that is none (NaN, infinite) is null in the file
and its name stands in `not_finite`; a number that was not there at all is null and does not. A run that goes on from a checkpoint drops
the lines past it first, and what was spent on judges before counts on. A step is a batch of replies, with all updates on it. Tensorboard
and trackio are the trainer's own (`report_to`) and count updates; the rewards' measures are among its logs. Left out on purpose: curves
(`peregrm.training.curves`) and averages over lines.

transformers is imported inside `log_callback`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from peregrm.errors import ArtifactError
from peregrm.models.ledger import Ledger
from peregrm.records import Part
from peregrm.reward.adapters.common import MEASURES
from peregrm.reward.adapters.trl import PREFIX
from peregrm.store import replace_text, summarise_validation
from peregrm.training.careful import updates_of
from peregrm.training.clock import GENERATING, JUDGING, Clock
from peregrm.training.policies import training_library

__all__ = ["LOG", "LogLine", "Seconds", "Spent", "TrainingLog", "log_callback", "read_log", "spent_by"]

LOG = "log.jsonl"

_MEASURES = frozenset(
    {"total", "empathy", "bystander", "coverage", "failed", "no_reply", "flagged", "flagged_total", *MEASURES}
)
"""What the reward logs beside its dimensions."""

_NAMES = {
    "reward": "reward",
    "reward_std": "reward_spread",
    "kl": "kl",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "completions/mean_length": "reply_tokens",
    "completions/clipped_ratio": "cut_off",
    f"{PREFIX}coverage": "coverage",
    f"{PREFIX}failed": "failed",
}
"""Fields of a line by the name the trainer logs them under."""


class Spent(Part):
    """What judges were asked since the run began, calls answered from a cache not counted; `cost` is None where a price is not known."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0

    def __add__(self, other: Spent) -> Spent:
        """Add field by field; an unknown cost stays unknown."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Spent(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=cost,
        )


class Seconds(Part):
    """Seconds since the line before: writing replies, waiting for the judge, the rest of the steps, and the steps as a whole."""

    generating: float | None = None
    judging: float | None = None
    updating: float | None = None
    steps: float


class LogLine(Part):
    """One log of the trainer.

    `reward` is the mean over replies that have one, `reward_spread` their standard deviation, `dimensions` the mean score by dimension,
    0.2 to 1. `coverage`, `failed` and `cut_off` are shares, 0 to 1, `failures` counts replies without a reward since the line
    before by kind, `reply_tokens` is the mean length of a reply. `kl` is the trainer's
    estimate, in nats a token. `more` holds what else was logged, by the trainer's names.
    """

    kind: Literal["step", "evaluation", "end"]
    step: int
    epoch: float | None = None
    reward: float | None = None
    reward_spread: float | None = None
    dimensions: dict[str, float | None] = Field(default_factory=dict)
    coverage: float | None = None
    failed: float | None = None
    failures: dict[str, int] = Field(default_factory=dict)
    kl: float | None = None
    reply_tokens: float | None = None
    cut_off: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    judge: Spent | None = None
    seconds: Seconds | None = None
    tokens_per_second: float | None = None
    samples_per_second: float | None = None
    more: dict[str, float | str | None] = Field(default_factory=dict)
    not_finite: tuple[str, ...] = ()


def spent_by(*ledgers: Ledger) -> Spent:
    """Return what the fresh calls in these ledgers used and cost."""
    total = Spent()
    for ledger in ledgers:
        used = ledger.total_usage()
        total += Spent(
            calls=used.calls,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cost=ledger.total_cost(),
        )
    return total


def read_log(folder: Path) -> list[LogLine]:
    """Read `log.jsonl` back; an empty list where there is none. A last line that was cut short by a kill is not there.

    Raises `ArtifactError` naming the line where another one is damaged.
    """
    path = folder / LOG
    if not path.exists():
        return []
    *whole, _ = path.read_bytes().split(b"\n")
    lines = []
    for number, text in enumerate(whole, start=1):
        try:
            lines.append(LogLine.model_validate_json(text))
        except ValidationError as error:
            raise ArtifactError(f"{path}:{number}: {summarise_validation(error)}") from None
    return lines


class TrainingLog:
    """Keeps the log of one run; what a trainer's callback forwards to.

    Args:
        folder: Where `log.jsonl` lies.
        say: Gets one readable line a step.
        clock: Knows where the seconds went.
        spent: Returns what judges were asked in this process.
        failures: Returns how many replies were left without a reward since it was last asked, by kind.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        clock: Clock,
        spent: Callable[[], Spent] | None = None,
        failures: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self.path = folder / LOG
        self._say = say
        self._clock = clock
        self._spent = spent
        self._failures = failures
        self._before = Spent()

    def begin(self, step: int) -> None:
        """Training begins or goes on after `step` steps: drop the lines past it."""
        lines = read_log(self.path.parent)
        asked = [line.judge for line in lines if line.judge is not None]
        self._before = max(asked, key=lambda one: one.calls, default=Spent())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.path, "".join(line.model_dump_json() + "\n" for line in lines if line.step <= step and step))

    def add(self, step: int, epoch: float | None, of: int, logs: Mapping[str, Any]) -> LogLine:
        """Write one log of the trainer down and say it; `of` is how many steps there will be.

        Raises `OSError` where it cannot be written; the file is whole then too.
        """
        line = _line(step, epoch, logs)
        if line.kind == "step":
            line = line.model_copy(update={**self._pace(), "failures": self._failures()})
        if self._spent is not None:
            line = line.model_copy(update={"judge": self._before + self._spent()})
        self._append(line.model_dump_json() + "\n")
        if line.kind == "step":
            self._say(_words(line, of))
        return line

    def _pace(self) -> dict[str, Any]:
        seconds, whole, replies, tokens = self._clock.read()
        if not whole:
            return {}
        parts = {name: round(seconds[name], 3) for name in (GENERATING, JUDGING) if name in seconds}
        rest = {"updating": round(max(0.0, whole - sum(seconds.values())), 3)} if parts else {}
        return {
            "seconds": Seconds(**parts, **rest, steps=round(whole, 3)),
            "tokens_per_second": round(tokens / whole, 3) if tokens else None,
            "samples_per_second": round(replies / whole, 4) if replies else None,
        }

    def _append(self, text: str) -> None:
        with self.path.open("ab") as handle:
            end = handle.tell()
            try:
                handle.write(text.encode("utf-8"))
                handle.flush()
            except OSError:
                handle.truncate(end)
                raise


def log_callback(
    folder: Path,
    say: Callable[[str], None],
    *,
    spent: Callable[[], Spent] | None = None,
    failures: Callable[[], dict[str, int]] = dict,
) -> Any:
    """Return a callback of transformers that keeps the log of a run in `folder`.

    Its `clock` watches a trainer once there is one: `callback.clock.watch(trainer)`. `spent` and `failures` are as in `TrainingLog`. Of
    several processes the first alone writes. A trainer must be set up not to hide losses that are not finite
    (`logging_nan_inf_filter=False`).
    """
    transformers = training_library("transformers")
    watch = Clock()
    log = TrainingLog(folder, say, watch, spent, failures)

    class LogCallback(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        clock = watch

        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.is_world_process_zero:
                log.begin(state.global_step // updates_of(args))
            watch.read()

        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            watch.begin_step()

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            watch.end_step()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if state.is_world_process_zero and logs:
                each = updates_of(args)
                log.add(state.global_step // each, state.epoch, state.max_steps // each, logs)

    return LogCallback()


def _line(step: int, epoch: float | None, logs: Mapping[str, Any]) -> LogLine:
    fields: dict[str, Any] = {}
    dimensions: dict[str, float | None] = {}
    more: dict[str, float | str | None] = {}
    odd: list[str] = []
    for name, raw in logs.items():
        value = _number(raw)
        if isinstance(value, float) and not math.isfinite(value):
            odd.append(name)
            value = None
        if name in _NAMES and not isinstance(value, str):
            fields[_NAMES[name]] = value
        elif name.startswith(PREFIX) and name.removeprefix(PREFIX) not in _MEASURES and not isinstance(value, str):
            dimensions[name.removeprefix(PREFIX)] = value
        elif name not in ("epoch", "step"):
            more[name] = value
    return LogLine(
        kind=_kind(logs),
        step=step,
        epoch=epoch,
        **fields,
        dimensions=dimensions,
        more=more,
        not_finite=tuple(sorted(odd)),
    )


def _kind(logs: Mapping[str, Any]) -> Literal["step", "evaluation", "end"]:
    if "train_runtime" in logs:
        return "end"
    return "step" if "loss" in logs else "evaluation"


def _number(raw: Any) -> float | str | None:
    """Return what was logged as a plain number; a text for what is none."""
    if raw is None or isinstance(raw, (bool, int, float)):
        return None if raw is None else float(raw)
    try:
        return float(raw)  # a tensor of one number
    except (TypeError, ValueError):
        return raw if isinstance(raw, str) else json.dumps(raw, default=str)


def _words(line: LogLine, of: int) -> str:
    """Return a line for a person."""
    parts = [f"step {line.step}/{of}" if of > 0 else f"step {line.step}"]
    parts += [] if line.reward is None else [f"reward {line.reward:.4f}"]
    parts += [f"{name} {value:.3f}" for name, value in line.dimensions.items() if value is not None]
    if line.failed:
        kinds = ", ".join(f"{kind} {count}" for kind, count in line.failures.items())
        parts.append(f"no reward for {line.failed:.0%}" + (f" ({kinds})" if kinds else ""))
    if line.coverage is not None and line.coverage < 1:
        parts.append(f"coverage {line.coverage:.2f}")
    parts += [] if line.kl is None else [f"KL {line.kl:.2g}"]
    if line.reply_tokens is not None:
        cut = f" ({line.cut_off:.0%} cut off)" if line.cut_off else ""
        parts.append(f"{line.reply_tokens:.0f} tokens a reply{cut}")
    parts += [] if line.loss is None else [f"loss {line.loss:.4g}"]
    if line.seconds is not None:
        split = {name: getattr(line.seconds, name) for name in ("generating", "judging", "updating")}
        told = ", ".join(f"{name} {value:.1f}" for name, value in split.items() if value is not None)
        parts.append(f"{line.seconds.steps:.1f} s" + (f" ({told})" if told else ""))
    if line.judge is not None and line.judge.calls:
        cost = "" if line.judge.cost is None else f", cost {line.judge.cost:.4f}"
        parts.append(f"{line.judge.calls:,} judge calls{cost}")
    if line.not_finite:
        parts.append(f"NOT FINITE: {', '.join(line.not_finite)}")
    return "  ".join(parts)
