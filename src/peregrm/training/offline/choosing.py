"""Which of several replies to a case are learned from: the best for SFT, best and worst for DPO.

A reply without a total, and one that is itself a failure, is neither best nor worst. An empty reply can be the worst, never the best: it is
what the policy said, and the reward says what it is worth. Replies that are all equally good say nothing about which to prefer, so such a
case gives nothing; of several that share the first place, the first in order is taken. Left out on purpose: more than one pair a case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from peregrm.records import Reply
from peregrm.reward.base import says_something
from peregrm.training.left_out import left_out_lines

__all__ = ["Choice", "Chosen", "Ranked", "choose"]

_SAME = 1e-9
"""Totals nearer than this are a tie: the rest is rounding."""


class Ranked(NamedTuple):
    """A reply and how good it is; None where that is not known."""

    reply: Reply
    total: float | None


class Choice(NamedTuple):
    """The best reply to a case and the worst, with their totals; they are the same where there is one reply alone."""

    best: Ranked
    worst: Ranked


class Chosen(NamedTuple):
    """What was chosen, by case id in the order of the cases, and how many replies and cases were left out, by reason."""

    choices: dict[str, Choice]
    left_out: Counter[str]

    def told(self) -> list[str]:
        """Return one line for each reason why something was left out."""
        return left_out_lines(self.left_out)


def choose(ranked: Iterable[Ranked], *, pairs: bool) -> Chosen:
    """Choose among the replies to each case.

    Args:
        ranked: Replies of any cases, those of one case in a fixed order.
        pairs: Only cases that give a pair; without it a case with one usable reply gives that one.
    """
    groups: dict[str, list[Ranked]] = {}
    left_out: Counter[str] = Counter()
    for one in ranked:
        usable = groups.setdefault(one.reply.case_id, [])
        if one.reply.failure is not None:
            left_out["replies that are failures"] += 1
        elif one.total is None:
            left_out["replies without a score"] += 1
        else:
            usable.append(one)
    choices: dict[str, Choice] = {}
    for case_id, group in groups.items():
        found = _choice(group, pairs=pairs)
        if isinstance(found, Choice):
            choices[case_id] = found
        else:
            left_out[found] += 1
    return Chosen(choices, left_out)


def _choice(group: Sequence[Ranked], *, pairs: bool) -> Choice | str:
    """Return what a case gives, or why it gives nothing."""
    if not group:
        return "cases without a reply that was scored"
    best = max(group, key=_total)
    worst = min(group, key=_total)
    if not says_something(best.reply.text):
        return "cases whose best reply is empty"
    if len({one.reply.text for one in group}) == 1:
        return "cases with one reply alone" if pairs else Choice(best, best)
    if _total(best) - _total(worst) <= _SAME:
        return "cases whose replies are all equally good"
    return Choice(best, worst)


def _total(one: Ranked) -> float:
    return one.total if one.total is not None else float("nan")
