"""Bring the facts of one user together: duplicates become one, and a later fact replaces the earlier one it contradicts.

Both are done by simple rules that would rather leave two memories standing than join or retire the wrong ones: sentences that state
different things (see `likeness`) are never joined. Left out on purpose: clustering, paraphrases in other words, and any attempt to find
contradictions that no rule names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from peregrm.dataset.ending import day_said, reason_of_end
from peregrm.dataset.extractive.labels import words_of
from peregrm.dataset.extractive.rulebook import Change, load_changes
from peregrm.dataset.likeness import fullness, state_different_things
from peregrm.records import Evidence, History

__all__ = ["Draft", "Place", "alike", "merge", "supersede"]

_SAME_COSINE = 0.86
_SAME_OVERLAP = 0.65
_RELATED_COSINE = 0.6
_LEFT_BEHIND = re.compile(r"\b(?:not|don'?t|no longer|out of)\b|不住", re.IGNORECASE)
_SUFFIX = re.compile(r"(?<=[a-z]{3})(?:ing|ed|es|s|e)$")
_NO_HOME = re.compile(r"\b(?:my|me|and|now|the|a)\b", re.IGNORECASE)


Place = tuple[int, int, int]
"""Session, turn and sentence, each counted from 0; the sentence through the whole history."""


@dataclass(slots=True, eq=False)
class Draft:
    """A memory in the making. `said` holds its evidence by where each was said."""

    language: str
    label: str
    value: str
    plain: str
    confidence: float
    scope: str
    said: dict[Place, Evidence]
    vector: NDArray[Any] | None = None
    reason: str | None = None
    superseded_by: Draft | None = None
    words: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Compute what drafts are compared by."""
        self.words = words_of(self.value)

    @property
    def first(self) -> Place:
        """Where it was said first."""
        return min(self.said)

    @property
    def last(self) -> Place:
        """Where it was said last."""
        return max(self.said)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What it rests on, in the order in which it was said; the same quote of a turn counts once."""
        return tuple(dict.fromkeys(self.said[place] for place in sorted(self.said)))

    @property
    def branch(self) -> str:
        """The first part of the label."""
        return self.label.partition("/")[0]


def _cosine(one: Draft, other: Draft) -> float | None:
    return None if one.vector is None or other.vector is None else float(one.vector @ other.vector)


def _overlap(one: Draft, other: Draft) -> float:
    union = len(one.words | other.words)
    return len(one.words & other.words) / union if union else 0.0


def alike(one: Draft, other: Draft, *, overlap: float = _SAME_OVERLAP) -> bool:
    """Tell whether two drafts say the same: they share `overlap` of their words, 0 to 1, or are near in meaning."""
    near = _cosine(one, other)
    return _overlap(one, other) >= overlap or (near is not None and near >= _SAME_COSINE)


def merge(drafts: Sequence[Draft]) -> list[Draft]:
    """Join near-duplicates of one branch that are both still true, and return the drafts by when they were first said.

    The wording that says most stays, in doubt the surest and then the earliest, with all the evidence.
    """
    kept: list[Draft] = []
    stands_for: dict[int, Draft] = {}
    for draft in sorted(drafts, key=lambda each: (-fullness(each.value), -each.confidence, each.first)):
        twin = next((other for other in kept if _twins(other, draft)), None)
        if twin is None:
            kept.append(draft)
            continue
        twin.said |= draft.said
        twin.confidence = max(twin.confidence, draft.confidence)
        stands_for[id(draft)] = twin
    for draft in kept:
        if draft.superseded_by is not None:
            draft.superseded_by = stands_for.get(id(draft.superseded_by), draft.superseded_by)
    return sorted(kept, key=lambda each: each.first)


def _twins(one: Draft, other: Draft) -> bool:
    return (
        one.superseded_by is None
        and other.superseded_by is None
        and (one.branch == other.branch or one.words == other.words)
        and alike(one, other)
        and not state_different_things(one.value, other.value)
    )


def supersede(drafts: Sequence[Draft], history: History) -> None:
    """Mark the drafts of a history that a later one replaces, in place; drafts must be in the order in which they were said."""
    for position, newer in enumerate(drafts):
        for change in load_changes(newer.language):
            after = change.after.search(newer.plain)
            if after is None:
                continue
            session, turn, _ = newer.last
            day = day_said(history.sessions[session], turn)
            for older in drafts[:position]:
                if older.superseded_by is None and _replaces(change, older, newer, after):
                    older.superseded_by = newer
                    older.reason = reason_of_end(day, change.slot.replace("_", " "))


def _replaces(change: Change, older: Draft, newer: Draft, after: re.Match[str]) -> bool:
    if older.first[:2] == newer.first[:2] or older.language != newer.language or not _right_label(change.slot, older):
        return False
    before = change.before.search(older.plain)
    if before is None or (change.named != "differ" and change.after.search(older.plain)):
        return False
    if change.named == "any":
        return True
    if change.named == "shared":
        return _about_the_same(older, newer)
    old, new = _thing(before), _thing(after)
    if change.named == "same":
        return old != "" and old == new
    return not (words_of(old) & words_of(new)) or bool(_LEFT_BEHIND.search(after.group()))


def _right_label(slot: str, older: Draft) -> bool:
    """Keep a slot to the labels it speaks about, so that a sentence about a job does not retire one about a sister."""
    wanted = {
        "home": ("Personal_Background/Location", "Possessions/House"),
        "job": ("Personal_Background/Occupation",),
        "diet": ("Preferences/Food", "Thoughts"),
        "diet_back": ("Preferences/Food", "Personal_Background", "Thoughts"),
        "owns": ("Possessions",),
        "together": ("Social_Relationships/Partners",),
        "stopped": ("Preferences", "Plans", "Thoughts/Goals"),
    }.get(slot)
    return wanted is None or older.label.startswith(wanted)


def _thing(match: re.Match[str]) -> str:
    """Return the person, place or thing a pattern named, bare of articles, in lower case."""
    named = next((value for key, value in sorted(match.groupdict().items()) if key.startswith("x") and value), "")
    return " ".join(_NO_HOME.sub(" ", named.lower()).split())


def _about_the_same(older: Draft, newer: Draft) -> bool:
    shared = len({_SUFFIX.sub("", word) for word in older.words} & {_SUFFIX.sub("", word) for word in newer.words})
    near = _cosine(older, newer)
    return shared >= 2 or (shared == 1 and near is not None and near >= _RELATED_COSINE)
