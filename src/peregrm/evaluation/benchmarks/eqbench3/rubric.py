"""Ask a judge for a transcript's rubric scores, with the benchmark's own prompt and criteria.

Criteria are scored 0 to 20. Some say how good a transcript is, the others describe its style and are neither better nor worse for being
high. The rubric score, 0 to 100, is five times the mean of the former, as published: six of the criteria for acted scenarios, all of them
for analyses. A score that is missing or out of range is asked for once more and then is a failure.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, create_model

from peregrm.evaluation.benchmarks.eqbench3.data import EQBench, Scenario, fill
from peregrm.evaluation.benchmarks.eqbench3.transcripts import Transcript, shown_text, shown_turns
from peregrm.models.base import Message, Model, Request
from peregrm.models.structured import ask
from peregrm.records import Failure, Part

__all__ = ["QUALITIES", "REASONING", "Judged", "Scored", "rubric_score", "score_transcript", "thinking"]

QUALITIES = frozenset(
    {
        "demonstrated_empathy",
        "pragmatic_ei",
        "depth_of_insight",
        "social_dexterity",
        "emotional_reasoning",
        "message_tailoring",
    }
)
"""The criteria of acted scenarios that make the rubric score; the prompt calls them qualitative."""

REASONING = "chain_of_thought_reasoning"
"""The key under which the benchmark lets a judge think first."""

_HIGHEST = 20


class Judged(NamedTuple):
    """How a judge answers: in at most so many tokens, and with its reasons first or without.

    Without, the shape of the answer leaves no room for them, which keeps a small model from never coming to an end.
    """

    max_tokens: int = 4000
    reasons: bool = True


class Scored(NamedTuple):
    """Scores by criterion, or the failure; `reasons` are the judge's."""

    scores: dict[str, float]
    reasons: str = ""
    failure: Failure | None = None


def rubric_score(scores: dict[str, float], scenario: Scenario) -> float | None:
    """Return the rubric score, 0 to 100, of one transcript; None where none of its criteria was scored."""
    counted = [score for name, score in scores.items() if scenario.kind == "analysis" or name in QUALITIES]
    return sum(counted) / len(counted) * 100 / _HIGHEST if counted else None


async def score_transcript(
    judge: Model, transcript: Transcript, scenario: Scenario, bench: EQBench, how: Judged
) -> Scored:
    """Ask for the scores of a whole transcript; nothing of it is cut, as published.

    Raises `ModelError` only where it is fatal, and `InputError` where the prompt of the benchmark asks for something else.
    """
    judging = bench.judging(scenario)
    values = {
        "transcript": shown_turns(transcript, scenario, bench, cut=False),
        "output_format": json.dumps(
            {**thinking(how.reasons, "..."), **dict.fromkeys(judging.criteria, "0-20")}, indent=1
        ),
    }
    if scenario.kind != "analysis":
        values["debrief"] = shown_text(transcript.debrief or "", None)
    prompt = fill(judging.rubric, values, "rubric")
    request = Request(messages=(Message(role="user", content=prompt),), max_tokens=how.max_tokens, purpose="rubric")
    answer = await ask(judge, request, _schema(judging.criteria, how.reasons))
    if answer.value is None:
        return Scored({}, failure=answer.failure)
    said = answer.value.model_dump()
    return Scored({name: float(said[name]) for name in judging.criteria}, said.get(REASONING, ""))


@lru_cache(maxsize=16)
def _schema(criteria: tuple[str, ...], reasons: bool) -> type[BaseModel]:
    score = Annotated[float, Field(ge=0, le=_HIGHEST)]
    fields = {**thinking(reasons, (str, ...)), **dict.fromkeys(criteria, (score, ...))}
    return create_model("RubricScores", __base__=Part, **fields)  # type: ignore[call-overload,no-any-return]


def thinking(reasons: bool, value: object) -> dict[str, object]:
    """Return what an answer holds before its verdicts."""
    return {REASONING: value} if reasons else {}
