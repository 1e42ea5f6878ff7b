"""What a score is made of can be changed: variants, hidden parts, labels, judges by name and ones given open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faulty_server as faulty
from peregrm.dimensions import EMPATHY
from peregrm.errors import SettingsError
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case, Reply
from peregrm.reward.base import Scored
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import MODES, PereGRM
from peregrm.reward.variants import VARIANTS
from reward_parts import in_form, purposes

BuildReply = Callable[..., Reply]


def shown_parts(case: Case) -> dict[str, list[str]]:
    return {
        "persona": [case.persona.profile, *(trait.text for trait in case.persona.traits)],
        "memories": [memory.value for memory in case.memories],
        "situation": [case.situation],
    }


@pytest.mark.parametrize(
    "hidden", [(), ("persona",), ("memories",), ("situation",), ("persona", "memories", "situation")]
)
@pytest.mark.parametrize("method", ["model", "composed", "fixed", "none"])
@pytest.mark.parametrize("mode", MODES)
async def test_what_is_hidden_occurs_in_no_prompt(
    case: Case, reply_of: BuildReply, mode: str, method: str, hidden: tuple[str, ...]
) -> None:
    """Not in the judge's, and not by way of the criteria either, in those that are written and those that are composed."""
    model = ScriptedModel(in_form)
    grm = PereGRM(model, mode=mode, criteria=method, hidden=frozenset(hidden))
    await grm.score(case, [reply_of("a"), reply_of("b")])
    prompts = [m.content for r in model.requests if r.purpose != "bystander" for m in r.messages]
    for part, texts in shown_parts(case).items():
        for text in texts:
            assert any(text in prompt for prompt in prompts) == (part not in hidden), (part, text)
    assert any("(not shown)" in prompt for prompt in prompts) == bool(hidden)
    assert all(case.query in r.messages[1].content for r in model.requests)


async def test_the_onlooker_is_shown_the_message_and_the_reply_alone(case: Case, reply_of: BuildReply) -> None:
    for mode in ("shared", "paper"):
        model = ScriptedModel(in_form)
        await PereGRM(model, mode=mode).score(case, [reply_of("mine")])
        (request,) = [request for request in model.requests if request.purpose == "bystander"]
        prompt = "\n".join(message.content for message in request.messages)
        assert not [text for texts in shown_parts(case).values() for text in texts if text in prompt]
        assert "mine" in prompt


def unequal(request: Request) -> str:
    if request.purpose != "judge":
        return in_form(request)
    said = json.loads(in_form(request))
    for name, score in {"resonation": 5, "expression": 1, "reception": 3}.items():
        said[name] |= {key: score for key in said[name] if key != "analysis"}
    return json.dumps(said)


async def test_the_arithmetic_variant_takes_the_other_mean(case: Case, reply_of: BuildReply) -> None:
    (plain,) = await PereGRM(ScriptedModel(unequal)).score(case, [reply_of()])
    (other,) = await PereGRM(ScriptedModel(unequal), arithmetic=True).score(case, [reply_of()])
    assert plain.empathy == pytest.approx(3 / (1 / 1 + 1 / 0.2 + 1 / 0.6))
    assert other.empathy == pytest.approx(0.6)
    assert other.total == pytest.approx(0.6 - 0.125)
    assert other.scores == plain.scores


async def test_the_label_is_the_method_of_every_reward(case: Case, reply_of: BuildReply) -> None:
    grm = PereGRM(ScriptedModel(in_form), label="no-reasons", reasons=False)
    scored = await grm.score(case, [reply_of(), "", "<think>"])
    assert grm.method == "no-reasons"
    assert {one.reward.method for one in scored} == {"no-reasons"}
    assert {PereGRM("embedded", mode=mode).method for mode in MODES} == set(MODES)


async def changes_of(name: str, case: Case, reply_of: BuildReply) -> tuple[Scored, ScriptedModel]:
    model = ScriptedModel(in_form)
    grm = VARIANTS[name](RewardOptions(reward=name), model)
    (one,) = await grm.score(case, [reply_of()])
    assert (grm.method, one.reward.method, one.failure) == (name, name, None)
    return one, model


@pytest.mark.parametrize("name", sorted(VARIANTS))
async def test_every_variant_scores_and_takes_one_thing_away(case: Case, reply_of: BuildReply, name: str) -> None:
    _, model = await changes_of(name, case, reply_of)
    asked = purposes(model)
    assert ("criteria" in asked) == (name not in ("paper", "static", "no-criteria"))
    assert ("bystander" in asked) == (name not in ("listwise", "no-bystander"))
    prompts = "\n".join(m.content for r in model.requests if r.purpose != "bystander" for m in r.messages)
    for part, texts in shown_parts(case).items():
        assert all((text in prompts) == (name != f"no-{part}") for text in texts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"judge": None},
        {"mode": "listwse"},
        {"criteria": "modle"},
        {"hidden": frozenset({"memory"})},
        {"hidden": ["persona"]},
        {"samples": 0},
        {"samples": 1.5},
        {"seed": -1},
        {"samples": -1},
        {"quorum": 1.5},
        {"quorum": -0.1},
        {"bystander_weight": -0.5},
        {"bystander_weight": float("nan")},
        {"temperature": -0.1},
        {"dimensions": ()},
        {"dimensions": "empathy"},
        {"dimensions": (EMPATHY[0], EMPATHY[0])},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_an_error(wrong: dict[str, Any]) -> None:
    """A misspelt mode must not become the default one, nor a misspelt ablation no ablation at all."""
    with pytest.raises(SettingsError, match="makes no sense"):
        PereGRM(**{"judge": ScriptedModel([]), **wrong})


def test_scores_are_the_same_in_another_event_loop(case: Case, reply_of: BuildReply) -> None:
    """Trainers may run one loop a step."""
    model = ScriptedModel(in_form)
    grm = PereGRM(model)
    first = asyncio.run(grm.score(case, [reply_of()]))
    assert asyncio.run(grm.score(case, [reply_of()])) == first
    assert purposes(model) == {"criteria": 1, "judge": 2, "bystander": 2}


async def test_a_judge_by_name_is_opened_at_the_first_call(
    case: Case, reply_of: BuildReply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "calls.sqlite"
    async with faulty.JudgeServer() as server:
        grm = PereGRM(f"tiny@{server.url}", cache=cache)
        assert (server.asked, grm.method) == ([], "shared")
        assert not cache.exists()
        scored = await grm.score(case, [reply_of("[[01]]"), reply_of("[[02]]")])
        assert [(one.failure, one.coverage) for one in scored] == [(None, 1.0)] * 2
        assert {one.reward.judge for one in scored} == {f"tiny@{server.url}"}
        assert {body["model"] for body in server.bodies} == {"tiny"}
        assert len(server.asked) == 5
        await grm.aclose()
        await grm.aclose()
        async with PereGRM(f"tiny@{server.url}", cache=cache) as again:
            repeated = await again.score(case, [reply_of("[[01]]"), reply_of("[[02]]")])
        assert len(server.asked) == 5, "all of it is in the cache"
    assert [one.reward for one in repeated] == [one.reward for one in scored]


async def test_a_judge_that_was_never_opened_is_closed_without_a_word(tmp_path: Path) -> None:
    grm = PereGRM("tiny@http://127.0.0.1:9/v1", cache=tmp_path / "calls.sqlite")
    await grm.aclose()
    await grm.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_a_model_given_open_is_left_open(case: Case, reply_of: BuildReply) -> None:
    class Closable(ScriptedModel):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    model = Closable(in_form)
    grm = PereGRM(model)
    await grm.score(case, [reply_of()])
    await grm.aclose()
    assert model.closed == 0


async def test_a_judge_that_means_nothing_is_a_settings_error_at_the_first_call(
    case: Case, reply_of: BuildReply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="nonsense"):
        await PereGRM("nonsense").score(case, [reply_of()])


def test_a_reward_needs_a_judge_that_somebody_chose() -> None:
    with pytest.raises(SettingsError, match="name a judge"):
        open_reward(RewardOptions())
    assert open_reward(RewardOptions(judges=("embedded",))).method == "shared"
