"""What a user asked not to be remembered is not remembered: neither what was extracted before the request nor after it.

A request names its matter ("forget what I said about the divorce") or points to what stands beside it ("don't save that"). Memories on the
matter are rejected without their content. Of the request itself one constraint is kept, which tells that something is not to be brought
up and not what: neither its value nor its evidence holds the matter. The turns that speak of it are not shown to a model again either
(`hide_withheld`). Patterns are in `data/withholding.txt`. Left out on purpose: taking a request back, and removing the words from the
history on file, which `peregrm forget` is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from peregrm.dataset.extractive.labels import Embedder
from peregrm.dataset.likeness import stems
from peregrm.records import Evidence, History, Memory, Turn

__all__ = [
    "DO_NOT_REMEMBER",
    "NOT_A_REQUEST",
    "WITHHELD",
    "WithholdingRequest",
    "find_requests",
    "hide_withheld",
    "withhold",
]

DO_NOT_REMEMBER = "Constraints_and_Boundaries/Do_Not_Remember"

WITHHELD = "do not remember: the user asked not to keep this; what it was is withheld"
"""The reason of a memory that a request removed."""

NOT_A_REQUEST = "unsupported: the words do not ask that anything be forgotten"
"""The reason of a memory of that label whose evidence holds no such request."""

_CONSTRAINT = {
    "en": "Asked that something they once said is not remembered: never bring it up, hint at it or ask what it was",
    "zh": "要求不要记住自己说过的某件事：绝不提起、暗示或追问那是什么",
}
_HIDDEN = "(withheld)"
_NEIGHBOURS = 300
"""Characters around a request that points to what stands beside it."""
_SHARE = 0.6
_SAME_COSINE = 0.75
_MATTERS = ("matter", "matter2", "matter3", "matter4")
_EMPTY = stems(
    "said told wrote mentioned anything everything thing things ever please fact stuff ok okay thanks thank sorry btw anyway yes hey hi"
)
_LONG = 4000
_HEAD, _TAIL = 2000, 1000
"""Of a turn longer than `_LONG` characters only so many from both ends are read: nobody asks in the middle of a paste."""
_APOSTROPHES = str.maketrans("’‘ʼ", "'''")


class WithholdingRequest(NamedTuple):
    """One request. `session` and `turn` are positions, `quote` its words without the matter, `covered` the text it speaks of.

    `named` tells a request that names its matter from one that points to the words around it.
    """

    session: int
    turn: int
    quote: str
    covered: str
    named: bool


def find_requests(history: History) -> list[WithholdingRequest]:
    """Return what the user asked not to be remembered, in order; turns of others ask for nothing."""
    found: list[WithholdingRequest] = []
    for number, session in enumerate(history.sessions):
        before = ""
        for index, turn in enumerate(session.turns):
            if turn.role == "user":
                for part in _ends(turn.text):
                    found += _requests_of(part, before, number, index)
                before = turn.text
    return found


def withhold(history: History, memories: Sequence[Memory], embedder: Embedder | None = None) -> list[Memory]:
    """Return the memories of one user with those on a withheld matter rejected and emptied, and the constraint, if any, last.

    Args:
        history: Where the requests stand; without one the memories come back as they are, but for those of the label
            Do_Not_Remember whose evidence asks for nothing, which are rejected.
        memories: Of this user, from any source.
        embedder: Finds further memories on the same matter in other words (English); None leaves it to shared words.
    """
    requests = find_requests(history)
    meant = {n for n, memory in enumerate(memories) if any(_is_meant(memory, each, history) for each in requests)}
    if embedder is not None and meant:
        meant |= _near(memories, meant, embedder)
    result: dict[str, Memory] = {}
    for number, memory in enumerate(memories):
        kept = _emptied(memory) if number in meant else _checked(memory, bool(requests))
        result.setdefault(kept.id, kept)
    if requests:
        constraint = _constraint(history, requests)
        result.setdefault(constraint.id, constraint)
    return list(result.values())


def hide_withheld(history: History) -> History:
    """Return a history without the words of the turns, of either side, that ask that something be forgotten, answer that, or speak of it.

    Those turns keep their places and are empty; the same history comes back where nothing was asked.
    """
    requests = find_requests(history)
    if not requests:
        return history
    sessions = tuple(
        session.model_copy(
            update={
                "turns": tuple(
                    turn.model_copy(update={"text": ""})
                    if any(_is_spoken_of(each, number, place, turn) for each in requests)
                    else turn
                    for place, turn in enumerate(session.turns)
                )
            }
        )
        for number, session in enumerate(history.sessions)
    )
    return history.model_copy(update={"sessions": sessions})


def _is_spoken_of(request: WithholdingRequest, session: int, place: int, turn: Turn) -> bool:
    after = place - request.turn if session == request.session else None
    if after == 0 or (after == 1 and turn.role != "user"):
        return True  # the request, and the answer to it
    is_beside = after in (-2, -1)
    return _is_on_matter(request, [turn.text], [turn.text] if is_beside else [])


def _ends(text: str) -> tuple[str, ...]:
    return (text,) if len(text) <= _LONG else (text[:_HEAD], text[-_TAIL:])


def _requests_of(text: str, before: str, session: int, turn: int) -> Iterator[WithholdingRequest]:
    plain = text.translate(_APOSTROPHES)
    taken: list[tuple[int, int]] = []
    for named in (True, False):
        for pattern in _patterns()["named" if named else "near"]:
            for match in pattern.finditer(plain):
                if any(start < match.end() and match.start() < end for start, end in taken) or _is_none(plain, match):
                    continue
                taken.append(match.span())
                group = next((name for name in _MATTERS if match.groupdict().get(name)), None)
                end = match.start(group) if group else match.end()
                covered = match[group] if group else _beside(text, match, before)
                yield WithholdingRequest(session, turn, text[match.start() : end].strip(), covered, named)


def _is_none(plain: str, match: re.Match[str]) -> bool:
    around = plain[max(0, match.start() - 12) : match.end() + 20]
    return any(pattern.search(around) for pattern in _patterns()["never"])


def _beside(text: str, match: re.Match[str], before: str) -> str:
    """Return the words around a request, or the turn before where it stands alone."""
    own = (
        text[max(0, match.start() - _NEIGHBOURS) : match.start()]
        + " "
        + text[match.end() : match.end() + _NEIGHBOURS // 3]
    )
    return own if stems(own) - _EMPTY else before[-2 * _NEIGHBOURS :]


def _is_meant(memory: Memory, request: WithholdingRequest, history: History) -> bool:
    """Tell whether a memory is on the matter of a request: its value or its words share enough with it."""
    if memory.label == DO_NOT_REMEMBER:
        return True
    here = history.sessions[request.session].session_id
    beside = [e.quote for e in memory.evidence if e.session_id == here and request.turn - 2 <= e.turn <= request.turn]
    return _is_on_matter(request, [memory.value, *(evidence.quote for evidence in memory.evidence)], beside)


def _is_on_matter(request: WithholdingRequest, texts: Sequence[str], beside: Sequence[str]) -> bool:
    """Tell whether one of `texts` shares enough words with what a request covers; `beside` are those that stand near the request."""
    about = stems(request.covered) - _EMPTY
    if not about:
        return False
    if request.named:
        return any(len(about & stems(text)) >= _SHARE * len(about) for text in texts)
    if any(text.strip() and text.strip() in request.covered for text in beside):
        return True
    least = min(2, len(about))
    return any(len(words & about) >= max(least, len(words) / 2) for words in map(stems, texts))


def _near(memories: Sequence[Memory], meant: set[int], embedder: Embedder) -> set[int]:
    """Return the memories whose embedding is near that of one on a withheld matter."""
    vectors = embedder.embed([memory.value for memory in memories])
    likeness = vectors @ vectors.T
    sources = [n for n in meant if memories[n].label != DO_NOT_REMEMBER]
    return {n for n in range(len(memories)) if any(float(likeness[n, source]) >= _SAME_COSINE for source in sources)}


def _emptied(memory: Memory) -> Memory:
    update = {
        "value": _HIDDEN,
        "evidence": (),
        "status": "rejected",
        "reason": WITHHELD,
        "superseded_by": None,
        "label_suggestion": None,
        "confidence": None,
    }
    return memory.model_copy(update=update)


def _checked(memory: Memory, asked: bool) -> Memory:
    if asked or memory.label != DO_NOT_REMEMBER or memory.status != "kept":
        return memory
    return memory.model_copy(update={"status": "rejected", "reason": NOT_A_REQUEST})


def _constraint(history: History, requests: Sequence[WithholdingRequest]) -> Memory:
    evidence = [
        Evidence(session_id=history.sessions[each.session].session_id, turn=each.turn, quote=each.quote)
        for each in requests
    ]
    return Memory(
        user_id=history.user_id,
        label=DO_NOT_REMEMBER,
        type="direct",
        value=_CONSTRAINT["zh" if history.language == "zh" else "en"],
        evidence=tuple(dict.fromkeys(evidence)),
        confidence=1.0,
        time_scope="long_term",
        method="rules",
    )


@cache
def _patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    found: dict[str, list[re.Pattern[str]]] = {}
    text = (resources.files(__package__) / "data" / "withholding.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            kind, pattern = line.split(None, 1)
            found.setdefault(kind, []).append(re.compile(pattern, re.IGNORECASE))
    return {kind: tuple(patterns) for kind, patterns in found.items()}
