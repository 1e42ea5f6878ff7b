"""What a build kept and what it dropped, counted by stage and reason, from its files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median, quantiles

from peregrm.dataset.grounding import KINDS
from peregrm.dataset.output.bias import BuildRecords
from peregrm.dataset.withholding import NOT_A_REQUEST, WITHHELD
from peregrm.histories.memories import EVIDENCE_NOT_FOUND
from peregrm.records import Case, Memory, Part
from peregrm.text import tokens

__all__ = ["Lengths", "Reason", "StageCount", "count_reasons", "count_stages", "measure_lengths", "memory_reason"]


_OUR_REASONS = frozenset({*KINDS.values(), NOT_A_REQUEST, WITHHELD, EVIDENCE_NOT_FOUND})


class StageCount(Part):
    """How many records a stage gave, and of how many users."""

    stage: str
    records: int
    users: int


class Reason(Part):
    """How many things one stage dropped for one reason. `failed`: a model gave no usable answer, no gate said no."""

    stage: str
    kind: str
    n: int
    failed: bool = False


class Lengths(Part):
    """Lengths in tokens (`peregrm.text`: words, and single Chinese characters) of `n` texts."""

    what: str
    n: int
    shortest: int
    median: float
    p95: float
    longest: int


def count_stages(records: BuildRecords, cases: Sequence[Case]) -> list[StageCount]:
    """Return what every stage kept, in the order of the pipeline."""
    kept = [memory for memory in records.memories if memory.status == "kept"]
    users_of_query = {query.id: query.user_id for query in records.queries}
    rows: list[tuple[str, list[str]]] = [
        ("histories", [one.user_id for one in records.histories]),
        ("memories, all", [one.user_id for one in records.memories]),
        ("memories, kept", [one.user_id for one in kept]),
        ("personas, all", [one.user_id for one in records.personas]),
        ("personas, deep", [one.user_id for one in records.personas if one.is_deep]),
        ("situations", [one.user_id for one in records.situations]),
        ("queries", [one.user_id for one in records.queries]),
        ("queries, passed inspection", [users_of_query.get(i.query_id, "") for i in records.inspections if i.kept]),
        ("cases, generated", [one.user_id for one in cases if one.origin == "generated"]),
        ("cases, hand-written", [one.user_id for one in cases if one.origin == "gold"]),
    ]
    return [StageCount(stage=name, records=len(users), users=len(set(users))) for name, users in rows]


def count_reasons(records: BuildRecords) -> list[Reason]:
    """Return the counts of everything that was dropped, rejected, superseded or refused, most frequent first within a stage."""
    found: Counter[tuple[str, str, bool]] = Counter()
    for drop in records.drops:
        found[drop.stage, drop.kind, drop.failed] += 1
    for memory in records.memories:
        if memory.status != "kept":
            found["memories", f"{memory.status}: {memory_reason(memory)}", False] += 1
    for inspection in records.inspections:
        if inspection.failure is not None:
            found["inspection", inspection.failure.kind, True] += 1
        elif not inspection.kept:
            gates = {reason.split(":")[0] for reason in inspection.reasons} or {"no reason given"}
            found["inspection", " and ".join(sorted(gates)), False] += 1
    ordered = sorted(found, key=lambda key: (key[0], -found[key], key))
    return [
        Reason(stage=stage, kind=kind, n=found[stage, kind, failed], failed=failed) for stage, kind, failed in ordered
    ]


def memory_reason(memory: Memory) -> str:
    """Return why a memory is not kept, in the few words it is counted by; a source writes its own, a sentence each.

    What was refused here says so, whoever wrote the memory.
    """
    if memory.method == "source" and memory.status == "rejected" and memory.reason not in _OUR_REASONS:
        return "marked as wrong by the source"
    return (memory.reason or "no reason").split(":")[0]


def measure_lengths(cases: Sequence[Case]) -> list[Lengths]:
    """Return the lengths of what a case holds; nothing where there are no cases."""
    texts = {
        "query": [case.query for case in cases],
        "situation": [case.situation for case in cases],
        "persona profile": [case.persona.profile for case in cases],
    }
    rows = {what: [len(tokens(text)) for text in some] for what, some in texts.items()}
    rows["memories a case (number)"] = [len(case.memories) for case in cases]
    return [
        Lengths(what=what, n=len(some), shortest=min(some), median=median(some), p95=_p95(some), longest=max(some))
        for what, some in rows.items()
        if some
    ]


def _p95(values: Sequence[int]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else float(values[0])
