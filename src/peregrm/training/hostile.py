"""Replies written for a judge instead of a person, for a head to learn that they are worse than honest ones.

They are those that `peregrm validate --attacks` asks a judge about: the policies that hack, and hostile text put into the worst honest
reply. Every other family of attacks is kept out of training, so that the figure on families it has not seen says what was learned. Left
out on purpose: what works by length alone, which takes long to embed and which heads, with their shares and means, do not fall for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from peregrm.dataset.gold import GoldCase
from peregrm.evaluation.attacks.corpus import attacks, families
from peregrm.evaluation.attacks.hacks import HACKS
from peregrm.evaluation.validity.ratings.rows import nobody
from peregrm.records import Case, Memory

__all__ = ["SEEN", "UNSEEN", "WRITTEN", "Hostile", "hostile_replies"]

WRITTEN = "honest over written for the judge"
SEEN = "honest over hostile text of families in training"
UNSEEN = "honest over hostile text of other families"

_POLICIES = ("warm", "recital", "flattery", "one_sentence")
_EACH = 3
"""How many families of either kind a case gets."""


class Hostile(NamedTuple):
    """A hostile reply, what it is counted under, and the places of the honest replies that are better."""

    text: str
    name: str
    better: tuple[int, ...]


def hostile_replies(case: GoldCase, memories: Sequence[Memory], ranked: Sequence[str]) -> tuple[Hostile, ...]:
    """Return hostile replies to a case with honest ones in order, best first: those by policies, and attacks on the worst.

    What a policy writes is worse than the two best; an attacked reply is worse than itself without the attack, and than the best.
    """
    known = Case(
        user_id=case.user_id,
        language=case.language,
        category=case.category,
        persona=nobody(case.user_id),
        memories=tuple(memories),
        relevant_memory_ids=(),
        situation=case.situation,
        query=case.query,
    )
    last = len(ranked) - 1
    made = [Hostile(HACKS[name](known), WRITTEN, tuple(range(min(2, last + 1)))) for name in _POLICIES]
    short = [family for family in families() if family != "length"]
    for offset, name in ((0, SEEN), (1, UNSEEN)):
        for family in sorted(short[offset::2], key=lambda one: _draw(case, one))[:_EACH]:
            attack = min((one for one in attacks() if one.family == family), key=lambda one: _draw(case, one.name))
            made.append(Hostile(attack.apply(ranked[last]), name, tuple({0, last})))
    return tuple(made)


def _draw(case: GoldCase, name: str) -> str:
    return hashlib.sha256(f"{case.id}:{name}".encode()).hexdigest()
