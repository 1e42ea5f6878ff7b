"""Personas of parts of histories, made as a build makes them: grouped from memories without a model, or by a model, or as its facets.

Memories are those that came with the source, divided, or the user's own sentences, for all three alike: what differs between sources is
how a persona is inferred. A source that lists every fact once leaves none for both parts, and so shows less agreement than there is.

The model is the judge under test, for no other is opened by a validation; one that a build would not trust to find memories or rate
people (the embedded one, unless the setting `memories` is `model`) is not asked here either, and that is said. Left out on purpose:
questionnaires, which have no halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from peregrm.dataset.bigfive import infer_big_five
from peregrm.dataset.extractive.memories import extract_memories
from peregrm.dataset.extractive.persona import group_persona
from peregrm.dataset.likeness import jaccard, stems
from peregrm.dataset.persona import infer_persona_with_model
from peregrm.dataset.traits import BigFive
from peregrm.errors import DependencyError
from peregrm.evaluation.validity.stability_measures import TraitSet, matched_overlap
from peregrm.models.base import Model
from peregrm.models.embeddings import Embedder
from peregrm.pipeline.session import resolve_method
from peregrm.pipeline.validity.context import Context
from peregrm.records import History, Memory, Persona

__all__ = ["Made", "Maker", "Source", "open_maker"]

Source = Literal["extractive", "memory", "bigfive"]


class Made(NamedTuple):
    """What one part of a history gave: its kept memories, the persona, and the scores behind it, if any."""

    memories: tuple[Memory, ...]
    persona: Persona | None
    scores: BigFive | None = None


@dataclass
class Maker:
    """Makes personas. `model` is None where none may be asked, and `why` says then what cannot be measured."""

    model: Model | None
    embedder: Embedder | None
    why: str = ""
    _memories: dict[str, tuple[Memory, ...]] = field(default_factory=dict)
    _vectors: dict[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What can be made here, the cheapest first."""
        return ("extractive",) if self.model is None else ("extractive", "memory", "bigfive")

    async def make(self, history: History, source: Source) -> Made:
        """Make the persona of a part; there is none, and no score, where the model gave no usable answer."""
        kept = self._kept(history)
        if not kept:
            return Made(kept, None)
        if source == "extractive" or self.model is None:
            return Made(kept, group_persona(history, kept))
        if source == "memory":
            outcome = await infer_persona_with_model(self.model, history, kept)
            return Made(kept, outcome.kept[0] if outcome.kept else None)
        rated = await infer_big_five(self.model, history, kept)
        return Made(kept, rated.persona.kept[0] if rated.persona.kept else None, rated.scores)

    def _kept(self, history: History) -> tuple[Memory, ...]:
        """Return the kept memories of a part: those that came with the source, else what the user said."""
        if history.id not in self._memories:
            found = history.memories or extract_memories(history, self.embedder).kept
            self._memories[history.id] = tuple(memory for memory in found if memory.status == "kept")
        return self._memories[history.id]

    def overlap(self, one: TraitSet, other: TraitSet) -> float | None:
        """Return the agreement of two sets of traits by their texts, 0 to 1; None where one is empty."""
        if not one.texts or not other.texts:
            return None
        if self.embedder is not None and one.language == other.language == "en":
            return matched_overlap(self._embedded(one.texts) @ self._embedded(other.texts).T)
        sets = [[stems(text) for text in each.texts] for each in (one, other)]
        return matched_overlap([[jaccard(a, b) for b in sets[1]] for a in sets[0]])

    def _embedded(self, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new and self.embedder is not None:
            self._vectors.update(zip(new, self.embedder.embed(new), strict=True))
        return np.array([self._vectors[text] for text in texts])


def open_maker(context: Context) -> Maker:
    """Return what makes personas in this validation."""
    run, judge = context.settings.run, context.judges[0]
    spec = context.options.judges[0]
    why = ""
    if judge is None:
        why = f"{spec} is no model that could write personas or rate facets: only extractive personas were measured."
    elif resolve_method(run.memories, spec, without_model="extractive") == "extractive":
        judge, why = (
            None,
            (
                f"Personas and Big Five facets by {spec} were not measured: only `memories = 'model'` in the settings lets it try."
            ),
        )
    return Maker(judge, _embedder(), why)


def _embedder() -> Embedder | None:
    """Return the embeddings, or None where they are not installed: texts are then compared by their words."""
    try:
        return Embedder()
    except DependencyError:
        return None
