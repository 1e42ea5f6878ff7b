"""Parts of a history are disjoint, whole exchanges stay together, and memories go where their evidence stands."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.evaluation.validity.stability import SESSIONS, TURNS
from peregrm.pipeline.validity.halves import dated_sessions, split_history
from peregrm.records import Evidence, History, Memory, Session, Turn


def history(sizes: list[int], dates: list[str | None] | None = None, **fields: object) -> History:
    sessions = tuple(
        Session(
            session_id=f"s{n}",
            date=dates[n] if dates else None,
            turns=tuple(
                Turn(role=role, text=f"{role} {n}.{place}") for place in range(size) for role in ("user", "assistant")
            ),
        )
        for n, size in enumerate(sizes)
    )
    return History.model_validate({"user_id": "ada", "language": "en", "sessions": sessions, **fields})


def said(part: History) -> list[str]:
    return [turn.text for session in part.sessions for turn in session.turns]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_parts_are_disjoint_and_odd_and_even_together_are_the_whole(sizes: list[int]) -> None:
    whole = history(sizes)
    splits = split_history(whole)
    if sizes == [1]:
        assert splits == []
        return
    even, late = splits
    assert even.name == (SESSIONS if len(sizes) > 1 else TURNS)
    assert sorted(said(even.first) + said(even.second)) == sorted(said(whole))
    assert not set(said(late.first)) & set(said(late.second))
    order = said(whole)
    assert max(map(order.index, said(late.first))) < min(map(order.index, said(late.second)))
    for part in (even.first, even.second, late.first, late.second):
        roles = [turn.role for session in part.sessions for turn in session.turns]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert part.user_id == "ada"


def memory(*places: tuple[str, int]) -> Memory:
    evidence = tuple(Evidence(session_id=name, turn=turn, quote="") for name, turn in places)
    return Memory(user_id="ada", label="x", type="direct", value=str(places), evidence=evidence, method="test")


def test_memories_of_a_source_go_where_their_evidence_stands_or_nowhere() -> None:
    own = (memory(("s0", 2)), memory(("s0", 4)), memory(("s0", 0), ("s0", 2)), memory())
    first, second = split_history(history([3], memories=own))[0][1:]
    assert [one.value for one in first.memories] == [own[1].value]
    assert [one.value for one in second.memories] == [own[0].value]
    assert first.memories[0].evidence[0].turn == 2  # the second exchange before it went to the other half
    assert said(first)[2] == "user 0.2"


def test_dated_sessions_are_alone_and_months_apart() -> None:
    known = dated_sessions(history([1, 2, 1], ["2025-01-01", None, "2025-07-02T10:00:00"]))
    assert [said(one.history)[0] for one in known] == ["user 0.0", "user 2.0"]
    assert 5.9 < known[1].months - known[0].months < 6.1
    assert dated_sessions(history([1], ["last week"])) == []
