"""Measures of replies that need no judge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.records import Case, Failure, Reply
from peregrm.training.generation import Written
from peregrm.training.plain import PLAIN, plain_measures, repetition


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("one two three four five six", 0.0),
        ("so it goes on " * 3, 1 - 4 / 9),
        ("我很好我很好我很好", 1 - 3 / 6),
    ],
)
def test_repetition_is_the_share_of_runs_seen_before(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


@settings(max_examples=30)
@given(st.text(max_size=200))
def test_repetition_is_a_share(text: str) -> None:
    assert 0 <= repetition(text) < 1


def measured(case: Case, text: str, failure: Failure | None = None, cut_off: bool = False) -> dict[str, float | None]:
    found = plain_measures(case, Written(case, Reply(case_id=case.id, policy="p", text=text, failure=failure), cut_off))
    assert tuple(found) == PLAIN
    return found


def test_measures_of_a_reply_of_none_and_of_an_empty_one(case: Case) -> None:
    whole = measured(case, "He has a brother called Tom and that hurts.", cut_off=True)
    assert (whole["tokens"], whole["language"], whole["cut_off"], whole["empty"]) == (9.0, 1.0, 1.0, 0.0)
    assert measured(case, "你好，我明白你的感受，真的很难过。")["language"] == 0.0
    empty = measured(case, "")
    assert (empty["tokens"], empty["language"], empty["empty"], empty["no_reply"]) == (0.0, None, 1.0, 0.0)
    none = measured(case, "", Failure(stage="replies", kind="unclosed_thinking", reason="still thinking"))
    assert (none["tokens"], none["repetition"], none["empty"], none["no_reply"]) == (None, None, 0.0, 1.0)
