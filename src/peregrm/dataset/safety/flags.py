"""What a flag says, and what follows from flags for the use of a case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, get_args

from peregrm.records import Record

__all__ = ["DANGERS", "Confidence", "Danger", "Flag", "carried_flags"]

Danger = Literal["self_harm", "abuse", "minor", "medical_emergency"]
"""Harm to oneself; violence or abuse, suffered or done; the user is a child or adolescent; a life is at risk now."""

DANGERS: tuple[Danger, ...] = get_args(Danger)

Confidence = Literal["high", "medium", "low"]


class Flag(Record):
    """One sign of danger in one record.

    `subject` is the id of the history or case, `where` the place in it (`s1[4]` for turn 4 of session s1, or a field such as `query`),
    `quote` words that stand there. `kind` is `unknown` where a model was asked and gave no usable answer: then nothing is known about
    the record, `quote` is empty, and it counts as flagged.
    """

    id_prefix: ClassVar[str] = "flg"

    subject: str
    where: str
    kind: Danger | Literal["unknown"]
    quote: str
    by: Literal["rule", "model"]
    confidence: Confidence


def carried_flags(history_flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Return the flags on a history that hold for every case of its user: that the user is a minor does not end with a turn."""
    return tuple(flag for flag in history_flags if flag.kind == "minor")
