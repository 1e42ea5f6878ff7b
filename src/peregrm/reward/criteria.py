"""Stage 7: criteria for one case, generated once and used for every reply, trial, epoch and judge.

The model gives each criterion an importance; the weights in percent are worked out here, because arithmetic is not a model's job.
A set is valid when every dimension has 4 to 6 different criteria and none rewards the mere mention of a memory. An invalid answer
is asked for once more and then is a failure: the case has no criteria and its replies stay unscored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from peregrm.context import language_name
from peregrm.dimensions import EMPATHY, Dimension
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import render
from peregrm.records import Case, Criteria, Criterion
from peregrm.reward.aggregate import percentages
from peregrm.reward.asking import Hideable, shown
from peregrm.text import tokens

__all__ = ["check_criteria", "write_criteria"]

STAGE = "criteria"
FEWEST, MOST = 4, 6
_AGAIN = 0.7
_FEWEST_WORDS = 3

_CALL_BACK = re.compile(
    r"\b(?:(?:mention|recall)\w*|refer(?:s|ring)?(?: back)? to|referenc(?:es?|ing)|cit(?:es?|ing)|quot(?:es?|ing)|list(?:s|ing)?"
    r"|bring(?:s|ing)? up|acknowledg(?:es?|ing) having)\b.{0,40}"
    r"\b(?:memor(?:y|ies)|history|past conversations?|earlier (?:messages?|sessions?)|profile|persona|(?:user|person)'s name)\b"
    r"|(?:提到|提及|引用|列出|回忆起).{0,12}(?:记忆|历史|之前的对话|名字|档案)",
    re.IGNORECASE,
)

_KNOWN_THINGS = ("memor", "history", "past conversation", "earlier ", "profile", "persona", "'s name")
"""Without one of these no English text holds the above; most criteria hold none."""

_CLAUSE_END = re.compile(r"[.;!?。；！？]|\bbut\b|\band (?:then|also)\b|但|并且|而且", re.IGNORECASE)

_NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|merely))|never|none|nothing|no|without|avoids?|avoiding|refrains?|instead of|rather than)\b|n['’]t\b"
    r"|不|没有|避免|别",
    re.IGNORECASE,
)


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    criterion: str = Field(min_length=8, max_length=400, json_schema_extra={"maxLength": 160})
    """The prompt and the schema ask for 160 characters; not every endpoint enforces it, and one long sentence spoils no set."""
    importance: int = Field(ge=1, le=5)


@lru_cache(maxsize=64)
def _answer_type(dimensions: tuple[Dimension, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {d.name: (list[_Item], Field(min_length=FEWEST, max_length=MOST)) for d in dimensions}
    return create_model("CriteriaAnswer", __config__=ConfigDict(extra="forbid"), **fields)


def check_criteria(items: Sequence[tuple[str, Sequence[str]]]) -> str | None:
    """Return why a set of (dimension, criteria) is not fit to judge by, or None."""
    seen: dict[str, str] = {}
    for dimension, criteria in items:
        if not FEWEST <= len(criteria) <= MOST:
            return f"{dimension}: {len(criteria)} criteria, allowed {FEWEST} to {MOST}"
        for text in criteria:
            if _rewards_call_back(text):
                return f"{dimension}: rewards the mere mention of a memory: {text!r}"
            words = tokens(text)
            if sum(word.isalpha() for word in words) < _FEWEST_WORDS:
                return f"{dimension}: the criterion {text!r} is not a sentence"
            key = " ".join(words)
            if key in seen:
                return f"{dimension}: the criterion {text!r} occurs twice"
            seen[key] = dimension
    return None


def _rewards_call_back(text: str) -> bool:
    """Tell whether a criterion asks for recital of what is known; one that forbids it in the same clause is welcome."""
    if text.isascii() and not any(map(text.lower().__contains__, _KNOWN_THINGS)):
        return False
    for clause in _CLAUSE_END.split(text):
        found = _CALL_BACK.search(clause)
        if found is not None and not _NEGATION.search(clause[: found.end()]):
            return True
    return False


async def write_criteria(
    model: Model,
    case: Case,
    dimensions: Sequence[Dimension] = EMPATHY,
    hidden: frozenset[Hideable] = frozenset(),
    attempt: int = 0,
) -> Criteria:
    """Return the criteria of one case, or criteria without items that carry the failure; `hidden` parts are not shown.

    The first `attempt`, 0, is made at temperature 0, later ones at 0.7, each as another call.
    """
    messages = render(
        "criteria",
        dimensions=dimensions,
        **shown(case, hidden),
        language=language_name(case.language),
    )
    request = Request(
        messages=messages,
        max_tokens=1600,
        temperature=_AGAIN if attempt else 0.0,
        trial=attempt,
        schema_name="criteria",
        purpose=STAGE,
    )

    def check(answer: BaseModel) -> str | None:
        return check_criteria([(d.name, [item.criterion for item in getattr(answer, d.name)]) for d in dimensions])

    answer = await ask(model, request, _answer_type(tuple(dimensions)), check=check)
    if answer.value is None:
        return Criteria(case_id=case.id, method="model", failure=answer.failure)
    return Criteria(
        case_id=case.id,
        method="model",
        items=tuple((d.name, _weighted(getattr(answer.value, d.name))) for d in dimensions),
    )


def _weighted(items: Sequence[_Item]) -> tuple[Criterion, ...]:
    weights = percentages([item.importance for item in items])
    return tuple(Criterion(text=item.criterion.strip(), weight=w) for item, w in zip(items, weights, strict=True))
