"""Tones of replies and the wishes of people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.reward.heads.tones import Statement, sentences_of, tone_names, tones_of, wishes_of


def wish(text: str, tone: str, leaning: int = 1) -> float:
    return float(wishes_of([Statement(text, leaning)])[tone_names().index(tone)])


@pytest.mark.parametrize(
    ("text", "tone", "sign"),
    [
        ("Wants facts first, with no pep talk", "facts", 1),
        ("Wants facts first, with no pep talk", "pep", -1),
        ("Cannot stand pity", "pity", -1),
        ("Does not want breathing exercises", "wellness", -1),
        ("Wants company, not comfort", "company", 1),
        ("Wants company, not comfort", "warmth", -1),
        ("A list given too fast makes her feel stupid", "steps", -1),
        ("Likes to be teased", "tease", 1),
        ("Teasing is how they show affection", "tease", 1),
        ("Don't tell me to pray", "faith", -1),
        ("Lives in Leeds", "tease", 0),
    ],
)
def test_a_wish_points_the_way_its_words_say(text: str, tone: str, sign: int) -> None:
    assert np.sign(wish(text, tone)) == sign


def test_a_kind_of_statement_leans_where_its_words_say_nothing() -> None:
    assert wish("Jokes about Conor", "tease", leaning=-1) < 0 < wish("Jokes about Conor", "tease", leaning=1)


@pytest.mark.parametrize(
    ("sentence", "tone"),
    [
        ("You've got this!", "pep"),
        ("Shall we?", "asks"),
        ("Try a bath.", "wellness"),
        ("no worries at all", "casual"),
        ("Leave it.", "short"),
    ],
)
def test_a_sentence_has_its_tone(sentence: str, tone: str) -> None:
    assert tones_of([sentence])[tone_names().index(tone)] == 1


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200))
def test_tones_are_shares_and_do_not_grow_with_length(text: str) -> None:
    once, twice = tones_of(sentences_of(text)), tones_of(sentences_of(text) * 2)
    assert ((once >= 0) & (once <= 1)).all()
    assert np.allclose(once, twice)
    assert (np.abs(wishes_of([Statement(text, 1)])) <= 1).all()


def test_very_long_text_takes_no_longer_than_its_length() -> None:
    text = "a" * 20_000 + " " + "so " * 5_000
    assert tones_of(sentences_of(text)).shape == (len(tone_names()),)
    assert wishes_of([Statement(text, 1)]).shape == (len(tone_names()),)


def test_a_long_wish_with_many_turns_is_read_once() -> None:
    """Each "no" is one more turn before each "warm": what holds at a place must not be looked for among all of them."""
    text = "wants jokes, " + "no warm " * 5_000
    found = wishes_of([Statement(text, 1)])
    assert found[tone_names().index("warmth")] == -np.tanh(1.0)
    assert found[tone_names().index("humour" if "humour" in tone_names() else "tease")] >= 0
