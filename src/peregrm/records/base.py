"""What all records are made of: frozen parts, records named by the hash of their content, and the values that go with every call.

A record's `id` is computed from its own fields: reading a file recomputes it, and a hand-edited record gets another id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

__all__ = ["Drop", "Failure", "Message", "Part", "Record", "Usage", "content_id"]


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


def content_id(prefix: str, value: object) -> str:
    """Return `prefix-` and 16 hex digits of the SHA-256 of `value` as canonical JSON."""
    return f"{prefix}-{hashlib.sha256(_CANONICAL.encode(value).encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


class Part(BaseModel):
    """A frozen piece of a record, without an id of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(Part):
    """A frozen record with an id made from its content."""

    id_prefix: ClassVar[str] = "rec"
    id_excludes: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_stored_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and "id" in data:
            return {k: v for k, v in data.items() if k != "id"}
        return data

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def id(self) -> str:
        """The content hash: equal records have equal ids in every run and on every machine."""
        return content_id(self.id_prefix, self.model_dump(mode="json", exclude={"id", *self.id_excludes}))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with changes; the copy's id is computed anew."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("id", None)
        return copy


class Message(Part):
    """One chat message to a model. `role` is system, user or assistant."""

    role: str
    content: str


class Usage(Part):
    """Tokens of one or several model calls; `cached_tokens` are those of the input that a prefix cache served."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    unmetered: int = 0
    """Calls whose tokens the endpoint did not report: they are not in the counts, and their cost is unknown."""

    def __add__(self, other: Usage) -> Usage:
        """Add field by field."""
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            unmetered=self.unmetered + other.unmetered,
        )


class Failure(Part):
    """Why there is no value. `kind` is a short stable word for counting, `reason` a sentence for people."""

    stage: str
    kind: str
    reason: str


class Drop(Record):
    """Something a stage did not keep, and why.

    `subject` is the id of the record the stage worked on, `text` what was dropped (empty where nothing came) and `item` its place, from 0,
    among what came for that subject, so that the same text twice is two drops. `failed` tells a
    model call that gave no usable answer from a gate that said no: only the former counts against the failure budget.
    """

    id_prefix: ClassVar[str] = "drp"

    stage: str
    subject: str
    kind: str
    reason: str
    text: str = ""
    item: int = Field(default=0, ge=0)
    failed: bool = False
