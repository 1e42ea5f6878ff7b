from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from answer_types import Score, Verdict
from peregrm.models.structured import Unparsed, parse_answer, strict_schema


class Share(BaseModel):
    share: float


class Note(BaseModel):
    text: str
    score: int = Field(ge=1, le=5)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 4}', 4),
        (' \n{"score":4}\n ', 4),
        ('\ufeff{"score": 4}', 4),
        ('```json\n{"score": 4}\n```', 4),
        ('```\n{"score": 4}\n```', 4),
        ('Here you go: {"score": 4}. I hope it helps!', 4),
        ('<think>It is a {"score": 5}.</think>{"score": 2}', 2),
        ('<think>a</think>\n<think>b</think> {"score": 2}', 2),
        ('It began before. {"score": 5} </think> {"score": 2}', 2),
        ('<Thinking>x</Thinking>{"score": 2}', 2),
        ('A 5 would be {"score": 5}. Final: {"score": 2}', 2),
        ('{"score": 2} and {"score": 2}', 2),
        ('{"score": 3} {"score": 9}', 3),
        ('{"score": 3} {"other": 1}', 3),
        ('{"score": 5} then {"score": 2,}', 2),
        ('{"score": 3} no, {"score": ', 3),
        ('I use {braces} and {x}. {"score": 4}', 4),
        ('\\boxed{{"score": 4}}', 4),
        ('a } b ] {"score": 4}', 4),
        ("{'score': 4}", 4),
        ("{score: 4}", 4),
        ('{"score": 4,}', 4),
        ("{“score”: 4}", 4),
    ],
)
def test_answers_that_count(text: str, score: int) -> None:
    assert parse_answer(text, Score) == Score(score=score)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("<think>done</think>  ", "empty"),
        ('<think>It is {"score": 5}', "unclosed_thinking"),
        ('<think>a</think> {"score": 5} <think> or', "unclosed_thinking"),
        ("I'm sorry, but I can't help with that.", "unparsable"),
        ("\\boxed{5}", "unparsable"),
        ("\\boxed{45}", "unparsable"),
        ("\\boxed{4/5}", "unparsable"),
        ("\\boxed{4.5.}", "unparsable"),
        ("4", "invalid"),
        ("Score: 4", "unparsable"),
        ('"4"', "invalid"),
        ("null", "invalid"),
        ('[{"score": 4}]', "invalid"),
        ('{"score": "4/5"}', "invalid"),
        ('{"score": "4"}', "invalid"),
        ('{"score": 4.5}', "invalid"),
        ('{"score": 4.0}', "invalid"),
        ('{"score": true}', "invalid"),
        ('{"score": null}', "invalid"),
        ('{"score": [4]}', "invalid"),
        ('{"score": 0}', "invalid"),
        ('{"score": 6}', "invalid"),
        ('{"score": -1}', "invalid"),
        ('{"score": 45}', "invalid"),
        ('{"score": 1e0}', "invalid"),
        ('{"score": NaN}', "invalid"),
        ('{"score": 4, "extra": 1}', "invalid"),
        ('{"Score": 4}', "invalid"),
        ("{}", "invalid"),
        ('{"score": 5, "score": 2}', "invalid"),
        ('so {"score": 5, "score": 2}', "invalid"),
        ('{"score": 4/5}', "invalid"),
        ('{"score": four}', "invalid"),
        ('{"score": 4 5}', "unparsable"),
        ('{"score": 4 out of 5}', "unparsable"),
        ('{"score": 04}', "unparsable"),
        ('{"score": +4}', "unparsable"),
        ('{"score": 4 // generous\n}', "unparsable"),
        ('{"score": 4', "unparsable"),
        ('{"score": "4}', "unparsable"),
        ('{"score": 4]}', "unparsable"),
        ('{"a": {"score": 5}', "unparsable"),
        ('{"a": [{"score": 5}, ', "unparsable"),
        ("[" * 100_000, "unparsable"),
        ('{"a":' * 100_000, "unparsable"),
        ('{"score": ' + "9" * 5000 + "}", "invalid"),
    ],
)
def test_answers_that_do_not_count(text: str, kind: str) -> None:
    parsed = parse_answer(text, Score)
    assert isinstance(parsed, Unparsed)
    assert parsed.kind == kind
    assert parsed.reason


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none(literal: str) -> None:
    parsed = parse_answer(f'{{"share": {literal}}}', Share)
    assert isinstance(parsed, Unparsed)
    assert parsed.kind == "invalid"


def test_whole_number_serves_as_a_float() -> None:
    assert parse_answer('{"share": 1}', Share) == Share(share=1.0)


@pytest.mark.parametrize(
    "note",
    [
        "he said <think> and </think>",
        "a } or { or ]",
        'quotes " and \\ and \\" and \n',
        '{"score": 5}',
        '```json\n{"text": "x", "score": 5}\n```',
        "\\boxed{5}",
        "中文 😀 \u2028",
    ],
)
@pytest.mark.parametrize("before", ["", "<think>hm</think>"])
def test_nothing_inside_a_string_is_read_as_a_verdict(note: str, before: str) -> None:
    body = json.dumps({"text": note, "score": 2}, ensure_ascii=False)
    assert parse_answer(before + body, Note) == Note(text=note, score=2)


def test_line_breaks_inside_strings_pass() -> None:
    assert parse_answer('{"text": "a\nb\tc", "score": 2}', Note) == Note(text="a\nb\tc", score=2)


def test_unescaped_quotes_are_mended() -> None:
    text = '{"text": "she said "hi" to me", "score": 2}'
    assert parse_answer(text, Note) == Note(text='she said "hi" to me', score=2)


def test_repair_cannot_choose_between_two_scores() -> None:
    text = '{"text": "it says "good", "score": 5, "x": "", "score": 2}'
    assert isinstance(parse_answer(text, Note), Unparsed)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"score": 4}', Score(score=4)),
        ('{"score": 4} and then', Score(score=4)),
        ('{"score": 4', "truncated"),
        ('{"score": 4,}', "truncated"),
        ('{"score": 9} {"sco', "truncated"),
        ("so I think", "truncated"),
        ("<think>so I", "unclosed_thinking"),
    ],
)
def test_truncated_text_is_never_completed_or_repaired(text: str, outcome: Score | str) -> None:
    parsed = parse_answer(text, Score, truncated=True)
    assert (parsed.kind if isinstance(parsed, Unparsed) else parsed) == outcome


def test_keys_must_all_be_there_whatever_the_defaults() -> None:
    full: dict[str, Any] = {"items": [{"score": 3, "why": "x"}], "mode": None}
    assert isinstance(parse_answer(json.dumps(full), Verdict), Verdict)
    cases = [
        ({"items": []}, "mode: missing"),
        ({**full, "items": [{"score": 3}]}, "items.0.why: missing"),
        ({**full, "more": 1}, "more: not in the schema"),
        ({**full, "items": [{"score": 3, "why": "", "z": 1}]}, "items.0.z"),
    ]
    for document, words in cases:
        parsed = parse_answer(json.dumps(document), Verdict)
        assert isinstance(parsed, Unparsed)
        assert words in parsed.reason


def test_reasons_name_the_place_and_stay_short() -> None:
    items = [{"score": 9, "why": "secret"}] * 30
    parsed = parse_answer(json.dumps({"items": items, "mode": "c"}), Verdict)
    assert isinstance(parsed, Unparsed)
    assert "items.0.score" in parsed.reason
    assert "and 26 more" in parsed.reason
    assert "secret" not in parsed.reason


def test_check_can_refuse() -> None:
    def even(value: Score) -> str | None:
        return None if value.score % 2 == 0 else "the score must be even"

    assert parse_answer('{"score": 4}', Score, check=even) == Score(score=4)
    assert parse_answer('{"score": 3}', Score, check=even) == Unparsed("check", "the score must be even")
    assert parse_answer('{"score": 4} {"score": 3}', Score, check=even) == Score(score=4)


@given(st.text(), st.integers(1, 5))
def test_any_note_comes_back(note: str, score: int) -> None:
    text = json.dumps({"text": note, "score": score})
    assert parse_answer(text, Note) == Note(text=note, score=score)


@given(st.text(st.sampled_from("{}[]\":,\\ 45ascore<think>/\n'")), st.booleans())
def test_no_text_breaks_the_parser_or_yields_an_invalid_value(text: str, truncated: bool) -> None:
    parsed = parse_answer(text, Score, truncated=truncated)
    assert isinstance(parsed, Unparsed) or (type(parsed.score) is int and 1 <= parsed.score <= 5)


@given(st.text(), st.integers(1, 5), st.data())
def test_no_part_of_an_answer_is_completed(note: str, score: int, data: st.DataObject) -> None:
    text = json.dumps({"text": note, "score": score})
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert isinstance(parse_answer(cut, Note), Unparsed)
    assert isinstance(parse_answer(cut, Note, truncated=True), Unparsed)


def test_strict_schema_is_flat_closed_and_without_internal_words() -> None:
    schema = strict_schema(Verdict)
    text = json.dumps(schema)
    assert "$" not in text
    assert "Internal words" not in text
    assert "title" not in text
    assert "default" not in text
    assert schema["required"] == ["items", "mode"]
    assert schema["additionalProperties"] is False
    item = schema["properties"]["items"]["items"]
    assert item["required"] == ["score", "why"]
    assert item["additionalProperties"] is False
    assert item["properties"]["score"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert schema["properties"]["mode"]["description"] == "Which of the two."


def test_fields_named_like_schema_words_stay() -> None:
    class Odd(BaseModel):
        title: str
        default: int
        properties: Score
        kind: Literal["title", "default"]

    schema = strict_schema(Odd)
    assert list(schema["properties"]) == ["title", "default", "properties", "kind"]
    assert schema["properties"]["kind"]["enum"] == ["title", "default"]
    assert schema["properties"]["properties"]["properties"]["score"]["type"] == "integer"


class Tree(BaseModel):
    children: list[Tree]


def test_schema_of_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="Tree"):
        strict_schema(Tree)
