"""What the retrieval benchmark reports of each store."""

from __future__ import annotations

from pydantic import Field

from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part

__all__ = ["RetrievalResult", "StoreRow"]


class StoreRow(Part):
    """One store.

    `recall_at_1`, `_5`, `_10`: share of queries whose right memory is among the first; `mrr`: mean of one over its rank, 0 where it was
    not found at all. `answered`: share of queries for which anything was found among the candidates. `others`: share of queries for
    which anything was found among the memories of another user (none of them is relevant); `withheld`: the same for the candidates
    without the right one. `gain_at_5` and `gain_mrr`: what the reference store has over this one, on the same queries. `add_ms` and
    `search_ms`: CPU milliseconds of one note and of one search among the candidates; `bytes_a_note`: in the file; None where it keeps
    none. `failures`: of adding, by kind.
    """

    store: str
    recall_at_1: Estimate
    recall_at_5: Estimate
    recall_at_10: Estimate
    mrr: Estimate
    own: Estimate
    answered: Estimate
    others: Estimate
    withheld: Estimate
    gain_at_5: Estimate | None = None
    gain_mrr: Estimate | None = None
    add_ms: float
    search_ms: float
    bytes_a_note: float | None
    failures: dict[str, int] = Field(default_factory=dict)


class RetrievalResult(Part):
    """All stores on the same queries. `candidates` is their mean number a query, `pairs` how often a query met another user's memories."""

    queries: int
    candidates: float
    pairs: int
    reference: str
    rows: tuple[StoreRow, ...]
