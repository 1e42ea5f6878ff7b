"""The rows that all human judgements become, and the case that a reward is shown for them.

A context is what was said until the reply, messages of `user` and `assistant`, the user's last. Such rows come without a persona and
without memories, so their case has none: an empty profile is shown to a judge as `(no profile)`. The last message is the query, what was
said before it the situation; nothing is made up. The category of such a case is emotional support, which no judge is shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from pydantic import Field

from peregrm.errors import InputError
from peregrm.histories.base import Row
from peregrm.histories.language import detect_language
from peregrm.records import Case, Message, Part, Persona, content_id

__all__ = [
    "HumanFile",
    "JudgedFile",
    "JudgedPair",
    "JudgedRating",
    "Pair",
    "Rated",
    "Scale",
    "Scores",
    "case_of",
    "messages_of",
    "nobody",
    "number_of",
    "pairs_of_levels",
    "text_of",
]

Context = tuple[Message, ...]
Scores = Mapping[str, float | None]
"""A judge's scores of one reply by measure: `total`, `empathy` and each dimension; None where there is none."""

_ROLES: dict[str, Literal["user", "assistant"]] = {
    **dict.fromkeys(("user", "usr", "human", "seeker", "speaker"), "user"),
    **dict.fromkeys(("assistant", "sys", "gpt", "bot", "model", "supporter", "listener"), "assistant"),
}
_TOTAL = "total"


class Scale(Part):
    """What was rated, and the least and the greatest level. Only a `headline` scale decides a verdict; the others are shown."""

    name: str
    low: float
    high: float
    headline: bool = True


class Pair(Part):
    """Two replies in one context, of which people found one better.

    `user` is the cluster: rows of one user are not independent. `gap` says by how much, in the file's own unit; None where it does not.
    `a_source` and `b_source` name who wrote the replies, where that is known. `case_id` is set where the context is a case of its own.
    """

    id: str
    source: str
    user: str
    context: Context
    a: str
    b: str
    better: Literal["a", "b"]
    gap: float | None = None
    a_source: str | None = None
    b_source: str | None = None
    case_id: str | None = None


class Rated(Part):
    """One reply and the level that people gave it on one scale."""

    id: str
    source: str
    user: str
    context: Context
    reply: str
    level: float
    scale: Scale
    reply_source: str | None = None


class HumanFile(Part):
    """All rows of one file. `clusters` says what stands for a user in it, `left_out` counts rows that were not used, by reason."""

    name: str
    format: str
    pairs: tuple[Pair, ...] = ()
    rated: tuple[Rated, ...] = ()
    clusters: str = Field(min_length=1)
    left_out: tuple[tuple[str, int], ...] = ()


class JudgedPair(NamedTuple):
    """A pair with a judge's scores of both replies."""

    pair: Pair
    a: Scores
    b: Scores

    def right(self, measure: str = _TOTAL) -> float | None:
        """Return 1 where the judge prefers the reply that people did, 0.5 for a tie, 0 else; None where one is not scored."""
        gap = self.difference(measure)
        return None if gap is None else 0.5 if abs(gap) <= _SAME else float(gap > 0)

    def difference(self, measure: str = _TOTAL) -> float | None:
        """Return the score of the reply that people preferred minus that of the other."""
        better, worse = (self.a, self.b) if self.pair.better == "a" else (self.b, self.a)
        one, other = better.get(measure), worse.get(measure)
        return None if one is None or other is None else one - other


class JudgedRating(NamedTuple):
    """A rated reply with a judge's scores of it."""

    rated: Rated
    scores: Scores


class JudgedFile(NamedTuple):
    """A file and those of its rows that a judge was asked about; `asked` replies were to be scored, `scored` of them were."""

    file: HumanFile
    pairs: Sequence[JudgedPair]
    rated: Sequence[JudgedRating]
    asked: int
    scored: int


_SAME = 1e-9
"""Scores nearer than this are a tie: the rest is rounding."""


def nobody(user_id: str) -> Persona:
    """Return the persona of a user of whom nothing is known."""
    return Persona(
        user_id=user_id,
        history_id="",
        profile="",
        traits=(),
        is_deep=False,
        gate_reason="the source says nothing about this person",
        method="none",
    )


def case_of(user: str, context: Sequence[Message]) -> Case:
    """Return the case a reward is shown for a context, which ends with a message of the user."""
    *earlier, last = context
    return Case(
        user_id=user,
        language=detect_language(message.content for message in context if message.role == "user"),
        category="emotional_support",
        persona=nobody(user),
        memories=(),
        relevant_memory_ids=(),
        situation="\n".join(f"{message.role}: {message.content}" for message in earlier),
        query=last.content,
    )


def messages_of(value: object, where: str) -> Context:
    """Return a context from a text, which is the user's, or from messages; neighbours of one role become one, system messages go.

    Raises `InputError` where it is neither. The last message may be anybody's.
    """
    if isinstance(value, str):
        return (Message(role="user", content=value.strip()),) if value.strip() else ()
    if not isinstance(value, list):
        raise InputError(f"{where}: context: neither a text nor a list of messages")
    merged: list[Message] = []
    for one in value:
        if not isinstance(one, dict):
            raise InputError(f"{where}: context: a message is not an object")
        said = str(one.get("role", one.get("speaker", one.get("from")))).lower()
        text = next((one[key] for key in ("content", "text", "value") if isinstance(one.get(key), str)), None)
        if said == "system":
            continue
        if said not in _ROLES or text is None:
            raise InputError(f"{where}: context: a message needs a role (user or assistant) and a text")
        if merged and merged[-1].role == _ROLES[said]:
            merged[-1] = Message(role=merged[-1].role, content=f"{merged[-1].content}\n{text.strip()}")
        elif text.strip():
            merged.append(Message(role=_ROLES[said], content=text.strip()))
    return tuple(merged)


def text_of(row: Row, *names: str) -> str:
    """Return the first of these fields that is there as text; raises `InputError` where none is."""
    for name in names:
        if isinstance(row.value.get(name), str):
            return str(row.value[name])
    raise InputError(f"{row.where}: {names[0]}: no text")


def number_of(value: object, where: str, scale: Scale | None = None) -> float | None:
    """Return a number, also one written as text; None for null or an empty text.

    Raises `InputError` where it is no number or lies off the scale.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not math.isfinite(number):
        raise InputError(f"{where}: not a number: {value!r}")
    if scale is not None and not scale.low <= number <= scale.high:
        raise InputError(f"{where}: {scale.name}: {number:g} lies off the scale of {scale.low:g} to {scale.high:g}")
    return number


def pairs_of_levels(rated: Iterable[Rated], left_out: Counter[str]) -> list[Pair]:
    """Return every two replies to one context that have different levels on one scale; equal ones are counted as left out."""
    groups: dict[tuple[str, str, Any], list[Rated]] = {}
    for one in rated:
        groups.setdefault((one.user, one.scale.name, one.context), []).append(one)
    found: list[Pair] = []
    for group in groups.values():
        for a, b in combinations(group, 2):
            if a.level == b.level:
                left_out["two replies of the same level are no pair"] += 1
                continue
            found.append(
                Pair(
                    id=content_id("pair", [a.id, b.id]),
                    source=a.source,
                    user=a.user,
                    context=a.context,
                    a=a.reply,
                    b=b.reply,
                    better="a" if a.level > b.level else "b",
                    gap=abs(a.level - b.level),
                    a_source=a.reply_source,
                    b_source=b.reply_source,
                )
            )
    return found
