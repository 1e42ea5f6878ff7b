"""What a head's card says in one sentence, to stand wherever its scores stand.

Where some users' texts were read when the word lists were drawn up, the figures are those on the others; without others, that is said.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from pydantic import ValidationError

from peregrm.errors import InputError
from peregrm.models.heads import head_bytes, head_name
from peregrm.reward.heads.head import VERSION, HeadCard, Measured

__all__ = ["card_words", "head_words"]

_UNREAD = "The judge is a small trained head; what it was trained on and got right is not known here:"

_SAID = (
    ("personalized over generic", "prefers the reply written for the person to a generic one"),
    ("generic over mismatched", "a generic one to one that is wrong for them"),
    ("personalized over mismatched", "the personal one to the wrong one"),
    ("persona swap noticed", "notices when the person is swapped"),
    ("human pairs", "agrees with people"),
    ("pairs", "orders the pairs of its files as they say"),
)
_SHORTER = "the better one is shorter"
_EMPTY = "honest over nearly empty (other kinds)"
_ODD = re.compile(r"[^\w .,;:()/+-]")
_MOST_LICENCE = 60


def head_words(judge: str) -> str:
    """Return the sentence for the judge of this name: what it was trained on and got right, or why that cannot be said."""
    try:
        name = head_name(judge)
        if "@" in judge and name != judge:
            return f"{_UNREAD} its file has changed since."
        return card_words(_card(name))
    except InputError:
        return f"{_UNREAD} its file is not there any more."
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError):
        return f"{_UNREAD} its file is damaged, or of another version."


@lru_cache(maxsize=4)
def _card(name: str) -> HeadCard:
    document = json.loads(head_bytes(name))
    if document["version"] != VERSION:
        raise ValueError(f"a head of format {document['version']}")
    return HeadCard.model_validate(document["card"])


def card_words(card: HeadCard) -> str:
    """Return what a card says, with n and the 95 % interval of every figure."""
    data = ", ".join(dict.fromkeys(_plain(one.licence) for one in card.datasets))
    sentence = (
        f"The judge is a small trained head, no language model: {card.pairs} pairs of {card.users} users ({data}), language "
        f"{'/'.join(card.languages)}."
    )
    found = _told(card)
    figures = [f"{words} in {_share(found[name])}" for name, words in _SAID if name in found]
    if not figures:
        return f"{sentence} It was not measured on users it had not seen."
    *before, last = figures
    sentence += f" On {_who(found)} it {', '.join(before)}{' and ' if before else ''}{last}."
    shorter = found.get(_SHORTER)
    sentence += f" Where the better reply is the shorter one it finds it in {_share(shorter)}." if shorter else ""
    empty = found.get(_EMPTY)
    sentence += (
        f" It puts an honest reply above a nearly empty one of a kind it was not trained on in {_share(empty)}."
        if empty
        else " It learned nothing of nearly empty replies."
    )
    if "human pairs" in found:
        return sentence
    return f"{sentence}{_limits(found)}"


def _told(card: HeadCard) -> dict[str, Measured]:
    """Return the figures that count, by name: on users whose texts were not read beforehand, where they are told apart."""
    kinds = {one.of for one in card.measured}
    of = "others" if "others" in kinds else "all"
    if of == "all" and "read" in kinds:
        of = "read"
    return {one.name: one for one in card.measured if one.of == of}


def _who(found: dict[str, Measured]) -> str:
    first = next(iter(found.values()))
    users = max(one.users for one in found.values())
    said = {
        "all": f"{users} users it had not seen",
        "others": f"{users} users it had not seen, and from whose texts its word lists were not written,",
        "read": f"{users} users it had not seen, but from whose texts its word lists were written,",
    }
    return said[first.of]


def _limits(found: dict[str, Measured]) -> str:
    blind, seeing = found.get("person hidden: all pairs"), found.get("all pairs")
    words = ""
    if blind is not None and seeing is not None:
        words = (
            f" Much of that lies in the writing alone: of all pairs it orders {_share(seeing)} rightly, and a head that is not shown the "
            f"person {_share(blind)}."
        )
    if "pairs" in found:
        return (
            f"{words} Who ordered the pairs is not stated; how far its scores agree with people is not known from them."
        )
    return f"{words} Those pairs were written to have a known order; how far its scores agree with people is not known from them."


def _plain(licence: str) -> str:
    return _ODD.sub(" ", " ".join(licence.split()))[:_MOST_LICENCE].strip() or "licence not stated"


def _share(one: Measured) -> str:
    if one.mean is None:
        return "an unknown share of pairs"
    interval = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.mean:.2f}{interval} of {one.n}"
