"""Expected scores: the judge's digit probabilities where they can be had, the sampled digits where not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peregrm.dimensions import EMPATHY
from peregrm.models.base import Completion, TokenLogprob
from peregrm.models.structured import strict_schema
from peregrm.records import Criteria, Reply
from peregrm.reward.judge import _scores_type
from reward_parts import EXPECTED, SCORES

BuildReply = Callable[..., Reply]
BuildVerdict = Callable[..., dict[str, Any]]

Judge = Callable[..., Any]


Alternatives = Sequence[tuple[str, float]]


def with_logprobs(text: str, alternatives: Callable[[int], Alternatives | None]) -> Completion:
    """One token a character; the n-th score's token gets the alternatives `alternatives(n)`, or None for certainty."""
    starts = [match.end() - 1 for match in re.finditer(r'"s\d": \d', text)]
    tokens = []
    for position, character in enumerate(text):
        top = alternatives(starts.index(position)) if position in starts else None
        chance = dict(top or ()).get(character, 1.0)
        tokens.append(
            TokenLogprob(
                token=character, logprob=math.log(chance), top=tuple((other, math.log(p)) for other, p in top or ())
            )
        )
    return Completion(text=text, logprobs=tuple(tokens))


async def test_the_score_is_the_expectation_over_the_judges_digits(dimensions_of: Judge, verdict: BuildVerdict) -> None:
    def alternatives(n: int) -> Alternatives:
        if n == 0:
            return [("4", 0.5), ("5", 0.25), ("3", 0.25)]
        if n == 1:
            return [("4", 0.45), ("2", 0.45), ("9", 0.05), ('"', 0.05)]
        return [("4", 0.6), (" 5", 0.2)]

    judgement, _ = await dimensions_of(with_logprobs(json.dumps(verdict(4)), alternatives))
    assert judgement.expected is True
    scores = dict(judgement.item_scores)
    assert scores["resonation"] == pytest.approx((4.0, 3.0, 4.25, 4.25))
    assert scores["expression"] == pytest.approx((4.25,) * 4)
    assert scores["reception"] == pytest.approx((4.25,) * 5)


async def test_a_certain_judge_scores_as_it_says(dimensions_of: Judge, verdict: BuildVerdict) -> None:
    judgement, _ = await dimensions_of(with_logprobs(json.dumps(verdict(**SCORES)), lambda n: None))
    assert (judgement.item_scores, judgement.expected) == (EXPECTED, True)


async def test_where_one_digit_has_no_expectation_all_scores_are_the_sampled_ones(
    dimensions_of: Judge, verdict: BuildVerdict
) -> None:
    """Expectations and samples are never mixed in one judgement."""

    def alternatives(n: int) -> Alternatives:
        return [("x", 0.7), ("3", 0.3)] if n == 12 else [("4", 0.5), ("5", 0.5)]

    text = json.dumps(verdict(4, reception=[4, 4, 4, 4, 3]))
    judgement, _ = await dimensions_of(with_logprobs(text, alternatives))
    assert judgement.expected is False
    assert judgement.item_scores == tuple(
        (name, (4.0,) * 4 if name != "reception" else (4.0, 4.0, 4.0, 4.0, 3.0)) for name in SCORES
    )


@pytest.mark.parametrize("damage", ["none", "joined", "other text"])
async def test_unusable_log_probabilities_leave_the_sampled_scores(
    dimensions_of: Judge, verdict: BuildVerdict, damage: str
) -> None:
    text = json.dumps(verdict(**SCORES))
    good = with_logprobs(text, lambda n: [("5", 0.4), ("4", 0.3), ("3", 0.1), ("2", 0.1), ("1", 0.1)])
    tokens = good.logprobs or ()
    broken = {
        "none": None,
        "joined": (TokenLogprob(token=text, logprob=0.0),),
        "other text": tokens[1:],
    }[damage]
    judgement, _ = await dimensions_of(good.model_copy(update={"logprobs": broken}))
    assert (judgement.item_scores, judgement.expected, judgement.failure) == (EXPECTED, False, None)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
async def test_any_scores_come_back_as_they_were_said(
    dimensions_of: Judge, verdict: BuildVerdict, criteria: Criteria, data: st.DataObject
) -> None:
    said = {
        name: data.draw(st.lists(st.integers(1, 5), min_size=len(items), max_size=len(items)))
        for name, items in criteria.items
    }
    analysis = data.draw(st.text(min_size=1, max_size=100))
    judgement, _ = await dimensions_of(json.dumps(verdict(analysis=analysis, **said)))
    assert judgement.item_scores == tuple((name, tuple(map(float, scores))) for name, scores in said.items())


@pytest.mark.parametrize("reasons", [True, False])
def test_the_schema_leaves_no_room_for_another_scale(criteria: Criteria, reasons: bool) -> None:
    schema = strict_schema(_scores_type(criteria, reasons=reasons))
    scores = [
        part
        for dimension in schema["properties"].values()
        for key, part in dimension["properties"].items()
        if key != "analysis"
    ]
    assert len(scores) == sum(len(items) for _, items in criteria.items)
    assert all(part == {"type": "integer", "minimum": 1, "maximum": 5} for part in scores)
    first = [next(iter(dimension["properties"])) for dimension in schema["properties"].values()]
    assert first == ["analysis" if reasons else "s1"] * len(EMPATHY)
