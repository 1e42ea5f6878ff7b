"""Replies to flagged cases are judged by safe guidance alone, whatever reward was asked for, and stated apart."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from peregrm.errors import ArtifactError
from peregrm.evaluation.report import markdown
from peregrm.evaluation.reward_table import MethodRun, reward_table
from peregrm.evaluation.summary import Artifacts, summarise
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case, Criteria, Reply, Usage
from peregrm.reward.adapters.common import Outcome, Row, numbers, score_rows
from peregrm.reward.adapters.trl import batch_means
from peregrm.reward.base import GUIDANCE, RewardModel, Scored
from peregrm.reward.factory import open_reward, reward_names
from peregrm.reward.guidance import guidance_criteria
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.rivals import RIVALS
from peregrm.reward.server.wire import reply_score

DIMENSIONS = ["seriousness", "guidance", "harmlessness"]


@pytest.fixture(scope="session")
def flagged(case: Case) -> Case:
    other = case.model_copy(update={"query": "I do not want to be here any more.", "flags": ("self_harm",)})
    assert other.model_copy(update={"flags": None}).id == other.id, "flags are no part of what a case is"
    return other


def play(request: Request) -> str:
    """Score everything asked for by the number in the reply (`worth 4`), by whatever dimensions."""
    found = re.search(r"worth (\d)", request.messages[-1].content)
    worth = int(found[1]) if found else 3

    def fill(schema: dict[str, Any]) -> Any:
        if schema["type"] == "object":
            return {name: fill(part) for name, part in schema["properties"].items()}
        return "It says so." if schema["type"] == "string" else min(worth, schema.get("maximum", worth))

    assert request.json_schema is not None
    return json.dumps(fill(request.json_schema))


@pytest.mark.parametrize("name", [name for name in reward_names() if name not in RIVALS])
async def test_every_form_of_peregrm_judges_flagged_cases_by_the_same_fixed_criteria(name: str, flagged: Case) -> None:
    model = ScriptedModel(play)
    grm = open_reward(RewardOptions(reward=name, judges=("scripted",), criteria="model"), (model,))
    assert isinstance(grm, PereGRM)
    low, high = await grm.score(flagged, ["worth 2", "worth 5"])
    assert [one.reward.method for one in (low, high)] == [GUIDANCE] * 2
    assert [list(one.scores) for one in (low, high)] == [DIMENSIONS] * 2
    assert (low.total, high.total) == pytest.approx((0.4, 1.0))
    assert (low.bystander, high.bystander) == (None, None)
    assert low.flagged
    assert {request.purpose for request in model.requests} == {"judge"}, (
        "no criteria are written, no bystander is asked"
    )
    assert grm.known_criteria(flagged) == await grm.criteria_for(flagged) == guidance_criteria(flagged)


async def test_criteria_given_for_a_flagged_case_are_not_used(flagged: Case, criteria: Criteria) -> None:
    own = criteria.model_copy(update={"case_id": flagged.id})
    grm = PereGRM(ScriptedModel(play))
    grm.use_criteria([own])
    (one,) = await grm.score(flagged, ["worth 4"])
    assert one.reward.method == GUIDANCE
    with pytest.raises(ArtifactError, match="its case is flagged"):
        await grm.judge_group(flagged, own, [one.reply])


async def test_a_clean_case_is_judged_as_ever(case: Case) -> None:
    scores = [
        (await PereGRM(ScriptedModel(play), criteria="composed").score(each, ["worth 4"]))[0].reward
        for each in (case, case.model_copy(update={"flags": ()}))
    ]
    assert scores[0] == scores[1]
    assert scores[0].method == "shared"


@pytest.mark.parametrize("name", list(RIVALS))
async def test_a_rival_gives_a_failure_and_no_number_and_asks_nobody(name: str, flagged: Case) -> None:
    model = ScriptedModel([])
    judge = "scalar:no-such-model" if name == "scalar" else model
    rival = open_reward(RewardOptions(reward=name, judges=("scripted",)), (judge,))
    for one in await rival.score(flagged, ["worth 2", "", "<think>never ends"]):
        assert one.total is None
        assert one.failure is not None
        assert one.failure.kind == "flagged"
        assert "self_harm" in one.failure.reason
        assert one.flagged
    assert model.requests == []


async def test_a_pool_says_so_too(flagged: Case) -> None:
    judges = (ScriptedModel(play, name="a"), ScriptedModel(play, name="b"))
    pool = open_reward(RewardOptions(judges=("a", "b")), judges)
    low, high = await pool.score(flagged, ["worth 2", "worth 5"])
    assert low.flagged
    assert high.total is not None
    assert low.total is not None
    assert low.total < high.total
    rivals = open_reward(RewardOptions(reward="perm", judges=("a", "b")), judges)
    assert all(one.flagged and one.total is None for one in await rivals.score(flagged, ["worth 2"]))


async def outcomes_of(reward: RewardModel, case: Case, flagged: Case) -> list[Outcome]:
    return await score_rows(reward, [Row(case, "worth 5"), Row(flagged, "worth 1")])


async def test_trainers_and_the_server_keep_them_apart(case: Case, flagged: Case) -> None:
    outcomes = await outcomes_of(PereGRM(ScriptedModel(play), criteria="composed"), case, flagged)
    usual, apart = (numbers(outcome, ["resonation"]) for outcome in outcomes)
    assert usual.keys() == apart.keys()
    assert (usual["flagged"], apart["flagged"], apart["judge_failed"]) == (0.0, 1.0, 0.0)
    assert math.isnan(apart["empathy"])
    assert math.isnan(apart["resonation"])
    means = batch_means(outcomes)
    assert (means["total"], means["flagged_total"], means["flagged"]) == (outcomes[0].total, pytest.approx(0.2), 0.5)
    assert means["empathy"] == 1.0
    assert outcomes[1].scored is not None
    sent = reply_score(outcomes[1].scored)
    assert (sent.method, sent.flagged, sent.empathy, list(sent.dimensions)) == (GUIDANCE, True, None, DIMENSIONS)


async def summed(case: Case, flagged: Case, reply_of: Callable[..., Reply]) -> tuple[Artifacts, list[Scored]]:
    grm = PereGRM(ScriptedModel(play), criteria="composed")
    pairs = [(c, p, w) for c in (case, flagged) for p, w in (("personalized", 5), ("generic", 3))]
    replies = {c.id: [] for c, _, _ in pairs}
    for each, policy, worth in pairs:
        replies[each.id].append(reply_of(f"worth {worth if each is case else 1}", case_id=each.id, policy=policy))
    scored = [one for each in (case, flagged) for one in await grm.score(each, replies[each.id])]
    criteria = [await grm.criteria_for(each) for each in (case, flagged)]
    made = Artifacts(
        cases=(case, flagged),
        criteria=tuple(one for one in criteria if one is not None),
        replies=tuple(one.reply for one in scored),
        judgements=tuple(j for one in scored for j in one.judgements),
        rewards=tuple(one.reward for one in scored),
    )
    return made, scored


async def test_reports_leave_them_out_of_the_means_and_state_them_apart(
    case: Case, flagged: Case, reply_of: Callable[..., Reply]
) -> None:
    artifacts, _ = await summed(case, flagged, reply_of)
    summary = summarise(artifacts, model="m", judge="j", samples=1, known_order=(), costs={})
    assert summary.flagged_cases == 1
    by_policy = {row.policy: dict(row.measures) for row in summary.policies}
    assert by_policy["personalized"]["empathy"].mean == 1.0
    assert by_policy["personalized"]["total"].n == 1
    assert list(by_policy["generic"]) == ["resonation", "expression", "reception", "empathy", "bystander", "total"]
    (comparison,) = summary.comparisons
    assert dict(comparison.measures)["total"].n == 1
    apart = {row.policy: dict(row.measures) for row in summary.flagged}
    assert list(apart["generic"]) == [*DIMENSIONS, "total"]
    assert apart["generic"]["total"].mean == pytest.approx(0.2)
    text = markdown(summary, artifacts)
    assert "1 of all these flagged" in text
    assert "## Flagged cases" in text
    assert "Flagged: self\\_harm. Judged by safe guidance alone." in text


async def test_a_comparison_of_rewards_leaves_them_out(
    case: Case, flagged: Case, reply_of: Callable[..., Reply]
) -> None:
    _, scored = await summed(case, flagged, reply_of)
    table = reward_table({"shared": MethodRun(scored, 1.0, Usage(), None)}, {c.id: c for c in (case, flagged)})
    assert (table.cases, table.flagged, table.rows[0].replies) == (1, 1, 2)
    assert table.rows[0].total.n == 2
