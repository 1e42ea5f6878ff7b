"""The judge of the shared mode: one call scores every criterion of every dimension, a second gives the bystander's points.

The bystander sees neither persona nor memories. The reply stands last in the prompt, fenced, so that what comes before it can be
reused for the whole group and nothing in it can be read as a verdict: a verdict is only ever read from the judge's own output. Where
the judge gives digit probabilities the score is their expectation. A judgement that cannot be had is a judgement with a failure.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from peregrm.dimensions import BYSTANDER_PARTS
from peregrm.errors import ArtifactError
from peregrm.models.digits import Path
from peregrm.models.structured import Answer
from peregrm.records import Bystander, Case, Criteria, Judgement, Reply
from peregrm.reward.asking import Asking, criteria_text, said, shown

__all__ = [
    "TOP_LOGPROBS",
    "analysis_field",
    "bystander_fields",
    "check_parents",
    "expected_scores",
    "judge_bystander",
    "judge_dimensions",
    "judge_empty_reply",
    "no_points",
    "object_type",
    "score_fields",
]

TOP_LOGPROBS = 10
_EMPTY = "The reply is empty: every criterion scores 1 by rule, without a call."


def object_type(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    """Return the type of a strict JSON object with these fields."""
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def analysis_field(*, reasons: bool) -> dict[str, Any]:
    """Return the field of a short analysis, or none.

    The schema asks for a short sentence, which some endpoints enforce; where it comes out longer there is no reason to ask again.
    """
    words = (str, Field(min_length=1, max_length=2000, json_schema_extra={"maxLength": 150}))
    return {"analysis": words} if reasons else {}


def score_fields(count: int) -> dict[str, Any]:
    """Return the fields s1..sn, each 1 to 5."""
    return {f"s{n}": (int, Field(ge=1, le=5)) for n in range(1, count + 1)}


def bystander_fields() -> dict[str, Any]:
    """Return the bystander's five fields of 0 to 20 points."""
    return {key: (int, Field(ge=0, le=20)) for key, _ in BYSTANDER_PARTS}


def _scores_type(criteria: Criteria, *, reasons: bool) -> type[BaseModel]:
    """Return the answer's type: for each dimension an analysis, if wanted, then s1..sn from 1 to 5."""
    return _scores_type_of(tuple((name, len(items)) for name, items in criteria.items), reasons=reasons)


@lru_cache(maxsize=256)
def _scores_type_of(counts: tuple[tuple[str, int], ...], *, reasons: bool) -> type[BaseModel]:
    """Return the type for so many criteria a dimension; making one costs more than the rest of a judge call."""
    words = analysis_field(reasons=reasons)
    parts = {name: object_type(f"Scores_{name}", {**words, **score_fields(count)}) for name, count in counts}
    return object_type("JudgeAnswer", {name: (part, ...) for name, part in parts.items()})


@lru_cache(maxsize=2)
def _points_type(*, reasons: bool) -> type[BaseModel]:
    """Return the type of the bystander's answer."""
    return object_type("BystanderAnswer", {**analysis_field(reasons=reasons), **bystander_fields()})


def check_parents(case: Case, criteria: Criteria | None, reply: Reply) -> None:
    """Raise `ArtifactError` where the criteria or the reply belong to another case."""
    if reply.case_id != case.id or (criteria is not None and criteria.case_id != case.id):
        strangers = reply.id if criteria is None else f"{criteria.id} or {reply.id}"
        raise ArtifactError(f"judge: {strangers} does not belong to {case.id}")


def judge_empty_reply(
    judge: str, case: Case, criteria: Criteria, reply: Reply, trial: int, *, bystander: bool = True
) -> list[Judgement]:
    """Return what an empty reply gets: the lowest score on every criterion and no points, with the rule as its analysis."""
    check_parents(case, criteria, reply)
    common = {
        "case_id": reply.case_id,
        "reply_id": reply.id,
        "criteria_id": criteria.id,
        "judge": judge,
        "trial": trial,
    }
    items = tuple((name, (1.0,) * len(criteria_items)) for name, criteria_items in criteria.items)
    analysis = (("rule", _EMPTY),)
    scores = {**common, "aspect": "dimensions", "item_scores": items, "analysis": analysis}
    points = {**common, "aspect": "bystander", "bystander": no_points(), "analysis": analysis}
    return [Judgement.model_validate(value) for value in ([scores, points] if bystander else [scores])]


def no_points() -> Bystander:
    """Return the bystander's points of an empty reply."""
    return Bystander(**{key: 0 for key, _ in BYSTANDER_PARTS})


async def judge_dimensions(asking: Asking, case: Case, criteria: Criteria, reply: Reply) -> list[Judgement]:
    """Score one reply by the case's criteria, 1 to 5 for each, in every trial: a judgement a trial."""
    check_parents(case, criteria, reply)
    answers = await asking.ask(
        "judge",
        {
            "dimensions": asking.dimensions,
            "reasons": asking.reasons,
            **shown(case, asking.hidden),
            "criteria": criteria_text(criteria),
            "reply": said(reply.text),
        },
        _scores_type(criteria, reasons=asking.reasons),
        max_tokens=900,
        purpose="judge",
        top_logprobs=TOP_LOGPROBS,
    )
    return [
        asking.judgement(
            reply,
            criteria,
            aspect="dimensions",
            trial=k,
            prompt="judge",
            answer=answer,
            value=_scores(asking, criteria, answer),
        )
        for k, answer in enumerate(answers)
    ]


def _scores(asking: Asking, criteria: Criteria, answer: Answer[Any]) -> dict[str, Any] | None:
    if answer.value is None:
        return None
    words = [(name, getattr(answer.value, name).analysis) for name, _ in criteria.items] if asking.reasons else ()
    return {**expected_scores(answer, criteria, ()), "analysis": words}


def expected_scores(answer: Answer[Any], criteria: Criteria, where: Path) -> dict[str, Any]:
    """Return `item_scores` and `expected` of a judgement, from the object at `where` in a judge's answer.

    The scores are expectations over the judge's digit probabilities if they are to be had for all of them, else the digits it gave.
    """
    value = answer.value
    for step in where:
        value = getattr(value, str(step))
    names = [(name, [f"s{n}" for n in range(1, len(items) + 1)]) for name, items in criteria.items]
    sampled = [(name, [getattr(getattr(value, name), key) for key in keys]) for name, keys in names]
    if not answer.has_logprobs:
        return {"item_scores": sampled, "expected": False}
    expected = answer.expected_digits([(*where, name, key) for name, keys in names for key in keys])
    known = [round(score, 6) for score in expected if score is not None]
    if len(known) != len(expected):
        return {"item_scores": sampled, "expected": False}
    rest = iter(known)
    return {"item_scores": [(name, [next(rest) for _ in scores]) for name, scores in sampled], "expected": True}


async def judge_bystander(
    asking: Asking, case: Case, criteria: Criteria | None, reply: Reply, *, samples: int | None = None
) -> list[Judgement]:
    """Give one reply the bystander's five parts of 0 to 20 points in every trial: a judgement a trial."""
    check_parents(case, criteria, reply)
    answers = await asking.ask(
        "bystander",
        {
            "parts": BYSTANDER_PARTS,
            "reasons": asking.reasons,
            "query": shown(case, asking.hidden)["query"],
            "reply": said(reply.text),
        },
        _points_type(reasons=asking.reasons),
        max_tokens=300,
        purpose="bystander",
        samples=samples,
    )
    return [
        asking.judgement(
            reply, criteria, aspect="bystander", trial=k, prompt="bystander", answer=answer, value=_points(answer)
        )
        for k, answer in enumerate(answers)
    ]


def _points(answer: Answer[Any]) -> dict[str, Any] | None:
    if answer.value is None:
        return None
    points = answer.value.model_dump()
    words = points.pop("analysis", None)
    return {"analysis": [("bystander", words)] if words else (), "bystander": points}
