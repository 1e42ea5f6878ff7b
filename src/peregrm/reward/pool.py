"""Several judges as one reward: the mean of their standardised totals, each judge's own scores kept.

Judges use the scale differently: one gives 3 where another gives 4. So each judge's totals are standardised over the replies they are
compared with (mean 0, standard deviation 1), averaged over the judges, and brought back to a familiar scale with the judges' mean
location and mean spread. A judge that gave all replies the same total says nothing about their order and counts as 0. A reply is
pooled where at least the quorum of judges scored it. The comparison is the group of replies to one case, which is what group-relative
training uses. Because of it, a pooled reward depends on its neighbours, and a judge's failure on one reply can move the pooled rewards
of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from peregrm.records import Case, Failure, Reply, Reward
from peregrm.reward.asking import together
from peregrm.reward.base import RewardModel, Scored, as_replies

__all__ = ["Agreement", "Pool", "agreement", "pool_totals"]


@dataclass(frozen=True)
class Pool:
    """Several rewards, usually the same with different judges, pooled over the group of replies to one case."""

    members: tuple[RewardModel, ...]
    quorum: float = 0.5

    @property
    def method(self) -> str:
        """The members' method."""
        return "+".join(dict.fromkeys(member.method for member in self.members))

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Return one pooled score a reply, in order; `parts` holds those of the judges."""
        group = as_replies(case, replies)
        by_member = await together(member.score(case, group) for member in self.members)
        return pool_scored(by_member, self.quorum)

    async def aclose(self) -> None:
        """Close all members."""
        await together(member.aclose() for member in self.members)


def pool_scored(by_member: Sequence[Sequence[Scored]], quorum: float) -> list[Scored]:
    """Return the pooled scores of the same replies, scored by several rewards, in their order."""
    totals = pool_totals([[scored.total for scored in member] for member in by_member], quorum)
    return [
        Scored(parts[0].reply, _pooled(parts, total), tuple(j for part in parts for j in part.judgements), parts)
        for parts, total in zip(zip(*by_member, strict=True), totals, strict=True)
    ]


def pool_totals(by_judge: Sequence[Sequence[float | None]], quorum: float) -> list[float | None]:
    """Return the pooled total of each reply from one list of totals a judge, all in the order of the replies.

    A reply that fewer than `quorum` (0 to 1) of the judges scored has None.
    """
    scales = [_scale([value for value in totals if value is not None]) for totals in by_judge]
    known = [scale for scale in scales if scale is not None]
    if not known:
        return [None] * len(by_judge[0])
    location = sum(scale.mean for scale in known) / len(known)
    spread = sum(scale.spread for scale in known) / len(known)
    pooled: list[float | None] = []
    for values in zip(*by_judge, strict=True):
        standard = [scale.standardise(v) for scale, v in zip(scales, values, strict=True) if scale and v is not None]
        enough = bool(standard) and len(standard) / len(by_judge) >= quorum
        pooled.append(location + spread * sum(standard) / len(standard) if enough else None)
    return pooled


class _Scale(NamedTuple):
    mean: float
    spread: float

    def standardise(self, value: float) -> float:
        return (value - self.mean) / self.spread if self.spread else 0.0


def _scale(values: Sequence[float]) -> _Scale | None:
    """Return mean and population standard deviation; None without values. Equal values have no spread, whatever rounding says."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    if min(values) == max(values):
        return _Scale(mean, 0.0)
    return _Scale(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)))


def _pooled(parts: Sequence[Scored], total: float | None) -> Reward:
    first = parts[0].reward
    names = [name for name, _ in first.scores]
    failures = [part.failure for part in parts if part.failure is not None]
    return first.model_copy(
        update={
            "judge": " + ".join(part.reward.judge for part in parts),
            "scores": tuple((name, _mean([part.scores.get(name) for part in parts])) for name in names),
            "empathy": _mean([part.empathy for part in parts]),
            "bystander": _mean([part.bystander for part in parts]),
            "total": total,
            "penalty": None if total is None else _mean([part.reward.penalty for part in parts]),
            "coverage": sum(part.coverage for part in parts) / len(parts),
            "judgement_ids": tuple(name for part in parts for name in part.reward.judgement_ids),
            "failure": None if total is not None else _too_few(failures, len(parts)),
        }
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the plain mean over the judges that have a value: for reading, not for ranking."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _too_few(failures: Sequence[Failure], judges: int) -> Failure:
    kinds = "+".join(sorted({failure.kind for failure in failures}))
    reason = f"{len(failures)} of {judges} judges gave no reward; the first: {failures[0].reason}"
    return Failure(stage="reward", kind=kinds, reason=reason)


class Agreement(NamedTuple):
    """How far two judges agree over the same replies.

    `n` counts replies both scored; `rank` is Spearman's correlation of their totals, None below three replies or where a judge gave
    one value only; `pairs` the share of pairs of replies to one case that both put in the same order, ties of either left out, None
    where there are none; `comparable` the number of those pairs.
    """

    one: str
    other: str
    n: int
    rank: float | None
    pairs: float | None
    comparable: int


def agreement(by_judge: Mapping[str, Mapping[str, Reward]]) -> list[Agreement]:
    """Return the agreement of every two judges; `by_judge` holds each judge's rewards by reply id."""
    return [_agreement(one, other, by_judge) for one, other in combinations(by_judge, 2)]


def _agreement(one: str, other: str, by_judge: Mapping[str, Mapping[str, Reward]]) -> Agreement:
    both = [
        (reward.case_id, reward.total, by_judge[other][reply_id].total)
        for reply_id, reward in by_judge[one].items()
        if reply_id in by_judge[other]
    ]
    scored = [(case_id, a, b) for case_id, a, b in both if a is not None and b is not None]
    groups: dict[str, list[tuple[float, float]]] = {}
    for case_id, a, b in scored:
        groups.setdefault(case_id, []).append((a, b))
    signs = [
        (a[0] - b[0]) * (a[1] - b[1]) > 0
        for group in groups.values()
        for a, b in combinations(group, 2)
        if a[0] != b[0] and a[1] != b[1]
    ]
    rank = _spearman([a for _, a, _ in scored], [b for _, _, b in scored])
    return Agreement(one, other, len(scored), rank, sum(signs) / len(signs) if signs else None, len(signs))


def _spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    if len(one) < 3 or len(set(one)) < 2 or len(set(other)) < 2:
        return None
    from scipy import stats

    return float(stats.spearmanr(one, other).statistic)
