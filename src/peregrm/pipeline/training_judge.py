"""`peregrm train judge`: stored judgements become a small judge that is used as `--judge local:DIR/model`.

Users are divided by the hash that divides datasets, so that those a judge was measured on are those that no policy trained on, where seed
and share are the dataset's (0 and a fifth by default) and every user is scored. `DIR` holds `model`, `card.json` and `card.md`,
`agreement.jsonl` with every score of teacher and student on unseen users, and what the training keeps (`asked.json`, `log.jsonl`,
`result.json`, checkpoints while it lasts). The same command again goes on where it was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from peregrm.dataset.output.splits import split_users
from peregrm.dataset.windows import estimated_tokens
from peregrm.dimension_files import load_dimensions
from peregrm.errors import InputError
from peregrm.models.local_digits import DigitModel, NotFinite
from peregrm.models.local_judge import Taught, local_name, open_digits
from peregrm.pipeline.reply_files import read_dataset
from peregrm.pipeline.scoring import parts_folder
from peregrm.records import Criteria, Judgement, Part, Reply, Reward
from peregrm.store import held_alone, read_records, write_records
from peregrm.training.distillation.agreement import measure
from peregrm.training.distillation.card import DistilledCard, Source, write_card
from peregrm.training.distillation.lessons import ASPECTS, Judged, Lesson, Lessons, lessons_of, prompts_of
from peregrm.training.distillation.teaching import digit_model, examples_of, teach
from peregrm.training.offline.running import FitSettings, steps_of
from peregrm.training.policies import Lora, fingerprint, load_policy, training_library

__all__ = ["JudgePlan", "JudgeTask", "JudgedPlace", "plan_judge", "read_judged", "train_judge"]

_HIDING = frozenset({"no-persona", "no-memories", "no-situation"})
"""Rewards whose judge was not shown everything: another question than the one that would be recorded."""

_LEFT_OUT = "questions longer than the model takes"

USUAL = FitSettings(epochs=3.0, batch=8, at_once=1)
ADAPTER = Lora()

Tell = Callable[[str], None]


@dataclass(frozen=True)
class JudgeTask:
    """What a judge is to be taught: from which stored judgements, which weights, and how.

    `scores` are files that `peregrm score` wrote or folders of runs, scorings and evaluations. `held_out` is the share of users to measure
    on, above 0 and below 1. `lora` is None where all weights are trained.
    """

    scores: tuple[Path, ...]
    model: str
    teacher: str | None = None
    dimensions: str = "empathy"
    held_out: float = 0.2
    settings: FitSettings = USUAL
    lora: Lora | None = ADAPTER


class JudgePlan(Part):
    """What a training would do: questions, users on either side, steps, and about how many tokens the model reads for each of them."""

    teacher: str
    learned_users: int
    unseen_users: int
    learned: int
    unseen: int
    steps: int
    training_tokens: int
    longest_tokens: int
    left_out: dict[str, int]


class JudgedPlace(Part):
    """One score of an unseen user's reply: the teacher's and the student's, 1 to 5; None where the student gave none."""

    user_id: str
    case_id: str
    reply_id: str
    aspect: str
    dimension: str
    key: str
    teacher: float
    student: Annotated[float, Field(ge=1, le=5)] | None


class _Sides(NamedTuple):
    lessons: Lessons
    learned: list[Lesson]
    unseen: list[Lesson]
    sources: tuple[Source, ...]


def read_judged(paths: Sequence[Path]) -> tuple[Judged, tuple[Source, ...]]:
    """Read judgements and what they rest on. Raises `InputError` or `ArtifactError` naming the file."""
    everything = Judged({}, {}, {}, [])
    sources = []
    cases, criteria, replies = dict(everything.cases), dict(everything.criteria), dict(everything.replies)
    judgements: list[Judgement] = []
    for path in dict.fromkeys(path.resolve() for path in paths):
        folder = path if path.is_dir() else parts_folder(path)
        file = folder / "judgements.jsonl"
        if not file.exists():
            raise InputError(f"{path}: no judgements: name a file that `peregrm score` wrote, or the folder of a run")
        _check_shown(path, folder)
        own = read_records(file, Judgement)
        cases |= read_dataset(folder).cases
        replies |= {reply.id: reply for reply in read_records(folder / "replies.jsonl", Reply)}
        if (folder / "criteria.jsonl").exists():
            criteria |= {one.id: one for one in read_records(folder / "criteria.jsonl", Criteria)}
        judgements += own
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        sources.append(Source(path=path.name, sha256=digest, judgements=len(own)))
    return Judged(cases, criteria, replies, judgements), tuple(sources)


def _check_shown(path: Path, folder: Path) -> None:
    """Raise `InputError` where the judge was not shown the whole case, or nothing says what it was shown."""
    beside = folder.with_name(f"{folder.name.removesuffix('.parts')}.jsonl")
    file = path if path.is_file() else folder / "rewards.jsonl" if (folder / "rewards.jsonl").exists() else beside
    if not file.exists():
        raise InputError(
            f"{path}: judgements without rewards beside them ({file.name}): nobody can tell what their judge was shown"
        )
    hidden = {reward.method for reward in read_records(file, Reward)} & _HIDING
    if hidden:
        raise InputError(
            f"{path}: judged as {', '.join(sorted(hidden))}, without all of the case: nothing to learn from"
        )


async def _sides(task: JudgeTask) -> _Sides:
    judged, sources = read_judged(task.scores)
    lessons = await lessons_of(judged, teacher=task.teacher, dimensions=load_dimensions(task.dimensions))
    users = {lesson.user for lesson in lessons.lessons}
    shares = (1 - task.held_out, 0.0, task.held_out)
    splits = split_users(users, seed=task.settings.seed, shares=shares).splits
    learned, unseen = (
        [lesson for lesson in lessons.lessons if splits[lesson.user] == side] for side in ("train", "test")
    )
    if not learned or not unseen:
        raise InputError(
            f"judgements of {len(users)} users: at least two are needed, to learn from one and measure on the other"
        )
    return _Sides(lessons, learned, unseen, sources)


async def plan_judge(task: JudgeTask) -> JudgePlan:
    """Return what a training would do; nothing is loaded but the judgements, no judge is asked. Tokens are estimated."""
    sides = await _sides(task)
    lengths = [sum(estimated_tokens(message.content) for message in lesson.messages) for lesson in sides.learned]
    answers = [sum(estimated_tokens(chunk) for chunk in lesson.form.chunks()) for lesson in sides.learned]
    whole = [length + answer for length, answer in zip(lengths, answers, strict=True)]
    return JudgePlan(
        teacher=sides.lessons.teacher,
        learned_users=len({lesson.user for lesson in sides.learned}),
        unseen_users=len({lesson.user for lesson in sides.unseen}),
        learned=len(sides.learned),
        unseen=len(sides.unseen),
        steps=steps_of(len(sides.learned), task.settings),
        training_tokens=math.ceil(sum(whole) * task.settings.epochs),
        longest_tokens=max(whole),
        left_out=dict(sides.lessons.left_out),
    )


async def train_judge(task: JudgeTask, out: Path, tell: Tell = lambda line: None) -> DistilledCard:
    """Teach a judge and measure it on users it has not seen; everything is written to `out`.

    Raises `InputError` and `ArtifactError` where the judgements do not do, the latter also where another command is at work in `out`,
    `SettingsError` where the model does not or `out` holds another training, `DependencyError` without torch, and what training raises
    where it cannot go on.
    """
    sides = await _sides(task)
    for line in sides.lessons.told():
        tell(line)
    with held_alone(out):
        return _taught(task, sides, out, tell)


def _taught(task: JudgeTask, sides: _Sides, out: Path, tell: Tell) -> DistilledCard:
    training_library("transformers").set_seed(task.settings.seed)  # an adapter begins at random
    policy = load_policy(task.model, lora=task.lora, precision="float32" if task.lora is None else "auto")
    examples, kept, dropped = examples_of(sides.learned, digit_model(policy))
    if not examples:
        raise InputError(
            f"{task.model}: none of {len(sides.learned)} questions fits its context of {policy.context} tokens"
        )
    if dropped:
        tell(f"left out: {dropped} questions longer than the {policy.context} tokens the model takes")
    aspects = [aspect for aspect in ASPECTS if any(lesson.aspect == aspect for lesson in kept)]
    taught = Taught(
        teacher=sides.lessons.teacher,
        base=policy.base,
        dimensions=tuple(dict.fromkeys(outer for lesson in kept for outer in lesson.form.outer if outer)),
        bystander="bystander" in aspects,
        prompts=prompts_of(aspects),
    )
    method = "all weights" if task.lora is None else f"LoRA of rank {task.lora.rank}, merged"
    asked = {
        "model": task.model,
        "weights": fingerprint(task.model),
        "method": method,
        "teacher": taught.teacher,
        "held_out": task.held_out,
    }
    fitted = teach(policy, examples, task.settings, out, taught=taught, asked=asked, tell=tell)
    del policy
    tell(f"asking the student about {len(sides.unseen)} questions of users it has not seen")
    answers = _answers(open_digits(out / "model"), sides.unseen)
    write_records(out / "agreement.jsonl", _places(sides.unseen, answers))
    left_out = dict(sides.lessons.left_out) | ({_LEFT_OUT: dropped} if dropped else {})
    card = DistilledCard(
        name=local_name(f"local:{out / 'model'}"),
        teacher=taught.teacher,
        base=taught.base,
        method=method,
        sources=sides.sources,
        prompts=taught.prompts,
        dimensions=taught.dimensions,
        learned=_counts(kept),
        unseen=_counts(sides.unseen),
        left_out=left_out,
        steps=fitted.steps,
        seconds=fitted.seconds,
        figures=fitted.figures,
        settings=task.settings.model_dump(mode="json"),
        agreement=tuple(measure(sides.unseen, answers, kept, seed=task.settings.seed)),
    )
    write_card(card, out)
    return card


def _counts(lessons: Sequence[Lesson]) -> tuple[int, int, int]:
    return len({lesson.user for lesson in lessons}), len({lesson.reply_id for lesson in lessons}), len(lessons)


def _answers(digits: DigitModel, lessons: Sequence[Lesson]) -> list[tuple[float, ...] | None]:
    """Return the student's scores, as the judge gives them: None where a question has no room, or a probability is no number."""
    answers: list[tuple[float, ...] | None] = []
    for lesson in lessons:
        prompt = digits.prompt_ids(lesson.messages)
        if len(prompt) > digits.room(lesson.form):
            answers.append(None)
            continue
        try:
            (found,) = digits.read(lesson.form, [prompt])
        except NotFinite:
            answers.append(None)
            continue
        answers.append(found.expected)
    return answers


def _places(lessons: Sequence[Lesson], answers: Sequence[tuple[float, ...] | None]) -> list[JudgedPlace]:
    return [
        JudgedPlace(
            user_id=lesson.user,
            case_id=lesson.case_id,
            reply_id=lesson.reply_id,
            aspect=lesson.aspect,
            dimension=outer,
            key=inner,
            teacher=round(lesson.scores[number], 6),
            student=None if answer is None else round(answer[number], 6),
        )
        for lesson, answer in zip(lessons, answers, strict=True)
        for number, (outer, inner) in enumerate(lesson.form.places)
    ]
