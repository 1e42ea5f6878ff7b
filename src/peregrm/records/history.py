"""What a user and an assistant said to each other, and the memories drawn from it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from peregrm.records.base import Part, Record

__all__ = ["Evidence", "History", "Memory", "Session", "Turn"]


class Turn(Part):
    """One utterance. `time` is what the source gave, a Unix time as ISO 8601, or None."""

    role: Literal["user", "assistant", "system"]
    text: str
    time: str | None = None


class Session(Part):
    """One conversation in order. `date` is ISO 8601 where the source gives one, else None."""

    session_id: str
    date: str | None = None
    turns: tuple[Turn, ...]


class Evidence(Part):
    """The words a memory rests on. `turn` is the 0-based index in the session; `quote` occurs in that turn's text."""

    session_id: str
    turn: int = Field(ge=0)
    quote: str


class Memory(Record):
    """One lasting fact about a user, with its evidence.

    `label` is a path of the taxonomy (`Social_Relationships/Family`), `type` says whether the user said it (direct) or it was
    inferred (indirect). Only `kept` memories reach a prompt; `rejected` and `superseded` ones stay on file with their `reason`.
    `superseded_by` is the id of the newer memory. `label_suggestion` is the free label that a source gave besides, if any.
    """

    id_prefix: ClassVar[str] = "mem"
    id_excludes: ClassVar[frozenset[str]] = frozenset({"label_suggestion"})

    user_id: str
    label: str
    type: Literal["direct", "indirect"]
    value: str
    evidence: tuple[Evidence, ...] = ()
    confidence: float | None = Field(default=None, ge=0, le=1)
    time_scope: str | None = None
    status: Literal["kept", "rejected", "superseded"] = "kept"
    reason: str | None = None
    superseded_by: str | None = None
    label_suggestion: str | None = None
    method: str


class History(Record):
    """Everything one user and an assistant said to each other, sessions in time order.

    `memories` and `intents` are those that came with the source, if any; `language` is `en`, `zh` or another ISO 639-1 code.
    `notes` counts what the reader had to drop or mend, by reason.
    """

    id_prefix: ClassVar[str] = "his"
    id_excludes: ClassVar[frozenset[str]] = frozenset({"source", "notes"})

    user_id: str
    language: str
    sessions: tuple[Session, ...]
    memories: tuple[Memory, ...] = ()
    intents: tuple[str, ...] = ()
    source: str = ""
    notes: dict[str, int] = Field(default_factory=dict)
