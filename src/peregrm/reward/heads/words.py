"""What a head's card says in one sentence, to stand wherever its scores stand."""

from __future__ import annotations

import json
from functools import lru_cache

from pydantic import ValidationError

from peregrm.errors import InputError
from peregrm.models.heads import head_name, head_path
from peregrm.reward.heads.head import HeadCard, Measured

__all__ = ["card_words", "head_words"]

_UNREAD = "The judge is a small trained head; what it was trained on and got right is not known here:"

_SAID = (
    ("personalized over generic", "prefers the reply written for the person to a generic one"),
    ("generic over mismatched", "a generic one to one that is wrong for them"),
    ("personalized over mismatched", "the personal one to the wrong one"),
    ("persona swap noticed", "and notices when the person is swapped"),
    ("human pairs", "agrees with people"),
)


def head_words(judge: str) -> str:
    """Return the sentence for the judge of this name: what it was trained on, what it got right, or that its file is not there."""
    try:
        name = head_name(judge)
        card = _card(name)
    except (InputError, ValidationError, ValueError, KeyError, TypeError):
        return f"{_UNREAD} its file is not there any more."
    if "@" in judge and name != judge:
        return f"{_UNREAD} its file has changed since."
    return card_words(card)


@lru_cache(maxsize=4)
def _card(name: str) -> HeadCard:
    return HeadCard.model_validate(json.loads(head_path(name).read_text(encoding="utf-8"))["card"])


def card_words(card: HeadCard) -> str:
    """Return what a card says, with n and the 95 % interval of every figure."""
    found = {one.name: one for one in card.measured}
    figures = [f"{words} in {_share(found[name])}" for name, words in _SAID if name in found]
    data = ", ".join(dict.fromkeys(one.licence for one in card.datasets))
    languages = "/".join(card.languages)
    sentence = (
        f"The judge is a small trained head, no language model: {card.pairs} pairs of {card.users} users ({data}), language {languages}. "
        f"On users it had not seen it {', '.join(figures)}."
    )
    if "human pairs" in found:
        return sentence
    blind = found.get("person hidden: all pairs")
    if blind is not None and "all pairs" in found:
        sentence += (
            f" Much of that lies in the writing alone: of all pairs it orders {_share(found['all pairs'])} rightly, and a head that is not "
            f"shown the person {_share(blind)}."
        )
    return f"{sentence} Those pairs were written to have a known order; how far its scores agree with people is not known from them."


def _share(one: Measured) -> str:
    if one.mean is None:
        return "an unknown share of pairs"
    interval = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.mean:.2f}{interval} of {one.n}"
