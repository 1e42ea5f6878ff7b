"""The table of task 1: failures stay out of means, ranks, the published figures, and methods of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import ArtifactError
from peregrm.evaluation.benchmarks.alpsbench.packets import Answer, Packet, read_packets
from peregrm.evaluation.benchmarks.alpsbench.result import (
    BLIND,
    MethodRow,
    Task1Result,
    task1_result,
)
from peregrm.evaluation.benchmarks.alpsbench.run import extractive_method, model_method, run_task1
from peregrm.mapping import NoProgress
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Failure

MakePackets = Callable[..., Path]


@pytest.fixture
def packets(packets_file: MakePackets) -> list[Packet]:
    return read_packets(packets_file())


def row_of(result: Task1Result, method: str) -> MethodRow:
    (row,) = [row for row in result.rows if row.method == method]
    return row


def test_a_failed_call_has_no_score_but_found_nothing_for_those_who_published(packets: list[Packet]) -> None:
    row = row_of(task1_result(packets, {}), "qwen3-max")
    # s1: the call failed. s2: it says nothing where only a wrong reference stands.
    assert (row.score.n, row.score.asked, row.score.mean) == (1, 2, 100)
    assert row.failures == (("no_answer", 1),)
    assert row.as_published.mean == 0
    assert [score.score for score in row.packets] == [None, 100]
    assert row.items == 0


def test_memories_marked_as_wrong_are_not_to_be_found(packets: list[Packet]) -> None:
    row = row_of(task1_result(packets, {}), "gpt-5.2")
    # s1: both right ones found, and the wrong one counts for those who published: F1 4/5. s2: a memory where there is none.
    assert [score.score for score in row.packets] == pytest.approx([100, 0])
    assert row.packets[0].as_published == pytest.approx(100 * (0.6 + 0.4 * 4 / 5))
    assert (row.score.mean, row.f1.mean, row.items) == pytest.approx((50, 0.5, 1.5))


def test_the_table_says_what_it_rests_on_and_ranks_by_score(packets: list[Packet]) -> None:
    result = task1_result(packets, {"mine": {p.packet_id: Answer(items=p.references) for p in packets}})
    assert (result.packets, result.users, result.references, result.rejected_references) == (2, 2, 2, 2)
    assert result.without_reference == 1
    assert [(row.method, row.rank) for row in result.rows][:3] == [("mine", 1), ("qwen3-max", 1), ("gpt-5.2", 3)]
    assert row_of(result, "mine").kind == "own"
    assert row_of(result, BLIND).kind == "floor"
    assert row_of(result, "mine").published is None
    assert row_of(result, "gpt-5.2").published == 41.43
    assert row_of(result, "gpt-5.2").published_rank == 4
    assert [name for name, _ in row_of(result, "mine").languages] == ["other"]


def test_a_method_without_any_answer_has_no_rank(packets: list[Packet]) -> None:
    lost = Answer(failure=Failure(stage="memories", kind="timeout", reason="no time"))
    result = task1_result(packets, {"mine": {packet.packet_id: lost for packet in packets}})
    assert result.rows[-1].method == "mine"
    assert (result.rows[-1].rank, result.rows[-1].score.mean, result.rows[-1].items) == (None, None, None)


def test_answers_have_to_belong_to_the_packets(packets: list[Packet]) -> None:
    with pytest.raises(ArtifactError, match="do not fit together: s2"):
        task1_result(packets, {"mine": {"s1": Answer()}})
    with pytest.raises(ArtifactError, match="do not fit together: s3"):
        task1_result(packets, {"mine": {"s1": Answer(), "s2": Answer(), "s3": Answer()}})
    for taken in (BLIND, "gpt-5.2"):
        with pytest.raises(ArtifactError, match="already"):
            task1_result(packets, {taken: {"s1": Answer(), "s2": Answer()}})


def test_a_model_that_a_packet_lacks_is_missing_there(packets: list[Packet]) -> None:
    without = packets[0].model_copy(update={"answers": {}})
    row = row_of(task1_result([without, packets[1]], {}), "gpt-5.2")
    assert row.failures == (("missing", 1),)
    assert (row.score.n, row.score.asked) == (1, 2)


def test_agreement_needs_three_models_with_different_scores(packets: list[Packet]) -> None:
    few = task1_result(packets, {}).agreement
    assert (few.models, few.spearman, few.kendall) == (2, None, None)
    assert few.mean_difference == pytest.approx((abs(46.0 - 41.43) + 39.01) / 2)
    ours = {"gemini-3-flash-preview": 2, "gpt-5.2": 1, "llama-4-maverick": 0}
    answers = {model: Answer(items=packets[0].references[:count]) for model, count in ours.items()}
    both = [packet.model_copy(update={"answers": answers, "rejected": ()}) for packet in packets[:1]]
    known = task1_result(both, {}).agreement
    assert known.models == 3
    assert known.spearman == pytest.approx(1)
    assert known.kendall == pytest.approx(1)
    assert known.with_interval == 0


def test_a_model_recorded_again_under_another_name_was_published_once(packets: list[Packet]) -> None:
    answers = dict.fromkeys(("gpt-4.1-mini", "gpt-4.1-mini_again"), Answer(items=packets[0].references))
    again = task1_result([packets[0].model_copy(update={"answers": answers})], {})
    assert {(row.published, row.published_rank) for row in again.rows if row.kind == "recorded"} == {(33.69, 6)}


def test_the_result_is_written_and_read(packets: list[Packet]) -> None:
    result = task1_result(packets, {})
    assert Task1Result.model_validate_json(result.model_dump_json()) == result


def note(**rest: Any) -> dict[str, Any]:
    usual = {
        "label": "Possessions/Pet",
        "type": "direct",
        "about": "user",
        "value": "Has a dog named Rex",
        "turn": 0,
        "quote": "My dog Rex",
        "confidence": 95,
        "time_scope": "long_term",
    }
    return {**usual, **rest}


async def test_a_model_is_asked_and_what_it_cannot_prove_is_no_answer(packets: list[Packet]) -> None:
    good = json.dumps({"memories": [note(), note(value="Has a cat", quote="my cat")]})
    model = ScriptedModel([good, json.dumps({"memories": []})])
    result = await run_task1(packets, {"asked": model_method(model)}, NoProgress())
    row = row_of(result, "asked")
    assert [score.items for score in row.packets] == [1, 0]
    assert row.packets[0].recall == 0.5
    assert row.packets[1].score == 100


async def test_a_model_that_answers_nonsense_has_no_score(packets: list[Packet]) -> None:
    model = ScriptedModel(lambda request: "I cannot do that")
    result = await run_task1(packets, {"asked": model_method(model)}, NoProgress())
    row = row_of(result, "asked")
    assert (row.score.n, row.score.asked, row.failures) == (0, 2, (("unparsable", 2),))
    failure = row.packets[0].failure
    assert failure is not None
    assert failure.reason.startswith("1 of 1 parts without an answer")


async def test_the_extractive_method_sees_the_dialogue_alone(packets: list[Packet]) -> None:
    blank = [packet.model_copy(update={"references": (), "answers": {}}) for packet in packets]
    method = extractive_method(None)
    assert [await method(packet) for packet in packets] == [await method(packet) for packet in blank]
    found = await method(packets[0])
    assert found.failure is None
    assert all(item.confidence is not None for item in found.items)
