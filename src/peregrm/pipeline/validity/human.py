"""Human agreement, asked: every file of preferences and ratings, and the known order of one's own replies."""

from __future__ import annotations

from peregrm.evaluation.validity.card import Finding
from peregrm.evaluation.validity.human import pair_agreement, rating_agreement
from peregrm.evaluation.validity.human_words import human_finding
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.judged import judge_files

__all__ = ["measure"]


async def measure(context: Context) -> Finding:
    """Return how far the judge agrees with people; the raw rows are in the folder `human`.

    Raises `InputError` for a file that cannot be read, and what scoring raises.
    """
    judged = await judge_files(context, part="human")
    pairs = [pair_agreement(one, seed=context.seed) for one in judged if one.pairs]
    ratings = [row for one in judged for row in rating_agreement(one, seed=context.seed)]
    return human_finding(judged, pairs, ratings)
