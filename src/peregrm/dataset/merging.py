"""Join what several windows or sessions say of one user in the same words: one memory, its evidence in the order in which it was said.

Two memories are one where they are the same but for case, blanks and the punctuation at their end, or nearly so under one label; never
where they state different things (see `likeness`). Two notes of one fact do less harm than one note of two. Left out on purpose:
paraphrases, which need embeddings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from peregrm.dataset.likeness import fullness, jaccard, state_different_things, stems
from peregrm.records import Evidence, History, Memory

__all__ = ["merge_memories"]

_SAME = 0.8
_END = " .,;!?…。，；।؟۔"


def merge_memories(history: History, memories: Sequence[Memory]) -> list[Memory]:
    """Return the memories of one user without duplicates, by when each was first said; those without evidence come last.

    What was said in one turn, and what has no evidence, keeps the order of `memories`. Of what is joined, the wording and label that say
    most stay, in doubt the earliest, with all evidence and the highest confidence. Kept memories are joined with kept ones and rejected
    ones with those rejected for the same reason.
    """
    order = {session.session_id: number for number, session in enumerate(history.sessions)}

    def place(evidence: Evidence) -> tuple[int, int]:
        return order.get(evidence.session_id, len(order)), evidence.turn

    def first_said(memory: Memory) -> tuple[int, int]:
        return min(map(place, memory.evidence), default=(len(order) + 1, 0))

    groups: list[list[int]] = []
    for n, memory in sorted(enumerate(memories), key=lambda item: (-fullness(item[1].value), first_said(item[1]))):
        group = next((group for group in groups if _same(memories[group[0]], memory)), None)
        if group is None:
            groups.append([n])
        else:
            group.append(n)
    merged = []
    for group in sorted(groups, key=min):
        fullest, joined = memories[group[0]], [memories[n] for n in sorted(group)]
        evidence = sorted(dict.fromkeys(each for memory in joined for each in memory.evidence), key=place)
        confidence = max((memory.confidence for memory in joined if memory.confidence is not None), default=None)
        merged.append(fullest.model_copy(update={"evidence": tuple(evidence), "confidence": confidence}))
    return sorted(merged, key=first_said)


def _same(one: Memory, other: Memory) -> bool:
    if (one.status, one.reason) != (other.status, other.reason):
        return False
    if _plain(one.value) == _plain(other.value):
        return True
    return (
        one.label == other.label
        and jaccard(stems(one.value), stems(other.value)) >= _SAME
        and not state_different_things(one.value, other.value)
    )


def _plain(value: str) -> str:
    """Return a text without differences of case and blanks and without the punctuation at its end."""
    text = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    return text.rstrip(_END) or text
