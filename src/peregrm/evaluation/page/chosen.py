"""Which cases a report shows in full: those where one policy gained most over another, and those where it lost most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from peregrm.evaluation.evaluation import Evaluation
from peregrm.evaluation.report import analysis_of
from peregrm.records import Case, Criteria, Judgement, Reply, Reward

__all__ = ["CaseShown", "Material", "Side", "Verdict", "chosen_cases", "ordered_policies", "shown_pair"]

SHOWN = 4
"""Cases shown at either end."""

_BASELINES = ("generic", "/generic")


@dataclass(frozen=True)
class Material:
    """The records behind an evaluation; rewards and judgements are by judge and then by the reply's id."""

    cases: Mapping[str, Case]
    criteria: Mapping[str, Criteria]
    replies: Sequence[Reply]
    rewards: Mapping[str, Mapping[str, Reward]]
    judgements: Mapping[str, Mapping[str, Sequence[Judgement]]]


class Verdict(NamedTuple):
    """What one judge made of one reply: its reward and its words, of the first trial that was scored."""

    judge: str
    reward: Reward
    words: tuple[tuple[str, str], ...]


class Side(NamedTuple):
    """One policy's reply to a case with what every judge made of it."""

    reply: Reply
    verdicts: tuple[Verdict, ...]


class CaseShown(NamedTuple):
    """A case, its criteria, the replies of both policies, and how much the first gained: mean over judges of the totals' difference."""

    case: Case
    criteria: Criteria | None
    gain: float
    first: Side
    second: Side


def ordered_policies(evaluation: Evaluation) -> list[str]:
    """Return the policies by their mean place within each judge that scored them, best first, those without a score last.

    Totals of different judges stand on different scales, so places are averaged: the share of policies above, and half of that of
    the policies level with it, itself among them.
    """
    places: dict[str, list[float]] = defaultdict(list)
    for judge in evaluation.judges:
        found = {one.policy: dict(one.measures)["total"].mean for one in evaluation.scores if one.judge == judge.judge}
        means = {policy: mean for policy, mean in found.items() if mean is not None}
        for policy, mean in means.items():
            above = sum(other > mean for other in means.values())
            same = sum(other == mean for other in means.values())
            places[policy].append((above + same / 2) / len(means))

    def key(policy: str) -> tuple[bool, float, str]:
        known = places.get(policy)
        return (not known, sum(known) / len(known) if known else 0.0, policy)

    return sorted((facts.policy for facts in evaluation.policies), key=key)


def shown_pair(evaluation: Evaluation) -> tuple[str, str] | None:
    """Return the two policies whose replies are shown side by side: the best one, and the generic one or else the next best.

    None where there are fewer than two.
    """
    order = ordered_policies(evaluation)
    if len(order) < 2:
        return None
    plain = [policy for policy in order if policy == _BASELINES[0] or policy.endswith(_BASELINES[1])]
    others = [policy for policy in plain if policy != order[0]]
    return order[0], (others or order[1:])[0]


def chosen_cases(material: Material, first: str, second: str) -> tuple[list[CaseShown], list[CaseShown]]:
    """Return the cases where `first` gained most over `second`, most first, and those where it lost most, most first.

    A case is among them where some judge scored both replies; none is in both lists.
    """
    shown = []
    by_policy: dict[str, dict[str, Reply]] = defaultdict(dict)
    for reply in material.replies:
        by_policy[reply.policy][reply.case_id] = reply
    for case_id in sorted(by_policy[first].keys() & by_policy[second].keys()):
        if not material.cases[case_id].flags:
            one = _shown(material, by_policy[first][case_id], by_policy[second][case_id])
            shown += [] if one is None else [one]
    gained = sorted((one for one in shown if one.gain > 0), key=lambda one: (-one.gain, one.case.id))
    lost = sorted((one for one in shown if one.gain < 0), key=lambda one: (one.gain, one.case.id))
    return gained[:SHOWN], lost[:SHOWN]


def _shown(material: Material, first: Reply, second: Reply) -> CaseShown | None:
    gains = []
    for rewards in material.rewards.values():
        a, b = rewards[first.id].total, rewards[second.id].total
        if a is not None and b is not None:
            gains.append(a - b)
    if not gains:
        return None
    case = material.cases[first.case_id]
    sides = (_side(material, first), _side(material, second))
    return CaseShown(case, material.criteria.get(case.id), sum(gains) / len(gains), *sides)


def _side(material: Material, reply: Reply) -> Side:
    return Side(
        reply,
        tuple(
            Verdict(judge, rewards[reply.id], analysis_of(material.judgements[judge].get(reply.id, ())))
            for judge, rewards in material.rewards.items()
        ),
    )
