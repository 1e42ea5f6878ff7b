"""How an adapter lets a model speak: one turn of a conversation, as text or as a failure.

The last turn of a conversation is rendered by a prompt file, the ones before it stand between that prompt's system part and it. What a
model thought before it spoke is taken off; a turn that was cut off inside its thinking, or is empty, is a failure. Left out on purpose:
answers that are values, which `models.structured` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from peregrm.errors import ModelError
from peregrm.models.base import Message, Model, Request
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Part, Turn
from peregrm.replies import split_thinking

__all__ = ["EMPTY", "Manner", "Said", "conversation", "joined", "speak"]

EMPTY = "empty"
"""The kind of failure of a model that answered, with nothing."""


class Manner(NamedTuple):
    """How models are asked. `max_tokens` and `temperature` are the policy's, `reasons` lets a judge say why before it decides."""

    max_tokens: int = 256
    temperature: float = 0.7
    seed: int = 0
    reasons: bool = True


class Said(Part):
    """What a model said, or why it said nothing; `text` is empty exactly where there is a failure."""

    text: str = ""
    failure: Failure | None = None


def conversation(prompt: str, turns: Sequence[Turn], **values: object) -> tuple[Message, ...]:
    """Return the messages that ask for the next turn: `prompt` with the last turn as its `said`, and the turns before it in between.

    Turns of one speaker in a row become one message, because many chat templates refuse them.

    Raises:
        ValueError: The last turn is not the user's.
    """
    together = joined(turns)
    if not together or together[-1].role != "user":
        raise ValueError("the model answers a turn of the user")
    *before, last = (Message(role=turn.role, content=turn.text) for turn in together)
    *system, user = render(prompt, said=Untrusted(last.content), **values)
    return (*system, *before, user)


def joined(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with those of one speaker in a row put together, a line break between them."""
    together: list[Turn] = []
    for turn in turns:
        if together and together[-1].role == turn.role:
            together[-1] = Turn(role=turn.role, text=f"{together[-1].text}\n{turn.text}")
        else:
            together.append(Turn(role=turn.role, text=turn.text))
    return together


async def speak(model: Model, messages: Sequence[Message], manner: Manner, purpose: str) -> Said:
    """Let `model` say the next turn. Raises `ModelError` only where it is fatal."""
    request = Request(
        messages=tuple(messages),
        max_tokens=manner.max_tokens,
        temperature=manner.temperature,
        seed=manner.seed,
        purpose=purpose,
    )
    try:
        completion = await model.complete(request)
    except ModelError as error:
        if error.fatal:
            raise
        return Said(failure=Failure(stage=purpose, kind=error.kind, reason=str(error)))
    split = split_thinking(completion.text)
    if not split.closed:
        reason = "the model was still thinking when its output ended"
        return Said(failure=Failure(stage=purpose, kind="unclosed_thinking", reason=reason))
    if not split.text and completion.finish_reason == "length":
        reason = "the output reached its length limit before any word: raise max_new_tokens"
        return Said(failure=Failure(stage=purpose, kind="no_content", reason=reason))
    if not split.text:
        return Said(failure=Failure(stage=purpose, kind=EMPTY, reason="the model said nothing"))
    return Said(text=split.text)
