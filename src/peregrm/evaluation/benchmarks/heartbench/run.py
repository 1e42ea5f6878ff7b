"""Run HeartBench: the model answers, the judge says of every statement whether it is true, code does the sums.

The judge sees neither dimensions nor weights, so that it decides what is true and not what it is worth. An answer or a verdict that cannot
be had leaves its question without a score. Left out on purpose: several verdicts on one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from peregrm.evaluation.benchmarks.common import (
    About,
    ItemScore,
    Metric,
    Outcome,
    Scale,
    benchmark_result,
    choose,
)
from peregrm.evaluation.benchmarks.heartbench.questions import (
    DIMENSIONS,
    Question,
    question_files,
    read_questions,
)
from peregrm.evaluation.benchmarks.heartbench.score import QuestionScore, mean_of_means, nothing, score_question
from peregrm.evaluation.benchmarks.speech import EMPTY, Manner, Said, conversation, joined, speak
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import Answer, ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure

__all__ = ["judge_answer", "run_heartbench"]

ANSWERS, JUDGE = "heartbench_reply", "heartbench_judge"
_NAMES = ("question", "points", "as_published", "veto")
_BY_SCENE = frozenset(_NAMES)
_NOTES = (
    "total: mean of the dimensions, each its mean over the questions that have it.",
    "The judge is the one named here, with prompts of this project: published figures are of another judge.",
)


async def run_heartbench(
    folder: Path, model: Model, judge: Model, manner: Manner, progress: Progress, *, limit: int | None = None
) -> Outcome:
    """Let `model` answer the questions of a folder and `judge` go through their rubrics.

    Args:
        folder: Where the files of the benchmark are.
        model: Who answers.
        judge: Who says what is true of an answer.
        manner: How both are asked.
        progress: Shown how far it is.
        limit: Only so many questions, spread over their scenes.

    Raises:
        InputError: There are no questions, or they cannot be read.
        ModelError: Only a fatal one.
    """
    questions = read_questions(folder)
    chosen = choose(questions, limit, manner.seed, lambda each: each.question_id, lambda each: each.scene)

    async def one(question: Question) -> ItemScore:
        said = await speak(model, conversation(ANSWERS, question.turns), manner, ANSWERS)
        return await judge_answer(question, said, judge, manner)

    items = await map_in_order(one, chosen, stage="heartbench", progress=progress)
    names = {"model": model.name, "judge": judge.name}
    files = question_files(folder)
    about = About("heartbench", "", names, files, len(questions), (ANSWERS, JUDGE), manner.seed)
    return _with_total(benchmark_result(about, items, _scales(chosen), notes=_NOTES))


async def judge_answer(question: Question, said: Said, judge: Model, manner: Manner) -> ItemScore:
    """Return the scores of one answer; they are None where it or its verdict could not be had.

    An answer that says nothing is one that failed, but for a model that was asked and answered with an empty text: that scores 0.
    """
    if said.failure is not None and said.failure.kind != EMPTY:
        return _item(question, None, 1, (said.failure,), ())
    if said.failure is not None:
        return _item(question, nothing(question.rubric), 1, (), (("reply", ""),))
    answer = await ask(
        judge, _request(question, said.text, manner), _verdict_type(len(question.rubric), manner.reasons)
    )
    details = [("reply", said.text)]
    if answer.value is None:
        return _item(question, None, 2, _failures(answer), tuple(details))
    true = [bool(getattr(answer.value, f"i{n}")) for n in range(1, len(question.rubric) + 1)]
    details.append(("true", ", ".join(f"i{n}" for n, met in enumerate(true, start=1) if met)))
    if manner.reasons:
        details.append(("analysis", str(getattr(answer.value, "analysis", ""))))
    return _item(question, score_question(question.rubric, true), 2, (), tuple(details))


def _request(question: Question, reply: str, manner: Manner) -> Request:
    said = "\n".join(f"{'A' if turn.role == 'user' else 'B'}: {turn.text}" for turn in joined(question.turns))
    statements = "\n".join(f"i{n}: {item.text}" for n, item in enumerate(question.rubric, start=1))
    messages = render(
        JUDGE,
        reasons=manner.reasons,
        conversation=Untrusted(said),
        statements=Untrusted(statements),
        reply=Untrusted(reply),
    )
    return Request(messages=messages, max_tokens=700, seed=manner.seed, schema_name="rubric", purpose=JUDGE)


@lru_cache(maxsize=64)
def _verdict_type(count: int, reasons: bool) -> type[BaseModel]:
    words = (str, Field(min_length=1, max_length=2000, json_schema_extra={"maxLength": 500}))
    fields: dict[str, Any] = {"analysis": words} if reasons else {}
    fields |= {f"i{n}": (bool, ...) for n in range(1, count + 1)}
    return create_model("RubricVerdict", __config__=ConfigDict(extra="forbid"), **fields)


def _failures(answer: Answer[Any]) -> tuple[Failure, ...]:
    return () if answer.failure is None else (answer.failure,)


def _item(
    question: Question,
    score: QuestionScore | None,
    asked: int,
    failures: tuple[Failure, ...],
    details: tuple[tuple[str, str], ...],
) -> ItemScore:
    names = nothing(question.rubric).dimensions
    values: list[tuple[str, float | None]] = [
        (name, None if score is None else float(getattr(score, name))) for name in _NAMES
    ]
    known = {} if score is None else dict(score.dimensions)
    values += [(_english(name), known.get(name)) for name, _ in names]
    return ItemScore(
        item_id=question.question_id,
        cluster=question.question_id,
        slices=(("difficulty", question.difficulty or "(none)"), ("scene", question.scene or "(none)")),
        scores=tuple(values),
        asked=asked,
        failures=failures,
        details=details,
    )


def _english(dimension: str) -> str:
    return DIMENSIONS.get(dimension, dimension)


def _scales(questions: Sequence[Question]) -> list[Scale]:
    """Return the scores of a question, then the dimensions, the most frequent of the benchmark first."""
    whole = (0.0, 100.0)
    extra = [
        name for question in questions for name, _ in nothing(question.rubric).dimensions if name not in DIMENSIONS
    ]
    return [
        Scale("question", whole, note="question: mean of a question's dimensions, with the published logarithm."),
        Scale("points", whole, note="points: plain share of the points of a question."),
        Scale(
            "as_published",
            whole,
            note="as_published: question without the veto, which the published code never applies.",
        ),
        Scale("veto", (0.0, 1.0), note="veto: share of answers that speak in the person's place and so get nothing."),
        *(Scale(name, whole) for name in [*DIMENSIONS.values(), *dict.fromkeys(extra)]),
    ]


def _with_total(outcome: Outcome) -> Outcome:
    """Put the total first, and keep of the slices only what a question has as a whole."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for item in outcome.items:
        for name, value in item.scores:
            if name not in _BY_SCENE and value is not None:
                groups.setdefault(name, []).append((item.cluster, value))
    total = Metric(name="total", estimate=mean_of_means(groups, len(outcome.items)))
    slices = tuple(
        (kind, value, tuple(metric for metric in metrics if metric.name in _BY_SCENE))
        for kind, value, metrics in outcome.result.slices
    )
    update = {"metrics": (total, *outcome.result.metrics), "slices": slices}
    return outcome._replace(result=outcome.result.model_copy(update=update))
