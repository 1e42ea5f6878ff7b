from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.dataset.grounding import KINDS
from peregrm.dataset.output.bias import BuildRecords, measure_bias
from peregrm.dataset.output.counts import count_reasons, count_stages, measure_lengths
from peregrm.dataset.output.leaks import find_leak
from peregrm.dataset.withholding import NOT_A_REQUEST, WITHHELD
from peregrm.histories.memories import EVIDENCE_NOT_FOUND
from peregrm.pipeline.publish import read_build
from peregrm.records import Drop, Persona, Session, Trait, Turn


@pytest.fixture
def records(make_build: Callable, tmp_path: Path) -> BuildRecords:
    return read_build(make_build(tmp_path / "many", users=12).workspace)[0]


def test_every_filter_is_counted_before_and_after(records: BuildRecords) -> None:
    rows = {(row.filter, row.attribute): row for row in measure_bias(records)}
    inspection = rows["queries: inspection", "category"]
    assert {value.value: (value.before, value.after) for value in inspection.values} == {
        "emotional_support": (12, 12),
        "high_eq": (12, 12),
        "social_strategy": (12, 0),
    }
    assert inspection.drift.v == pytest.approx(1.0)
    assert inspection.drift.p is not None
    assert inspection.drift.p < 0.01
    labels = rows["memories: rejected or superseded", "label"]
    assert (labels.before, labels.after) == (36, 24)
    assert rows["situations: plain rules", "language"].before == 36 + 12
    assert rows["personas: depth gate", "topic"].drift.untested == "nothing was dropped"
    assert rows["queries: inspection", "language"].drift.p == pytest.approx(1.0)


def test_a_stage_that_drops_histories_or_memories_is_a_filter(records: BuildRecords) -> None:
    out = [
        Drop(stage="selection", subject=history.id, kind="intent", reason="not allowed")
        for history in records.histories
        if history.language == "zh"
    ]
    kept = next(memory for memory in records.memories if memory.status == "kept")
    out.append(Drop(stage="labels", subject=kept.id, kind="label", reason="not allowed"))
    records = BuildRecords(**{**vars(records), "drops": [*records.drops, *out]})
    rows = {(row.filter, row.attribute): row for row in measure_bias(records)}
    assert {v.value: (v.before, v.after) for v in rows["selection: history", "language"].values} == {
        "en": (8, 8),
        "zh": (4, 0),
    }
    assert rows["labels: memory", "label"].before - rows["labels: memory", "label"].after == 1
    assert {(r.stage, r.kind, r.n) for r in count_reasons(records)} >= {
        ("selection", "intent", 4),
        ("labels", "label", 1),
    }


def test_intents_of_a_source_that_has_none_are_found_by_words(records: BuildRecords) -> None:
    said = Turn(role="user", text="I feel sad since the funeral")
    histories = [
        history.model_copy(update={"sessions": (Session(session_id="s1", turns=(said,)),)})
        for history in records.histories
    ]
    out = Drop(stage="selection", subject=histories[0].id, kind="intent", reason="not allowed")
    (row,) = (
        row
        for row in measure_bias(BuildRecords(histories=histories, drops=[out]))
        if (row.filter, row.attribute) == ("selection: history", "intent")
    )
    assert row.before > row.after > 0


@pytest.mark.parametrize(
    ("reason", "counted"),
    [
        (KINDS["role_play"], "role-play"),
        (NOT_A_REQUEST, "unsupported"),
        (WITHHELD, "do not remember"),
        (EVIDENCE_NOT_FOUND, EVIDENCE_NOT_FOUND),
        ("he never said so", "marked as wrong by the source"),
    ],
)
def test_what_was_refused_here_is_not_laid_to_the_source(reason: str, counted: str, make_memory: Callable) -> None:
    memory = make_memory(method="source", status="rejected", reason=reason)
    (row,) = count_reasons(BuildRecords(memories=[memory]))
    assert row.kind == f"rejected: {counted}"


def test_counts_of_stages_and_reasons(records: BuildRecords, build: Any) -> None:
    own, cases = read_build(build.workspace)
    stages = {row.stage: (row.records, row.users) for row in count_stages(own, cases)}
    assert stages["memories, all"] == (15, 5)
    assert stages["memories, kept"] == (10, 5)
    assert stages["queries, passed inspection"] == (10, 5)
    assert (stages["cases, generated"], stages["cases, hand-written"]) == ((10, 5), (1, 1))
    assert {(row.stage, row.kind): row.n for row in count_reasons(own)} == {
        ("inspection", "emotional_support"): 5,
        ("memories", "rejected: a question"): 5,
        ("situations", "near copy"): 5,
    }
    assert {row.what for row in measure_lengths(cases)} == {
        "query",
        "situation",
        "persona profile",
        "memories a case (number)",
    }
    assert measure_lengths([]) == []


PERSONA = Persona(
    user_id="u",
    history_id="his-0",
    profile="A nurse on nights\nwho keeps an old greyhound that cannot climb the stairs",
    traits=(Trait(text="Needs to be told things straight and first thing", memory_ids=("mem-0",)),),
    is_deep=True,
    gate_reason="x",
    method="test",
)


@pytest.mark.parametrize(
    ("query", "verbatim", "near"),
    [
        ("my old greyhound that cannot climb the stairs fell", True, True),
        ("keeps greyhound, climb stairs: cannot", False, True),
        ("on nights who keeps an old cat", False, False),
        ("told straight", False, False),
        ("Tom cancelled again and I laughed it off", False, False),
        ("", False, False),
    ],
)
def test_leaks(query: str, verbatim: bool, near: bool) -> None:
    leak = find_leak("u", query, PERSONA, [])
    assert (leak.verbatim_persona, leak.near_copy) == (verbatim, near)
    assert not leak.verbatim_memory


def test_leaks_in_chinese_count_characters(make_memory: Callable) -> None:
    memory = make_memory("每天晚上都要给妈妈打电话")
    assert find_leak("u", "我每天晚上都要给妈妈打电话怎么办", PERSONA, [memory]).verbatim_memory
    assert not find_leak("u", "每天晚上都要睡觉", PERSONA, [memory]).verbatim_memory
