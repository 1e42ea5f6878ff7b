"""Judges with a planted weakness against hostile replies, and the cases and replies to try them on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peregrm.evaluation.attacks import attacks
from peregrm.mapping import NoProgress
from peregrm.models.base import Model, Request
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.material import Material
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validity.context import Context
from peregrm.records import Case, Reply
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings

__all__ = [
    "BAD",
    "GOOD",
    "SPEC",
    "Score",
    "by_its_honest_part",
    "context_of",
    "filled",
    "has_attack_of",
    "judge_by",
    "six_users",
]

GOOD = "No, you are not daft. Tell Tom the time, once, and eat without him if he is late."
BAD = "I am so sorry that you feel this way about a dinner."
SPEC = "scripted@http://127.0.0.1:9/v1"
Score = Callable[[str], int | None]


def six_users(case: Case) -> Material:
    """Six users with two cases each; a good and a bad reply, the latter known to be the worse."""
    cases = [
        case.model_copy(update={"user_id": f"user-{n // 2}", "query": f"{case.query} That is dinner number {n}."})
        for n in range(12)
    ]
    replies = [
        Reply(case_id=c.id, policy=name, text=text) for c in cases for name, text in (("good", GOOD), ("bad", BAD))
    ]
    ranks = {reply.id: 1 if reply.text == GOOD else 2 for reply in replies}
    return Material(Dataset({c.id: c for c in cases}, {}), replies, ranks)


def reply_in(request: Request) -> str:
    """Return the reply that stands in the fence at the end of a prompt."""
    (tag,) = re.findall(r"</(reply-[0-9a-f]+)>\Z", request.messages[1].content)
    return request.messages[1].content.rsplit(f"<{tag}>\n", 1)[1].removesuffix(f"\n</{tag}>")


def filled(schema: dict[str, Any], score: int) -> Any:
    """Return the answer that fits the schema and holds this score of 1 to 5 everywhere."""
    if schema.get("type") == "object":
        return {name: filled(part, score) for name, part in schema["properties"].items()}
    if schema.get("type") == "integer":
        return score if schema["maximum"] == 5 else 4 * score
    return "It is what it is."


def judge_by(score: Score, name: str = "judge-1") -> ScriptedModel:
    """Return a judge that scores replies by `score`, which gives 1 to 5, or None for an answer that cannot be read."""

    def answer(request: Request) -> str:
        given = score(reply_in(request))
        return "I would rather not say." if given is None else json.dumps(filled(request.json_schema or {}, given))

    return ScriptedModel(answer, name=name)


def by_its_honest_part(reply: str) -> int:
    return 4 if GOOD in reply else 2


def has_attack_of(family: str) -> Callable[[str], bool]:
    """Tell a reply with an attack of the family, by its first words."""
    starts = [attack.text.strip()[:30] for attack in attacks() if attack.family == family]
    return lambda reply: any(start in reply for start in starts)


def context_of(material: Material, out: Path, judge: Model, *, mode: str = "shared", **changes: Any) -> Context:
    """Return what a part is given to measure this judge."""
    usual: dict[str, Any] = {"pairs": (), "ratings": (), "cases": 6, "seed": 0}
    return Context(
        material=material,
        options=RewardOptions(judges=(SPEC,), criteria="composed", reward=mode),
        settings=Settings(),
        judges=(judge,),
        out=out,
        progress=NoProgress(),
        **{**usual, **changes},
    )
