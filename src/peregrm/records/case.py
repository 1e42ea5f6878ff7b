"""From a persona to a case: one judged moment of one person."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from peregrm.records.base import Failure, Part, Record
from peregrm.records.history import Memory

__all__ = ["Case", "Category", "Inspection", "Persona", "Query", "SecondOpinion", "Situation", "Trait"]


Category = Literal["emotional_support", "high_eq", "social_strategy"]
"""Be seen and comforted; tact, rapport and de-escalation; what to say or do to reach an interpersonal goal."""


class Trait(Part):
    """One line of a persona and the ids of the memories it rests on, never none."""

    text: str
    memory_ids: tuple[str, ...] = Field(min_length=1)


class Persona(Record):
    """Stable traits of a user. `is_deep` is the depth gate: is there enough here to personalize on? `gate_reason` says why."""

    id_prefix: ClassVar[str] = "per"

    user_id: str
    history_id: str
    profile: str
    traits: tuple[Trait, ...]
    topics: tuple[str, ...] = ()
    is_deep: bool
    gate_reason: str
    method: str


class Situation(Record):
    """A moment the user could plausibly be in, resting on at least one memory and on `traits`, texts of the persona's."""

    id_prefix: ClassVar[str] = "sit"

    user_id: str
    persona_id: str
    category: Category
    topic: str
    text: str
    memory_ids: tuple[str, ...]
    traits: tuple[str, ...] = ()
    method: str


class Query(Record):
    """What the user would send in a situation, in their own language and manner."""

    id_prefix: ClassVar[str] = "qry"

    user_id: str
    situation_id: str
    text: str
    method: str


class SecondOpinion(Part):
    """What another judge said of the same gates; the booleans are None where it gave no usable answer, and the failure says why."""

    judge: str
    emotional_support: bool | None
    consistent: bool | None
    role_aware: bool | None
    reasons: tuple[str, ...] = ()
    failure: Failure | None = None


class Inspection(Record):
    """The gates one query went through. `kept` is their conjunction; `reasons` says which failed and why.

    The three booleans are None where the model gave no usable answer: such a query is not kept, and the failure says why. Where
    a second judge was asked, a query is kept only if both say yes to all three; `disagreed` names the gates they answered differently.
    """

    id_prefix: ClassVar[str] = "ins"

    query_id: str
    emotional_support: bool | None
    consistent: bool | None
    role_aware: bool | None
    kept: bool
    reasons: tuple[str, ...] = ()
    failure: Failure | None = None
    second: SecondOpinion | None = None
    disagreed: tuple[str, ...] = ()


class Case(Record):
    """One judged moment: a user's persona, memories, situation and query.

    `memories` are all kept memories of the user, in order; `relevant_memory_ids` those the situation rests on. `origin` is
    `generated` for the pipeline's own cases and `gold` for hand-written ones. `flags` are the kinds of danger that were found in it,
    none for a case that was looked at and is clean, and None where nobody looked; they are what is known of a case and no part of its id.
    """

    id_prefix: ClassVar[str] = "case"
    id_excludes: ClassVar[frozenset[str]] = frozenset({"flags"})

    user_id: str
    language: str
    category: Category
    persona: Persona
    memories: tuple[Memory, ...]
    relevant_memory_ids: tuple[str, ...]
    situation: str
    query: str
    query_id: str | None = None
    origin: Literal["generated", "gold"] = "generated"
    flags: tuple[str, ...] | None = None
