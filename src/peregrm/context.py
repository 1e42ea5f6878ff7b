"""How a user is shown to a model: the one rendering of memories, persona and sessions, for every stage, policy and judge.

Everything here returns `Untrusted` text, because all of it goes back to what a user or another model wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.prompts import Untrusted
from peregrm.records import Memory, Persona, Session
from peregrm.text import tokens

__all__ = ["LANGUAGE_NAMES", "known_facts", "language_name", "memory_list", "persona_text", "session_text"]

LANGUAGE_NAMES = {
    "ar": "Arabic",
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "tr": "Turkish",
    "vi": "Vietnamese",
    "zh": "Chinese (simplified)",
}


def language_name(code: str) -> str:
    """Return the English name of a language code, for prompts; unknown codes ask for the user's own language."""
    return LANGUAGE_NAMES.get(code, "the language the user writes in")


def memory_list(memories: Sequence[Memory]) -> Untrusted:
    """Return kept memories as a list numbered from 1; an empty one says so."""
    kept = [memory for memory in memories if memory.status == "kept"]
    if not kept:
        return Untrusted("(nothing is known about this user)")
    return Untrusted("\n".join(f"{n}. {_one_line(memory.value)}" for n, memory in enumerate(kept, start=1)))


def known_facts(persona: Persona, memories: Sequence[Memory]) -> Untrusted:
    """Return the kept memories that the persona does not say already, to stand beside it.

    A persona that quotes its memories would otherwise say everything twice. The numbers have no meaning here.
    """
    said = _words(persona_text(persona))
    rest = [m for m in memories if m.status == "kept" and _words(m.value) not in said]
    if not rest and any(m.status == "kept" for m in memories):
        return Untrusted("(nothing beyond the persona)")
    return memory_list(rest)


def persona_text(persona: Persona) -> Untrusted:
    """Return the profile and, where they say more than it, the traits."""
    traits = [f"- {_one_line(trait.text)}" for trait in persona.traits if trait.text not in persona.profile]
    return Untrusted("\n".join([persona.profile.strip(), *traits]).strip() or "(no profile)")


def session_text(session: Session, first: int, last: int) -> Untrusted:
    """Return the turns `first` to `last` (exclusive) of a session that say something, each with its index, role and text."""
    turns = enumerate(session.turns[first:last], start=first)
    return Untrusted("\n".join(f"[{index}] {turn.role}: {turn.text}" for index, turn in turns if turn.text))


def _words(text: str) -> str:
    return f" {' '.join(tokens(text))} "


def _one_line(text: str) -> str:
    return " ".join(text.split())
