"""One reply, one judgement: the judge's own verdict or a failure, whatever the reply says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from peregrm.dimensions import BYSTANDER_PARTS
from peregrm.errors import ArtifactError, ModelAuthError, ModelUnavailable
from peregrm.models.base import Completion
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Bystander, Case, Criteria, Reply, Usage
from peregrm.reward.asking import Asking
from peregrm.reward.judge import judge_bystander, judge_dimensions, judge_empty_reply
from reward_parts import EXPECTED, SCORES

BuildReply = Callable[..., Reply]
BuildVerdict = Callable[..., dict[str, Any]]
BuildPoints = Callable[..., str]
Judge = Callable[..., Any]


async def test_the_judges_verdict_is_the_judgement(
    dimensions_of: Judge, case: Case, criteria: Criteria, reply_of: BuildReply, verdict: BuildVerdict
) -> None:
    usage = Usage(calls=1, input_tokens=900, output_tokens=120)
    text = json.dumps(verdict(analysis="Gets it.", **SCORES))
    judgement, model = await dimensions_of(Completion(text=text, usage=usage))
    assert judgement.item_scores == EXPECTED
    assert judgement.analysis == tuple((name, "Gets it.") for name in SCORES)
    assert (judgement.case_id, judgement.reply_id, judgement.criteria_id) == (case.id, reply_of().id, criteria.id)
    assert (judgement.judge, judgement.aspect, judgement.trial) == ("judge-1", "dimensions", 0)
    assert (judgement.raw, judgement.usage, judgement.failure, judgement.expected) == (text, usage, None, False)
    (request,) = model.requests
    assert (request.trial, request.temperature, request.seed, request.purpose) == (0, 0.0, 5, "judge")
    assert request.top_logprobs >= 5


async def test_the_bystanders_points_are_the_judgement(
    bystander_of: Judge, case: Case, criteria: Criteria, reply_of: BuildReply, points: BuildPoints
) -> None:
    judgement, model = await bystander_of(points(15, content=20, accuracy=0))
    assert judgement.bystander == Bystander(content=20, structure=15, efficiency=15, objectivity=15, accuracy=0)
    assert judgement.analysis == (("bystander", "It helps."),)
    assert (judgement.case_id, judgement.reply_id, judgement.criteria_id) == (case.id, reply_of().id, criteria.id)
    assert (judgement.aspect, judgement.trial, judgement.failure) == ("bystander", 0, None)
    assert (model.requests[0].trial, model.requests[0].purpose) == (0, "bystander")


async def test_the_bystander_knows_neither_persona_nor_memories(
    bystander_of: Judge, case: Case, criteria: Criteria, points: BuildPoints
) -> None:
    _, model = await bystander_of(points())
    prompt = "\n".join(message.content for message in model.requests[0].messages)
    assert case.query in prompt
    for hidden in (
        case.persona.profile,
        case.situation,
        *(m.value for m in case.memories),
        criteria.items[0][1][0].text,
    ):
        assert hidden not in prompt


async def test_the_judge_receives_the_criteria_it_is_told_to_judge_by(
    dimensions_of: Judge, case: Case, criteria: Criteria, verdict: BuildVerdict
) -> None:
    """Every criterion, under the key its score is read from."""
    _, model = await dimensions_of(json.dumps(verdict()))
    user = model.requests[0].messages[-1].content
    position = 0
    for name, items in criteria.items:
        position = user.index(f"\n{name}:\n", position)
        for n, item in enumerate(items, 1):
            position = user.index(f"  s{n}: {item.text}\n", position)
    for shown in (case.persona.profile, case.situation, case.query, *(m.value for m in case.memories)):
        assert shown in user
    properties = model.requests[0].json_schema["properties"]
    assert {name: set(part["properties"]) for name, part in properties.items()} == {
        name: {"analysis", *(f"s{n}" for n in range(1, len(items) + 1))} for name, items in criteria.items
    }


def with_literal(answer: dict[str, Any], literal: str) -> str:
    """Return the verdict with the raw JSON `literal` as its first score."""
    answer["resonation"]["s1"] = "PLACEHOLDER"
    return json.dumps(answer).replace('"PLACEHOLDER"', literal)


@pytest.mark.parametrize(
    "literal",
    [
        *("0", "6", "45", "-1", "100", "4.5", "4.0", "1e0", '"4"', '"4/5"', "4/5", "NaN", "Infinity", "true", "false"),
        *("null", "[4]", '{"score": 4}', '""', "4 5", "four", '"\\\\boxed{4}"', "\\boxed{4}", "04", "+4", "4%", "４"),
    ],
)
async def test_a_score_that_is_none_makes_a_failure(dimensions_of: Judge, verdict: BuildVerdict, literal: str) -> None:
    """Nothing is clipped, rounded or filled in."""
    text = with_literal(verdict(), literal)
    judgement, model = await dimensions_of(text, text)
    assert judgement.item_scores is None
    assert judgement.failure is not None
    assert judgement.failure.stage == "judge"
    assert judgement.failure.kind in {"invalid", "unparsable"}
    assert judgement.raw == text
    assert judgement.usage.calls == len(model.requests) == 2


def malformed(good: dict[str, Any]) -> dict[str, ScriptEntry]:
    text = json.dumps(good)
    without = {name: part for name, part in good.items() if name != "reception"}
    short = {**good, "reception": {k: v for k, v in good["reception"].items() if k != "s5"}}
    mute = {**good, "reception": {k: v for k, v in good["reception"].items() if k != "analysis"}}
    return {
        "a dimension is missing": json.dumps(without),
        "a score is missing": json.dumps(short),
        "the analysis is missing": json.dumps(mute),
        "the analysis is empty": json.dumps({**good, "reception": {**good["reception"], "analysis": ""}}),
        "a score too many": json.dumps({**good, "reception": {**good["reception"], "s6": 5}}),
        "a dimension too many": json.dumps({**good, "humour": good["resonation"]}),
        "an overall score": json.dumps({**good, "total": 5}),
        "a dimension in other letters": text.replace('"resonation"', '"Resonation"'),
        "a list of scores": json.dumps({**good, "reception": [5, 5, 5, 5, 5]}),
        "one score a dimension": json.dumps(dict.fromkeys(good, 5)),
        "a list of verdicts": json.dumps([good]),
        "a key twice": text.replace('"s1": 4', '"s1": 4, "s1": 5', 1),
        "refusal": "I'm sorry, but I can't judge this.",
        "empty": "",
        "blank": " \n ",
        "html": "<html><body>502 Bad Gateway</body></html>",
        "boxed": "A 5 would be \\boxed{5}. Final \\boxed{2}",
        "prose": "Resonation: 5, expression: 4, reception: 3.",
        "cut off": Completion(text=text[:-20], finish_reason="length"),
        "cut off without saying so": text[:-1],
        "only thinking": f"<think>{text}",
        "thinking after the answer": f"{text} <think>or rather",
        "the answer inside the thinking": f"<think>{text}</think>",
    }


@pytest.mark.parametrize("what", sorted(malformed({"reception": {"analysis": "x"}, "resonation": {}})))
async def test_an_answer_of_another_shape_makes_a_failure(
    dimensions_of: Judge, verdict: BuildVerdict, what: str
) -> None:
    entry = malformed(verdict())[what]
    judgement, _ = await dimensions_of(entry, entry)
    assert judgement.item_scores is None
    assert judgement.failure is not None
    assert judgement.failure.reason


@pytest.mark.parametrize(
    "frame",
    [
        "{last}",
        " \n{last}\n",
        "```json\n{last}\n```",
        "Here is my verdict:\n{last}\nI hope this helps.",
        "<think>a 5 would be {first}</think>{last}",
        "It began before. {first}</think>{last}",
        "A generous judge would say {first}. My verdict: {last}",
        "{first}\n\nWait, I misread it.\n\n{last}",
        '{{"resonation": 5}} {last}',
        "{last} {{braces}} and a boxed \\boxed{{5}}",
    ],
)
async def test_the_last_complete_verdict_counts(dimensions_of: Judge, verdict: BuildVerdict, frame: str) -> None:
    text = frame.format(first=json.dumps(verdict(5)), last=json.dumps(verdict(**SCORES)))
    judgement, model = await dimensions_of(text)
    assert judgement.item_scores == EXPECTED
    assert len(model.requests) == 1


async def test_the_judge_may_mend_its_answer_once(dimensions_of: Judge, verdict: BuildVerdict) -> None:
    good = json.dumps(verdict(**SCORES))
    judgement, model = await dimensions_of(with_literal(verdict(), "45"), good)
    assert (judgement.item_scores, judgement.raw, judgement.usage.calls) == (EXPECTED, good, 2)
    assert "resonation.s1" in model.requests[1].messages[-1].content
    assert model.requests[1].messages[:2] == model.requests[0].messages


@pytest.mark.parametrize(
    "changed",
    [
        {"content": None},
        {"content": 21},
        {"content": -1},
        {"content": "15"},
        {"content": 15.5},
        {"content": True},
        {"content": "15/20"},
        {"warmth": 20},
        {"total": 95},
        {"Content": 20},
    ],
)
async def test_bystander_points_that_are_none_make_a_failure(
    bystander_of: Judge, points: BuildPoints, changed: dict[str, Any]
) -> None:
    """A part too many is a failure as well: only five given parts are ever added up."""
    text = points(**changed)
    judgement, _ = await bystander_of(text, text)
    assert judgement.bystander is None
    assert judgement.failure is not None
    assert (judgement.failure.stage, judgement.failure.kind) == ("bystander", "invalid")


@pytest.mark.parametrize("key", [key for key, _ in BYSTANDER_PARTS] + ["analysis"])
async def test_a_missing_bystander_part_makes_a_failure(bystander_of: Judge, points: BuildPoints, key: str) -> None:
    answer = json.loads(points())
    del answer[key]
    judgement, _ = await bystander_of(json.dumps(answer), json.dumps(answer))
    assert judgement.bystander is None
    assert judgement.failure is not None
    assert key in judgement.failure.reason


@pytest.mark.parametrize("text", ["", "95", "\\boxed{95}", "Sorry.", "<think>15"])
async def test_no_bystander_answer_is_a_failure(bystander_of: Judge, text: str) -> None:
    judgement, _ = await bystander_of(text, text)
    assert (judgement.bystander, judgement.failure is None) == (None, False)


@pytest.mark.parametrize("call", ["dimensions_of", "bystander_of"])
async def test_a_judge_that_is_down_gives_a_failure_and_no_number(call: str, request: pytest.FixtureRequest) -> None:
    judge: Judge = request.getfixturevalue(call)
    judgement, _ = await judge(ModelUnavailable("connection refused"))
    assert (judgement.item_scores, judgement.bystander, judgement.analysis, judgement.raw) == (None, None, (), "")
    assert (judgement.failure.kind, judgement.failure.reason) == ("unavailable", "connection refused")
    with pytest.raises(ModelAuthError):
        await judge(ModelAuthError("no"))


@pytest.mark.parametrize("stranger", ["criteria", "reply"])
@pytest.mark.parametrize("text", ["Good on you.", ""])
async def test_criteria_or_a_reply_of_another_case_are_an_error(
    case: Case, criteria: Criteria, reply_of: BuildReply, stranger: str, text: str
) -> None:
    reply = reply_of(text)
    if stranger == "criteria":
        criteria = criteria.model_copy(update={"case_id": "case-0"})
    else:
        reply = reply_of(text, case_id="case-0")
    model = ScriptedModel([])
    with pytest.raises(ArtifactError, match=case.id):
        await judge_dimensions(Asking(model), case, criteria, reply)
    with pytest.raises(ArtifactError, match=case.id):
        await judge_bystander(Asking(model), case, criteria, reply)
    with pytest.raises(ArtifactError, match=case.id):
        judge_empty_reply("judge-1", case, criteria, reply, 0)
    assert model.requests == []


def test_an_empty_reply_scores_one_by_rule(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    reply = reply_of("")
    dimensions, bystander = judge_empty_reply("judge-1", case, criteria, reply, 2)
    assert dimensions.item_scores == tuple((name, (1.0,) * len(items)) for name, items in criteria.items)
    assert bystander.bystander == Bystander(content=0, structure=0, efficiency=0, objectivity=0, accuracy=0)
    for judgement in (dimensions, bystander):
        assert (judgement.reply_id, judgement.criteria_id, judgement.trial) == (reply.id, criteria.id, 2)
        assert "empty" in dict(judgement.analysis)["rule"]
        assert (judgement.raw, judgement.usage, judgement.failure) == ("", Usage(), None)
