"""What every filter of a build did to the mix of labels, categories, languages, topics and intents.

A filter is a step that let some items through and stopped others: rejected memories, the depth gate, situations without a query, queries
that failed inspection, and any stage that wrote drops about histories or memories. For each the distribution before and after is
counted, and its drift tested (`drift`). Intents are the source's, or else those that word lists find, also where a model named them for
the filter. Left out on purpose: what a model preferred to write in the first place, which no filter did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from peregrm.dataset.output.drift import Drift, Mention, holm, measure_drift
from peregrm.dataset.selection import intents_of
from peregrm.records import Drop, History, Inspection, Memory, Part, Persona, Query, Record, Situation

__all__ = ["BiasRow", "BuildRecords", "ValueCount", "measure_bias"]


@dataclass(frozen=True)
class BuildRecords:
    """The records a build left, kept and dropped."""

    histories: Sequence[History] = ()
    memories: Sequence[Memory] = ()
    personas: Sequence[Persona] = ()
    situations: Sequence[Situation] = ()
    queries: Sequence[Query] = ()
    inspections: Sequence[Inspection] = ()
    drops: Sequence[Drop] = field(default=())


class ValueCount(Part):
    """How often a value stood before a filter and after it."""

    value: str
    before: int
    after: int


class BiasRow(Part):
    """One filter and one attribute: the distributions, most frequent value first, and the drift between them."""

    filter: str
    attribute: str
    before: int
    after: int
    values: tuple[ValueCount, ...]
    drift: Drift


class _Item(Part):
    user: str
    kept: bool
    attributes: dict[str, tuple[str, ...]]


def measure_bias(records: BuildRecords, *, seed: int = 0) -> list[BiasRow]:
    """Return a row for every filter and attribute, in the order of the pipeline, p-values corrected over all of them by Holm."""
    rows = [
        _row(name, attribute, items, seed)
        for name, items in _filters(records)
        for attribute in dict.fromkeys(key for item in items for key in item.attributes)
    ]
    ps = holm([row.drift.p for row in rows])
    by_users = holm([row.drift.p_users for row in rows])
    return [
        row.model_copy(update={"drift": row.drift.model_copy(update={"p": p, "p_users": p_users})})
        for row, p, p_users in zip(rows, ps, by_users, strict=True)
    ]


def _row(name: str, attribute: str, items: Sequence[_Item], seed: int) -> BiasRow:
    mentions = [Mention(item.user, value, item.kept) for item in items for value in item.attributes.get(attribute, ())]
    before = Counter(mention.value for mention in mentions)
    after = Counter(mention.value for mention in mentions if mention.kept)
    ordered = sorted(before, key=lambda value: (-before[value], value))
    return BiasRow(
        filter=name,
        attribute=attribute,
        before=before.total(),
        after=after.total(),
        values=tuple(ValueCount(value=value, before=before[value], after=after[value]) for value in ordered),
        drift=measure_drift(mentions, seed=seed),
    )


def _filters(records: BuildRecords) -> list[tuple[str, list[_Item]]]:
    languages = {history.user_id: history.language for history in records.histories}
    persona_by_id = {persona.id: persona for persona in records.personas}
    situation_by_id = {situation.id: situation for situation in records.situations}
    inspected = {inspection.query_id: inspection for inspection in records.inspections}

    def with_language(user: str, **attributes: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {**{key: tuple(values) for key, values in attributes.items()}, "language": (languages.get(user, "und"),)}

    def moment(situation: Situation) -> dict[str, tuple[str, ...]]:
        return with_language(situation.user_id, category=[situation.category], topic=[_folded(situation.topic)])

    def about(history: History) -> dict[str, tuple[str, ...]]:
        return with_language(history.user_id, intent=intents_of(history).names)

    def label(memory: Memory) -> dict[str, tuple[str, ...]]:
        return with_language(memory.user_id, label=[memory.label])

    with_query = {query.situation_id for query in records.queries}
    dropped_situations = [drop for drop in records.drops if drop.stage == "situations" and drop.text]
    proposed = [
        *(_Item(user=s.user_id, kept=True, attributes=with_language(s.user_id)) for s in records.situations),
        *(
            _Item(user=persona.user_id, kept=False, attributes=with_language(persona.user_id))
            for drop in dropped_situations
            if (persona := persona_by_id.get(drop.subject)) is not None
        ),
    ]
    filters = [
        *_stage_filters("history", records.histories, about, records.drops),
        (
            "memories: rejected or superseded",
            [_Item(user=m.user_id, kept=m.status == "kept", attributes=label(m)) for m in records.memories],
        ),
        *_stage_filters("memory", [m for m in records.memories if m.status == "kept"], label, records.drops),
        (
            "personas: depth gate",
            [
                _Item(user=p.user_id, kept=p.is_deep, attributes=with_language(p.user_id, topic=map(_folded, p.topics)))
                for p in records.personas
            ],
        ),
        ("situations: plain rules", proposed),
        (
            "queries: plain rules",
            [_Item(user=s.user_id, kept=s.id in with_query, attributes=moment(s)) for s in records.situations],
        ),
        (
            "queries: inspection",
            [
                _Item(user=q.user_id, kept=inspected[q.id].kept, attributes=moment(situation_by_id[q.situation_id]))
                for q in records.queries
                if q.id in inspected and q.situation_id in situation_by_id
            ],
        ),
    ]
    return [(name, items) for name, items in filters if items]


def _stage_filters(
    what: str,
    records: Sequence[Record],
    attributes: Callable[..., Mapping[str, tuple[str, ...]]],
    drops: Sequence[Drop],
) -> list[tuple[str, list[_Item]]]:
    """Return a filter for every stage that dropped whole histories, or memories, one after the other."""
    ids = {record.id for record in records}
    by_stage: dict[str, set[str]] = {}
    for drop in drops:
        if drop.subject in ids and not drop.failed and not drop.text:
            by_stage.setdefault(drop.stage, set()).add(drop.subject)
    filters = []
    left = list(records)
    for stage, gone in by_stage.items():
        items = [
            _Item(user=str(vars(one)["user_id"]), kept=one.id not in gone, attributes=dict(attributes(one)))
            for one in left
        ]
        filters.append((f"{stage}: {what}", items))
        left = [one for one in left if one.id not in gone]
    return filters


def _folded(topic: str) -> str:
    return " ".join(topic.split()).casefold()
