"""`peregrm train sft` and `train dpo`: a policy's own replies, or others that exist, are scored, and the best of them are learned from.

The folder holds `samples.jsonl` (the policy's replies; none where replies were given; `samples.cut_off.json` names those that ended at the
length limit, whose end is not learned), `scores.jsonl` and `scores.parts/` as `peregrm score` writes them, `chosen.jsonl` (which reply of
each case was taken, against which), what the training keeps (`asked.json`, `log.jsonl`, `result.json`, checkpoints while it lasts) and in
the end `policy/`. The same command again goes on where it was: no reply is written and no judge is asked twice; once training has begun,
what was chosen stays chosen, whatever a judge would say now. Cases are those that `peregrm train grpo` trains on, with the same prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

from peregrm.errors import InputError, SettingsError
from peregrm.mapping import Progress
from peregrm.pipeline.plan import PlannedCalls
from peregrm.pipeline.reply_files import read_dataset, read_ranked_replies
from peregrm.pipeline.scoring import Scoring, plan_scoring, score_replies
from peregrm.pipeline.training_material import training_cases
from peregrm.records import Part, Record, Reply, content_id
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings
from peregrm.store import held_alone, read_records, write_records
from peregrm.training.left_out import left_out_lines
from peregrm.training.offline.choosing import Choice, Chosen, Ranked, choose
from peregrm.training.offline.dpo import DPOSettings, Preferred, train_dpo
from peregrm.training.offline.running import ASKED, POLICY, FitSettings, Fitted, Tell, state_gib, steps_of
from peregrm.training.offline.samples import SampleSettings, cut_off_samples, write_samples
from peregrm.training.offline.sft import train_sft
from peregrm.training.offline.tokens import Encoder, Example
from peregrm.training.policies import (
    Lora,
    Policy,
    fingerprint,
    load_policy,
    outline_policy,
    parameter_counts,
    training_library,
)
from peregrm.training.rows import PromptRow, prompt_rows

__all__ = ["POLICY", "ChosenReplies", "OfflinePlan", "OfflineTask", "Scorer", "plan_offline", "train_offline"]

T = TypeVar("T")

SCORES = "scores.jsonl"
CHOSEN = "chosen.jsonl"

_NOT_ASKED = "replies to cases that are not trained on"


class Scorer(Protocol):
    """Runs asynchronous work that shows its progress, as a command does."""

    def __call__(self, work: Callable[[Progress], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` returns."""
        ...


@dataclass(frozen=True)
class OfflineTask:
    """What a policy is to learn from, and how.

    `reward` is None where the given `replies` have ranks of their own, or stand alone and are learned as they are. `replies` is a file as
    `peregrm score` takes it, `cut_off` the ids of those among them that ended at a length limit; None: the policy writes its own. `lora` is
    None where all weights are trained, or an adapter goes on.
    """

    dataset: Path
    model: str
    reward: RewardOptions | None
    samples: SampleSettings
    settings: FitSettings
    lora: Lora | None
    replies: Path | None = None
    cut_off: frozenset[str] = frozenset()

    @property
    def method(self) -> Literal["sft", "dpo"]:
        """How it learns: `dpo` where the settings are those of DPO."""
        return "dpo" if isinstance(self.settings, DPOSettings) else "sft"


class ChosenReplies(Record):
    """The reply of a case that was learned from, and for DPO the one it was held against, by id and with their totals."""

    id_prefix: ClassVar[str] = "cho"

    case_id: str
    best: str
    total: float
    worst: str | None = None
    worst_total: float | None = None


class OfflinePlan(Part):
    """What a training would do at most. Tokens are those of prompts and of replies as long as they may be, over all epochs.

    `memory_gib` is what weights, gradients and optimizer take; what lies between the layers comes on top, and grows with what is at once.
    """

    cases: int
    withheld: int
    prompts: int
    replies_to_write: int
    longest_prompt: int
    steps: int
    trained_tokens: int
    parameters: int
    trained_parameters: int
    memory_gib: float
    told: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the plan in words."""
        size = f"weights, gradients and optimizer take {self.memory_gib:.2f} GiB, and what lies between the layers comes on top"
        prompts = f"{self.prompts} prompts, the longest of {self.longest_prompt} tokens"
        return [
            *self.told,
            f"{self.cases} cases to train on, {self.withheld} flagged ones withheld; {prompts}",
            f"at most: {self.replies_to_write} replies to write, {self.steps} steps, {self.trained_tokens:,} tokens trained on",
            f"{self.trained_parameters:,} of {self.parameters:,} parameters are trained; {size}",
        ]


class _Material(NamedTuple):
    policy: Policy
    rows: list[PromptRow]
    withheld: int
    cases: int
    told: list[str]


def train_offline(task: OfflineTask, settings: Settings, out: Path, score: Scorer, tell: Tell) -> Fitted:
    """Write or read replies, score them, choose, and train until it is done; what was done before is not done again.

    Raises:
        SettingsError: The folder holds another training, or the settings do not fit together.
        ArtifactError: Another command is at work in the folder.
        InputError: Nothing is left to learn from.
        FailureBudgetExceeded: Too many judgements failed; they are written, and asked for again by the same command.
        TrainingStopped: A gradient is not finite, or a checkpoint cannot be written; those before it stand.
    """
    with held_alone(out):
        return _trained(task, settings, out, score, tell)


def _trained(task: OfflineTask, settings: Settings, out: Path, score: Scorer, tell: Tell) -> Fitted:
    material = _material(task, load_policy)
    tell(f"{material.cases} cases to train on, {material.withheld} flagged ones withheld")
    for line in material.told:
        tell(line)
    left_out: Counter[str] = Counter()
    given = _given(task, {row.case.id for row in material.rows}, left_out)
    replies = [reply for reply, _ in given] or write_samples(material.policy, material.rows, task.samples, out, tell)
    begun = (out / ASKED).exists() and (out / CHOSEN).exists()
    if begun:
        chosen = _chosen_before(replies, out)
    else:
        chosen = choose(_ranked(task, given, replies, settings, out, score), pairs=task.method == "dpo")
    cut_off = task.cut_off | cut_off_samples(out)
    examples = _examples(material, chosen, cut_off, left_out)
    for line in (*chosen.told(), *left_out_lines(left_out)):
        tell(line)
    if not examples:
        raise InputError(
            f"{task.dataset}: no case is left to learn from: {'; '.join(chosen.told()) or 'there are no replies'}"
        )
    if not begun:
        write_records(out / CHOSEN, [_written(case_id, chosen.choices[case_id], task.method) for case_id in examples])
    endless = _endless([chosen.choices[case_id] for case_id in examples], cut_off, task.method)
    if endless:
        tell(f"{endless} of the replies were cut off at the length limit: no end of a turn is learned from them")
    tell(f"{task.method.upper()} on {len(examples)} cases, {steps_of(len(examples), task.settings)} steps")
    asked = _asked(task, given)
    pairs = list(examples.values())
    if isinstance(task.settings, DPOSettings):
        return train_dpo(material.policy, pairs, task.settings, out, asked, tell)
    return train_sft(material.policy, [pair.best for pair in pairs], task.settings, out, asked, tell)


def _material(task: OfflineTask, load: Callable[..., Policy]) -> _Material:
    """Load the policy under its seed and make the prompts."""
    cases = training_cases(task.dataset)
    training_library("transformers").set_seed(task.settings.seed)  # an adapter begins at random
    light = task.lora is not None or (Path(task.model) / "adapter_config.json").exists()
    how = {} if load is outline_policy else {"precision": "auto" if light else "float32"}
    policy = load(task.model, lora=task.lora, **how)
    room = policy.context - task.samples.max_new_tokens
    if room < 1:
        raise SettingsError(
            f"{policy.name}: its context of {policy.context} tokens has no room for a prompt beside {task.samples.max_new_tokens} "
            "new ones: take fewer --max-new-tokens"
        )
    rows = prompt_rows(cases.train, policy.tokenizer, setting=task.samples.setting, room=room)
    if not rows.rows:
        raise InputError(f"{policy.name}: no prompt fits into {room} tokens: take fewer --max-new-tokens")
    return _Material(policy, rows.rows, len(cases.withheld), len(cases.train), rows.told())


def _asked(task: OfflineTask, given: Sequence[tuple[Reply, int | None]]) -> dict[str, Any]:
    """Return what the weights hang on beside settings and examples."""
    return {
        "method": task.method,
        "model": task.model,
        "weights": fingerprint(task.model),
        "adapter": None if task.lora is None else task.lora.model_dump(mode="json"),
        "reward": None if task.reward is None else task.reward.model_dump(mode="json", exclude={"cache"}),
        "replies": content_id("replies", [[reply.id, rank] for reply, rank in given]),
    }


def _chosen_before(replies: Sequence[Reply], out: Path) -> Chosen:
    """Return what was chosen when training began. Raises `SettingsError` where these replies are not there any more."""
    known = {reply.id: reply for reply in replies}
    choices: dict[str, Choice] = {}
    for row in read_records(out / CHOSEN, ChosenReplies):
        best, worst = known.get(row.best), known.get(row.worst or row.best)
        if best is None or worst is None:
            raise SettingsError(
                f"{out} holds a training on other replies to {row.case_id}: name another folder, or delete this one"
            )
        choices[row.case_id] = Choice(Ranked(best, row.total), Ranked(worst, row.worst_total))
    return Chosen(choices, Counter())


def _ranked(
    task: OfflineTask,
    given: Sequence[tuple[Reply, int | None]],
    replies: Sequence[Reply],
    settings: Settings,
    out: Path,
    score: Scorer,
) -> list[Ranked]:
    """Return the replies with what each is worth."""
    reward = task.reward
    if reward is None:
        return _by_rank(given)
    known = read_dataset(task.dataset, reward.dimensions)
    scoring: Scoring = score(
        lambda bars: score_replies(known, replies, reward, settings, out=out / SCORES, progress=bars)
    )
    totals = {one.reply.id: one.total for one in scoring.scored}
    return [Ranked(reply, totals[reply.id]) for reply in replies]


def _given(task: OfflineTask, wanted: set[str], left_out: Counter[str]) -> list[tuple[Reply, int | None]]:
    if task.replies is None:
        if task.reward is None:
            raise SettingsError("name a judge: the policy's own replies say nothing about which of them is best")
        return []
    rows = read_ranked_replies(task.replies, read_dataset(task.dataset).cases)
    kept = [row for row in rows if row[0].case_id in wanted]
    if len(kept) < len(rows):
        left_out[_NOT_ASKED] += len(rows) - len(kept)
    if not kept:
        raise InputError(f"{task.replies}: none of the replies is to a case that is trained on")
    return kept


def _by_rank(given: Sequence[tuple[Reply, int | None]]) -> list[Ranked]:
    """Return replies by the ranks they came with; one that stands alone needs none.

    Raises `SettingsError` where neither says which reply is best.
    """
    counts = Counter(reply.case_id for reply, _ in given)
    unranked = next((reply for reply, rank in given if rank is None and counts[reply.case_id] > 1), None)
    if unranked is not None:
        raise SettingsError(f"name a judge: {unranked.case_id} has several replies, and not all of them have a rank")
    return [Ranked(reply, -float(rank or 1)) for reply, rank in given]


def _endless(choices: Sequence[Choice], cut_off: frozenset[str], method: Literal["sft", "dpo"]) -> int:
    """Return how many of the replies that are learned from have no end."""
    return sum(one.reply.id in cut_off for choice in choices for one in (choice if method == "dpo" else choice[:1]))


def _examples(
    material: _Material, chosen: Chosen, cut_off: frozenset[str], left_out: Counter[str]
) -> dict[str, Preferred]:
    """Return what is learned from, by case id in the order of the prompts; replies that are too long are counted."""
    encoder = Encoder(material.policy.tokenizer, material.policy.context)
    examples: dict[str, Preferred] = {}
    for row in material.rows:
        choice = chosen.choices.get(row.case.id)
        if choice is None:
            continue
        best, worst = (encoder.example(row, one.reply.text, cut_off=one.reply.id in cut_off) for one in choice)
        if isinstance(best, Example) and isinstance(worst, Example):
            examples[row.case.id] = Preferred(best, worst)
        else:
            left_out[f"cases with {best if isinstance(best, str) else worst}"] += 1
    return examples


def _written(case_id: str, choice: Choice, method: Literal["sft", "dpo"]) -> ChosenReplies:
    best, worst = choice
    against = (worst.reply.id, worst.total) if method == "dpo" else (None, None)
    return ChosenReplies(
        case_id=case_id, best=best.reply.id, total=best.total or 0.0, worst=against[0], worst_total=against[1]
    )


def plan_offline(task: OfflineTask, settings: Settings, score: Scorer) -> tuple[OfflinePlan, list[PlannedCalls]]:
    """Return what a training would do at most, and what it would ask of judges; no reply is written and nobody is asked.

    Of the policy the tokenizer and the shapes alone are read. Raises what `train_offline` raises before its first step.
    """
    material = _material(task, outline_policy)
    left_out: Counter[str] = Counter()
    given = _given(task, {row.case.id for row in material.rows}, left_out)
    longest = task.samples.max_new_tokens
    replies = [reply for reply, _ in given] or [
        Reply(case_id=row.case.id, policy=f"{task.model}-{n}", text=f"{n} word" + " word" * (longest - 2))
        for row in material.rows
        for n in range(task.samples.samples)
    ]
    planned: list[PlannedCalls] = []
    reward = task.reward
    if reward is not None:
        known = read_dataset(task.dataset, reward.dimensions)
        planned = score(lambda bars: plan_scoring(known, replies, reward, settings, bars))
    else:
        _by_rank(given)
    sides = 2 if task.method == "dpo" else 1
    tokens = sum(row.tokens + longest for row in material.rows) * sides
    parameters, trained = parameter_counts(material.policy.model)
    return (
        OfflinePlan(
            cases=material.cases,
            withheld=material.withheld,
            prompts=len(material.rows),
            replies_to_write=0 if given else len(replies),
            longest_prompt=max(row.tokens for row in material.rows),
            steps=steps_of(len(material.rows), task.settings),
            trained_tokens=round(tokens * task.settings.epochs),
            parameters=parameters,
            trained_parameters=trained,
            memory_gib=state_gib(material.policy.model),
            told=(*material.told, *left_out_lines(left_out)),
        ),
        planned,
    )
