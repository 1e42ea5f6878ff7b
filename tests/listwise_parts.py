"""What the tests of the listwise mode share: a judge that goes by the number in each reply, and a score by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from peregrm.dimensions import BYSTANDER_PARTS
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Reply
from peregrm.reward.base import Scored
from peregrm.reward.peregrm import PereGRM

__all__ = ["by_content", "entry", "scored_by", "shown_replies", "worth"]

COUNTS = {"resonation": 4, "expression": 4, "reception": 5}


def shown_replies(request: Request) -> list[str]:
    """Return the replies of a call in their order, r1 first."""
    found = re.findall(r"<r(\d+)-(\w+)>\n(.*?)\n</r\1-\2>", request.messages[1].content, re.DOTALL)
    assert [int(number) for number, _, _ in found] == list(range(1, len(found) + 1))
    return [text for _, _, text in found]


def entry(score: int, points: int | None = None, **own: Sequence[int]) -> dict[str, Any]:
    """Return what a judge says of one reply: one score for everything, or a dimension's own scores."""
    scores = {name: own.get(name, [score] * count) for name, count in COUNTS.items()}
    said: dict[str, Any] = {"analysis": f"worth {score}"}
    said |= {name: {f"s{n}": s for n, s in enumerate(values, 1)} for name, values in scores.items()}
    return said | {"bystander": {key: 4 * score if points is None else points for key, _ in BYSTANDER_PARTS}}


def worth(text: str) -> int:
    found = re.search(r"worth (\d)", text)
    assert found is not None, text
    return int(found[1])


def by_content(request: Request) -> ScriptEntry:
    """Judge every reply by the number it holds."""
    return json.dumps({f"r{n}": entry(worth(text)) for n, text in enumerate(shown_replies(request), 1)})


async def scored_by(
    play: Callable[[Request], ScriptEntry],
    case: Case,
    criteria: Criteria,
    replies: Sequence[Reply | str],
    **fields: Any,
) -> tuple[list[Scored], ScriptedModel]:
    model = ScriptedModel(play, name="judge-1")
    grm = PereGRM(model, mode="listwise", **fields)
    grm.use_criteria([criteria])
    return await grm.score(case, replies), model
