"""What the tests of clusters and soups share: people by what they said, and vectors that need nothing installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from peregrm.records import Case, Evidence, Memory, Persona, Trait
from peregrm.training.strategies import Embedding

__all__ = ["LETTERS", "person"]

LETTERS = Embedding("letters", lambda texts: np.array([_letters(text) for text in texts]))


def _letters(text: str) -> Any:
    counts = np.array([float(text.count(chr(97 + n))) + 1e-3 for n in range(26)])
    return counts / np.linalg.norm(counts)


def person(
    user: str, *said: str, label: str = "Preferences/Interaction_Preferences", traits: tuple[str, ...] = ()
) -> Case:
    evidence = (Evidence(session_id="s", turn=0, quote="q"),)
    memories = tuple(
        Memory(user_id=user, label=label, type="direct", value=text, evidence=evidence, method="test") for text in said
    )
    persona = Persona(
        user_id=user,
        history_id="h",
        profile="Somebody.",
        traits=tuple(Trait(text=text, memory_ids=("m",)) for text in traits),
        is_deep=True,
        gate_reason="known",
        method="test",
    )
    return Case(
        user_id=user,
        language="en",
        category="high_eq",
        persona=persona,
        memories=memories,
        relevant_memory_ids=(),
        situation="a day",
        query="well?",
        flags=(),
    )
