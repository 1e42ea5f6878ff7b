"""What the tests of the reward share beside fixtures: answers that fit any question, the scores of one verdict, and judging by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Judgement, Reply, Reward
from peregrm.reward.peregrm import PereGRM

__all__ = ["EXPECTED", "SCORES", "Play", "in_form", "least_in_form", "purposes", "scored"]

Play = Callable[[Request], ScriptEntry]

SCORES = {"resonation": [5, 4, 3, 2], "expression": [1, 1, 2, 1], "reception": [4, 4, 4, 4, 3]}
EXPECTED = tuple((name, tuple(float(score) for score in scores)) for name, scores in SCORES.items())


def in_form(request: Request, *, least: bool = False) -> str:
    """Answer any question with something that fits its schema: 4 for every score, 15 for all points, or the least."""
    number = iter(range(10_000))

    def fill(part: Any) -> Any:
        if part["type"] == "object":
            return {name: fill(inner) for name, inner in part["properties"].items()}
        if part["type"] == "array":
            return [fill(part["items"]) for _ in range(part["minItems"])]
        if part["type"] == "integer":
            return part["minimum"] if least else {5: 4, 20: 15, 100: 25}[part["maximum"]]
        return f"The reply does its own thing number {next(number)}."

    return json.dumps(fill(request.json_schema))


def least_in_form(request: Request) -> str:
    return in_form(request, least=True)


def purposes(model: ScriptedModel) -> Counter[str]:
    return Counter(request.purpose for request in model.requests)


async def scored(
    case: Case, criteria: Criteria, replies: Sequence[Reply], play: Play | Sequence[ScriptEntry], **settings: Any
) -> tuple[list[Reward], list[list[Judgement]], ScriptedModel]:
    model = ScriptedModel(play, name="judge-1")
    grm = PereGRM(model, **settings)
    judged = [(await grm.judge_group(case, criteria, [reply]))[0] for reply in replies]
    rewards = [grm.reward(case, criteria, r, j) for r, j in zip(replies, judged, strict=True)]
    return rewards, judged, model
