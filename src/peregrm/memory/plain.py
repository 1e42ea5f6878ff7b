"""The simplest stores, to compare with: the last notes, all notes, shared words, near embeddings.

`bm25` finds what shares a content word with the query, and nothing where nothing does. `minilm` compares the plain embeddings of text and
query, and always finds something. `recent` and `whole` do not look at the query. Left out on purpose: tuning; these are baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from peregrm.memory.base import Found
from peregrm.memory.embedding import nearness, query_vectors
from peregrm.memory.file import Row
from peregrm.memory.lexical import bm25
from peregrm.memory.local import LocalStore, best

__all__ = ["Bm25Store", "MiniLmStore", "RecentStore", "WholeStore"]


class RecentStore(LocalStore):
    """The notes added last, newest first. The score is the place at which a note was added, from 0."""

    name: ClassVar[str] = "recent"

    def _find(self, query: str, rows: Sequence[Row], limit: int) -> list[Found]:
        found = [Found(row.note, float(place)) for place, row in enumerate(rows)]
        return best(found, limit)


class WholeStore(LocalStore):
    """All notes in the order they were added; beyond the limit the oldest are left out. The score is minus the place, from 0."""

    name: ClassVar[str] = "whole"

    def _find(self, query: str, rows: Sequence[Row], limit: int) -> list[Found]:
        kept = list(enumerate(rows))[max(0, len(rows) - limit) :]
        return [Found(row.note, float(-place)) for place, row in kept]


class Bm25Store(LocalStore):
    """The notes that share words with the query. The score is BM25, above 0."""

    name: ClassVar[str] = "bm25"
    abstains: ClassVar[bool] = True

    def _find(self, query: str, rows: Sequence[Row], limit: int) -> list[Found]:
        scores = bm25(query, [row.note.text for row in rows])
        return best([Found(row.note, score) for row, score in zip(rows, scores, strict=True) if score > 0], limit)


class MiniLmStore(LocalStore):
    """The notes whose embedding is nearest to the query's; none for a blank query. The score is their cosine, -1 to 1."""

    name: ClassVar[str] = "minilm"
    embeds: ClassVar[bool] = True

    def _find(self, query: str, rows: Sequence[Row], limit: int) -> list[Found]:
        if self._embedder is None or not query.strip() or not rows:
            return []
        asked = query_vectors(query, self._embedder)[:1]
        return best([Found(row.note, nearness(asked, self._vectors(row)[:1])) for row in rows], limit)
