"""Our own store: nearness in meaning and shared words, and silence where nothing bears on the query.

**Score.** The greatest cosine of the query with a note's text, or with the text under its label, plus `LEXICAL_WEIGHT` times BM25. The
embeddings know English. Where query and note are both in another script, their cosine is high whatever they say, so BM25 alone counts
there, with `FOREIGN_WEIGHT`.

**Gate.** The best of many notes is near any query by chance: over 1 to 100 unrelated notes, the score that the best of them passes for one
query in twenty grows as a straight line over the logarithm of their number. So the best note has to pass `GATE.bar(n)` among `n` notes,
or nothing is found; the others then have to pass `GATE.bar(1)`. Where much is kept this costs much: what is relevant but not said in like
words stays unfound. That is meant. A memory that does not bear on the moment does more harm than none.

**How the constants were found.** On 560 English queries of 481 AlpsBench users, each with its right memory among 100 of other users. The
weight is that of a conditional logit over the two, 0.0145 to 0.0151 as the draw of the others goes. The gate is the line through the scores
that the best of 1, 2, 3, 5, 8, 12, 20, 35, 60 and 100 memories of other users passes for 5 % of the queries, no point more than 0.009 off
it. `peregrm benchmark memory --tune` finds both anew. They were tested on other users and another kind of queries, where twice as many
false finds were allowed for: see docs/memory.md. `FOREIGN_WEIGHT` is the largest multiple of 0.02 at which, on 61 Chinese pairs, the best
of 1 to 45 unrelated memories passes the gate for at most 5 % of the queries.

Tried and left out, as it did not help, or not on both sets of users: centring the vectors, nearness to single sentences of a query, words
of the label and runs of letters in BM25, and scores measured against those of general notes. Left out on purpose: any decay by age; a note
that is no longer true is superseded, not old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from peregrm.memory.base import Found
from peregrm.memory.embedding import Embeds, nearness, query_vectors
from peregrm.memory.file import Row
from peregrm.memory.lexical import beyond_latin, bm25
from peregrm.memory.local import LocalStore, best

__all__ = ["FOREIGN_WEIGHT", "GATE", "LEXICAL_WEIGHT", "DefaultStore", "Gate"]


class Gate(NamedTuple):
    """How near the best of `n` notes must be: `first` for one note, and `growth` more for every factor e in their number."""

    first: float
    growth: float

    def bar(self, n: int) -> float:
        """Return the least score of the best among `n` notes, at least 1."""
        return self.first + self.growth * math.log(n)


LEXICAL_WEIGHT = 0.015
"""What a point of BM25 is worth in cosine."""

FOREIGN_WEIGHT = 0.08
"""The same where the cosine does not count."""

GATE = Gate(first=0.252, growth=0.0614)


class DefaultStore(LocalStore):
    """Finds by meaning and by words, superseded notes never, the same text once, and nothing where nothing is near enough.

    `gate` None switches the silence off: the best `limit` notes are found, whatever they are.
    """

    name: ClassVar[str] = "default"
    embeds: ClassVar[bool] = True
    abstains: ClassVar[bool] = True

    def __init__(self, path: Path | None = None, *, embedder: Embeds | None = None, gate: Gate | None = GATE) -> None:
        super().__init__(path, embedder=embedder)
        self._gate = gate

    def _find(self, query: str, rows: Sequence[Row], limit: int) -> list[Found]:
        if self._embedder is None or not query.strip() or not rows:
            return []
        found = _once(best(self._scored(query, rows, self._embedder), len(rows)))
        if self._gate is not None:
            if found[0].score < self._gate.bar(len(found)):
                return []
            found = [each for each in found if each.score >= self._gate.bar(1)]
        return found[:limit]

    def _scored(self, query: str, rows: Sequence[Row], embedder: Embeds) -> list[Found]:
        asked = query_vectors(query, embedder)
        is_foreign = beyond_latin(query)
        words = bm25(query, [row.note.text for row in rows])
        return [
            Found(
                row.note,
                FOREIGN_WEIGHT * shared
                if is_foreign and beyond_latin(row.note.text)
                else nearness(asked, self._vectors(row)) + LEXICAL_WEIGHT * shared,
            )
            for row, shared in zip(rows, words, strict=True)
        ]


def _once(found: Sequence[Found]) -> list[Found]:
    """Return one note for each text, the first."""
    texts: dict[str, Found] = {}
    for each in found:
        texts.setdefault(each.note.text, each)
    return list(texts.values())
