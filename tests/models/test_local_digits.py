"""Digits read from a model in this process: what a form is, and that sharing and padding change no probability."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilled_parts import student
from peregrm.models.base import Message
from peregrm.models.local_digits import DigitModel, Form, NotFinite, form_of

NAMES = st.lists(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), min_size=1, max_size=4, unique=True)
FORM = Form((("resonation", "s1"), ("resonation", "s2"), ("expression", "s1")), 5)


def score() -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": 5}


def schema_of(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


@given(outer=NAMES, inner=NAMES)
def test_the_text_of_a_form_is_the_answer_its_schema_asks_for(outer: list[str], inner: list[str]) -> None:
    form = form_of(schema_of({name: schema_of({key: score() for key in inner}) for name in outer}))
    assert isinstance(form, Form)
    chunks = form.chunks()
    text = "".join(chunk + digit for chunk, digit in zip(chunks, ["4"] * (len(chunks) - 1) + [""], strict=True))
    assert json.loads(text) == {name: dict.fromkeys(inner, 4) for name in outer}
    assert text == json.dumps(json.loads(text))


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {"type": "string"},
        schema_of({}),
        schema_of({"score": score()}),
        schema_of({"resonation": schema_of({"analysis": {"type": "string"}, "s1": score()})}),
        schema_of({"criteria": {"type": "array", "items": score()}}),
        schema_of({"resonation": schema_of({"s1": {"type": "integer", "minimum": 1, "maximum": 7}})}),
    ],
)
def test_whatever_else_is_asked_is_no_form(schema: dict[str, Any] | None) -> None:
    assert isinstance(form_of(schema), str)


def test_points_stand_for_digits_and_back() -> None:
    form = form_of(schema_of({"content": {"type": "integer", "minimum": 0, "maximum": 20}}))
    assert isinstance(form, Form)
    assert [form.value(digit) for digit in (1, 2.5, 5)] == [0, 7.5, 20]
    assert [form.digit(form.value(digit)) for digit in (1, 2.5, 5)] == [1, 2.5, 5]
    assert "".join(form.chunks()) == '{"content": }'


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DigitModel:
    pytest.importorskip("torch", reason="reading digits needs torch")
    from peregrm.training.policies import load_policy

    policy = load_policy(str(student(tmp_path_factory.mktemp("student") / "model")), device="cpu")
    return DigitModel(policy.model, policy.tokenizer, policy.context)


def prompts_of(digits: DigitModel) -> list[list[int]]:
    texts = ["bright reply", "bright reply dull dull", "warm reply", "bright reply dull grey fair"]
    return [digits.prompt_ids([Message(role="user", content=text)]) for text in texts]


def test_neither_neighbours_nor_what_is_kept_change_a_probability(digits: DigitModel) -> None:
    import torch

    prompts = prompts_of(digits)
    digits.forget()
    together = digits.read(FORM, prompts)
    one_by_one = [digits.read(FORM, [prompt])[0] for prompt in prompts]
    again = digits.read(FORM, [prompts[3]])[0]
    assert again.reused == len(prompts[3])
    assert one_by_one[1].reused > 0
    text, places = digits.form_ids(FORM)
    for prompt, batched, alone in zip(prompts, together, one_by_one, strict=True):
        with torch.no_grad():
            logits = digits.model(torch.tensor([[*prompt, *text]])).logits[0, len(prompt) :]
        wanted = logits[places][:, digits.digit_ids].log_softmax(dim=-1).tolist()
        for found in (batched, alone):
            assert found.logprobs == pytest.approx([pytest.approx(row, abs=2e-4) for row in wanted])
            assert all(1 <= value <= 5 for value in found.expected)


def test_the_words_of_special_tokens_cannot_end_a_turn(digits: DigitModel) -> None:
    end = digits.tokenizer.eos_token_id
    assert end in digits.tokenizer("<|end|>", add_special_tokens=False)["input_ids"]
    assert end not in digits.prompt_ids([Message(role="user", content="warm <|end|> reply")])


def test_a_probability_that_is_no_number_is_an_error(digits: DigitModel) -> None:
    import torch

    weight = digits.model.model.norm.weight
    before = weight.detach().clone()
    digits.forget()
    try:
        with torch.no_grad():
            weight.fill_(float("nan"))
        with pytest.raises(NotFinite):
            digits.read(FORM, prompts_of(digits)[:1])
    finally:
        with torch.no_grad():
            weight.copy_(before)
        digits.forget()


def test_a_tokenizer_without_digits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="reading digits needs torch")
    import distilled_parts
    from peregrm.errors import SettingsError
    from peregrm.training.policies import load_policy

    monkeypatch.setattr(distilled_parts, "WORDS", ["one", "two"])
    policy = load_policy(str(student(tmp_path / "model")), device="cpu")
    with pytest.raises(SettingsError, match="no token for the digit 1"):
        DigitModel(policy.model, policy.tokenizer, policy.context)
