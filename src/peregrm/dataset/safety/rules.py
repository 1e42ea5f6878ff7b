"""Flags by rules: sentence by sentence, the user's own words in a history, all fields of a case.

Sentences are cut and their voice told by `peregrm.dataset.extractive.sentences`: what is quoted, pasted or part of a story is not what the
user says. Of a turn of more than 6,000 characters both ends are read, as there. Left out on purpose: what the assistant says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from peregrm.dataset.extractive.sentences import read_sentences
from peregrm.dataset.safety.flags import Flag
from peregrm.dataset.safety.rulebook import load_rules
from peregrm.records import Case, History, Session, Turn

__all__ = ["case_texts", "flag_case", "flag_history", "flag_text", "look_at"]

Voice = Literal["own", "told"]


def flag_text(text: str, *, voice: Voice = "own", subject: str = "", where: str = "text") -> tuple[Flag, ...]:
    """Return the flags on a text: one a kind, the first. `voice` says whether the user speaks or is spoken of."""
    turn = Turn(role="user", text=text)
    history = History(user_id="", language="und", sessions=(Session(session_id=where, turns=(turn,)),))
    return _first_of_each(_flags(history, voice, subject, place=False))


def flag_history(history: History) -> tuple[Flag, ...]:
    """Return the flags on what the user says in a history, one for each kind and turn, in order."""
    return _first_of_each(_flags(history, "own", history.id, place=True))


def case_texts(case: Case) -> tuple[tuple[str, str, Voice], ...]:
    """Return the texts of a case that are looked at, as (where, text, voice): the query is the user's, the rest is told of them."""
    memories = [(f"memory {memory.id}", memory) for memory in case.memories if memory.status == "kept"]
    return (
        ("query", case.query, "own"),
        ("situation", case.situation, "told"),
        ("persona", "\n".join([case.persona.profile, *(trait.text for trait in case.persona.traits)]), "told"),
        *((where, memory.value, "told") for where, memory in memories),
    )


def flag_case(case: Case) -> tuple[Flag, ...]:
    """Return the flags on a case: on its query, its situation, its persona and its kept memories, with their quotes."""
    flags: list[Flag] = []
    for where, text, voice in case_texts(case):
        flags += flag_text(text, voice=voice, subject=case.id, where=where)
        if voice == "told" and where != "situation":  # facts are often kept in the user's own words
            flags += flag_text(text, voice="own", subject=case.id, where=where)
    for memory in case.memories:
        for evidence in memory.evidence if memory.status == "kept" else ():
            flags += flag_text(evidence.quote, subject=case.id, where=f"memory {memory.id}")
    return _first_of_each(iter(flags))


def look_at(case: Case) -> Case:
    """Return a case with its flags: its own, or, where nobody looked at it, those of the rules."""
    if case.flags is not None:
        return case
    return case.model_copy(update={"flags": tuple(sorted({flag.kind for flag in flag_case(case)}))})


def _flags(history: History, voice: Voice, subject: str, *, place: bool) -> Iterator[Flag]:
    rules = {code: [rule for rule in load_rules(code) if rule.voice in (voice, "any")] for code in ("en", "zh")}
    for sentence in read_sentences(history):
        if voice == "own" and sentence.voice != "own":
            continue
        for rule in rules.get(sentence.language, ()):
            found = rule.find(sentence.plain)
            if found is not None:
                yield Flag(
                    subject=subject,
                    where=f"{sentence.session_id}[{sentence.turn}]" if place else sentence.session_id,
                    kind=rule.kind,
                    quote=sentence.text[found.start() : found.end()],
                    by="rule",
                    confidence=rule.confidence,
                )


def _first_of_each(flags: Iterator[Flag]) -> tuple[Flag, ...]:
    first: dict[tuple[str, str], Flag] = {}
    for flag in flags:
        first.setdefault((flag.where, flag.kind), flag)
    return tuple(first.values())
