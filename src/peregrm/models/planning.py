"""A model that answers nothing: it counts the calls it is asked for and fills in the schema, so that a plan can be made by doing.

What `--dry-run` says of a scoring is what its own code would ask, not a formula beside it. Input tokens are estimated from the length
of the messages (four characters a token, one for Chinese), output tokens are the typical lengths below, taken from real runs.
Retries after an unusable answer come on top. Its answers are placeholders and never leave a plan.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import count
from typing import Any

from peregrm.models.base import Completion, Request
from peregrm.records import Usage
from peregrm.text import cjk_share

__all__ = ["TYPICAL_OUTPUT", "PlanningModel"]

TYPICAL_OUTPUT = {
    "intents": 60,
    "memories": 350,
    "supersession": 80,
    "persona": 400,
    "situations": 350,
    "queries": 50,
    "inspection": 120,
    "safety": 60,
    "criteria": 500,
    "replies": 150,
    "judge": 250,
    "bystander": 100,
    "scenario": 1500,
    "rubric": 400,
    "pairwise": 750,
    "emobench": 15,
    "heartbench_reply": 150,
    "heartbench_judge": 250,
    "esc_eval_reply": 120,
    "esc_eval_seeker": 60,
    "esc_eval_judge": 150,
    "alpsbench_update": 180,
    "alpsbench_retrieve": 60,
    "alpsbench_answer": 200,
    "alpsbench_judge": 120,
}
"""Tokens of an answer by the purpose of the call."""

_OTHERWISE = 100


class PlanningModel:
    """Stands for the model `name` in a plan; `planned` holds the usage by purpose."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.concurrency = 1_000
        self.planned: dict[str, Usage] = defaultdict(Usage)
        self._words = count(1)

    async def complete(self, request: Request) -> Completion:
        """Count the call and answer with placeholders that fit its schema."""
        usage = Usage(
            calls=1,
            input_tokens=sum(_tokens(message.content) for message in request.messages),
            output_tokens=min(TYPICAL_OUTPUT.get(request.purpose, _OTHERWISE), request.max_tokens),
        )
        self.planned[request.purpose] += usage
        text = "a placeholder" if request.json_schema is None else json.dumps(self._fill(request.json_schema))
        return Completion(text=text, model=self.name, usage=usage)

    async def aclose(self) -> None:
        """There is nothing to free."""

    def _fill(self, schema: dict[str, Any]) -> Any:
        if "anyOf" in schema:
            return self._fill(schema["anyOf"][0])
        kind = schema.get("type")
        if kind == "object":
            return {name: self._fill(part) for name, part in schema.get("properties", {}).items()}
        if kind == "array":
            return [self._fill(schema["items"]) for _ in range(schema.get("minItems", 1))]
        least = schema.get("minimum", 1)  # numbers in lists count from 1
        plain = {"integer": least, "number": float(least), "boolean": True, "null": None}
        allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        return allowed[0] if allowed else plain.get(str(kind), f"sentence number {next(self._words)} of a plan")


def _tokens(text: str) -> int:
    chinese = cjk_share(text)
    return int(len(text) * (chinese + (1 - chinese) / 4)) + 1
