"""`peregrm train grpo` and `rloo`: a dataset, a judge and a policy are put together and trained, from where an earlier run stopped.

The folder holds `run.json` (what was asked for), `checkpoints/`, `log.jsonl`, `held_out.jsonl` with another judge's view where there is
one, `calls.sqlite` (every answer of a judge), `ledger.json` (what each process spent) and at the end `policy/` and `result.json`. The
same command again goes on from the last checkpoint; what decides the weights must be the same, and more steps may be asked for.

torch, transformers, trl and peft are imported inside.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import DependencyError, InputError, SettingsError
from peregrm.models.base import Model
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.finish import spent_on
from peregrm.pipeline.reply_files import Dataset, read_dataset
from peregrm.pipeline.scoring import give_criteria
from peregrm.pipeline.training_folder import POLICY, Sessions, Trained, TrainingRun, begun, finish
from peregrm.pipeline.training_material import TrainingCases, training_cases
from peregrm.records import Case, content_id
from peregrm.reward.base import COMPARING, RewardModel
from peregrm.reward.factory import check_names, open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.rivals.scalar import PREFIX, Scalar
from peregrm.settings import Settings
from peregrm.store import held_alone
from peregrm.training.generation import stop_at_turns
from peregrm.training.grpo.checkpoints import naming_checkpoint, written_or_gone
from peregrm.training.grpo.gate import Gate
from peregrm.training.grpo.looped import Looped, OwnLoop
from peregrm.training.grpo.settings import GroupSettings, Pace
from peregrm.training.grpo.trainer import CHECKPOINTS, GroupRun, steps_asked
from peregrm.training.held_out import check_other_judge, held_out_callback
from peregrm.training.logs import log_callback, spent_by
from peregrm.training.policies import Policy, fingerprint, load_policy, save_policy, training_library
from peregrm.training.rows import PromptRow, prompt_rows

__all__ = ["NO_ROOM_HELD_OUT", "GroupTraining", "cases_told", "check_training", "train_group"]

Say = Callable[[str], None]

_WINDOW_STEPS = 2
"""Steps over whose replies the share without a reward is taken."""

_REPORTING = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",)}
"""The packages by which a trainer reports, one of which is enough; the first is named to whoever has none."""

NO_ROOM_HELD_OUT = "No prompt of a held-out case has room, so the held-out judge has nothing to read."


@dataclass(frozen=True)
class GroupTraining:
    """What a command asks for. `held_out` is the judge, as `--judge` takes it, that looks at users who are not trained on; None: nobody."""

    model: str
    reward: RewardOptions
    settings: GroupSettings
    pace: Pace
    held_out: str | None = None


class _Judging(NamedTuple):
    """The reward with its gate, the same without it, that of the held-out judge, and what all judges are asked."""

    gate: Gate
    gated: RewardModel
    plain: RewardModel
    held_out: RewardModel | None
    ledger: Ledger


def train_group(dataset: Path, asked: GroupTraining, settings: Settings, *, out: Path, say: Say) -> Trained:
    """Train until the asked steps are done and write the policy into `out`.

    Raises:
        SettingsError: The folder holds another run, or the settings do not fit the policy, the reward or this machine.
        InputError: There is nothing to train on, or no prompt fits.
        ArtifactError: Another command is at work in the folder, or its files are damaged.
        TrainingStopped: A checkpoint, another file or the policy could not be written, or the loss is none any more; the last checkpoint
            stands.
        FailureBudgetExceeded: Too many replies had no reward; a checkpoint is kept.
        ModelError: The judge refuses for good, or never answered.
    """
    cases, known = training_cases(dataset), read_dataset(dataset, asked.reward.dimensions)
    for line in check_training(asked, settings):
        say(line)
    with held_alone(out):
        return _trained(cases, known, asked, settings, out, say)


def _trained(
    cases: TrainingCases, known: Dataset, asked: GroupTraining, settings: Settings, out: Path, say: Say
) -> Trained:
    before = begun(out, _run(asked, known, cases, settings))
    if before is not None and before.steps >= steps_asked(asked.settings, asked.pace, before.prompts):
        say(f"{before.policy}: it was trained before, in {before.steps} steps: there is nothing to do")
        return before
    for line in cases_told(cases, asked):
        say(line)
    training_library("transformers").set_seed(asked.settings.seed)  # an adapter begins at random
    light = asked.settings.lora is not None or _is_adapter(asked.model)
    policy = load_policy(asked.model, lora=asked.settings.lora, precision="auto" if light else "float32")
    rows = _rows(policy, cases.train, asked.settings, say)
    with _judging(asked, known, settings, out, say) as judging, naming_checkpoint(out / CHECKPOINTS):
        steps = _train(policy, rows, cases, asked, judging, out, say)
    stop_at_turns(policy)
    written_or_gone(out / CHECKPOINTS, lambda: save_policy(policy, out / POLICY), what="the policy")
    done = Trained(steps=steps, prompts=len(rows), policy=str(out / POLICY))
    with naming_checkpoint(out / CHECKPOINTS):
        finish(out, done)
    return done


def check_training(asked: GroupTraining, settings: Settings) -> list[str]:
    """Return what should be known before training.

    Raises `SettingsError` where it cannot be as it was asked for, `DependencyError` where what it is to report to is not installed.
    """
    check_names([asked.reward.reward])
    _check_reporter(asked.pace.report_to)
    said: list[str] = []
    if asked.held_out is not None and asked.reward.reward != Scalar.method:
        said += check_other_judge(asked.reward.judges, [asked.held_out], settings)
    if asked.held_out is None:
        said.append("No --held-out-judge: that the policy only learns to please its judge would not show.")
    if _is_adapter(asked.model) and asked.settings.lora is not None:
        raise SettingsError(
            f"{asked.model} is an adapter itself, and that is what is trained: leave out --lora and --rank"
        )
    return said


def _check_reporter(name: str) -> None:
    packages = _REPORTING.get(name, ())
    if packages and not any(map(importlib.util.find_spec, packages)):
        raise DependencyError(f"--report-to {name}: that is not installed: pip install {packages[0]}")


def cases_told(cases: TrainingCases, asked: GroupTraining) -> list[str]:
    """Return what there is to train on and to look at, and that a held-out judge has nobody to read where that is so."""
    told = [
        f"{len(cases.train)} cases to train on, {len(cases.withheld)} flagged ones withheld, {len(cases.validation)} held out"
    ]
    if asked.held_out is not None and not cases.validation:
        told.append(
            "No held-out case: the dataset has no users in its validation split, so the held-out judge has nothing to read."
        )
    return told


def _is_adapter(model: str) -> bool:
    return (Path(model) / "adapter_config.json").exists()


def _run(asked: GroupTraining, known: Dataset, cases: TrainingCases, settings: Settings) -> TrainingRun:
    generative = asked.reward.reward != Scalar.method
    criteria = sorted(one.id for one in known.criteria.values())
    return TrainingRun(
        model=asked.model,
        weights=fingerprint(asked.model),
        material=content_id("training", [[case.id for case in cases.train], criteria]),
        judges=tuple(model_name(spec, settings) if generative else _classifier(spec) for spec in asked.reward.judges),
        reward=asked.reward,
        settings=asked.settings,
    )


def _classifier(spec: str) -> str:
    return f"{spec}@{fingerprint(spec.removeprefix(PREFIX))}"


def _rows(policy: Policy, cases: list[Case], settings: GroupSettings, say: Say) -> list[PromptRow]:
    """Return the prompts, saying what had no room in them."""
    room = policy.context - settings.max_new_tokens
    if room < 1:
        raise SettingsError(
            f"{policy.name}: its context of {policy.context} tokens has no room for a prompt beside {settings.max_new_tokens} new ones: "
            "take fewer --max-new-tokens"
        )
    rows = prompt_rows(cases, policy.tokenizer, setting=settings.setting, room=room)
    for line in rows.told():
        say(line)
    if not rows.rows:
        raise InputError(f"{policy.name}: no prompt fits into {room} tokens: take fewer --max-new-tokens")
    return rows.rows


@contextmanager
def _judging(asked: GroupTraining, known: Dataset, settings: Settings, out: Path, say: Say) -> Iterator[_Judging]:
    """Open the judges in a loop of their own; they and the cache are closed in the end."""
    generative = asked.reward.reward != Scalar.method
    specs = asked.reward.judges if generative else ()
    others = () if asked.held_out is None else (asked.held_out,)
    ledger = Ledger(prices({*specs, *others}, settings))
    with ExitStack() as stack:
        loop = stack.enter_context(OwnLoop())
        cache = stack.enter_context(CallCache(out / "calls.sqlite"))

        def opened(options: RewardOptions, judges: tuple[str, ...]) -> RewardModel:
            models = tuple(open_model(spec, settings, cache=cache, ledger=ledger) for spec in judges)
            for model in models:
                stack.callback(_close, loop, model)
            reward = open_reward(options, models or None)
            stack.callback(_close, loop, reward)
            give_criteria(reward, known)
            return reward

        plain = opened(asked.reward, specs)
        gate = Gate(
            plain,
            wait_s=asked.pace.wait_s,
            budget=asked.pace.failure_budget,
            window=_WINDOW_STEPS * asked.settings.replies,
            say=say,
        )
        shared = asked.reward.model_copy(update={"reward": "shared", "judges": others})
        held_out = Looped(opened(shared, others), loop) if others else None
        yield _Judging(gate, Looped(gate, loop), Looped(plain, loop), held_out, ledger)


def _close(loop: OwnLoop, one: Model | RewardModel) -> None:
    loop.run(one.aclose())


def _train(
    policy: Policy,
    rows: list[PromptRow],
    cases: TrainingCases,
    asked: GroupTraining,
    judging: _Judging,
    out: Path,
    say: Say,
) -> int:
    started, sessions = time.monotonic(), Sessions(out)

    def keep_spent() -> None:
        sessions.keep(spent_on(judging.ledger, time.monotonic() - started))

    def after_step() -> None:
        keep_spent()
        judging.gate.check()

    log = log_callback(out, say, spent=lambda: spent_by(judging.ledger), failures=judging.gate.taken_failures)
    trainers: list[Any] = []

    def made(trainer: Any) -> None:
        trainers.append(trainer)
        log.clock.watch(trainer)

    beside = [_held_out(policy, cases, asked, judging, trainers, out, say)]
    run = GroupRun(
        policy=policy,
        rows=rows,
        reward=judging.gated,
        settings=asked.settings,
        pace=asked.pace,
        folder=out,
        check=after_step,
        say=say,
        callbacks=[log, *filter(None, beside)],
        made=made,
    )
    try:
        return run.train()
    finally:
        for callback in filter(None, beside):
            callback.held_out.close()
        keep_spent()


def _held_out(
    policy: Policy,
    cases: TrainingCases,
    asked: GroupTraining,
    judging: _Judging,
    trainers: list[Any],
    out: Path,
    say: Say,
) -> Any | None:
    """Return the callback by which another judge looks at users who are not trained on; None where there is no such judge or user."""
    if judging.held_out is None or not cases.validation:
        return None
    rows = prompt_rows(
        cases.validation,
        policy.tokenizer,
        setting=asked.settings.setting,
        room=policy.context - asked.settings.max_new_tokens,
    )
    if not rows.rows:
        say(NO_ROOM_HELD_OUT)
        return None

    def report(means: dict[str, float]) -> None:
        training_library("transformers").Trainer.log(trainers[0], means)  # TRL's own would end the step's figures early

    return held_out_callback(
        policy,
        rows.rows,
        judging.held_out,
        every=asked.pace.eval_every,
        folder=out,
        max_new_tokens=asked.settings.max_new_tokens,
        say=say,
        beside=None if asked.reward.reward in COMPARING else judging.plain,
        report=None if asked.pace.report_to == "none" else report,
    )
