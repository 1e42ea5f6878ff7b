"""Stage 5: a situation in, the message this user would send in it out.

The model sees a few of the user's own earlier messages, so that the message has their manner and language. Plain rules drop what is
too long, in another language, or the situation over again.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from peregrm.context import language_name, persona_text
from peregrm.dataset.outcome import Outcome, failed
from peregrm.dataset.rules import check_generated, check_near_copy
from peregrm.dataset.withholding import hide_withheld
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Drop, History, Persona, Query, Situation

__all__ = ["earlier_messages", "write_query"]

STAGE = "queries"
_EXAMPLES = 4
_EXAMPLE_CHARACTERS = (15, 240)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=500)


async def write_query(
    model: Model, history: History, persona: Persona, situation: Situation, *, seed: int = 0
) -> Outcome[Query]:
    """Return the query of one situation, or why there is none."""
    messages = render(
        "query",
        persona=persona_text(persona),
        examples=earlier_messages(history),
        situation=Untrusted(situation.text),
        language=language_name(history.language),
    )
    request = Request(messages=messages, max_tokens=250, temperature=0.7, seed=seed, schema_name="query", purpose=STAGE)
    answer = await ask(model, request, _Answer)
    if answer.value is None:
        return Outcome(dropped=[failed(situation.id, answer.failure)] if answer.failure else [], asked=1)
    text = answer.value.query.strip()
    reason = check_generated(
        text, prompt="query", language=history.language, shortest=3, longest=100
    ) or check_near_copy(text, situation.text, what="situation")
    if reason:
        kind = reason.split(":")[0]
        return Outcome(dropped=[Drop(stage=STAGE, subject=situation.id, kind=kind, reason=reason, text=text)], asked=1)
    return Outcome([Query(user_id=history.user_id, situation_id=situation.id, text=text, method="model")], asked=1)


def earlier_messages(history: History) -> Untrusted:
    """Return up to four short messages of the user, spread evenly over the history; none on what they asked to be forgotten."""
    low, high = _EXAMPLE_CHARACTERS
    short = [
        turn.text.strip()
        for session in hide_withheld(history).sessions
        for turn in session.turns
        if turn.role == "user" and low <= len(turn.text.strip()) <= high
    ]
    count = min(_EXAMPLES, len(short))
    spread = [short[n * len(short) // count] for n in range(count)]
    return Untrusted("\n".join(f"- {text}" for text in spread) or "(none)")
