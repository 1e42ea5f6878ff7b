"""Which languages the extractive method knows, and what is said of a history in another one."""

from __future__ import annotations

from peregrm.dataset.extractive.rulebook import LANGUAGES
from peregrm.dataset.outcome import Outcome
from peregrm.histories.language import UNDETERMINED
from peregrm.records import Drop, History, Memory

__all__ = ["LANGUAGE", "unread_history"]

LANGUAGE = "language"
"""The kind of drop of a history that the rules cannot read."""

_NAMES = {"en": "English", "zh": "Chinese"}


def unread_history(history: History, found: Outcome[Memory]) -> Drop | None:
    """Return why nothing was kept of a history in a language without rules; None where something was, or there are rules for it."""
    if history.language in LANGUAGES or any(memory.status == "kept" for memory in found.kept):
        return None
    known = " and ".join(_NAMES.get(language, language) for language in LANGUAGES)
    told = "was not recognised" if history.language == UNDETERMINED else f"is {history.language}"
    reason = f"the extractive method knows {known}; the language of this history {told}"
    return Drop(stage="memories", subject=history.id, kind=LANGUAGE, reason=reason)
