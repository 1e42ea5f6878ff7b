"""A memory of two tiers, after MemGPT (arXiv 2310.08560): a small core of lines that a model edits, and an archive of all notes.

The archive keeps every note as it came and is searched by embeddings. After each stretch of notes the model says how the core changes
(`block`); where its answer cannot be used the core stays as it was, and the failure is told. A search always brings up some of the core,
nearest first, as the original shows it in every prompt: this store never finds nothing once it has a core. Left out on purpose: a model
that searches by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from peregrm.memory.base import Found, Note
from peregrm.memory.block import Line, block_value, edit_block, lines_as_notes, read_block, without
from peregrm.memory.embedding import Vectors, pack
from peregrm.memory.held import HeldStore, near
from peregrm.memory.local import best
from peregrm.memory.written import STRETCH
from peregrm.records import Failure

__all__ = ["TwoTierStore"]

STAGE = "memory_two_tier"

_CORE = "core"


class TwoTierStore(HeldStore):
    """A core of lines and an archive of notes; `HeldStore` says what it is made from."""

    name: ClassVar[str] = "two_tier"

    async def search(self, user_id: str, query: str, *, limit: int) -> list[Found]:
        """Return lines of the core, at most half of `limit` where there is an archive too, then notes of the archive.

        The score of a note is its greatest cosine with the query, that of a line is 2 more, so that the core comes first.
        """
        async with self._turn(user_id, limit):
            kept = await self._kept(user_id)
            lines, vectors = self._core(user_id)
            if limit == 0 or not query.strip() or not (kept or lines):
                return []
            asked = await self._asked(query)
            shown = lines_as_notes(user_id, lines, _CORE)
            core = [Found(note, 2 + near(asked, vectors[place : place + 1])) for place, note in enumerate(shown)]
            archive = [Found(one.note, near(asked, one.vectors)) for one in kept]
            first = best(core, limit // 2 if archive else limit)
            return [*first, *best(archive, limit - len(first))]

    def _units(self, notes: Sequence[Note]) -> list[Sequence[Note]]:
        return [notes[start : start + STRETCH] for start in range(0, len(notes), STRETCH)]

    async def _take(self, user_id: str, notes: Sequence[Note]) -> list[Failure]:
        ended = {old for note in notes for old in note.supersedes}
        lines, _ = self._core(user_id)
        told = [note for note in notes if note.id not in ended]
        failure = None
        if any(note.role == "user" for note in told):
            lines, failure = await edit_block(self._model, lines, told, purpose=STAGE)
        rows = [(note, pack(await self._vectors_of(note))) for note in notes]
        self._file.keep(user_id, rows, {_CORE: await block_value(self._embedded, lines)})
        return [failure] if failure is not None else []

    async def _forget(self, user_id: str, note_id: str) -> None:
        lines = self._core(user_id)[0]
        left = without(lines, {note_id})
        if left != lines:
            self._file.keep(user_id, [], {_CORE: await block_value(self._embedded, left)})

    def _derived(self, user_id: str) -> list[Note]:
        return lines_as_notes(user_id, self._core(user_id)[0], _CORE)

    def _core(self, user_id: str) -> tuple[tuple[Line, ...], Vectors]:
        return read_block(self._file.values(user_id).get(_CORE))
