"""A model's flags: quotes are checked, and no usable answer counts as flagged."""

from __future__ import annotations

import json

import pytest

from peregrm.dataset.safety import flag_case_with_model
from peregrm.errors import ModelAuthError, ModelTimeout
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case

NOTHING = {"quote": "", "present": False}


def answer(**present: str) -> str:
    names = ("self_harm", "abuse", "minor", "medical_emergency")
    said = {name: {"quote": quote, "present": True} for name, quote in present.items()}
    return json.dumps({name: said.get(name, NOTHING) for name in names})


async def test_no_danger_is_no_flag(case: Case) -> None:
    judged = await flag_case_with_model(ScriptedModel([answer()]), case)
    assert judged == ((), None)


async def test_each_danger_comes_with_the_place_its_quote_stands_in(case: Case) -> None:
    model = ScriptedModel([answer(abuse="He's  done it\nagain", minor="hides worry")])
    flags, failure = await flag_case_with_model(model, case)
    assert failure is None
    assert [(f.kind, f.where, f.by, f.confidence, f.subject) for f in flags] == [
        ("abuse", "query", "model", "medium", case.id),
        ("minor", "persona", "model", "medium", case.id),
    ]
    assert model.requests[0].purpose == "safety"
    assert case.query in model.requests[0].messages[1].content


async def test_an_invented_quote_is_asked_for_once_more(case: Case) -> None:
    model = ScriptedModel([answer(self_harm="I will jump"), answer(self_harm="am I daft")])
    flags, failure = await flag_case_with_model(model, case)
    assert failure is None
    assert [flag.quote for flag in flags] == ["am I daft"]


@pytest.mark.parametrize(
    "script",
    [
        [answer(self_harm="I will jump")] * 2,
        [answer(self_harm="")] * 2,
        ["no"] * 2,
        [json.dumps({"self_harm": NOTHING})] * 2,
        [ModelTimeout("late")],
    ],
)
async def test_without_a_usable_answer_the_case_counts_as_flagged(case: Case, script: list[str | Exception]) -> None:
    flags, failure = await flag_case_with_model(ScriptedModel(script), case)
    assert failure is not None
    assert failure.stage == "safety"
    assert [(flag.kind, flag.quote) for flag in flags] == [("unknown", "")]


async def test_a_fatal_error_stops(case: Case) -> None:
    error = ModelAuthError("no key")
    with pytest.raises(ModelAuthError):
        await flag_case_with_model(ScriptedModel([error]), case)
