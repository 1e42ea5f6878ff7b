"""Merging: the earliest stays, all evidence is united, and nothing else is joined."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.dataset.merging import merge_memories
from peregrm.records import Evidence, History, Memory, Session, Turn

MakeMemory = Callable[..., Memory]
HISTORY = History(
    user_id="ada",
    language="en",
    sessions=tuple(
        Session(session_id=f"s{n}", turns=tuple(Turn(role="user", text="x") for _ in range(4))) for n in range(3)
    ),
)


def at(session: int, turn: int) -> Evidence:
    return Evidence(session_id=f"s{session}", turn=turn, quote="x")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_earliest_wording_stays_with_all_evidence_in_time_order(
    make_memory: MakeMemory, order: tuple[int, ...]
) -> None:
    said = [
        make_memory("Has a brother called Tom", evidence=(at(0, 2),), confidence=0.5),
        make_memory("has a brother called Tom.", evidence=(at(1, 0),), confidence=0.9),
        make_memory("Has a brother called Tom", label="UNMAPPED", evidence=(at(2, 1),), confidence=None),
    ]
    (memory,) = merge_memories(HISTORY, [said[n] for n in order])
    assert (memory.value, memory.label, memory.confidence) == ("Has a brother called Tom", said[0].label, 0.9)
    assert memory.evidence == (at(0, 2), at(1, 0), at(2, 1))


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        ("Loves strong black coffee", "loves  strong, black coffee!", True),
        ("Moved from Leeds to Bristol last year", "Moved from Bristol to Leeds last year", False),
        ("Programs in C++ at work", "Programs in C# at work", False),
        ("दाल", "दूल", False),
        ("मुझे दाल", "मुझे  दाल।", True),
        ("Loves coffee", "Does not love coffee", False),
        ("Has 2 cats and a dog", "Has 3 cats and a dog", False),
        ("Loves coffee", "Loves tea", False),
        (
            "Has a son who is three years old, goes to the nursery near work and loves dinosaurs",
            "Has a daughter who is three years old, goes to the nursery near work and loves dinosaurs",
            False,
        ),
        ("Collects vintage postcards of lighthouses", "Collected vintage postcards of the lighthouse", True),
        ("喜欢在周末爬山", "喜欢在周末爬山。", True),
        ("喜欢爬山", "不喜欢爬山", False),
    ],
)
def test_near_the_same_is_one_unless_it_denies_or_counts_otherwise(
    make_memory: MakeMemory, one: str, other: str, joined: bool
) -> None:
    merged = merge_memories(HISTORY, [make_memory(one, evidence=(at(0, 0),)), make_memory(other, evidence=(at(1, 0),))])
    assert len(merged) == (1 if joined else 2)


@pytest.mark.parametrize("turned", [False, True])
def test_the_wording_that_says_more_stays(make_memory: MakeMemory, turned: bool) -> None:
    values = ["Likes long walks along the river", "Likes long walks along the river alone"]
    values = values[::-1] if turned else values
    said = [make_memory(value, evidence=(at(n, 0),)) for n, value in enumerate(values)]
    (memory,) = merge_memories(HISTORY, said)
    assert memory.value == "Likes long walks along the river alone"
    assert memory.evidence == (at(0, 0), at(1, 0))


def test_what_one_turn_says_keeps_the_order_in_which_it_came(make_memory: MakeMemory) -> None:
    brief, full = (
        make_memory("Has a cat", evidence=(at(1, 2),)),
        make_memory("Plays chess with a club", evidence=(at(1, 2),)),
    )
    first = make_memory("Lives in Leeds", evidence=(at(0, 3),))
    assert merge_memories(HISTORY, [brief, full, first]) == [first, brief, full]
    assert merge_memories(HISTORY, [full, first, brief]) == [first, full, brief]


def test_what_has_no_evidence_comes_last_in_the_order_of_the_source(make_memory: MakeMemory) -> None:
    brief, full = make_memory("Has a cat", evidence=()), make_memory("Plays chess with a club", evidence=())
    said = make_memory("Lives in Leeds", evidence=(at(2, 3),))
    assert merge_memories(HISTORY, [brief, full, said]) == [said, brief, full]


def test_evidence_of_one_turn_keeps_the_order_in_which_it_came(make_memory: MakeMemory) -> None:
    places = [at(0, 1).model_copy(update={"quote": quote}) for quote in ("brief", "full")]
    values = ["Likes long walks along the river", "Likes long walks along the river alone"]
    said = [make_memory(value, evidence=(place,)) for value, place in zip(values, places, strict=True)]
    (memory,) = merge_memories(HISTORY, said)
    assert (memory.value, memory.evidence) == (values[1], tuple(places))


def test_rejected_and_kept_are_never_joined(make_memory: MakeMemory) -> None:
    kept, rejected = make_memory(), make_memory(status="rejected", reason="role-play")
    assert len(merge_memories(HISTORY, [kept, rejected])) == 2


WORDS = st.sampled_from(["tea", "no tea", "tea 2", "tea 3", "coffee", "我爱茶"])


@given(st.lists(st.tuples(WORDS, st.integers(0, 2), st.integers(0, 3)), max_size=12))
def test_merging_loses_no_evidence_and_is_done_once(rows: list[tuple[str, int, int]]) -> None:
    memories = [
        Memory(user_id="ada", label="UNMAPPED", type="direct", value=value, evidence=(at(s, t),), method="test")
        for value, s, t in rows
    ]
    merged = merge_memories(HISTORY, memories)
    assert {e for m in merged for e in m.evidence} == {e for m in memories for e in m.evidence}
    assert merge_memories(HISTORY, merged) == merged
    assert len({m.value for m in merged}) == len({m.value for m in memories})
