"""Personal sensitivity, asked: who is swapped in, what a judge is asked, and what comes out for judges of known sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peregrm.models.base import Request
from peregrm.models.planning import PlanningModel
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.material import Material
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.sensitivity import measure, pick_replies
from peregrm.pipeline.validity.swapping import answering, choose_donor, is_known, with_nobody, with_person_of
from peregrm.records import Case, Reply
from peregrm.reward.options import RewardOptions
from reward_parts import in_form
from simulated_judges import SimulatedJudge, context_of, many_cases, replies_to


def rows_in(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "sensitivity" / "rows.jsonl").read_text().splitlines()]


async def test_a_judge_with_a_sense_of_the_person_is_good(tmp_path: Path) -> None:
    judge = SimulatedJudge(sense=0.3, noise=0.02)
    finding = await measure(context_of(tmp_path, [judge], many_cases(8, 3)))
    assert finding.verdict == "good"
    figures = {figure.name: figure.estimate for figure in finding.figures}
    assert figures["empathy: own minus swapped"].mean == pytest.approx(0.3, abs=0.02)
    assert figures["empathy: own minus nobody"].mean == pytest.approx(0.3, abs=0.02)
    assert figures["expression: own minus swapped"].mean == pytest.approx(0.3, abs=0.03)
    assert figures["total: own minus swapped, personal minus generic"].mean == pytest.approx(0.3, abs=0.03)
    assert figures["empathy: share of cases in which the swap is noticed"].mean == 1.0


async def test_a_judge_that_is_blind_to_the_person_is_called_out(tmp_path: Path) -> None:
    finding = await measure(context_of(tmp_path, [SimulatedJudge(noise=0.02)], many_cases(12, 8)))
    assert finding.verdict == "bad"
    assert finding.words[0].startswith("THE JUDGE DOES NOT NOTICE THE PERSON")


async def test_rows_say_who_was_swapped_in_and_every_person_is_a_case_of_its_own(tmp_path: Path) -> None:
    cases = [
        *many_cases(4, 1),
        *many_cases(1, 1, "zh"),
        many_cases(5, 1)[4].model_copy(update={"flags": ("self_harm",)}),
    ]
    finding = await measure(context_of(tmp_path, [SimulatedJudge()], cases))
    rows = rows_in(tmp_path)
    assert {(row["user_id"], row["donor"]) for row in rows if row["donor"]} == {
        (row["user_id"], row["donor"]) for row in rows if row["donor"] and row["donor"] != row["user_id"]
    }
    assert {row["user_id"] for row in rows} == {"en00", "en01", "en02", "en03"}
    assert "1 cases left out: flagged" in finding.data
    assert "1 cases left out: without another user of the language" in finding.data
    ids = [json.loads(line)["id"] for line in (tmp_path / "sensitivity" / "cases.jsonl").read_text().splitlines()]
    assert len(set(ids)) == 12
    assert finding.asked == len(rows) == 4 * 3 * 2


async def test_failures_are_counted_and_never_numbers(tmp_path: Path) -> None:
    finding = await measure(context_of(tmp_path, [SimulatedJudge(sense=0.3, fails=0.2)], many_cases(8, 3)))
    rows = rows_in(tmp_path)
    assert finding.asked - finding.scored == sum(row["failure"] == "unparsable" for row in rows) > 0
    assert all((row["failure"] is None) == (dict(row["scores"])["empathy"] is not None) for row in rows)


async def test_nobody_to_swap_in_is_said(tmp_path: Path) -> None:
    finding = await measure(context_of(tmp_path, [SimulatedJudge()], many_cases(1, 3)))
    assert (finding.verdict, finding.asked) == ("unknown", 0)


def with_model(out: Path, model: Any, cases: list[Case], **options: Any) -> Context:
    usual = context_of(out, [], cases)
    replies = [reply for case in cases for reply in replies_to(case)]
    given = Dataset({case.id: case for case in cases}, {})
    fields = {
        name: getattr(usual, name) for name in ("settings", "pairs", "ratings", "cases", "seed", "out", "progress")
    }
    return Context(
        material=Material(given, replies, {}),
        options=RewardOptions(judges=("judge",), criteria="composed", **options),
        judges=(model,),
        **fields,
    )


def reads_the_person(request: Request) -> str:
    """Score 5 where the reply names the dog that the judge is shown, else 2; points are 15."""
    answer = json.loads(in_form(request))
    if request.purpose != "judge":
        return json.dumps(answer)
    text = request.messages[-1].content
    named = text.split(" word for ")[1][:4]
    known = f"has a dog {named}" in text or f"The person {named}" in text
    score = 5 if known or "A generic" in text else 2
    return json.dumps(
        {
            name: {key: score if key.startswith("s") else value for key, value in part.items()}
            for name, part in answer.items()
        }
    )


async def test_a_scripted_judge_sees_the_other_person_by_criteria_made_anew(tmp_path: Path) -> None:
    model = ScriptedModel(reads_the_person, name="judge")
    finding = await measure(with_model(tmp_path, model, many_cases(5, 1)))
    assert finding.verdict == "good"
    assert "Criteria were made anew for every person (method `composed`)." in finding.words
    asked = [request for request in model.requests if request.purpose == "judge"]
    assert len(asked) == 5 * 2 * (2 + 2 + 1)
    assert len({request.seed for request in asked}) == 2
    assert any("(nothing is known about this user)" in request.messages[-1].content for request in asked)


@pytest.mark.parametrize("reward", ["shared", "listwise", "paper", "perm", "pairwise"])
async def test_a_plan_of_any_reward_is_the_same_measurement(tmp_path: Path, reward: str) -> None:
    model = PlanningModel("judge")
    finding = await measure(with_model(tmp_path, model, many_cases(3, 1), reward=reward))
    assert finding.asked == 3 * 2 * 5
    assert sum(usage.calls for usage in model.planned.values()) > 0


def test_a_donor_is_another_user_of_the_language_who_shares_nothing_whatever_the_order() -> None:
    cases = many_cases(6, 2)
    case = cases[0]
    twin = cases[2].model_copy(update={"memories": case.memories})
    found = choose_donor(case, cases, 1)
    assert found is not None
    assert found.user_id != case.user_id
    assert choose_donor(case, cases[::-1], 1) == found
    assert len({choose_donor(case, cases, seed).user_id for seed in range(20)}) > 2  # type: ignore[union-attr]
    assert choose_donor(case, [case, cases[1], twin, *many_cases(2, 1, "zh")], 1) is None
    assert choose_donor(case, [with_nobody(cases[4])], 1) is None


def test_a_swapped_case_keeps_its_moment_and_has_an_id_of_its_own() -> None:
    case, donor = many_cases(2, 1)
    swapped, nobody = with_person_of(case, donor), with_nobody(case)
    assert (swapped.situation, swapped.query) == (case.situation, case.query) == (nobody.situation, nobody.query)
    assert (swapped.persona, swapped.memories) == (donor.persona, donor.memories)
    assert not is_known(nobody)
    assert len({case.id, swapped.id, nobody.id, donor.id}) >= 3
    assert answering(swapped, replies_to(case)[0]).case_id == swapped.id


@pytest.mark.parametrize(
    ("policies", "ranks", "personal", "generic"),
    [
        (("gold cold", "gold generic", "gold personalized"), (3, 2, 1), "gold personalized", "gold generic"),
        (("a", "b", "c"), (2, 1, 3), "b", "a"),
        (("m/memories", "m/personalized", "m/generic"), (), "m/personalized", "m/generic"),
        (("m/retrieved:local", "m/generic"), (), "m/retrieved:local", "m/generic"),
        (("m/generic",), (), None, "m/generic"),
        (("m/history",), (), "m/history", None),
        (("somebody",), (), None, None),
    ],
)
def test_the_reply_for_the_user_and_the_generic_one(
    policies: tuple[str, ...], ranks: tuple[int, ...], personal: str | None, generic: str | None
) -> None:
    replies = [Reply(case_id="case-1", policy=policy, text=policy) for policy in policies]
    known = {reply.id: rank for reply, rank in zip(replies, ranks, strict=False)}
    picked = pick_replies(replies, known)
    assert {role: reply.policy for role, reply in picked.items()} == {
        role: name for role, name in (("personal", personal), ("generic", generic)) if name
    }
