"""One user's way through a build: turns, memories with their quotes, persona, situations, queries, inspections, cases.

Gathered from whatever artifacts a folder holds; where only cases are there (an imported dataset), from what the cases carry. A chain can
be narrowed to what leads to one record and what came of it. Left out on purpose: replies and judgements, which `peregrm explain` shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from peregrm.errors import InputError
from peregrm.records import Case, Drop, History, Inspection, Memory, Persona, Query, Record, Situation, Trait
from peregrm.store import Workspace

__all__ = ["Chain", "Moment", "UserRow", "find_chain", "list_users", "read_chains"]

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Moment:
    """One situation and what became of it; a hand-written case has neither situation nor query record."""

    situation: Situation | None = None
    query: Query | None = None
    inspection: Inspection | None = None
    case: Case | None = None
    drops: tuple[Drop, ...] = ()

    @property
    def memory_ids(self) -> tuple[str, ...]:
        """Return the ids of the memories the moment rests on."""
        if self.situation is not None:
            return self.situation.memory_ids
        return self.case.relevant_memory_ids if self.case is not None else ()


@dataclass(frozen=True)
class Chain:
    """All records of one user. `focus` is the id of the record the chain was narrowed to, or None."""

    user_id: str
    history: History | None = None
    memories: tuple[Memory, ...] = ()
    persona: Persona | None = None
    moments: tuple[Moment, ...] = ()
    drops: tuple[Drop, ...] = ()
    focus: str | None = None
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def ids(self) -> set[str]:
        """Return the ids of all records in the chain."""
        found = {memory.id for memory in self.memories}
        found |= {one.id for one in (self.history, self.persona) if one is not None}
        for moment in self.moments:
            records: tuple[Record | None, ...] = (moment.situation, moment.query, moment.inspection, moment.case)
            found |= {one.id for one in records if one is not None}
        return found


@dataclass(frozen=True)
class UserRow:
    """What there is of one user: counts for the list."""

    user_id: str
    language: str
    turns: int
    memories: int
    kept: int
    deep: bool | None
    situations: int
    queries: int
    cases: int


def read_chains(workspace: Workspace, flags: Mapping[str, Sequence[str]] | None = None) -> list[Chain]:
    """Return the chain of every user in a folder, in the order of the histories and then of the cases.

    `flags` are kinds of danger by case id. Raises `InputError` where the folder holds neither histories nor cases, `ArtifactError` for a
    damaged line.
    """
    cases = workspace.read_if_there("cases.jsonl", Case)
    histories = workspace.read_if_there("histories.jsonl", History)
    if not cases and not histories:
        raise InputError(f"{workspace.root}: there are no histories and no cases here")
    memories = _by_user(workspace.read_if_there("memories.jsonl", Memory))
    personas = {persona.user_id: persona for persona in workspace.read_if_there("personas.jsonl", Persona)}
    situations = _by_user(workspace.read_if_there("situations.jsonl", Situation))
    queries = _by_user(workspace.read_if_there("queries.jsonl", Query))
    inspections = {
        inspection.query_id: inspection for inspection in workspace.read_if_there("inspections.jsonl", Inspection)
    }
    drops: dict[str, list[Drop]] = defaultdict(list)
    for path in sorted(workspace.root.glob("*.dropped.jsonl")):
        for drop in workspace.read(path.name, Drop):
            drops[drop.subject].append(drop)
    cases_of = _by_user(cases)
    history_of = {history.user_id: history for history in histories}
    chains = []
    for user_id in dict.fromkeys([*history_of, *(case.user_id for case in cases)]):
        own = cases_of[user_id]
        persona = personas.get(user_id) or (own[0].persona if own else None)
        known = {memory.id: memory for memory in memories[user_id]}
        known |= {memory.id: memory for case in own for memory in case.memories if memory.id not in known}
        history = history_of.get(user_id)
        subjects = [one.id for one in (history, persona) if one is not None] + list(known)
        chains.append(
            Chain(
                user_id=user_id,
                history=history,
                memories=tuple(known.values()),
                persona=persona,
                moments=tuple(_moments(situations[user_id], queries[user_id], inspections, own, drops)),
                drops=tuple(drop for subject in subjects for drop in drops.get(subject, ())),
                flags={case.id: tuple(kinds) for case in own if (kinds := (flags or {}).get(case.id))},
            )
        )
    return chains


def _by_user(records: Iterable[R]) -> dict[str, list[R]]:
    grouped: dict[str, list[R]] = defaultdict(list)
    for record in records:
        grouped[str(vars(record)["user_id"])].append(record)
    return grouped


def _moments(
    situations: Sequence[Situation],
    queries: Sequence[Query],
    inspections: Mapping[str, Inspection],
    cases: Sequence[Case],
    drops: Mapping[str, list[Drop]],
) -> list[Moment]:
    query_of = {query.situation_id: query for query in queries}
    case_of = {case.query_id: case for case in cases if case.query_id is not None}
    moments: list[Moment] = []
    for situation in situations:
        query = query_of.get(situation.id)
        inspection = inspections.get(query.id) if query else None
        case = case_of.pop(query.id, None) if query else None
        gone = [*drops.get(situation.id, ()), *(drops.get(query.id, ()) if query else ())]
        moments.append(Moment(situation, query, inspection, case, tuple(gone)))
    shown = {moment.case.id for moment in moments if moment.case is not None}
    return [*moments, *(Moment(case=case) for case in cases if case.id not in shown)]


def list_users(chains: Sequence[Chain]) -> list[UserRow]:
    """Return a line of counts for every user."""
    return [
        UserRow(
            user_id=chain.user_id,
            language=chain.history.language if chain.history else _language(chain),
            turns=sum(len(session.turns) for session in chain.history.sessions) if chain.history else 0,
            memories=len(chain.memories),
            kept=sum(memory.status == "kept" for memory in chain.memories),
            deep=None if chain.persona is None else chain.persona.is_deep,
            situations=sum(moment.situation is not None for moment in chain.moments),
            queries=sum(moment.query is not None for moment in chain.moments),
            cases=sum(moment.case is not None for moment in chain.moments),
        )
        for chain in chains
    ]


def _language(chain: Chain) -> str:
    return next((moment.case.language for moment in chain.moments if moment.case is not None), "und")


def find_chain(chains: Sequence[Chain], prefix: str) -> Chain:
    """Return the chain of the one user or record whose id begins with `prefix`; a record's own prefix (`mem-`) may be left out.

    A whole user id wins over longer ones that begin with it. For a memory, situation, query, inspection or case the chain is narrowed to
    what leads to it and what came of it. Raises `InputError` where nothing, or more than one thing, has an id that begins so.
    """
    exact = [chain for chain in chains if chain.user_id == prefix]
    if exact:
        return exact[0]
    found: list[tuple[str, Chain]] = [(chain.user_id, chain) for chain in chains if chain.user_id.startswith(prefix)]
    for chain in chains:
        found += [
            (one, chain)
            for one in sorted(chain.ids())
            if one.startswith(prefix) or one.partition("-")[2].startswith(prefix)
        ]
    if not prefix or not found:
        raise InputError(f"{prefix!r}: no user or record has an id that begins so")
    if len(found) > 1:
        some = ", ".join(one for one, _ in found[:4])
        raise InputError(f"{prefix!r}: {len(found)} ids begin so: {some}{' ...' if len(found) > 4 else ''}")
    name, chain = found[0]
    return chain if name == chain.user_id else _narrowed(chain, name)


def _narrowed(chain: Chain, record_id: str) -> Chain:
    """Keep what a record rests on and what came of it; a history or persona keeps everything."""
    if record_id in {one.id for one in (chain.history, chain.persona) if one is not None}:
        return replace(chain, focus=record_id)
    if record_id in {memory.id for memory in chain.memories}:
        moments = [moment for moment in chain.moments if record_id in moment.memory_ids]
        wanted = {record_id}
    else:
        moments = [moment for moment in chain.moments if record_id in _ids_of(moment)]
        wanted = {memory_id for moment in moments for memory_id in moment.memory_ids}
    return replace(
        chain,
        memories=tuple(memory for memory in chain.memories if memory.id in wanted),
        persona=None if chain.persona is None else _citing(chain.persona, wanted),
        moments=tuple(moments),
        drops=tuple(drop for drop in chain.drops if drop.subject in wanted),
        focus=record_id,
    )


def _ids_of(moment: Moment) -> set[str]:
    records: tuple[Record | None, ...] = (moment.situation, moment.query, moment.inspection, moment.case)
    return {one.id for one in records if one is not None}


def _citing(persona: Persona, wanted: set[str]) -> Persona:
    traits: tuple[Trait, ...] = tuple(trait for trait in persona.traits if wanted & set(trait.memory_ids))
    shown = persona.model_copy(update={"traits": traits})
    shown.__dict__["id"] = persona.id  # the record shown is the one on file, in part
    return shown
