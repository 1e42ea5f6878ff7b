"""Reliability, asked: every way of asking again, what does not apply, and judges of known noise."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from listwise_parts import entry, shown_replies
from peregrm.models.base import Request
from peregrm.models.planning import PlanningModel
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.material import Material
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.reliability import REORDERED, REVERSED, REWRITTEN, measure, reordered
from peregrm.records import Case, Criteria, Criterion
from peregrm.reward.options import RewardOptions
from reward_parts import in_form
from simulated_judges import SimulatedJudge, context_of, many_cases, replies_to


def rows_in(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "reliability" / "rows.jsonl").read_text().splitlines()]


def with_model(out: Path, models: list[Any], cases: list[Case], **options: Any) -> Context:
    usual = context_of(out, [], cases)
    fields = {
        name: getattr(usual, name) for name in ("settings", "pairs", "ratings", "cases", "seed", "out", "progress")
    }
    return Context(
        material=Material(
            Dataset({case.id: case for case in cases}, {}), [reply for case in cases for reply in replies_to(case)], {}
        ),
        options=RewardOptions(judges=tuple(model.name for model in models), **{"criteria": "composed", **options}),
        judges=tuple(models),
        **fields,
    )


async def test_a_judge_without_noise_is_good_and_one_that_is_noise_is_not(tmp_path: Path) -> None:
    perfect = await measure(context_of(tmp_path / "a", [SimulatedJudge()], many_cases(12, 2)))
    assert perfect.verdict == "good"
    noisy = await measure(context_of(tmp_path / "b", [SimulatedJudge(noise=1.0)], many_cases(12, 2)))
    assert noisy.verdict == "bad"
    constant = await measure(context_of(tmp_path / "c", [SimulatedJudge(constant=True)], many_cases(12, 2)))
    assert constant.verdict == "bad"


async def test_seeds_of_repeats_are_far_apart_and_a_reversed_group_keeps_its_replies(tmp_path: Path) -> None:
    judge = SimulatedJudge(first=0.6)
    finding = await measure(context_of(tmp_path, [judge], many_cases(10, 1)))
    assert sorted({seed for _, seed in judge.asked}) == [0, 100_003, 200_006]
    ways = Counter(row["way"] for row in rows_in(tmp_path))
    assert ways == {"repeat 0": 30, "repeat 1": 30, "repeat 2": 30, REVERSED: 30}
    assert finding.verdict == "bad"  # whoever stands first wins
    assert "Each reply is judged by itself, so there are no places in a group." in finding.words


async def test_several_judges_are_compared(tmp_path: Path) -> None:
    judges = [SimulatedJudge(noise=0.05), SimulatedJudge(noise=0.05)]
    finding = await measure(context_of(tmp_path, judges, many_cases(12, 2)))
    words = " ".join(finding.words)
    assert "judge-0 and judge-1 on empathy: Krippendorff's alpha" in words
    assert "No other judge" not in words
    assert any(table.title == "Several judges on the same replies" for table in finding.tables)


def by_the_place(request: Request) -> str:
    """Give the first reply a 5 and every further one less, whatever it says."""
    if request.purpose != "judge":
        return in_form(request)
    count = len(shown_replies(request))
    wanted = json.loads(in_form(request))
    for number in range(1, count + 1):
        said = entry(6 - number)
        for name, part in wanted[f"r{number}"].items():
            if isinstance(part, dict) and name != "bystander":
                wanted[f"r{number}"][name] = dict.fromkeys(part, 6 - number)
        wanted[f"r{number}"]["analysis"] = said["analysis"]
    return json.dumps(wanted)


async def test_the_places_of_a_listwise_judge_show(tmp_path: Path) -> None:
    model = ScriptedModel(by_the_place, name="judge")
    finding = await measure(with_model(tmp_path, [model], many_cases(6, 1), reward="listwise"))
    effect = next(figure.estimate for figure in finding.figures if "first place" in figure.name)
    assert effect.mean == pytest.approx(0.4)  # three replies: 5 to 3 of 5
    assert finding.verdict == "bad"
    assert any("standing first instead of last" in word for word in finding.words)


async def test_criteria_are_reordered_and_written_anew_by_a_model(tmp_path: Path) -> None:
    model = ScriptedModel(in_form, name="judge")
    finding = await measure(with_model(tmp_path, [model], many_cases(2, 1), criteria="model"))
    ways = Counter(row["way"] for row in rows_in(tmp_path))
    assert set(ways) == {"repeat 0", "repeat 1", "repeat 2", REVERSED, REORDERED, REWRITTEN}
    written = [request for request in model.requests if request.purpose == "criteria"]
    assert Counter(request.temperature for request in written) == {0.0: 2, 0.7: 2}
    assert {request.trial for request in written} == {0, 101}
    assert finding.asked == finding.scored == 6 * 6


async def test_what_does_not_apply_is_said(tmp_path: Path) -> None:
    model = ScriptedModel(in_form, name="judge")
    finding = await measure(with_model(tmp_path, [model], many_cases(2, 1)))
    words = " ".join(finding.words)
    assert "Criteria by the method `composed` are always the same for a case: there is no second set." in words
    assert "One trial a reply is asked at temperature 0" in words
    assert {row["way"] for row in rows_in(tmp_path)} == {"repeat 0", "repeat 1", "repeat 2", REVERSED, REORDERED}


@pytest.mark.parametrize("reward", ["shared", "listwise", "paper", "perm", "pairwise", "no-criteria"])
async def test_a_plan_of_any_reward_is_the_same_measurement(tmp_path: Path, reward: str) -> None:
    models = [PlanningModel("one"), PlanningModel("two")]
    finding = await measure(with_model(tmp_path, models, many_cases(2, 1), reward=reward))
    assert all(sum(usage.calls for usage in model.planned.values()) > 0 for model in models)
    assert {"judge two", REVERSED} < {row["way"] for row in rows_in(tmp_path)}
    assert finding.asked == len(rows_in(tmp_path))


def test_criteria_in_another_order_are_the_same_criteria() -> None:
    items = tuple(
        (name, tuple(Criterion(text=f"{name} {n} says so.", weight=25) for n in range(4))) for name in ("a", "b")
    )
    criteria = Criteria(case_id="case-1", items=items, method="test")
    for seed in range(10):
        other = reordered(criteria, seed)
        assert other.id != criteria.id
        assert [(name, sorted(c.text for c in own)) for name, own in other.items] == [
            (name, sorted(c.text for c in own)) for name, own in criteria.items
        ]
        assert reordered(criteria, seed) == other
