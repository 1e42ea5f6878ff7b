"""From stored judgements to lessons: the question exactly as a judge of the shared mode is asked it, and what the teacher answered.

A question is not built here but recorded: the judge's own code asks it of a stand-in. What the teacher said is the mean over the trials
of a reply that were scored, each score an expectation over the teacher's digits where it gave probabilities. Unscored judgements are
counted and never filled in; so are those that no model gave (an empty reply), those of other prompts than the shared mode's as they stand
today, and those of flagged cases, which are judged by safe guidance, which no small model should learn from a handful of examples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from peregrm.dimensions import BYSTANDER_PARTS, EMPATHY, Dimension
from peregrm.errors import ArtifactError, InputError, ModelUnavailable
from peregrm.models.base import Completion, Message, Request
from peregrm.models.heads import is_head
from peregrm.models.local_digits import Form, form_of
from peregrm.prompts import prompt_hash
from peregrm.records import Case, Criteria, Judgement, Reply
from peregrm.reward.asking import Asking
from peregrm.reward.judge import judge_bystander, judge_dimensions
from peregrm.training.left_out import left_out_lines

__all__ = ["ASPECTS", "Aspect", "Judged", "Lesson", "Lessons", "lessons_of", "prompts_of"]

Aspect = Literal["dimensions", "bystander"]
ASPECTS: tuple[Aspect, ...] = ("dimensions", "bystander")

_PROMPTS: dict[str, str] = {"dimensions": "judge", "bystander": "bystander"}


class Lesson(NamedTuple):
    """One question and the teacher's answer.

    `scores` are digits of 1 to 5 with fractions, one a place of the form (for bystander points: what stands for them); `criteria` the texts
    that they are scores of, and `weights` those in percent. `trials` is how many scored trials the scores are means of.
    """

    user: str
    case_id: str
    reply_id: str
    aspect: Aspect
    messages: tuple[Message, ...]
    form: Form
    scores: tuple[float, ...]
    criteria: tuple[str, ...]
    weights: tuple[int, ...]
    trials: int


@dataclass(frozen=True)
class Judged:
    """Everything judgements rest on, by id; criteria by the id of their own."""

    cases: Mapping[str, Case]
    criteria: Mapping[str, Criteria]
    replies: Mapping[str, Reply]
    judgements: Sequence[Judgement]


@dataclass
class Lessons:
    """Lessons in a fixed order, the judge that gave them, and how many judgements were left out, by reason."""

    teacher: str
    lessons: list[Lesson] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def told(self) -> list[str]:
        """Return one line for each reason why something was left out."""
        return left_out_lines(self.left_out)


def prompts_of(aspects: Iterable[Aspect]) -> tuple[str, ...]:
    """Return name and hash of the prompts of these aspects, as they stand in judgements."""
    return tuple(f"{_PROMPTS[aspect]}@{prompt_hash(_PROMPTS[aspect])}" for aspect in aspects)


async def lessons_of(
    judged: Judged, *, teacher: str | None = None, dimensions: Sequence[Dimension] = EMPATHY
) -> Lessons:
    """Return the lessons in stored judgements.

    Args:
        judged: Judgements and what they rest on.
        teacher: The name of the judge to learn from; None where there is one alone.
        dimensions: What is judged; judgements on others are left out.

    Raises `InputError` where there is nothing to learn, or the teacher is not clear; `ArtifactError` where a judgement's parent is missing.
    """
    found = Lessons(_teacher(judged.judgements, teacher))
    usable = _usable(judged, found, dimensions)
    ask = _Recorder(dimensions)
    for (case_id, reply_id, _, aspect), group in sorted(usable.items()):
        case, reply = judged.cases[case_id], judged.replies[reply_id]
        criteria = None if aspect == "bystander" else judged.criteria[group[0].criteria_id or ""]
        request = await ask.question(case, criteria, reply)
        form = form_of(request.json_schema)
        if isinstance(form, str):
            raise TypeError(f"the judge's own question is no form: {form}")
        texts, weights = _weighted(criteria)
        rows = [[form.digit(value) for value in _values(judgement)] for judgement in group]
        if any(len(row) != len(form.places) for row in rows):
            raise ArtifactError(f"judgements of {reply_id}: not one score for each of its criteria")
        scores = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
        found.lessons.append(
            Lesson(case.user_id, case_id, reply_id, aspect, request.messages, form, scores, texts, weights, len(rows))
        )
    if not found.lessons:
        why = (
            ", ".join(f"{count} {reason}" for reason, count in sorted(found.left_out.items())) or "no judgements at all"
        )
        raise InputError(f"there is nothing to learn from: {why}")
    return found


def _teacher(judgements: Sequence[Judgement], wanted: str | None) -> str:
    names = sorted({judgement.judge for judgement in judgements})
    if wanted is not None:
        if wanted not in names:
            raise InputError(
                f"there are no judgements of {wanted!r}; there are those of {', '.join(names) or 'nobody'}"
            )
        return wanted
    if len(names) != 1:
        raise InputError(f"judgements of {', '.join(names) or 'nobody'}: name the judge to learn from with --teacher")
    return names[0]


_Key = tuple[str, str, str, Aspect]


def _usable(judged: Judged, found: Lessons, dimensions: Sequence[Dimension]) -> dict[_Key, list[Judgement]]:
    groups: dict[_Key, list[Judgement]] = defaultdict(list)
    names = {dimension.name for dimension in dimensions}
    prompts = set(prompts_of(ASPECTS))
    for judgement in {judgement.id: judgement for judgement in judged.judgements}.values():
        if judgement.case_id not in judged.cases or judgement.reply_id not in judged.replies:
            raise ArtifactError(f"judgements: {judgement.id}: its case or its reply is not there")
        reason = _unusable(judged, judgement, found.teacher, names, prompts)
        if reason is not None:
            found.left_out[reason] += 1
            continue
        aspect: Aspect = "bystander" if judgement.aspect == "bystander" else "dimensions"
        # The bystander sees no criteria, so another set of them is not another question.
        criteria = "" if aspect == "bystander" else judgement.criteria_id or ""
        groups[judgement.case_id, judgement.reply_id, criteria, aspect].append(judgement)
    return groups


def _unusable(judged: Judged, judgement: Judgement, teacher: str, names: set[str], prompts: set[str]) -> str | None:
    """Return why a judgement is no lesson, or None; raises `ArtifactError` where its criteria are not there."""
    reasons = {
        "judgements of other judges": judgement.judge != teacher,
        "judgements of replies to flagged cases": bool(judged.cases[judgement.case_id].flags),
        "unscored judgements": judgement.failure is not None,
        "judgements by rule, as of empty replies": judgement.prompt == "" and judgement.raw == "",
        "judgements of a trained head, which has nothing to teach": is_head(judgement.judge),
        "judgements by other prompts than the shared mode's of today": judgement.prompt not in prompts,
    }
    for reason, holds in reasons.items():
        if holds:
            return reason
    if judgement.aspect == "bystander":
        return None
    criteria = judged.criteria.get(judgement.criteria_id or "")
    if criteria is None:
        raise ArtifactError(f"judgements: {judgement.id}: its criteria {judgement.criteria_id} are not there")
    return None if {name for name, _ in criteria.items} == names else "judgements on other dimensions"


def _values(judgement: Judgement) -> list[float]:
    if judgement.bystander is not None:
        return [getattr(judgement.bystander, key) for key, _ in BYSTANDER_PARTS]
    return [score for _, scores in judgement.item_scores or () for score in scores]


def _weighted(criteria: Criteria | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if criteria is None:
        return tuple(key for key, _ in BYSTANDER_PARTS), (100 // len(BYSTANDER_PARTS),) * len(BYSTANDER_PARTS)
    items = [item for _, own in criteria.items for item in own]
    return tuple(item.text for item in items), tuple(item.weight for item in items)


class _Recorder:
    """Stands for a judge: it keeps the question and answers nothing."""

    name = "lesson"
    concurrency = 1

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self._asking = Asking(model=self, dimensions=tuple(dimensions), reasons=False)
        self._asked: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        """Keep the question."""
        self._asked.append(request)
        raise ModelUnavailable("a stand-in answers nothing")

    async def aclose(self) -> None:
        """There is nothing to free."""

    async def question(self, case: Case, criteria: Criteria | None, reply: Reply) -> Request:
        """Return what a judge would be asked by these criteria; without any, as a bystander."""
        if criteria is None:
            await judge_bystander(self._asking, case, criteria, reply)
        else:
            await judge_dimensions(self._asking, case, criteria, reply)
        return self._asked.pop()
