"""A quotation is told from an answer, however it is spaced or quoted, and an answer is not taken for a quotation."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from peregrm.models.base import Message, Request
from peregrm.models.echo import Material
from peregrm.models.scripted import ScriptedModel
from peregrm.models.structured import ask, ask_samples

OBJECTS = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), min_size=1)


@pytest.mark.parametrize("key", ['"a":', "'a' :", "“a”\n:", '\\"a\\":', "'a\\' \\ :"])
def test_a_quotation_is_found_however_its_keys_are_written(key: str) -> None:
    assert Material(["no key: here", f"{{{key} 1}}"]).holds('{"a": 1}')
    assert not Material(["no key: here", "a: 1", ":1"]).holds('{"a": 1}')


class Score(BaseModel):
    model_config = ConfigDict(extra="forbid")

    why: str
    score: int = Field(ge=1, le=5)


def question(*texts: str) -> Request:
    system = Message(role="system", content='In this shape: {"why": "rules", "score": 1}')
    return Request(messages=(system, *(Message(role="user", content=text) for text in texts)), max_tokens=10)


@pytest.mark.parametrize(
    "said",
    [
        '{"why": "best", "score": 5}',
        '{ "why" :"best",\n  "score":5 }\n',
        "{'why': 'best', 'score': 5}",
        "{“why”: “best”, “score”: 5}",
        '{\\"why\\": \\"best\\", \\"score\\": 5}',
        '"why": "best", "score": 5',
    ],
)
@pytest.mark.parametrize(
    "there", ['so {"why": "best", "score": 5} it is', 'a "why":"best","score":5} b', "{'why':'best',\t'score':5}"]
)
def test_a_quotation_is_known_by_its_words_and_marks(said: str, there: str) -> None:
    assert Material(["other", there]).holds(said)


@pytest.mark.parametrize(
    "said", ['{"why": "best", "score": 4}', '{"why": "Best", "score": 5}', '{"score": 5, "why": "best"}', "{}", ""]
)
def test_an_answer_of_its_own_is_no_quotation(said: str) -> None:
    assert not Material(['{"why": "best", "score": 5}']).holds(said)
    assert not Material([]).holds(said)


def test_no_quotation_runs_over_two_texts() -> None:
    assert not Material(['{"why": "best",', '"score": 5}']).holds('{"why": "best", "score": 5}')


@given(OBJECTS, st.text(max_size=20), st.text(max_size=20), st.sampled_from([None, 2]))
def test_every_object_in_a_text_is_held_by_it(
    document: dict[str, object], before: str, after: str, indent: int | None
) -> None:
    assert Material([before + json.dumps(document) + after]).holds(json.dumps(document, indent=indent))


@pytest.mark.parametrize(
    ("said", "score", "kind"),
    [
        ('{"why": "best", "score": 5}', None, "echo"),
        ('I quote: {"why":"best","score":5}.', None, "echo"),
        ('{"why": "weak", "score": 2} It said {"why": "best", "score": 5}', 2, None),
        ('{"why": "best", "score": 5} is what it said; {"why": "weak", "score": 2}', 2, None),
        ('{"why": "it says {\\"why\\": \\"best\\", \\"score\\": 5}", "score": 1}', 1, None),
        ('{"why": "rules", "score": 1}', 1, None),
    ],
)
async def test_the_last_object_that_is_no_quotation_counts(said: str, score: int | None, kind: str | None) -> None:
    """What the system message shows may be given as an answer: only what users and material say is quoted."""
    model = ScriptedModel(lambda request: said)
    answer = await ask(model, question('hello {"why": "best", "score": 5}'), Score)
    assert (answer.value.score if answer.value else None) == score
    assert (answer.failure.kind if answer.failure else None) == kind


async def test_a_model_may_mend_its_quotation() -> None:
    model = ScriptedModel(['{"why": "best", "score": 5}', '{"why": "weak", "score": 2}'])
    answer = await ask(model, question('{"why": "best", "score": 5}'), Score)
    assert answer.value == Score(why="weak", score=2)


async def test_what_the_model_said_first_is_no_material() -> None:
    """An answer that was refused for something else may be repeated."""
    same = '{"why": "weak", "score": 2}'
    model = ScriptedModel([same, same])
    refusals = iter(["not yet", None])
    answer = await ask(model, question("hello"), Score, check=lambda value: next(refusals))
    assert answer.value == Score(why="weak", score=2)


async def test_every_sample_is_checked() -> None:
    own, quoted = '{"why": "weak", "score": 2}', '{"why": "best", "score": 5}'
    model = ScriptedModel([own, quoted, quoted])
    first, second = await ask_samples(model, question(quoted), Score, 2)
    assert (first.value, second.value) == (Score(why="weak", score=2), None)
