"""Judgements become a reward only where they belong to it: case, reply, judge and trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peregrm.errors import ArtifactError, ModelError
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Failure, Reply
from peregrm.reward.peregrm import PereGRM
from reward_parts import Play, scored

BuildReply = Callable[..., Reply]
BuildVerdict = Callable[..., dict[str, Any]]
BuildPoints = Callable[..., str]


async def test_without_criteria_nothing_is_judged(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    failure = Failure(stage="criteria", kind="check", reason="a double")
    lost = Criteria(case_id=case.id, method="model", failure=failure)
    for text in ("worth 5", ""):
        (reward,), (judgements,), model = await scored(case, lost, [reply_of(text)], honest)
        assert (judgements, model.requests) == ([], [])
        assert (reward.total, reward.empathy, reward.coverage) == (None, None, 0.0)
        assert reward.failure is not None
        assert (reward.failure.kind, reward.failure.reason) == ("check", "there are no criteria: a double")


async def test_no_judgements_give_a_reward_without_value(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    reward = PereGRM(ScriptedModel([])).reward(case, criteria, reply_of(), [])
    assert (reward.total, reward.coverage) == (None, 0.0)
    assert reward.failure is not None
    assert reward.failure.kind == "not_judged"


@pytest.mark.parametrize("stranger", ["criteria", "reply"])
@pytest.mark.parametrize("state", ["text", "empty", "failed"])
async def test_criteria_or_a_reply_of_another_case_are_an_error(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play, stranger: str, state: str
) -> None:
    failure = Failure(stage="replies", kind="timeout", reason="late") if state == "failed" else None
    reply = reply_of("worth 5" if state == "text" else "", failure=failure)
    if stranger == "criteria":
        criteria = criteria.model_copy(update={"case_id": "case-0"})
    else:
        reply = reply.model_copy(update={"case_id": "case-0"})
    grm = PereGRM(ScriptedModel(honest))
    with pytest.raises(ArtifactError, match=case.id):
        (await grm.judge_group(case, criteria, [reply]))[0]
    with pytest.raises(ArtifactError, match=case.id):
        grm.reward(case, criteria, reply, [])


async def test_judgements_of_another_reply_other_criteria_or_another_judge_are_an_error(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    grm = PereGRM(ScriptedModel(honest))
    one, two = reply_of("worth 5"), reply_of("worth 1")
    judgements = (await grm.judge_group(case, criteria, [one]))[0]
    with pytest.raises(ArtifactError, match=judgements[0].id):
        grm.reward(case, criteria, two, judgements)
    other = criteria.model_copy(update={"method": "other"})
    with pytest.raises(ArtifactError, match=judgements[0].id):
        grm.reward(case, other, one, judgements)
    with pytest.raises(ArtifactError, match=judgements[0].id):
        PereGRM(ScriptedModel(honest, name="judge-2")).reward(case, criteria, one, judgements)


@pytest.mark.parametrize("wrong", ["missing trial", "missing aspect", "twice", "too many trials"])
async def test_trials_that_are_missing_or_doubled_are_an_error(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play, wrong: str
) -> None:
    """A failed trial is a judgement; a lost one would make the coverage look better than it was."""
    reply = reply_of("worth 5")
    grm = PereGRM(ScriptedModel(honest), samples=2)
    full = (await grm.judge_group(case, criteria, [reply]))[0]
    more = (await PereGRM(ScriptedModel(honest), samples=3).judge_group(case, criteria, [reply]))[0]
    given_ones = {
        "missing trial": full[:2],
        "missing aspect": [j for j in full if j.aspect == "dimensions"],
        "twice": [*full, full[0]],
        "too many trials": more,
    }[wrong]
    with pytest.raises(ArtifactError, match=reply.id):
        grm.reward(case, criteria, reply, given_ones)


async def test_the_order_of_the_judgements_does_not_change_the_figures(
    case: Case, criteria: Criteria, reply_of: BuildReply, honest: Play
) -> None:
    grm = PereGRM(ScriptedModel(honest), samples=3)
    judgements = (await grm.judge_group(case, criteria, [reply_of("worth 2")]))[0]
    one = grm.reward(case, criteria, reply_of("worth 2"), judgements)
    two = grm.reward(case, criteria, reply_of("worth 2"), judgements[::-1])
    assert (two.scores, two.empathy, two.total) == (one.scores, one.empathy, one.total)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data(), st.integers(1, 4), st.floats(0, 1))
async def test_any_reward_is_in_range_or_none(
    case: Case,
    criteria: Criteria,
    reply_of: BuildReply,
    verdict: BuildVerdict,
    points: BuildPoints,
    data: st.DataObject,
    samples: int,
    quorum: float,
) -> None:
    def play(request: Request) -> ScriptEntry:
        if data.draw(st.booleans(), label="fails"):
            return ModelError("no", kind="odd")
        if request.purpose == "bystander":
            return points(data.draw(st.integers(0, 20)))
        return json.dumps(verdict(data.draw(st.integers(1, 5))))

    (reward,), (judgements,), _ = await scored(case, criteria, [reply_of()], play, samples=samples, quorum=quorum)
    failed = sum(j.failure is not None for j in judgements)
    assert reward.coverage == pytest.approx(1 - failed / (2 * samples))
    assert (reward.total is None) == (reward.failure is not None)
    if reward.empathy is not None:
        assert 0.2 <= reward.empathy <= 1
    if reward.total is not None:
        assert -0.3 <= reward.total <= 1
    if failed == 0:
        assert reward.total is not None
