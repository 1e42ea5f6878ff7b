"""The end of a dialogue, as much of it as a model's context leaves room for.

Dialogues of the packets reach 28,000 characters. Where one does not fit, its last turns are shown, the first of them cut at its beginning
if need be. Left out on purpose: summaries of what is not shown.
"""

from __future__ import annotations

from typing import NamedTuple

from peregrm.dataset.windows import estimated_tokens
from peregrm.models.base import Message
from peregrm.prompts import Untrusted
from peregrm.records import Session

__all__ = ["Shown", "last_turns", "room"]

_LEAST_PIECE = 50


class Shown(NamedTuple):
    """What is shown of a dialogue; `whole` tells that nothing of it is left out."""

    text: Untrusted
    whole: bool


def room(context: int, beside: tuple[Message, ...], answer: int) -> int:
    """Return how many tokens a dialogue may have, 0 at least: what a context leaves beside the rest, an answer and a second try."""
    return max(0, context - sum(estimated_tokens(message.content) for message in beside) - 2 * answer - 200)


def last_turns(session: Session, tokens: int) -> Shown:
    """Return the last turns of a session, in at most so many estimated tokens; at least the end of the very last one."""
    lines = [f"{turn.role}: {' '.join(turn.text.split())}" for turn in session.turns]
    kept: list[str] = []
    left = tokens
    for line in reversed(lines):
        cost = estimated_tokens(line) + 1
        if cost > left:
            if left >= _LEAST_PIECE or not kept:
                kept.insert(0, f"... {_end_of(line, max(left, _LEAST_PIECE))}")
            return Shown(Untrusted("\n".join(kept)), whole=False)
        kept.insert(0, line)
        left -= cost
    return Shown(Untrusted("\n".join(kept)), whole=True)


def _end_of(line: str, tokens: int) -> str:
    """Return the end of a line, in at most so many estimated tokens."""
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if estimated_tokens(line[len(line) - middle :]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return line[len(line) - low :]
