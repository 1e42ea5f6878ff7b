"""Queries that passed the gates become cases, each carrying all a policy and a judge need to know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from peregrm.errors import ArtifactError
from peregrm.records import Case, History, Inspection, Memory, Persona, Query, Situation
from peregrm.store import index_by, index_by_id, join

__all__ = ["build_cases", "memories_of"]


def memories_of(user_id: str, memories: Sequence[Memory]) -> tuple[Memory, ...]:
    """Return the kept memories of one user, in order."""
    return tuple(memory for memory in memories if memory.user_id == user_id and memory.status == "kept")


def build_cases(
    histories: Sequence[History],
    memories: Sequence[Memory],
    personas: Sequence[Persona],
    situations: Sequence[Situation],
    queries: Sequence[Query],
    inspections: Sequence[Inspection],
) -> list[Case]:
    """Join the stages' records by id and return a case for every query whose inspection kept it.

    Raises `ArtifactError` naming the ids where a query has no inspection, or a record's parent is missing.
    """
    by_query = index_by(inspections, lambda inspection: inspection.query_id, "inspections")
    inspected = join([query.id for query in queries], by_query, "inspections")
    situation_by_id = index_by_id(situations, "situations")
    persona_by_id = index_by_id(personas, "personas")
    history_by_id = index_by_id(histories, "histories")
    by_user: dict[str, list[Memory]] = defaultdict(list)
    for memory in memories:
        by_user[memory.user_id].append(memory)
    cases: list[Case] = []
    for query, inspection in zip(queries, inspected, strict=True):
        if not inspection.kept:
            continue
        situation = situation_by_id.get(query.situation_id)
        persona = persona_by_id.get(situation.persona_id) if situation else None
        history = history_by_id.get(persona.history_id) if persona else None
        if situation is None or persona is None or history is None:
            raise ArtifactError(f"queries: {query.id}: its situation, persona or history is missing")
        own = memories_of(query.user_id, by_user[query.user_id])
        lost = set(situation.memory_ids) - {memory.id for memory in own}
        if lost:
            raise ArtifactError(f"situations: {situation.id}: rests on memories that are not there: {sorted(lost)}")
        cases.append(
            Case(
                user_id=query.user_id,
                language=history.language,
                category=situation.category,
                persona=persona,
                memories=own,
                relevant_memory_ids=situation.memory_ids,
                situation=situation.text,
                query=query.text,
                query_id=query.id,
            )
        )
    return cases
