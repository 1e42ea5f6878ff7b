"""Cases, criteria and replies as the files of arXiv 2606.00728, for its code and for everybody who reads those.

All cases of one user that know the same memories are one record of the final file. What that format has no place for stands under the
keys `peregrm` (of a record, a query or a memory), `user_id` and `language`, where its own code does not look; with them `paper_import`
gives back the same cases. A user of one session has a flat `conversation` as in the paper; of several, a list of sessions. Left out on
purpose: the source's reasoning, which no record here holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from peregrm.dataset.output.paper_files import CATEGORY_NAMES
from peregrm.errors import ArtifactError
from peregrm.records import Case, Criteria, History, Memory, Reply, Situation

__all__ = ["Place", "criteria_rows", "final_rows", "prediction_rows"]

_OF_MEMORY = {"id", "user_id", "label", "label_suggestion", "type", "value", "evidence", "confidence", "time_scope"}
_OF_PERSONA = {"id", "user_id", "profile", "topics", "is_deep", "gate_reason"}
_OF_CASE = {"id", "user_id", "language", "category", "persona", "memories", "relevant_memory_ids", "situation", "query"}


class Place(NamedTuple):
    """Where a case stands in a final file: `record` counts from 0; the two ids are those by which criteria are joined."""

    record: int
    session_id: str
    query_id: str
    case: Case


def final_rows(
    cases: Sequence[Case],
    histories: Mapping[str, History] | None = None,
    situations: Mapping[str, Situation] | None = None,
) -> tuple[list[dict[str, Any]], list[Place]]:
    """Return the records of the final file, and where each case stands in them.

    `histories` (by user id) give the conversations, `situations` (by query id) the topics; both may lack any. Raises `ArtifactError` where
    a case rests on memories that it does not hold.
    """
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        key = (case.user_id, case.language, case.persona.id, *(memory.id for memory in case.memories))
        groups.setdefault(key, []).append(case)
    rows: list[dict[str, Any]] = []
    places: list[Place] = []
    taken: set[str] = set()
    for group in groups.values():
        session_id = _free(group[0].user_id, taken)
        history = (histories or {}).get(group[0].user_id)
        places += [Place(len(rows), session_id, case.id, case) for case in group]
        rows.append(_record(session_id, group, history, situations or {}))
    return rows, places


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}#{number}"
    taken.add(name)
    return name


def _record(
    session_id: str, group: Sequence[Case], history: History | None, situations: Mapping[str, Situation]
) -> dict[str, Any]:
    first = group[0]
    persona = first.persona
    sessions = history.sessions if history else ()
    return {
        "source_file": PurePath(history.source).name if history else "",
        "original_sid": sessions[0].session_id if len(sessions) == 1 else first.user_id,
        "session_id": session_id,
        "persona": {
            "is_deep_persona": persona.is_deep,
            "gate_reason": persona.gate_reason,
            "topics": list(persona.topics),
            "persona_profile": persona.profile,
        },
        "queries": [_query(case, situations) for case in group],
        "conversation": _conversation(history),
        "extracted_memory": [_memory(memory) for memory in first.memories],
        "user_id": first.user_id,
        "language": first.language,
        "peregrm": {"persona": persona.model_dump(mode="json", exclude=_OF_PERSONA)},
    }


def _conversation(history: History | None) -> list[dict[str, Any]]:
    if history is None:
        return []
    talks = [[{"role": turn.role, "text": turn.text} for turn in session.turns] for session in history.sessions]
    if len(talks) == 1:
        return talks[0]
    return [
        {"session_id": session.session_id, "date": session.date, "turns": turns}
        for session, turns in zip(history.sessions, talks, strict=True)
    ]


def _memory(memory: Memory) -> dict[str, Any]:
    evidence = [{"session_id": e.session_id, "utterance_index": e.turn, "text": e.quote} for e in memory.evidence]
    return {
        "memory_id": memory.id,
        "type": memory.type,
        "label": memory.label,
        **({} if memory.label_suggestion is None else {"label_suggestion": memory.label_suggestion}),
        "value": memory.value,
        "evidence": evidence[0] if len(evidence) == 1 else evidence,
        "confidence": memory.confidence,
        "time_scope": memory.time_scope,
        "peregrm": memory.model_dump(mode="json", exclude=_OF_MEMORY),
    }


def _query(case: Case, situations: Mapping[str, Situation]) -> dict[str, Any]:
    positions = {memory.id: number for number, memory in enumerate(case.memories, start=1)}
    lost = [memory_id for memory_id in case.relevant_memory_ids if memory_id not in positions]
    if lost:
        raise ArtifactError(f"{case.id}: rests on memories that it does not hold: {', '.join(lost)}")
    relevant = [positions[memory_id] for memory_id in case.relevant_memory_ids]
    situation = situations.get(case.query_id or "")
    situation_id = situation.id if situation else f"{case.id}-situation"
    return {
        "query_id": case.id,
        "category": CATEGORY_NAMES[case.category],
        "situation_id": situation_id,
        "query": case.query,
        "relevant_mem": relevant,
        "reasoning": "",
        "situation": {
            "id": situation_id,
            "category": CATEGORY_NAMES[case.category],
            "topic": situation.topic if situation else "",
            "relevant_mem": relevant,
            "situation": case.situation,
        },
        "peregrm": case.model_dump(mode="json", exclude=_OF_CASE),
    }


def criteria_rows(places: Sequence[Place], criteria: Mapping[str, Criteria]) -> list[dict[str, Any]]:
    """Return the records of the criteria file: one a session, a text of numbered criteria a dimension.

    `criteria` are by case id; a query without any, or whose criteria failed, has only its id. White space within a criterion becomes one
    space each.
    """
    rows: dict[int, dict[str, Any]] = {}
    for place in places:
        row = rows.setdefault(place.record, {"session_id": place.session_id, "criterias": []})
        own = criteria.get(place.case.id)
        texts = {name: _numbered(items) for name, items in own.items} if own else {}
        method = {"peregrm": {"method": own.method}} if own and own.items else {}
        row["criterias"].append({"query_id": place.query_id, **texts, **method})
    return list(rows.values())


def _numbered(items: Sequence[Any]) -> str:
    return "\n".join(
        f"{number}. Criterion {number} ({item.weight}%): {' '.join(item.text.split())}"
        for number, item in enumerate(items, start=1)
    )


def prediction_rows(places: Sequence[Place], replies: Mapping[str, Reply]) -> list[dict[str, Any]]:
    """Return the records of the predictions file of one policy, in the order of the final file.

    `replies` are by case id. A case without a reply, or with one that failed, has the response null: nothing moves up into its place.
    Beside each response stands the id of its query, which the paper's own files lack.
    """
    rows: dict[int, dict[str, Any]] = {}
    for place in places:
        reply = replies.get(place.case.id)
        response: dict[str, Any] = {"query_id": place.query_id, "response": None}
        if reply is not None and reply.failure is None:
            response |= {"response": reply.text, "thinking_removed": True}
        elif reply is not None:
            response["failure"] = reply.model_dump(mode="json")["failure"]
        rows.setdefault(place.record, {"responses": []})["responses"].append(response)
    return list(rows.values())
