"""Where a reply stood when it was scored, read from the judgements of rewards that show several replies in one call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from peregrm.evaluation.validity.reliability import Placed
from peregrm.records import Case, Judgement
from peregrm.reward.base import RewardModel, Scored
from peregrm.reward.listwise import MOST_REPLIES
from peregrm.reward.peregrm import PereGRM

__all__ = ["places_of"]


def places_of(reward: RewardModel, case: Case, scored: Sequence[Scored]) -> Iterator[Placed]:
    """Yield the scores of a group of replies at the places they stood at; nothing for rewards that show one reply at a time.

    Listwise: the mean over dimensions of a trial's scores, criteria weighing the same, 0.2 to 1. Pairwise: comparisons won, 0 to 1.
    """
    if isinstance(reward, PereGRM) and reward.mode == "listwise":
        for number, one in enumerate(scored):
            start = number - number % MOST_REPLIES
            last = min(MOST_REPLIES, len(scored) - start) - 1
            if last > 0:
                yield from _listed(case, one, (number - start) / last, reward.samples)
    elif reward.method == "pairwise":
        for one in scored:
            for judgement in one.judgements:
                values = dict(judgement.values or ())
                if "place" in values:
                    yield _placed(case, one, values["place"] - 1, values["won"])


def _listed(case: Case, one: Scored, place: float, samples: int) -> Iterator[Placed]:
    for judgement in one.judgements:
        score = _mean_of_dimensions(judgement)
        if score is not None:
            yield _placed(case, one, place if judgement.trial < samples else 1 - place, score)


def _mean_of_dimensions(judgement: Judgement) -> float | None:
    if judgement.aspect != "dimensions" or not judgement.item_scores:
        return None
    means = [math.fsum(scores) / len(scores) / 5 for _, scores in judgement.item_scores]
    return math.fsum(means) / len(means)


def _placed(case: Case, one: Scored, place: float, score: float) -> Placed:
    return Placed(user_id=case.user_id, case_id=case.id, reply_id=one.reply.id, place=place, score=score)
