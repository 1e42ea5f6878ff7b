"""Join what several windows or sessions say of one user in the same words: one memory, its evidence in the order in which it was said.

Two memories are one where their words are the same, or nearly so under one label; never where they state different things: where one denies
the other, or each has a number or a telling word that the other lacks. Two notes of one fact do less harm than one note of two. Left out on
purpose: paraphrases, which need embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.dataset.likeness import fullness, jaccard, state_different_things, stems
from peregrm.records import Evidence, History, Memory
from peregrm.text import tokens

__all__ = ["merge_memories"]

_SAME = 0.8


def merge_memories(history: History, memories: Sequence[Memory]) -> list[Memory]:
    """Return the memories of one user without duplicates, by when each was first said; those without evidence come last.

    Of what is joined, the wording and label that say most stay, in doubt the earliest, with all evidence and the highest confidence. Kept
    memories are joined with kept ones and rejected ones with those rejected for the same reason.
    """
    order = {session.session_id: number for number, session in enumerate(history.sessions)}

    def place(evidence: Evidence) -> tuple[int, int]:
        return order.get(evidence.session_id, len(order)), evidence.turn

    def first_said(memory: Memory) -> tuple[int, int]:
        return min(map(place, memory.evidence), default=(len(order) + 1, 0))

    merged: list[Memory] = []
    for memory in sorted(memories, key=lambda each: (-fullness(each.value), first_said(each))):
        twin = next((n for n, known in enumerate(merged) if _same(known, memory)), None)
        if twin is None:
            merged.append(memory)
            continue
        known = merged[twin]
        evidence = sorted(dict.fromkeys((*known.evidence, *memory.evidence)), key=place)
        confidence = max((c for c in (known.confidence, memory.confidence) if c is not None), default=None)
        merged[twin] = known.model_copy(update={"evidence": tuple(evidence), "confidence": confidence})
    return sorted(merged, key=first_said)


def _same(one: Memory, other: Memory) -> bool:
    if (one.status, one.reason) != (other.status, other.reason):
        return False
    if one.label == other.label and one.value.casefold() == other.value.casefold():
        return True
    words, others = tokens(one.value), tokens(other.value)
    if words and words == others:
        return True
    return (
        one.label == other.label
        and jaccard(stems(one.value), stems(other.value)) >= _SAME
        and not state_different_things(one.value, other.value)
    )
