"""The report of an evaluation: it shows what the record says, escapes what people wrote, and holds in a real browser."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.evaluation.evaluate import Evaluated, evaluate_rewards
from peregrm.evaluation.evaluation import Evaluation, PolicyScore
from peregrm.evaluation.page.charts import axis_of, cloud, strip
from peregrm.evaluation.page.chosen import Material, chosen_cases, ordered_policies, shown_pair
from peregrm.evaluation.page.page import evaluation_markdown, evaluation_page
from peregrm.evaluation.statistics import Estimate
from peregrm.prompts import prompt_hash
from peregrm.records import Case, Criteria, Judgement, Reply, Reward, Usage
from peregrm.reward.composed import compose_criteria

HOSTILE = "<script>alert(1)</script> | **bold** `code` \x07 \u202e"
JUDGES = ("big@http://127.0.0.1:1/v1", "small@http://127.0.0.1:2/v1")


@pytest.fixture(scope="module")
def made(case: Case) -> tuple[Evaluation, Material]:
    """Twelve users, three policies, two judges; `good` is better by 0.2, and one reply each is missing, failed and empty."""
    chance = random.Random(4)
    cases: dict[str, Case] = {}
    for user in range(12):
        for number in range(2):
            one = case.model_copy(
                update={
                    "user_id": f"user-{user}",
                    "query": f"{HOSTILE} {user} {number}",
                    "language": "zh" if user % 4 == 0 else "en",
                    "category": ("emotional_support", "high_eq")[number],
                }
            )
            cases[one.id] = one
    criteria = {key: compose_criteria(one) for key, one in cases.items()}
    replies = [
        Reply(case_id=key, policy=policy, text=f"{HOSTILE} " + "word " * chance.randint(5, 40))
        for key in cases
        for policy in ("m/generic", "m/good", "other")
    ]
    del replies[5]
    rewards: dict[str, dict[str, Reward]] = {}
    judgements: dict[str, list[Judgement]] = {}
    for judge in JUDGES:
        rewards[judge] = {r.id: _reward(r, judge, chance) for r in replies}
        judgements[judge] = [j for r in replies for j in _judgements(r, judge, criteria[r.case_id], chance)]
    given = Evaluated(
        cases=cases,
        criteria=criteria,
        replies=replies,
        rewards=rewards,
        judgements=judgements,
        usage=dict.fromkeys(JUDGES, Usage(calls=9, input_tokens=1000, output_tokens=100)),
        costs={JUDGES[0]: 0.25, JUDGES[1]: None},
        prompts=[("judge", prompt_hash("judge")), ("gone", "0123456789ab")],
    )
    evaluation = evaluate_rewards(given, samples=2, bystander_weight=0.5, seed=0)
    by_reply = {
        judge: {r.id: [j for j in every if j.reply_id == r.id] for r in replies} for judge, every in judgements.items()
    }
    return evaluation, Material(cases, criteria, replies, rewards, by_reply)


def _reward(reply: Reply, judge: str, chance: random.Random) -> Reward:
    level = min(0.9, max(0.25, (0.7 if reply.policy == "m/good" else 0.5) + chance.gauss(0, 0.05)))
    scores = tuple((name, level) for name in ("resonation", "expression", "reception"))
    return Reward(
        case_id=reply.case_id,
        reply_id=reply.id,
        policy=reply.policy,
        judge=judge,
        scores=scores,
        empathy=level,
        bystander=0.5,
        total=level - 0.25,
        coverage=1.0,
        judgement_ids=(),
    )


def _judgements(reply: Reply, judge: str, criteria: Criteria, chance: random.Random) -> list[Judgement]:
    return [
        Judgement(
            case_id=reply.case_id,
            reply_id=reply.id,
            criteria_id=criteria.id,
            judge=judge,
            aspect="dimensions",
            trial=trial,
            item_scores=tuple(
                (name, tuple(float(chance.randint(2, 4)) for _ in items)) for name, items in criteria.items
            ),
            analysis=(("resonation", f"It hears {HOSTILE}"),),
            raw="{}",
            prompt=f"judge@{prompt_hash('judge')}",
        )
        for trial in range(2)
    ]


def test_the_page_shows_every_figure_and_no_markup_of_users(made: tuple[Evaluation, Material]) -> None:
    evaluation, material = made
    text = evaluation_page(evaluation, material)
    assert "<script" not in text
    assert "\x07" not in text
    total = dict(next(s for s in evaluation.scores if s.policy == "m/good").measures)["total"]
    assert f"{total.mean:.3f}" in text
    best = next(d for d in evaluation.differences if d.measure == "total" and {d.a, d.b} == {"m/generic", "m/good"})
    assert best.p_holm is not None
    assert best.p_holm < 0.05
    assert 'class="holds"' in text
    assert "$0.2500" in text
    assert "not known" in text
    assert "This wording is no longer part of the program." in text
    missing = next(p for p in evaluation.policies if p.missing)
    assert missing.missing[0] in text


def test_the_markdown_shows_the_same(made: tuple[Evaluation, Material]) -> None:
    evaluation, material = made
    text = evaluation_markdown(evaluation, material)
    for score in evaluation.scores:
        total = dict(score.measures)["total"]
        assert f"{total.mean:.3f} [{total.low:.3f}, {total.high:.3f}]" in text
    assert all(len(line.split("|")) > 3 for line in text.splitlines() if line.startswith("|"))


def test_the_same_records_give_the_same_bytes(made: tuple[Evaluation, Material]) -> None:
    evaluation, material = made
    shuffled = Material(
        dict(reversed(material.cases.items())),
        material.criteria,
        material.replies[::-1],
        material.rewards,
        material.judgements,
    )
    one, other = (evaluation_page(evaluation, m) for m in (material, material))
    assert one == other
    assert chosen_cases(shuffled, "m/good", "m/generic") == chosen_cases(material, "m/good", "m/generic")


def test_the_best_stands_beside_the_generic_one_and_cases_are_told_by_gain(made: tuple[Evaluation, Material]) -> None:
    evaluation, material = made
    assert ordered_policies(evaluation)[0] == "m/good"
    assert shown_pair(evaluation) == ("m/good", "m/generic")
    gained, lost = chosen_cases(material, "m/good", "m/generic")
    assert [one.gain for one in gained] == sorted((one.gain for one in gained), reverse=True)
    assert all(one.gain < 0 for one in lost)
    assert gained[0].first.reply.policy == "m/good"
    assert [v.judge for v in gained[0].first.verdicts] == list(JUDGES)
    assert gained[0].first.verdicts[0].words[0][0] == "resonation"


def alone(evaluation: Evaluation, judge: str) -> Evaluation:
    """The same with a judge that gives a total alone, ten times as wide as before, and the other way round for one policy."""
    nothing = Estimate(mean=None, low=None, high=None, n=0, users=0, asked=24)

    def changed(score: PolicyScore) -> PolicyScore:
        total = dict(score.measures)["total"]
        assert total.mean is not None
        own = total.model_copy(update={"mean": 10 * total.mean * (2 if score.policy == "m/generic" else 1)})
        return score.model_copy(
            update={"measures": tuple((name, own if name == "total" else nothing) for name, _ in score.measures)}
        )

    scores = tuple(changed(one) if one.judge == judge else one for one in evaluation.scores)
    return evaluation.model_copy(update={"scores": scores})


def test_the_total_of_a_judge_without_empathy_is_said_to_be_its_own(made: tuple[Evaluation, Material]) -> None:
    evaluation, material = made
    formula, own = "total = empathy + 0.5 × (bystander − 1)", "gives no empathy: its total is a score of its own"
    assert formula in evaluation_page(evaluation, material)
    assert own not in evaluation_page(evaluation, material)
    both = evaluation_page(alone(evaluation, JUDGES[1]), material)
    assert formula in both
    assert f"small {own}" in both
    neither = evaluation_page(alone(alone(evaluation, JUDGES[0]), JUDGES[1]), material)
    assert formula not in neither
    assert neither.count(own) == 2


def test_policies_are_ordered_by_their_place_with_each_judge_whatever_its_scale(
    made: tuple[Evaluation, Material],
) -> None:
    evaluation, _ = made
    third = "third@http://127.0.0.1:3/v1"
    more = evaluation.model_copy(
        update={
            "judges": (*evaluation.judges, evaluation.judges[0].model_copy(update={"judge": third})),
            "scores": (
                *evaluation.scores,
                *(one.model_copy(update={"judge": third}) for one in evaluation.scores if one.judge == JUDGES[0]),
            ),
        }
    )
    assert ordered_policies(alone(more, JUDGES[1]))[0] == "m/good"
    for judge in (*JUDGES, third):
        more = alone(more, judge)
    assert ordered_policies(more)[0] == "m/generic"


def test_axes_hold_what_is_shown() -> None:
    axis = axis_of([0.2, None, 0.4])
    assert axis.low < 0.2 < 0.4 < axis.high
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert 2 <= len(axis.ticks) <= 8
    assert axis.place(axis.low) == 0
    assert axis.place(99) == 100
    none = Estimate(mean=None, low=None, high=None, n=0, users=0, asked=1)
    assert strip(axis, none) is None
    alone = strip(axis, none.model_copy(update={"mean": 0.3}))
    assert alone is not None
    assert (alone.low, alone.high) == (None, None)
    assert cloud([(0.2, 0.4)], axis, axis)[0].y < 50
    assert axis_of([]).place(0.5) == 50


@pytest.mark.parametrize("values", [[0.5, 0.5], [-3.0, 12.0], [1e-4, 2e-4], [100.0, 1500.0]])
def test_every_axis_has_ticks(values: list[float]) -> None:
    assert 2 <= len(axis_of(values).ticks) <= 8


@pytest.mark.slow
def test_in_a_real_browser_it_fits_a_phone(
    made: tuple[Evaluation, Material], in_browser: Callable[[str], dict[str, Any]]
) -> None:
    evaluation, material = made
    found = in_browser(evaluation_page(evaluation, material))
    assert found["title"] == "Evaluation"
    assert found["details"] > 5


def test_the_example_report_is_what_is_written_today() -> None:
    """Its figures have all the fields of an evaluation, and each mean lies in its interval."""
    folder = Path(__file__).parents[3] / "docs" / "example-report"
    text = (folder / "evaluation.json").read_text(encoding="utf-8")
    found = Evaluation.model_validate_json(text)
    assert json.loads(text).keys() == Evaluation.model_fields.keys()
    assert [len(found.judges), found.cases, found.users] == [2, 48, 12]
    for score in (*found.scores, *found.slices):
        for _, one in score.measures:
            assert one.low is None or one.low <= (one.mean or 0) <= (one.high or 0)
    page, plain = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for text in (page, plain):
        for heading in ("Results", "Differences of totals", "Judges"):
            assert heading in text
