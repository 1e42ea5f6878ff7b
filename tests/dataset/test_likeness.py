"""Likeness: what tells two texts apart, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.dataset.likeness import fullness, is_negated, state_different_things


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("allergic to peanuts", "allergic to shellfish"),
        ("My son is three", "My daughter is three"),
        ("Jan lives in Leeds", "Jane lives in Leeds"),
        ("She likes loud parties", "He likes loud parties"),
        ("I was a nurse", "I'm a nurse"),
        ("I moved to Leeds", "I moved from Leeds"),
        ("has hepatitis B", "has hepatitis C"),
        ("has 2 cats", "has 3 cats"),
        ("has two cats", "has three cats"),
        ("I like tea", "I don’t like tea"),
        ("I eat meat", "I dont eat meat"),
        ("我女儿三岁了", "我儿子三岁了"),
        ("我今年四十二岁", "我今年二十四岁"),
        ("мой племянник живёт дома", "моя племянница живёт дома"),
    ],
)
def test_each_side_says_what_the_other_does_not(one: str, other: str) -> None:
    assert state_different_things(one, other)
    assert state_different_things(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I don't eat mushrooms", "Remember, I dont eat mushrooms!"),
        ("I love loud parties", "I really loved a loud party"),
        ("She stopped smoking", "She has stopped to smoke"),
        ("My favourite colour is red", "my favorite color's red"),
        ("I organise trips", "I organized a trip"),
        ("My sister's in Leeds", "my sister is in Leeds with the kids"),
        ("喜欢在周末爬山", "喜欢周末爬山"),
        ("сестра живёт дома", "сестру живёт дома"),
        ("", "anything"),
    ],
)
def test_inflections_spellings_and_additions_may_say_the_same(one: str, other: str) -> None:
    assert not state_different_things(one, other)
    assert not state_different_things(other, one)


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_order_of_two_texts_does_not_matter_and_a_text_agrees_with_itself(one: str, other: str) -> None:
    assert state_different_things(one, other) == state_different_things(other, one)
    assert not state_different_things(one, one)


def test_fullness_counts_what_tells_facts_apart() -> None:
    assert fullness("I'm really allergic to the peanuts") == 2
    assert fullness("I'm allergic to peanuts and shellfish") == 3
    assert fullness("") == 0


@pytest.mark.parametrize(("text", "negated"), [("I can't stay", True), ("I cant stay", True), ("I want tea", False)])
def test_a_denial_is_seen_with_and_without_its_apostrophe(text: str, negated: bool) -> None:
    assert is_negated(text) is negated
