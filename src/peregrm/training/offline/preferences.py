"""Pairs of replies as a scalar reward model sees them: whole cases, divided by user into those it learns from and those that measure it.

A moment of the material becomes a case: what is known stands in it as memories, and where every one of them has its label (hand-written
cases), they make up a persona too, as a run without a model makes it. Users are divided by the hash that divides datasets, with the usual
shares: those of `validation` and `test`, about a fifth, are held out. Pairs of single dimensions are left out and counted: the model has
one number. Left out on purpose: hostile replies and persona swaps, which are those of `peregrm train judge-head`.
"""

from __future__ import annotations

from typing import NamedTuple

from peregrm.dataset.extractive.persona import group_persona
from peregrm.dataset.output.splits import split_users
from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.rows import nobody
from peregrm.records import Case, History, Memory
from peregrm.reward.heads.head import TOTAL
from peregrm.training.pairs import LANGUAGE, Group, Material

__all__ = ["Divided", "Preference", "case_of_group", "divided"]

_FEWEST = 4


class Preference(NamedTuple):
    """Two replies to a case of which one is better; `name` is what the pair is counted under, `source` the place of its file."""

    case: Case
    better: str
    worse: str
    name: str
    source: int


class Divided(NamedTuple):
    """Pairs to learn from and pairs to measure by; no user is in both."""

    train: list[Preference]
    held_out: list[Preference]


def divided(material: Material) -> Divided:
    """Divide the pairs of a material; counts what it leaves out there.

    Raises `InputError` where fewer than four users are there to be divided, or no pair says which reply is better as a whole.
    """
    train: list[Preference] = []
    held_out: list[Preference] = []
    users = {group.user for group in material.groups}
    if len(users) < _FEWEST:
        raise InputError(f"{len(users)} users are too few to train on some and measure on others: at least {_FEWEST}")
    splits = split_users(users).splits
    for group in material.groups:
        whole = [pair for pair in group.pairs if pair.output == TOTAL]
        if len(whole) < len(group.pairs):
            material.leave_out("pairs of single dimensions", len(group.pairs) - len(whole))
        case = case_of_group(group)
        into = train if splits[group.user] == "train" else held_out
        into += [Preference(case, group.replies[p.better], group.replies[p.worse], p.name, group.source) for p in whole]
    if not train or not held_out:
        raise InputError("there are not enough pairs of whole replies to train on some users and measure on others")
    return Divided(train, held_out)


def case_of_group(group: Group) -> Case:
    """Return the case in which the replies of a group stand."""
    known = group.moment.known
    memories = tuple(
        Memory(user_id=group.user, label=one.label, type="direct", value=one.text, method="given") for one in known
    )
    labelled = bool(known) and all(one.label for one in known)
    history = History(user_id=group.user, language=LANGUAGE, sessions=())
    return Case(
        user_id=group.user,
        language=LANGUAGE,
        category="emotional_support",
        persona=group_persona(history, memories) if labelled else nobody(group.user),
        memories=memories,
        relevant_memory_ids=(),
        situation=group.moment.situation,
        query=group.moment.query,
    )
