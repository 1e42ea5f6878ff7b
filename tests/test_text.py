"""Measures of text against slow and obvious versions of themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.text import cjk_share, containment, content_tokens, is_repetitive, longest_shared_run, tokens

WORDS = ["piano", "nan", "night", "shift", "the", "of", "a", "tea", "x", "42", "妹妹", "钢琴", "我", "don't"]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
ANY = SENTENCES | st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ,.!? -- _", []),
        ("Hello, World!", ["hello", "world"]),
        ("don't won’t", ["don't", "won’t"]),
        ("'quoted' dogs'", ["quoted", "dogs"]),
        ("snake_case co-op", ["snake", "case", "co", "op"]),
        ("A&E at 7am", ["a", "e", "at", "7am"]),
        ("我很好", ["我", "很", "好"]),
        ("我有2只cat，很好。", ["我", "有", "2", "只", "cat", "很", "好"]),
        ("ＦＵＬＬ　ｗｉｄｔｈ", ["full", "width"]),
        ("it's妹妹", ["it's", "妹", "妹"]),
        ("Ünïcode ДОМ", ["ünïcode", "дом"]),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@given(ANY)
def test_tokens_hold_at_most_one_chinese_character(text: str) -> None:
    for token in tokens(text):
        assert token
        assert token == token.lower()
        assert len(token) == 1 or not any("\u3400" <= character <= "\u9fff" for character in token)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("the cat of the house", {"cat", "house"}),
        ("I x 7", set()),
        ("我", set()),
        ("我很好", {"我很", "很好"}),
        ("妹妹,钢琴", {"妹妹", "钢琴"}),
        ("piano钢琴", {"piano", "钢琴"}),
    ],
)
def test_content_tokens(text: str, expected: set[str]) -> None:
    assert content_tokens(text) == expected


def slow_containment(text: str, source: str) -> float:
    there = list(content_tokens(source))
    found = [token for token in content_tokens(text) if token in there]
    everything = list(content_tokens(text))
    return len(found) / len(everything) if everything else 0.0


@given(ANY, ANY)
def test_containment_is_the_share_found(text: str, source: str) -> None:
    share = containment(text, source)
    assert share == slow_containment(text, source)
    assert 0 <= share <= 1


@given(ANY, ANY)
def test_containment_in_itself_and_in_more_of_it(text: str, more: str) -> None:
    assert containment(text, text) == (1 if content_tokens(text) else 0)
    assert containment(text, f"{text}\n{more}") >= containment(text, more)


def test_containment_has_a_direction() -> None:
    assert containment("piano", "piano shift") == 1
    assert containment("piano shift", "piano") == 0.5
    assert containment("the of", "the of") == 0


def slow_longest_run(text: str, source: str) -> int:
    a, b = tokens(text), tokens(source)
    runs = {tuple(b[i:j]) for i in range(len(b)) for j in range(i + 1, len(b) + 1)}
    return max((j - i for i in range(len(a)) for j in range(i + 1, len(a) + 1) if tuple(a[i:j]) in runs), default=0)


@given(SENTENCES, SENTENCES)
def test_longest_shared_run_is_that_of_brute_force(text: str, source: str) -> None:
    run = longest_shared_run(text, source)
    assert run == slow_longest_run(text, source)
    assert run == longest_shared_run(source, text)


@given(ANY, SENTENCES, SENTENCES)
def test_longest_shared_run_finds_what_was_copied(copied: str, before: str, after: str) -> None:
    assert longest_shared_run(copied, copied) == len(tokens(copied))
    assert longest_shared_run(f"{before}\n{copied}\n{after}", copied) == len(tokens(copied))


@given(SENTENCES, st.integers(1, 5))
def test_repetition_is_the_share_of_runs_seen_before(text: str, run: int) -> None:
    sequence = tokens(text)
    seen: list[list[str]] = []
    repeats = 0
    for i in range(len(sequence) - run + 1):
        piece = sequence[i : i + run]
        repeats += piece in seen
        seen.append(piece)
    share = repeats / len(seen) if seen else 0
    assert is_repetitive(text, run=run, most=0.3) == (share > 0.3)


def test_repetition_examples() -> None:
    assert is_repetitive("I am so sorry to hear that. " * 4)
    assert is_repetitive("我很难过我很难过我很难过")
    assert not is_repetitive("one two three")
    assert not is_repetitive("")
    assert not is_repetitive("I am sorry to hear that your brother has cancelled your dinner again.")


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("123 !", 0), ("abcd", 0), ("妹妹", 1), ("ab妹妹 12", 0.5), ("がんばれ", 0)]
)
def test_share_of_chinese(text: str, expected: float) -> None:
    assert cjk_share(text) == expected


@given(st.text())
def test_share_of_chinese_is_a_share(text: str) -> None:
    assert 0 <= cjk_share(text) <= 1


@given(st.text(st.characters(max_codepoint=127)))
def test_tokens_of_plain_text_are_those_of_any_text(text: str) -> None:
    assert tokens(text) == tokens(f"{text} 你")[:-1]
