"""A planted truth is found within its interval, no truth is not found, and the plan's rules are followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import ArtifactError, InputError
from peregrm.study import estimates
from peregrm.study.analysis import analyse_rows, analyse_study, exclude
from peregrm.study.answers import Answer, Answers, Participant, new_code
from peregrm.study.design import counterbalanced
from peregrm.study.estimates import estimate_choice, estimate_first, estimate_outcome, sign_test
from peregrm.study.material import read_material
from peregrm.study.plan import OUTCOMES, Exclusions, Plan, read_plan
from peregrm.study.report import report_markdown, verdicts
from peregrm.study.rows import Row, read_rows, write_rows

NAMES = [one.name for one in OUTCOMES]


def simulated(
    seed: int,
    *,
    people: int = 30,
    gain: float = 0.0,
    side: float = 0.0,
    cases: int = 16,
    per: int = 6,
    of_case: float = 0.3,
) -> list[Row]:
    """Answers in which A is rated `gain` points higher than B, and the first reply `side` points higher than the second."""
    random = np.random.default_rng(seed)
    of_person, of_cases = random.normal(0, 0.5, people), random.normal(0, of_case, cases)
    rows = []
    for person, shown in enumerate(counterbalanced(people, cases, per, seed)):
        for number, (case, a_first) in enumerate(shown, start=1):
            gap = gain + of_person[person] + of_cases[case] + side * (0.5 if a_first else -0.5) + random.normal(0, 1.2)
            a = {
                name: int(np.clip(round(4 + gap / 2 + noise), 1, 7))
                for name, noise in zip(NAMES, random.uniform(-0.5, 0.5, 4), strict=True)
            }
            b = {name: int(np.clip(round(a[name] - gap), 1, 7)) for name in NAMES}
            chosen = "a" if gap > 0.3 else "b" if gap < -0.3 else "none"
            rows.append(row(f"p{person:03}", number, f"c{case}", a_first, a, b, chosen))
    return rows


def row(person: str, number: int, case: str, a_first: bool, a: Any, b: Any, chosen: str, **more: Any) -> Row:
    usual: dict[str, Any] = {
        "policy_a": "a",
        "policy_b": "b",
        "seconds": 30.0,
        "day": "2026-11-22",
        "comment": "",
        "arm": "cases",
    }
    told = {"participant": person, "number": number, "case": case, "a_first": a_first, "a": a, "b": b, "chosen": chosen}
    return Row.model_validate({**usual, **told, **more})


@pytest.mark.slow
def test_a_planted_effect_is_within_its_interval_and_none_is_rarely_found() -> None:
    held, alarms, chosen, n = 0, 0, 0, 60
    for seed in range(n):
        found = estimate_outcome(simulated(seed, people=20, gain=0.6), OUTCOMES[0], seed=0)
        assert found.method == "mixed"
        assert found.difference is not None
        assert found.difference.low is not None
        assert found.difference.high is not None
        held += found.difference.low <= 0.6 <= found.difference.high
        nothing = simulated(1000 + seed, people=20)
        found = estimate_outcome(nothing, OUTCOMES[0], seed=0)
        assert found.difference is not None
        assert found.difference.p is not None
        alarms += found.difference.p < 0.05
        p = estimate_choice(simulated(2000 + seed, people=20, of_case=0.0), seed=0).p
        chosen += p is not None and p < 0.05
    assert held >= 0.9 * n
    assert alarms <= 0.1 * n
    assert chosen <= 0.08 * n  # an exact test is careful where numbers are small


def test_effect_side_and_variance_are_told_apart() -> None:
    found = estimate_outcome(simulated(1, people=40, gain=0.8, side=0.7), OUTCOMES[2], seed=0)
    assert found.method == "mixed"
    assert found.difference is not None
    assert found.side is not None
    assert found.order is not None
    assert found.difference.estimate == pytest.approx(0.8, abs=0.4)
    assert found.side.estimate == pytest.approx(0.7, abs=0.4)
    assert found.order.p is not None
    assert found.order.p > 0.01
    assert found.people_sd == pytest.approx(0.5, abs=0.25)
    assert found.rest_sd == pytest.approx(1.3, abs=0.2)
    assert found.p_permutation is not None
    assert found.p_permutation < 0.01
    first = estimate_first(simulated(1, people=60, side=0.7), seed=0)
    assert first.people_one > first.people_other


def test_the_mixed_model_agrees_with_one_way_analysis_of_variance() -> None:
    """Balanced data and every case of its own: the estimate is the mean, its error that of the participants' means."""
    random = np.random.default_rng(0)
    rows = []
    for person in range(12):
        shift = random.normal(0, 1.5)
        for number in range(1, 5):
            gap = int(np.clip(round(1 + shift + random.normal()), -6, 6))
            a, b = dict.fromkeys(NAMES, 7 if gap > 0 else 1), dict.fromkeys(NAMES, (7 if gap > 0 else 1) - gap)
            rows.append(row(f"p{person}", number, f"c{person}-{number}", number % 2 == person % 2, a, b, "a"))
    found = estimate_outcome(rows, OUTCOMES[0], seed=0)
    gaps = np.array([one.a["fits"] - one.b["fits"] for one in rows], dtype=float).reshape(12, 4)
    assert found.method == "mixed"
    assert found.difference is not None
    assert found.difference.high is not None
    assert found.cases_sd == 0.0
    assert found.df == 11
    assert found.difference.estimate == pytest.approx(gaps.mean(), abs=1e-6)
    half = 2.201 * gaps.mean(1).std(ddof=1) / 12**0.5  # 97.5 % of t with 11 degrees of freedom
    assert found.difference.high - found.difference.estimate == pytest.approx(half, rel=0.03)


def test_where_the_model_cannot_be_fitted_the_clustered_mean_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = simulated(3, people=10, gain=0.5)
    monkeypatch.setattr(estimates, "_fit", lambda *_: None)
    found = estimate_outcome(rows, OUTCOMES[0], seed=0)
    assert (found.method, found.side) == ("clustered", None)
    assert found.difference is not None
    assert found.difference.estimate == found.clustered.mean
    assert (found.difference.low, found.difference.high) == (found.clustered.low, found.clustered.high)
    assert found.difference.p is not None
    assert (found.difference.p < 0.05) == (found.clustered.low is not None and found.clustered.low > 0)


def test_answers_without_any_spread_crash_nothing() -> None:
    same = dict.fromkeys(NAMES, 4)
    rows = [row(f"p{k % 5}", k // 5 + 1, f"c{k % 3}", k % 2 == 0, same, same, "none") for k in range(15)]
    found = estimate_outcome(rows, OUTCOMES[0], seed=0)
    assert found.method == "clustered"
    assert found.difference is not None
    assert (found.difference.estimate, found.difference.p) == (0, None)
    assert estimate_choice(rows, seed=0).p is None
    assert estimate_outcome([], OUTCOMES[0], seed=0).difference is None


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_sign_test_is_exact_and_even(one: int, other: int) -> None:
    p = sign_test(one, other)
    assert p == sign_test(other, one)
    assert (p is None) == (one + other == 0)
    if p is not None and one == 0:
        assert p == pytest.approx(min(1.0, 2 * 0.5**other))


def test_participants_are_left_out_by_the_plans_rules() -> None:
    rated, other = dict.fromkeys(NAMES, 4), dict.fromkeys(NAMES, 5)
    rows = [row("good", n, f"c{n}", True, rated, other, "a") for n in range(4)]
    rows += [row("same", n, f"c{n}", True, rated, rated, "a") for n in range(4)]
    rows += [row("hasty", n, f"c{n}", True, rated, other, "a", seconds=2.0 if n else 90.0) for n in range(4)]
    rows += [row("few", 1, "c1", True, rated, other, "a")]
    kept, why = exclude(rows, Exclusions(min_answers=2))
    assert {one.participant for one in kept} == {"good"}
    assert why == {"fewer than 2 answers": 1, "median time on a case below 8 s": 1, "the same number on everything": 1}
    assert len(exclude(rows, Exclusions(min_answers=1, min_seconds=0, straight_lining=False))[0]) == len(rows)


def played(folder: Path, people: int, gain: int = 2) -> None:
    """Have participants answer, who all like A's reply better, and some of them bring a history of their own."""
    plan, digest = read_plan(folder)
    material = read_material(folder)
    key = json.loads((folder / "key.json").read_text())["replies"]
    random = np.random.default_rng(0)
    with Answers(folder) as answers:
        for person in range(people):
            pid = answers.join(new_code(), digest, planned=plan.participants, cases=plan.per_participant).pid
            for number, place in enumerate(material.slots[person], start=1):
                rated = {
                    blind: {
                        name: int(random.integers(1, 5)) + (gain if key[blind]["policy"] == plan.policies[0] else 0)
                        for name in NAMES
                    }
                    for blind in (place.first, place.second)
                }
                likes = "first" if key[place.first]["policy"] == plan.policies[0] else "second"
                told = (
                    place.case,
                    place.first,
                    place.second,
                    (rated[place.first], rated[place.second]),
                    likes,
                    "=1+1, she said",
                )
                answers.submit(Answer(pid, "cases", number, *told))


def test_from_answers_to_a_report(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(cases=8, per_participant=4, participants=10)
    played(folder, 10)
    result = analyse_study(folder, registered=read_plan(folder)[1])
    assert (result.reached.finished, result.reached.analysed, result.main.cases) == (10, 10, 8)
    assert result.main.choice.people_one == 10
    assert result.main.choice.p == pytest.approx(2 / 1024)
    for one in result.main.outcomes:
        assert one.difference is not None
        assert one.difference.p is not None
        assert one.p_holm is not None
        assert one.difference.estimate > 0
        assert one.p_holm >= one.difference.p
    assert result.main.first.for_one == result.main.first.for_other == 20
    said = verdicts(result)
    assert said[0].startswith("Choice: zebrawarm is chosen (p = 0.002")
    text = report_markdown(result)
    assert "For some answers the time on the page is not known" in text
    assert text == report_markdown(analyse_study(folder))


def test_what_deviates_from_the_plan_is_said(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(cases=8, per_participant=4, participants=40)
    played(folder, 2)
    result = analyse_study(folder)
    assert any("2 participants have finished; 40 were planned" in line for line in result.deviations)
    assert "too few answers" not in verdicts(result)[0]
    assert result.reached.power_choice < 0.2


def test_nobody_answered_yet(make_folder: Callable[..., Path]) -> None:
    folder = make_folder()
    with pytest.raises(InputError, match="study serve"):
        analyse_study(folder)
    Answers(folder).close()
    result = analyse_study(folder)
    assert verdicts(result)[0] == "Choice: too few answers for the planned test."
    assert "too few answers" in report_markdown(result)


def test_another_plan_is_refused(make_folder: Callable[..., Path]) -> None:
    folder = make_folder()
    with pytest.raises(ArtifactError, match="registered"):
        analyse_study(folder, registered="0" * 64)
    with Answers(folder) as answers:
        answers.join(new_code(), "another plan", planned=4, cases=3)
    with pytest.raises(ArtifactError, match="1 of 1 participants agreed under another plan"):
        analyse_study(folder)


def test_own_histories_stand_apart(make_folder: Callable[..., Path]) -> None:
    plan, digest = read_plan(make_folder())
    rows = simulated(0, people=6, cases=6, per=3)
    mine = [
        one.model_copy(update={"arm": "own", "case": f"own-{k}", "policy_a": "personalized"})
        for k, one in enumerate(rows)
    ]
    people = [Participant(f"p{k:03}", k, digest) for k in range(6)]
    alone = analyse_rows(plan, digest, rows, people)
    both = analyse_rows(plan, digest, [*rows, *mine], people)
    assert both.main == alone.main
    assert both.own is not None
    assert both.own.policies == ("personalized", "b")
    assert "Own histories" in report_markdown(both)


def test_the_export_resolves_the_blind_and_is_safe_in_a_spreadsheet(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_folder()
    played(folder, 2)
    rows = read_rows(folder)
    write_rows(tmp_path / "a.csv", rows)
    write_rows(tmp_path / "a.jsonl", rows)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert {line["chosen_policy"] for line in lines} == {"zebrawarm"}
    assert all(line["case"].startswith("case-") for line in lines)
    assert all(1 <= line[f"{side}_{name}"] <= 7 for line in lines for side in "ab" for name in NAMES)
    assert lines[0]["comment"] == "=1+1, she said"
    table = (tmp_path / "a.csv").read_text().splitlines()
    assert table[0].split(",") == list(lines[0])
    assert table[1].endswith('"\'=1+1, she said"')


def test_answers_about_unknown_replies_are_refused(make_folder: Callable[..., Path]) -> None:
    folder = make_folder()
    with Answers(folder) as answers:
        pid = answers.join(new_code(), read_plan(folder)[1], planned=4, cases=3).pid
        rated = dict.fromkeys(NAMES, 4)
        answers.submit(Answer(pid, "cases", 1, "c-0", "r-0", "r-1", (rated, rated), "none"))
    with pytest.raises(ArtifactError, match="not in the key"):
        read_rows(folder)


def test_the_plans_words_and_its_numbers_are_the_same(make_folder: Callable[..., Path]) -> None:
    plan: Plan = read_plan(make_folder(alpha=0.01))[0]
    assert plan.alpha == 0.01
    assert sum("0.01" in line for line in plan.analysis) == 2


def test_answers_that_do_not_differ_are_not_called_too_few(make_folder: Callable[..., Path]) -> None:
    plan, digest = read_plan(make_folder())
    high, low = dict.fromkeys(NAMES, 6), dict.fromkeys(NAMES, 4)
    all_alike = [row(f"p{k // 4:02}", k % 4 + 1, f"c{k % 4}", k % 2 == 0, high, low, "none") for k in range(80)]
    choice, *ratings = verdicts(analyse_rows(plan, digest, all_alike, []))
    assert choice == "Choice: nobody chose either more often, so there is nothing to test."
    for line in ratings:
        assert "participants do not differ (A minus B is +2.00 for each)" in line
        assert "permutation test p < 0.001" in line
