"""The files of arXiv 2606.00728 as cases, criteria and replies.

What `paper_export` wrote comes back as it was. In the paper's own files memories are read as tolerantly as in histories: those marked as
errors are rejected, labels are mended, quotes are looked up in the conversation. A position in `relevant_mem` that names no memory, or a
rejected one, is left out and counted. Predictions are read by order, but only against the final file they belong to: another number of
records or replies is an error, and so is an id that is not the one in its place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from peregrm.dataset.output.paper_export import Place
from peregrm.dataset.output.paper_files import category_of, read_list, text_of
from peregrm.errors import InputError
from peregrm.histories.assemble import assemble
from peregrm.histories.base import DraftSession, Row, optional, required
from peregrm.histories.language import UNDETERMINED, detect_language, language_code
from peregrm.histories.memories import resolve_memories
from peregrm.histories.personaemp import PersonaEmpReader
from peregrm.records import Case, Criteria, Criterion, Failure, Memory, Persona, Reply, content_id
from peregrm.replies import reply_from_output
from peregrm.store import summarise_validation

__all__ = ["PaperCases", "read_criteria_file", "read_final", "read_predictions"]

_CRITERION = re.compile(
    r"^\s*(?:[-*]\s*)?\d+[.)]\s*(?P<name>.*?)\s*[(（](?P<weight>\d+)\s*[%％][)）]\s*[:：]?\s*(?P<text>.*)$"
)
_OF_MEMORY = ("label", "label_suggestion", "type", "value", "confidence", "time_scope")
_PLACEHOLDER = re.compile(r"Criterion \d+")


class PaperCases(NamedTuple):
    """What a final file holds: where each case stands, how many records there are, and what had to be mended, by reason."""

    places: list[Place]
    records: int
    notes: dict[str, int]


class _Known(NamedTuple):
    """One record's user: `memories` by position, None where an item gave none."""

    user_id: str
    language: str
    persona: Persona
    memories: list[Memory | None]


def read_final(path: Path) -> PaperCases:
    """Read a final file.

    Raises `InputError`, naming file and record, for a wrong shape, a category of another name, or an id that comes twice.
    """
    places: list[Place] = []
    notes: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    rows = read_list(path)
    sessions: set[str] = set()
    for number, row in enumerate(rows):
        where = f"{path}: record {number + 1}"
        session_id = text_of(row, "session_id" if row.get("session_id") is not None else "original_sid", where)
        if session_id in sessions:
            raise InputError(f"{where}: session_id {session_id!r} comes twice")
        sessions.add(session_id)
        known = _known(row, number, where, notes)
        for index, query in enumerate(required(row, "queries", list, where)):
            query_id = text_of(query, "query_id", where, f"queries[{index}]")
            if (session_id, query_id) in seen:
                raise InputError(f"{where}: queries[{index}]: query_id {query_id!r} comes twice")
            seen.add((session_id, query_id))
            case = _case(query, known, f"{session_id}/{query_id}", f"{where}: queries[{index}]", notes)
            places.append(Place(number, session_id, query_id, case))
    _no_case_twice(places, path)
    return PaperCases(places, len(rows), dict(sorted(notes.items())))


def _no_case_twice(places: Sequence[Place], path: Path) -> None:
    first: dict[str, Place] = {}
    for place in places:
        other = first.setdefault(place.case.id, place)
        if other is not place:
            raise InputError(
                f"{path}: {other.session_id}/{other.query_id} and {place.session_id}/{place.query_id} are the same case"
            )


def _known(row: dict[str, Any], number: int, where: str, notes: Counter[str]) -> _Known:
    items = required(row, "extracted_memory", list, where) if row.get("extracted_memory") is not None else []
    items = [{"value": item} if isinstance(item, str) else item for item in items]
    own = optional(row, "peregrm", dict, where)
    if own is not None:
        user_id = required(row, "user_id", str, where)
        memories: list[Memory | None] = [
            _own_memory(item, user_id, f"{where}: extracted_memory[{index}]") for index, item in enumerate(items)
        ]
        persona = _persona(row, user_id, {**required(own, "persona", dict, where, "peregrm")}, where)
        return _Known(user_id, required(row, "language", str, where), persona, memories)
    return _foreign(row, items, number, where, notes)


def _foreign(row: dict[str, Any], items: list[Any], number: int, where: str, notes: Counter[str]) -> _Known:
    draft = PersonaEmpReader().parse(
        Row(
            {**row, "conversation": row.get("conversation") or [], "extracted_memory": items},
            where,
            number,
            where,
            notes,
        )
    )
    language = language_code(row.get("language") if isinstance(row.get("language"), str) else None)
    history_id = content_id("his", [draft.user_id])
    if any(session.turns for session in draft.sessions):
        history = assemble({where: [draft]})
        history_id, language = history.id, language or history.language
    if language is None or language == UNDETERMINED:
        language = detect_language(
            [str(query.get("query", "")) for query in row.get("queries") or [] if isinstance(query, dict)]
        )
    found = [_tolerant_memory(item, draft.user_id, draft.sessions, notes) for item in items]
    extra = {"history_id": history_id, "traits": [], "method": "source"}
    return _Known(draft.user_id, language, _persona(row, draft.user_id, extra, where), found)


def _own_memory(item: Any, user_id: str, where: str) -> Memory:
    own = required(item, "peregrm", dict, where)
    listed = item.get("evidence")
    try:
        return Memory.model_validate(
            {
                **own,
                "user_id": user_id,
                **{key: item.get(key) for key in _OF_MEMORY},
                "evidence": [
                    {"session_id": e.get("session_id"), "turn": e.get("utterance_index"), "quote": e.get("text")}
                    for e in (listed if isinstance(listed, list) else [listed] if listed else [])
                ],
            }
        )
    except (ValidationError, AttributeError) as error:
        said = summarise_validation(error) if isinstance(error, ValidationError) else "evidence must hold objects"
        raise InputError(f"{where}: {said}") from None


def _tolerant_memory(
    item: dict[str, Any], user_id: str, sessions: Sequence[DraftSession], notes: Counter[str]
) -> Memory | None:
    found = resolve_memories([item], user_id, sessions, notes)
    return found[0] if found else None


def _persona(row: dict[str, Any], user_id: str, extra: dict[str, Any], where: str) -> Persona:
    raw = row.get("persona")
    given = {"persona_profile": raw} if isinstance(raw, str) else optional(row, "persona", dict, where) or {}
    deep = given.get("is_deep_persona", True)
    try:
        return Persona.model_validate(
            {
                **extra,
                "user_id": user_id,
                "profile": given.get("persona_profile") or "",
                "topics": given.get("topics") or [],
                "is_deep": deep if isinstance(deep, bool) else str(deep).strip().casefold() in {"true", "yes", "1"},
                "gate_reason": given.get("gate_reason") or "",
            }
        )
    except ValidationError as error:
        raise InputError(f"{where}: persona: {summarise_validation(error)}") from None


def _case(query: dict[str, Any], known: _Known, name: str, where: str, notes: Counter[str]) -> Case:
    raw = query.get("situation")
    situation = {"situation": raw} if isinstance(raw, str) else optional(query, "situation", dict, where) or {}
    positions = query["relevant_mem"] if query.get("relevant_mem") is not None else situation.get("relevant_mem")
    own = optional(query, "peregrm", dict, where)
    kept: dict[str, Memory] = {m.id: m for m in known.memories if m is not None and m.status == "kept"}
    try:
        return Case.model_validate(
            {
                **({"query_id": name} if own is None else own),
                "user_id": known.user_id,
                "language": known.language,
                "category": category_of(query.get("category") or situation.get("category"), where),
                "persona": known.persona,
                "memories": tuple(kept.values()),
                "relevant_memory_ids": tuple(_relevant(positions, known.memories, where, notes)),
                "situation": situation.get("situation") or "",
                "query": required(query, "query", str, where),
            }
        )
    except ValidationError as error:
        raise InputError(f"{where}: {summarise_validation(error)}") from None


def _relevant(raw: Any, memories: Sequence[Memory | None], where: str, notes: Counter[str]) -> list[str]:
    """Return the ids of the memories at these positions, counted from 1."""
    found: dict[str, None] = {}
    for each in raw if isinstance(raw, list) else [] if raw is None else [raw]:
        text = str(each).strip()
        if isinstance(each, bool) or not re.fullmatch(r"-?\d{1,9}", text):
            raise InputError(f"{where}: relevant_mem: {each!r} is not a position")
        memory = memories[int(text) - 1] if 1 <= int(text) <= len(memories) else None
        if memory is None:
            notes["relevant_memory_not_there"] += 1
        elif memory.status != "kept":
            notes["relevant_memory_rejected"] += 1
        else:
            found[memory.id] = None
    return list(found)


def read_criteria_file(path: Path, cases: PaperCases) -> list[Criteria]:
    """Read a criteria file, joined to the cases of its final file by session and query id, in their order.

    A query without criteria gives none. Raises `InputError` for criteria of a query that is not in the final file or comes twice, and for
    texts that are no numbered criteria whose weights sum to 100.
    """
    by_ids = {(place.session_id, place.query_id): place.case for place in cases.places}
    found: dict[str, Criteria] = {}
    for number, row in enumerate(read_list(path), start=1):
        where = f"{path}: record {number}"
        session_id = text_of(row, "session_id", where)
        for index, item in enumerate(required(row, "criterias", list, where)):
            here = f"criterias[{index}]"
            key = (session_id, text_of(item, "query_id", where, here))
            case = by_ids.get(key)
            if case is None:
                raise InputError(
                    f"{where}: {here}: there is no query {key[1]!r} of session {session_id!r} in the final file"
                )
            if case.id in found:
                raise InputError(f"{where}: {here}: query {key[1]!r} of session {session_id!r} comes twice")
            criteria = _criteria(item, case, f"{where}: {here}")
            if criteria is not None:
                found[case.id] = criteria
    return [found[place.case.id] for place in cases.places if place.case.id in found]


def _criteria(item: dict[str, Any], case: Case, where: str) -> Criteria | None:
    own = optional(item, "peregrm", dict, where) or {}
    texts = {name: value for name, value in item.items() if name not in ("query_id", "peregrm") and value is not None}
    if not texts:
        return None
    items = tuple((name, _parse_criteria(required(item, name, str, where), f"{where}.{name}")) for name in texts)
    try:
        return Criteria(case_id=case.id, items=items, method=str(own.get("method", "source")))
    except ValidationError as error:
        raise InputError(f"{where}: {summarise_validation(error)}") from None


def _parse_criteria(text: str, where: str) -> tuple[Criterion, ...]:
    """Read lines like `1. Name (30%): what a good reply does`; a line of another shape goes on with the one before it."""
    found: list[tuple[int, str]] = []
    for line in text.replace("**", "").splitlines():
        match = _CRITERION.match(line)
        if match:
            name = "" if _PLACEHOLDER.fullmatch(match["name"]) else match["name"]
            found.append((int(match["weight"]), ": ".join(filter(None, [name, match["text"].strip()]))))
        elif found and line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}".strip())
    if not found:
        raise InputError(f"{where}: there are no numbered criteria with weights in percent")
    try:
        return tuple(Criterion(weight=weight, text=words) for weight, words in found)
    except ValidationError as error:
        raise InputError(f"{where}: {summarise_validation(error)}") from None


def read_predictions(path: Path, cases: PaperCases, *, policy: str) -> list[Reply]:
    """Read the replies of one policy, in the order of the cases.

    They are raw outputs: thinking is taken off. A response that is null is a reply that failed. Raises `InputError` where there are more
    or fewer records than in the final file, or responses than a record has queries, or where an id beside a response is not that query's.
    """
    rows = read_list(path)
    if len(rows) != cases.records:
        raise InputError(f"{path}: {len(rows)} records, but the final file has {cases.records}: not made from it")
    by_record: dict[int, list[Place]] = {}
    for place in cases.places:
        by_record.setdefault(place.record, []).append(place)
    replies: list[Reply] = []
    for number, row in enumerate(rows):
        where = f"{path}: record {number + 1}"
        responses = required(row, "responses", list, where)
        places = by_record.get(number, [])
        if len(responses) != len(places):
            raise InputError(f"{where}: {len(responses)} responses, but the final file has {len(places)} queries there")
        replies += [
            _reply(response, place, policy, f"{where}: responses[{index}]")
            for index, (response, place) in enumerate(zip(responses, places, strict=True))
        ]
    return replies


def _reply(response: Any, place: Place, policy: str, where: str) -> Reply:
    text = optional(response, "response", str, where)
    query_id = optional(response, "query_id", (str, int), where)
    if query_id is not None and str(query_id) != place.query_id:
        raise InputError(f"{where}: is for query {query_id!r}, but {place.query_id!r} stands there in the final file")
    if text is None:
        given = optional(response, "failure", dict, where)
        try:
            missing = Failure(stage="reply", kind="missing", reason="the predictions file holds no reply")
            failure = missing if given is None else Failure.model_validate(given)
        except ValidationError as error:
            raise InputError(f"{where}: failure: {summarise_validation(error)}") from None
        return Reply(case_id=place.case.id, policy=policy, text="", failure=failure)
    if response.get("thinking_removed") is True:
        return Reply(case_id=place.case.id, policy=policy, text=text)
    return reply_from_output(place.case, text, policy=policy)
