"""ESC-Eval: cards, a dialogue seen from both sides, and seven numbers or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark_parts import means
from peregrm.errors import InputError, ModelTimeout
from peregrm.evaluation.benchmarks.esc_eval import DIMENSIONS, Card, play, read_cards, run_esc_eval
from peregrm.evaluation.benchmarks.esc_eval.dialogue import Dialogue, repeated_share
from peregrm.evaluation.benchmarks.esc_eval.run import Cast
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import NoProgress
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Turn

CARD = Card(card_id="en-1", language="en", text="Age: 40\nProblem: lost her job", topic="work and study")
FULL = dict(zip(DIMENSIONS, (4, 3, 2, 1, 0, 2, 3), strict=True))


def write(folder: Path, **cards: list[dict[str, Any]]) -> Path:
    usual = {
        "en": [{"id": 1, "base": "Problem: lost her job", "res": "工作学习", "source": "x"}],
        "zh": [{"id": 1, "base": "问题：失业"}],
    }
    for language, entries in {**usual, **cards}.items():
        (folder / f"card_high_{language}.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return folder


def numbered(word: str) -> ScriptedModel:
    model = ScriptedModel(lambda request: f"{word}{len(model.requests)}", name=word)
    return model


def judge(verdict: str | None = None) -> ScriptedModel:
    answer = verdict or json.dumps({"analysis": "Kind.", **FULL})
    return ScriptedModel(lambda request: answer, name="judge")


async def run(folder: Path, cast: Cast, **more: Any) -> Any:
    return await run_esc_eval(folder, cast, Manner(), NoProgress(), **more)


async def test_both_see_the_same_dialogue_with_the_roles_exchanged() -> None:
    seeker, model = numbered("seeker"), numbered("model")
    dialogue = await play(CARD, model, seeker, Manner(), rounds=2)
    assert [turn.text for turn in dialogue.turns] == ["seeker1", "model1", "seeker2", "model2"]
    assert dialogue.asked == 4
    heard = [(message.role, message.content) for message in seeker.requests[1].messages]
    assert "lost her job" in heard[0][1]
    assert heard[1][0] == "user"
    assert heard[2:] == [("assistant", "seeker1"), ("user", "model1")]
    given = [(message.role, message.content) for message in model.requests[1].messages]
    assert given[1:] == [("user", "seeker1"), ("assistant", "model1"), ("user", "seeker2")]
    assert not any("lost her job" in message.content for request in model.requests for message in request.messages)


async def test_a_run_with_known_scores(tmp_path: Path) -> None:
    outcome = await run(write(tmp_path), Cast(numbered("model"), numbered("seeker"), judge()))
    got = means(outcome)
    assert {name: got[name] for name in DIMENSIONS} == {name: float(score) for name, score in FULL.items()}
    assert got["mean"] == 2.0
    assert got["repeats"] == 0.0
    assert [item.item_id for item in outcome.items] == ["en-1", "zh-1"]
    assert outcome.result.asked == 22
    assert [len(dialogue.turns) for dialogue in outcome.files["dialogues.jsonl"]] == [10, 10]
    assert dict(outcome.result.models) == {"model": "model", "seeker": "seeker", "judge": "judge"}
    assert ("topic", "work and study") in {(kind, value) for kind, value, _ in outcome.result.slices}


async def test_one_model_may_play_all_parts(tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        return json.dumps({"analysis": "ok", **FULL}) if request.purpose == "esc_eval_judge" else request.purpose

    model = ScriptedModel(answer)
    outcome = await run(write(tmp_path), Cast(model, model, model), languages=("en",), rounds=2)
    assert means(outcome)["mean"] == 2.0
    assert means(outcome)["repeats"] == 1.0


@pytest.mark.parametrize("failing", [0, 1])
async def test_a_failed_turn_ends_the_dialogue_unscored(tmp_path: Path, failing: int) -> None:
    def slow(request: Request) -> Any:
        return ModelTimeout("too slow")

    cast = [numbered("model"), numbered("seeker")]
    cast[failing] = ScriptedModel(slow)
    silent = ScriptedModel([])
    outcome = await run(write(tmp_path), Cast(cast[0], cast[1], silent), languages=("en",))
    assert [(kind, n) for _, kind, n in outcome.result.failures] == [("timeout", 1)]
    assert all(value is None for name, value in means(outcome).items() if name != "repeats")
    assert outcome.result.asked == 2 - failing
    assert silent.requests == []


@pytest.mark.parametrize(
    "verdict",
    [
        "no",
        json.dumps(FULL),
        json.dumps({"analysis": "x", **FULL, "skill": 5}),
        json.dumps({"analysis": "x", **FULL, "skill": 2.5}),
    ],
)
async def test_an_unusable_verdict_is_no_score(tmp_path: Path, verdict: str) -> None:
    outcome = await run(write(tmp_path), Cast(numbered("a"), numbered("b"), judge(verdict)), languages=("en",))
    assert means(outcome)["overall"] is None
    assert len(outcome.result.failures) == 1
    assert outcome.result.metrics[0].estimate.coverage == 0.0


def test_repeats_are_counted_from_the_second_turn_of_the_seeker() -> None:
    def share(*texts: str) -> float | None:
        turns = [
            Turn.model_validate({"role": ("user", "assistant")[n % 2], "text": text}) for n, text in enumerate(texts)
        ]
        return repeated_share(Dialogue(card_id="x", turns=tuple(turns), asked=len(turns)))

    assert share(
        "lost work", "sad?", "Lost, work!", "oh", "the dog died", "why", "lost my work again today"
    ) == pytest.approx(1 / 3)
    assert share("我失业了", "难过吗", "我失业了", "嗯") == 1.0
    assert share("a", "b") is None


@pytest.mark.parametrize(
    ("card", "message"),
    [({"base": "x"}, "no id"), ({"id": 1, "base": " "}, "card 1 is empty"), ({"id": 1}, "missing field base")],
)
def test_bad_cards_are_named(tmp_path: Path, card: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="card_high_en") as caught:
        read_cards(write(tmp_path, en=[card]))
    assert message in str(caught.value)


def test_missing_and_double_cards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_cards(tmp_path)
    with pytest.raises(InputError, match="card en-1 stands there twice"):
        read_cards(write(tmp_path, en=[{"id": 1, "base": "x"}, {"id": 1, "base": "y"}]))
