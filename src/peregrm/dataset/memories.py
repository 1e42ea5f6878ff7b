"""Stage 2 with a model: sessions in, memories with checked evidence out.

A session is read in windows that fit the model's context, those of one user side by side. The model names the turn, the quote and whom
the note is about; a note whose quote does not stand in that turn of the user, or which is not about them, is rejected with that reason.
What several windows say is joined. What comes after is in `refining`; the method without a model is in `extractive`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from peregrm.dataset.grounding import KINDS
from peregrm.dataset.merging import merge_memories
from peregrm.dataset.outcome import Outcome, failed
from peregrm.dataset.windows import LONGEST_QUOTE, window_tokens, windows
from peregrm.mapping import NoProgress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import Answer, ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Drop, Evidence, History, Memory, Session
from peregrm.taxonomy import labels, normalise_label

__all__ = ["DEFAULT_CONTEXT", "extract_memories_with_model", "windows_of"]

STAGE = "memories"

DEFAULT_CONTEXT = 8192
"""Tokens of prompt and answer that any endpoint worth asking holds."""

_ANSWER = 1500

About = Literal["user", "other_person", "role_play", "hypothetical", "task"]

_KIND_OF: dict[str, str] = {"other_person": "third_party", "task": "task_local"}
"""Kinds of refusal by the model's own words, where they differ."""


class _Note(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: str = Field(max_length=60)
    type: Literal["direct", "indirect"]
    about: About
    value: str = Field(min_length=1, max_length=300)
    turn: int
    quote: str = Field(min_length=1, max_length=LONGEST_QUOTE)
    confidence: int = Field(ge=0, le=100)
    time_scope: Literal["long_term", "short_term", "unknown"]


class _Notes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    memories: list[_Note] = Field(max_length=12)


async def extract_memories_with_model(
    model: Model, history: History, *, context: int = DEFAULT_CONTEXT
) -> Outcome[Memory]:
    """Return the memories of one history, kept and rejected, by the turn in which each was first said.

    Those of one turn come in the order in which the model named them, and those without evidence last.

    Args:
        model: Who reads.
        history: Everything the user and the assistant said; sessions of any length.
        context: Tokens of prompt and answer that one call may hold: windows are as large as it allows.

    Raises:
        ValueError: `context` is too small for a window (see `windows.LEAST_CONTEXT`).
    """
    parts = windows_of(history, context)

    async def read(part: tuple[Session, str]) -> Answer[_Notes]:
        return await ask(model, _request(part[1]), _Notes)

    answers = await map_in_order(read, parts, stage=STAGE, progress=NoProgress())
    found: list[Memory] = []
    dropped: list[Drop] = []
    for (session, _), answer in zip(parts, answers, strict=True):
        if answer.value is not None:
            found += [_memory(history.user_id, session, note) for note in answer.value.memories]
        elif answer.failure is not None:
            dropped.append(failed(history.id, answer.failure).model_copy(update={"item": len(dropped)}))
    return Outcome(merge_memories(history, found), dropped, len(parts))


def windows_of(history: History, context: int = DEFAULT_CONTEXT) -> list[tuple[Session, str]]:
    """Return all windows of a history with their sessions, as large as a context of so many tokens allows."""
    size = window_tokens(context, prompt=STAGE, answer=_ANSWER)
    return [(session, window) for session in history.sessions for window in windows(session, size)]


def _request(window: str) -> Request:
    messages = render("memories", conversation=Untrusted(window), labels=", ".join(labels()))
    return Request(messages=messages, max_tokens=_ANSWER, schema_name="memories", purpose=STAGE)


def _memory(user_id: str, session: Session, note: _Note) -> Memory:
    unsupported = _unsupported(session, note)
    reason = unsupported or (None if note.about == "user" else KINDS[_KIND_OF.get(note.about, note.about)])
    evidence = Evidence(session_id=session.session_id, turn=max(0, note.turn), quote=note.quote)
    return Memory(
        user_id=user_id,
        label=normalise_label(note.label),
        type=note.type,
        value=note.value.strip(),
        evidence=() if unsupported else (evidence,),
        confidence=note.confidence / 100,
        time_scope=note.time_scope,
        status="rejected" if reason else "kept",
        reason=reason,
        method="model",
    )


def _unsupported(session: Session, note: _Note) -> str | None:
    if not note.value.strip():
        return "empty: the note says nothing"
    if "[error" in "".join(note.value.split()).casefold():
        return "marked as an error"
    if not 0 <= note.turn < len(session.turns):
        return f"evidence: there is no turn {note.turn} in session {session.session_id}"
    turn = session.turns[note.turn]
    if turn.role != "user":
        return f"evidence: turn {note.turn} is not the user's"
    if not note.quote.strip() or note.quote not in turn.text:
        return f"evidence: the quote does not stand in turn {note.turn}"
    return None
