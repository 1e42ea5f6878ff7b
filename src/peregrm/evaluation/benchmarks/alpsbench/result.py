"""From answers to the table of task 1: means with intervals, ranks, and how well the published figures are met. Pure arithmetic.

Every method is scored twice. `score` is what this project stands for: references that annotators marked as wrong are not to be found, and
a call that failed has no score. `as_published` is the reading that meets the published figures: every reference counts and a failed call
found nothing. Left out on purpose: the language model's part of the published score, which needs that model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from peregrm.errors import ArtifactError
from peregrm.evaluation.benchmarks.alpsbench.items import Item
from peregrm.evaluation.benchmarks.alpsbench.packets import Answer, Packet
from peregrm.evaluation.benchmarks.alpsbench.published import published_models
from peregrm.evaluation.benchmarks.alpsbench.score import Match, match_memories
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.records import Failure, Part

__all__ = [
    "BLIND",
    "Agreement",
    "MethodRow",
    "PacketScore",
    "Task1Result",
    "blind_answer",
    "task1_result",
]

BLIND = "blind"
"""The method that says the same of everybody."""

_MISSING = Failure(stage="recorded", kind="missing", reason="the file holds no answer for this packet")
_FEWEST_IN_A_LANGUAGE = 5
_OTHERS = "other"


class PacketScore(Part):
    """One method on one packet. `score` (0 to 100) is None where there is no answer; the rest are 0 to 1."""

    packet_id: str
    score: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    quality: float | None
    items: int
    as_published: float
    failure: Failure | None = None


class MethodRow(Part):
    """One method over all packets.

    `kind` is `recorded` (the answers are in the file), `own` or `floor` (it reads nothing). `score` and `as_published` are 0 to 100, the
    four below 0 to 1. `items` is the mean number of memories an answer holds. `rank` goes by `score`, 1 for the best; equal scores
    share a rank. `languages` are scores of the packets in that language; those with fewer than five packets are `other`.
    """

    method: str
    kind: str
    score: Estimate
    f1: Estimate
    precision: Estimate
    recall: Estimate
    quality: Estimate
    as_published: Estimate
    items: float | None
    rank: int | None
    published: float | None
    published_rank: int | None
    languages: tuple[tuple[str, Estimate], ...]
    failures: tuple[tuple[str, int], ...]
    packets: tuple[PacketScore, ...]


class Agreement(Part):
    """How well `as_published` meets the published figures over `models` models that are in both.

    Rank correlations are None for fewer than three models or where all are equal. `inside` counts published figures within our 95 %
    intervals, of `with_interval`.
    """

    models: int
    spearman: float | None
    kendall: float | None
    mean_difference: float | None
    inside: int
    with_interval: int


class Task1Result(Part):
    """The whole table, best method first. `without_reference` packets hold nothing to be found."""

    benchmark: str = "alpsbench"
    task: int = 1
    packets: int
    users: int
    references: int
    rejected_references: int
    without_reference: int
    rows: tuple[MethodRow, ...]
    agreement: Agreement


class _Published(NamedTuple):
    score: float
    rank: int


@cache
def _published() -> dict[str, _Published]:
    """Return what was published of task 1 by the name that models have in the released files."""
    models = published_models()
    scores = [float(model["score"]) for model in models]
    return {
        name: _Published(float(model["score"]), 1 + sum(other > model["score"] for other in scores))
        for model in models
        for name in model["names"]
    }


def blind_answer() -> Answer:
    """Return the one memory that the blind method finds in everybody: a floor that shows what the formula gives for nothing."""
    return Answer(items=(Item(label="UNMAPPED", value="Something about the user", type="direct", confidence=0.8),))


def task1_result(packets: Sequence[Packet], own: Mapping[str, Mapping[str, Answer]]) -> Task1Result:
    """Return the table of the recorded models, our own methods (answers by method and packet id) and the blind floor.

    Raises `ArtifactError` where a method's answers do not belong to these packets, one for each, or its name is taken.
    """
    recorded = list(dict.fromkeys(model for packet in packets for model in packet.answers))
    ids = {packet.packet_id for packet in packets}
    for method, answers in own.items():
        if method == BLIND or method in recorded:
            raise ArtifactError(f"there are answers of another {method!r} already")
        if odd := ids ^ answers.keys():
            raise ArtifactError(f"answers of {method} and packets do not fit together: {min(odd)}")
    rows = [
        _row(m, "recorded", packets, {p.packet_id: p.answers[m] for p in packets if m in p.answers}) for m in recorded
    ]
    rows += [_row(method, "own", packets, answers) for method, answers in own.items()]
    rows.append(_row(BLIND, "floor", packets, {packet.packet_id: blind_answer() for packet in packets}))
    means = [row.score.mean for row in rows if row.score.mean is not None]
    ranked = [
        row
        if row.score.mean is None
        else row.model_copy(update={"rank": 1 + sum(mean > row.score.mean for mean in means)})
        for row in rows
    ]
    return Task1Result(
        packets=len(packets),
        users=len({packet.history.user_id for packet in packets}),
        references=sum(len(packet.references) for packet in packets),
        rejected_references=sum(len(packet.rejected) for packet in packets),
        without_reference=sum(not packet.references for packet in packets),
        rows=tuple(sorted(ranked, key=lambda row: (row.rank is None, row.rank or 0, row.method))),
        agreement=_agreement(ranked),
    )


def _row(method: str, kind: str, packets: Sequence[Packet], answers: Mapping[str, Answer]) -> MethodRow:
    scores = [_packet_score(packet, answers.get(packet.packet_id, Answer(failure=_MISSING))) for packet in packets]
    users = [packet.history.user_id for packet in packets]
    answered = [score.items for score in scores if score.failure is None]
    known = _published().get(method) if kind == "recorded" else None

    def mean(values: Sequence[float | None], most: float) -> Estimate:
        return clustered_mean(list(zip(users, values, strict=True)), bounds=(0.0, most))

    return MethodRow(
        method=method,
        kind=kind,
        score=mean([score.score for score in scores], 100.0),
        f1=mean([score.f1 for score in scores], 1.0),
        precision=mean([score.precision for score in scores], 1.0),
        recall=mean([score.recall for score in scores], 1.0),
        quality=mean([score.quality for score in scores], 1.0),
        as_published=mean([score.as_published for score in scores], 100.0),
        items=sum(answered) / len(answered) if answered else None,
        rank=None,
        published=known.score if known else None,
        published_rank=known.rank if known else None,
        languages=_by_language(packets, scores),
        failures=tuple(sorted(Counter(score.failure.kind for score in scores if score.failure).items())),
        packets=tuple(scores),
    )


def _packet_score(packet: Packet, answer: Answer) -> PacketScore:
    found = None if answer.failure else match_memories(packet.references, answer.items)
    everything = match_memories((*packet.references, *packet.rejected), answer.items)
    parts = dict.fromkeys(Match._fields) if found is None else found._asdict()
    return PacketScore(
        packet_id=packet.packet_id,
        items=len(answer.items),
        as_published=everything.score,
        failure=answer.failure,
        **parts,
    )


def _by_language(packets: Sequence[Packet], scores: Sequence[PacketScore]) -> tuple[tuple[str, Estimate], ...]:
    counts = Counter(packet.history.language for packet in packets)
    groups: dict[str, list[tuple[str, float | None]]] = {}
    for packet, score in zip(packets, scores, strict=True):
        language = packet.history.language
        group = language if counts[language] >= _FEWEST_IN_A_LANGUAGE else _OTHERS
        groups.setdefault(group, []).append((packet.history.user_id, score.score))
    order = sorted(groups, key=lambda language: (language == _OTHERS, -len(groups[language]), language))
    return tuple((language, clustered_mean(groups[language], bounds=(0.0, 100.0))) for language in order)


def _agreement(rows: Sequence[MethodRow]) -> Agreement:
    both = [(row.as_published, row.published) for row in rows if row.published is not None]
    ours = [estimate.mean for estimate, _ in both if estimate.mean is not None]
    theirs = [score for estimate, score in both if estimate.mean is not None]
    bounded = [(e.low, score, e.high) for e, score in both if e.low is not None and e.high is not None]
    spearman, kendall = _rank_correlations(ours, theirs)
    differences = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    return Agreement(
        models=len(ours),
        spearman=spearman,
        kendall=kendall,
        mean_difference=sum(differences) / len(differences) if differences else None,
        inside=sum(low <= score <= high for low, score, high in bounded),
        with_interval=len(bounded),
    )


def _rank_correlations(one: Sequence[float], other: Sequence[float]) -> tuple[float | None, float | None]:
    if len(one) < 3 or min(len(set(one)), len(set(other))) < 2:
        return None, None
    from scipy.stats import kendalltau, spearmanr

    values = float(spearmanr(one, other).statistic), float(kendalltau(one, other).statistic)
    return values if all(map(math.isfinite, values)) else (None, None)
