"""Another person in a case: its situation and query stay, its persona and memories are somebody else's, or nobody's.

A swapped case is a case like any other, with an id of its own, so that criteria and calls are made anew for it. Whoever is swapped in
brings the memories that one of their own cases rests on as the relevant ones, so that a judge knows as much of them as of the user.
"""

from __future__ import annotations

from collections.abc import Iterable

from peregrm.records import Case, Persona, Reply, content_id
from peregrm.text import tokens

__all__ = ["answering", "choose_donor", "is_known", "with_nobody", "with_person_of"]


def is_known(case: Case) -> bool:
    """Tell whether anything is known of the user of a case."""
    persona = case.persona
    return bool(persona.profile.strip() or persona.traits or any(memory.status == "kept" for memory in case.memories))


def choose_donor(case: Case, cases: Iterable[Case], seed: int) -> Case | None:
    """Return a case of another user of the same language who is known by other words; None where there is none.

    The seed chooses; the order of `cases` makes no difference. Nobody who shares a memory or the profile with the user is taken.
    """
    own = _words(case)
    fitting = [
        other
        for other in cases
        if other.user_id != case.user_id
        and other.language == case.language
        and is_known(other)
        and not own & _words(other)
    ]
    return min(fitting, key=lambda other: (content_id("swap", [seed, case.id, other.id]), other.id), default=None)


def with_person_of(case: Case, donor: Case) -> Case:
    """Return the case as if the donor's user were in it."""
    return case.model_copy(
        update={
            "user_id": donor.user_id,
            "persona": donor.persona,
            "memories": donor.memories,
            "relevant_memory_ids": donor.relevant_memory_ids,
        }
    )


def with_nobody(case: Case) -> Case:
    """Return the case with an empty persona and no memories."""
    nobody = Persona(
        user_id=case.user_id,
        history_id=case.persona.history_id,
        profile="",
        traits=(),
        is_deep=False,
        gate_reason="withheld from the judge",
        method="none",
    )
    return case.model_copy(update={"persona": nobody, "memories": (), "relevant_memory_ids": ()})


def answering(case: Case, reply: Reply) -> Reply:
    """Return the reply as one to this case."""
    return reply.model_copy(update={"case_id": case.id})


def _words(case: Case) -> set[str]:
    """Return profile and memories, each as its words alone."""
    texts = [case.persona.profile, *(memory.value for memory in case.memories if memory.status == "kept")]
    return {" ".join(tokens(text)) for text in texts if text.strip()}
