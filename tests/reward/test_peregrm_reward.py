"""PereGRM as a whole: judgements in, one reward a reply out, and no number where there is none."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from statistics import harmonic_mean
from typing import Any

import pytest

from peregrm.errors import ModelAuthError, ModelTimeout, ModelUnavailable
from peregrm.evaluation.summary import Artifacts, summarise
from peregrm.models.base import Completion, Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Reply
from peregrm.replies import write_reply
from peregrm.reward.peregrm import PereGRM
from reward_parts import Play, scored

BuildReply = Callable[..., Reply]
BuildVerdict = Callable[..., dict[str, Any]]
BuildPoints = Callable[..., str]


async def test_the_reward_worked_out_by_hand(
    case: Case, criteria: Criteria, reply_of: BuildReply, verdict: BuildVerdict, points: BuildPoints
) -> None:
    said = {"resonation": [5, 4, 3, 2], "expression": [1, 2, 3, 4], "reception": [4, 4, 4, 4, 2]}
    script = [json.dumps(verdict(**said)), points(20, accuracy=0, content=10)]
    (reward,), judged, _ = await scored(case, criteria, [reply_of()], script)
    scores = dict(reward.scores)
    assert scores["resonation"] == pytest.approx((5 * 40 + 4 * 30 + 3 * 20 + 2 * 10) / 100 / 5)
    assert scores["expression"] == pytest.approx(2.5 / 5)
    assert scores["reception"] == pytest.approx(3.9 / 5)
    empathy = harmonic_mean(list(scores.values()))
    assert reward.empathy == pytest.approx(empathy)
    assert reward.bystander == pytest.approx(0.7)
    assert reward.total == pytest.approx(empathy + 0.5 * (0.7 - 1))
    assert (reward.coverage, reward.failure) == (1.0, None)
    assert reward.judgement_ids == tuple(judgement.id for judgement in judged[0])
    assert (reward.case_id, reward.policy, reward.judge) == (case.id, "mine", "judge-1")


async def test_training_and_evaluation_use_the_same_arithmetic(
    case: Case, criteria: Criteria, reply_of: BuildReply, verdict: BuildVerdict, points: BuildPoints
) -> None:
    """The report shows the reward's own harmonic mean, not another mean of the dimensions."""
    said = {"resonation": [5, 5, 5, 5], "expression": [1, 1, 1, 1], "reception": [3, 3, 3, 3, 3]}
    replies = [reply_of()]
    rewards, judged, _ = await scored(case, criteria, replies, [json.dumps(verdict(**said)), points(20)])
    artifacts = Artifacts(
        cases=(case,),
        criteria=(criteria,),
        replies=tuple(replies),
        judgements=tuple(judged[0]),
        rewards=tuple(rewards),
    )
    summary = summarise(artifacts, model="m", judge="judge-1", samples=1, known_order=[], costs={})
    shown = {name: estimate.mean for name, estimate in summary.policies[0].measures}
    assert shown["empathy"] == rewards[0].empathy == pytest.approx(3 / (1 / 1 + 1 / 0.2 + 1 / 0.6))
    assert shown["total"] == rewards[0].total
    assert shown["empathy"] != pytest.approx((1 + 0.2 + 0.6) / 3)


@pytest.mark.parametrize(
    "error", [ModelUnavailable("refused"), ModelTimeout("late"), "", "\\boxed{4}", "<html>502</html>", "<think>hm"]
)
@pytest.mark.parametrize("samples", [1, 4])
async def test_with_the_judge_down_there_is_no_number_at_all(
    case: Case, criteria: Criteria, reply_of: BuildReply, error: ScriptEntry, samples: int
) -> None:
    replies = [reply_of(f"reply {n}") for n in range(4)]
    rewards, judged, _ = await scored(case, criteria, replies, lambda request: error, samples=samples)
    for reward, judgements in zip(rewards, judged, strict=True):
        assert len(judgements) == 2 * samples
        assert all(j.failure and j.item_scores is None and j.bystander is None for j in judgements)
        assert (reward.empathy, reward.bystander, reward.total, reward.coverage) == (None, None, None, 0.0)
        assert all(score is None for _, score in reward.scores)
        assert reward.failure is not None
        assert f"{2 * samples} of {2 * samples} judgements failed" in reward.failure.reason
        numbers = {k: v for k, v in reward.model_dump().items() if isinstance(v, float)}
        assert numbers == {"coverage": 0.0}


async def test_a_refused_key_stops_the_run(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    with pytest.raises(ModelAuthError):
        await scored(case, criteria, [reply_of()], [ModelAuthError("no")] * 2)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
async def test_failures_of_some_leave_the_rewards_of_the_others_bit_identical(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play, share: float
) -> None:
    replies = [reply_of(f"reply {n}, worth {1 + n % 5}") for n in range(40)]
    whole, _, _ = await scored(case, criteria, replies, honest)
    lost = set(random.Random(7).sample(range(40), int(40 * share)))

    def broken(request: Request) -> ScriptEntry:
        number = re.search(r"reply (\d+), worth", request.messages[1].content)
        assert number is not None
        if int(number[1]) not in lost:
            return honest(request)
        entries: list[ScriptEntry] = [ModelTimeout("late"), "nonsense"]
        return entries[int(number[1]) % 2]

    partial, _, _ = await scored(case, criteria, replies, broken)
    for n, (before, after) in enumerate(zip(whole, partial, strict=True)):
        if n in lost:
            assert (after.total, after.empathy, after.failure is None) == (None, None, False)
        else:
            assert after == before
            assert after.model_dump_json() == before.model_dump_json()


async def test_failed_trials_leave_the_mean_and_show_in_the_coverage(
    case: Case, criteria: Criteria, reply_of: BuildReply, verdict: BuildVerdict, points: BuildPoints
) -> None:
    def play(request: Request) -> ScriptEntry:
        if request.purpose == "bystander":
            return points(10)
        return ModelTimeout("late") if request.trial == 2 else json.dumps(verdict(1 + request.trial))

    (reward,), judged, _ = await scored(case, criteria, [reply_of()], play, samples=4)
    assert dict(reward.scores) == pytest.approx(dict.fromkeys(dict(reward.scores), (1 + 2 + 4) / 3 / 5))
    assert reward.total == pytest.approx((1 + 2 + 4) / 3 / 5 - 0.25)
    assert (reward.coverage, reward.failure) == (7 / 8, None)
    assert [(j.aspect, j.trial) for j in judged[0]] == [
        (aspect, trial) for aspect in ("dimensions", "bystander") for trial in range(4)
    ]


@pytest.mark.parametrize(
    ("quorum", "failing", "is_scored"), [(0.5, 2, True), (0.5, 3, False), (1.0, 1, False), (0.0, 4, False)]
)
@pytest.mark.parametrize("aspect", ["judge", "bystander"])
async def test_below_the_quorum_there_is_no_total(
    case: Case,
    criteria: Criteria,
    reply_of: BuildReply,
    honest: Play,
    quorum: float,
    failing: int,
    is_scored: bool,
    aspect: str,
) -> None:
    def play(request: Request) -> ScriptEntry:
        lost = request.purpose == aspect and request.trial < failing
        return ModelTimeout("late") if lost else honest(request)

    (reward,), _, _ = await scored(case, criteria, [reply_of()], play, samples=4, quorum=quorum)
    assert (reward.total is not None) == is_scored
    assert (reward.failure is None) == is_scored
    other = reward.bystander if aspect == "judge" else reward.empathy
    assert other is not None
    assert reward.coverage == (8 - failing) / 8
    if reward.failure:
        assert reward.failure.kind == "timeout"


async def test_one_trial_is_drawn_cold_and_several_warm(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    """One rule for the temperature, wherever the reward is used."""
    _, _, one = await scored(case, criteria, [reply_of()], honest)
    assert {request.temperature for request in one.requests} == {0.0}
    _, _, many = await scored(case, criteria, [reply_of()], honest, samples=3, seed=9)
    assert {request.temperature for request in many.requests} == {0.7}
    assert {request.seed for request in many.requests} == {9}
    assert sorted((r.purpose, r.trial) for r in many.requests) == [
        (p, t) for p in ("bystander", "judge") for t in range(3)
    ]
    for purpose in ("judge", "bystander"):
        assert len({r.messages for r in many.requests if r.purpose == purpose}) == 1


async def test_all_replies_and_trials_are_judged_by_the_same_criteria(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    replies = [reply_of(f"reply {n}") for n in range(8)]
    _, judged, model = await scored(case, criteria, replies, honest, samples=2)
    assert {j.criteria_id for judgements in judged for j in judgements} == {criteria.id}
    blocks = {
        re.search(r"<criteria-.*</criteria-\w+>", r.messages[1].content, re.DOTALL)[0]
        for r in model.requests
        if r.purpose == "judge"
    }  # type: ignore[index]
    assert len(blocks) == 1
    assert all(item.text in next(iter(blocks)) for _, items in criteria.items for item in items)
    assert len(model.requests) == 32


async def test_an_empty_reply_keeps_its_place_and_the_others_their_scores(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    worths = [5, None, 2, 4, None, 1]
    replies = [reply_of("" if w is None else f"worth {w}", policy=f"policy {n}") for n, w in enumerate(worths)]
    rewards, judged, model = await scored(case, criteria, replies, honest, samples=2)
    for reply, reward, worth in zip(replies, rewards, worths, strict=True):
        assert (reward.reply_id, reward.policy) == (reply.id, reply.policy)
        assert reward.empathy == pytest.approx((worth or 1) / 5)
        assert reward.bystander == pytest.approx((worth or 0) / 5)
        assert reward.coverage == 1.0
    assert rewards[1].total == pytest.approx(0.2 - 0.5)
    assert len(model.requests) == 4 * 4
    assert [len(judgements) for judgements in judged] == [4] * 6


async def test_a_group_is_judged_as_its_replies_are_one_by_one(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    replies = [reply_of(text) for text in ("worth 2", "", "worth 5", "worth 1")]
    grm = PereGRM(ScriptedModel(honest), samples=2)
    group = await grm.judge_group(case, criteria, replies)
    assert group == [(await grm.judge_group(case, criteria, [reply]))[0] for reply in replies]
    assert [{j.reply_id for j in judgements} for judgements in group] == [{reply.id} for reply in replies]
    assert await grm.judge_group(case, criteria, []) == []


class Watched(ScriptedModel):
    """Notes when calls begin and end, and lets others run in between."""

    def __init__(self, play: Play) -> None:
        super().__init__(play)
        self.events: list[tuple[str, str]] = []

    async def complete(self, request: Request) -> Completion:
        reply = request.messages[1].content.rsplit("\n", 2)[1]
        self.events.append(("begin", reply))
        await asyncio.sleep(0)
        completion = await super().complete(request)
        self.events.append(("end", reply))
        return completion


async def test_the_first_of_a_group_is_done_before_the_others_begin(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    """So that a prefix cache holds what the group has in common; the others run at once."""
    model = Watched(honest)
    await PereGRM(model, samples=2).judge_group(case, criteria, [reply_of(f"worth {n}") for n in (1, 2, 3)])
    assert {reply for _, reply in model.events[:8]} == {"worth 1"}
    assert [what for what, _ in model.events[8:16]] == ["begin"] * 8


@pytest.mark.parametrize("blank", [" ", "\n\n", "\t \u3000", "\u200b", "\ufeff\u200d"])
async def test_a_reply_of_blanks_is_an_empty_reply(
    case: Case, criteria: Criteria, reply_of: BuildReply, blank: str
) -> None:
    (reward,), _, model = await scored(case, criteria, [reply_of(blank)], [])
    assert model.requests == []
    assert reward.empathy == pytest.approx(0.2)


async def test_unclosed_thinking_is_never_the_judged_reply(case: Case, criteria: Criteria, honest: Play) -> None:
    policy = ScriptedModel([Completion(text="<think>She is worth 5, so I should", finish_reason="length")])
    reply = await write_reply(policy, case, "generic", policy="mine", max_tokens=9, temperature=0.0, seed=0)
    (reward,), (judgements,), model = await scored(case, criteria, [reply], honest)
    assert (judgements, model.requests) == ([], [])
    assert (reward.total, reward.coverage) == (None, 0.0)
    assert reward.failure is not None
    assert reward.failure.kind == "unclosed_thinking"


async def test_thinking_never_reaches_the_judge(case: Case, criteria: Criteria, honest: Play) -> None:
    policy = ScriptedModel(
        [Completion(text="<think>secret plan, worth 5</think>I see. worth 2", thinking="secret too")]
    )
    reply = await write_reply(policy, case, "generic", policy="mine", max_tokens=9, temperature=0.0, seed=0)
    (reward,), _, model = await scored(case, criteria, [reply], honest)
    assert reward.empathy == pytest.approx(0.4)
    assert not any("secret" in request.messages[1].content for request in model.requests)
