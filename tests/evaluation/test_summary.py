"""Known small artifacts give known figures; what could not be scored leaves the mean and shows in the coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from peregrm.errors import ArtifactError
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.summary import Artifacts, Summary
from peregrm.records import Criteria, Drop, Failure, Inspection, Memory, Reply, Usage
from summary_parts import summary_of


def total_of(summary: Summary, policy: str, origin: str = "gold") -> Estimate:
    row = next(row for row in summary.policies if (row.policy, row.origin) == (policy, origin))
    return dict(row.measures)["total"]


def test_known_figures(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case("ada", 1), {"personalized": 0.8, "generic": 0.4}),
        (a_case("ada", 2), {"personalized": 0.6, "generic": 0.4}),
        (a_case("bea", 1), {"personalized": 0.4, "generic": 0.5}),
    ]
    summary = summary_of(make_artifacts(rows))
    assert (summary.users, summary.gold_cases, summary.generated_cases) == (2, 3, 0)
    assert [row.policy for row in summary.policies] == ["personalized", "generic"]
    total = total_of(summary, "personalized")
    assert total.mean == pytest.approx(0.6)
    assert (total.n, total.users, total.asked, total.coverage) == (3, 2, 3, 1.0)
    # Residual sums of the users are +0.2 and -0.2; 2 / (2 - 1) * (0.04 + 0.04) / 3**2 is the variance.
    half = t.ppf(0.975, 1) * math.sqrt(2 * 0.08 / 9)
    assert total.high == pytest.approx(0.6 + half)
    assert total.low == pytest.approx(0.6 - half)
    assert total_of(summary, "generic").mean == pytest.approx(1.3 / 3)

    (comparison,) = summary.comparisons
    assert (comparison.better, comparison.worse, comparison.origin) == ("personalized", "generic", "gold")
    difference = dict(comparison.measures)["total"]
    assert difference.mean == pytest.approx((0.4 + 0.2 - 0.1) / 3)
    assert [name for name, _ in comparison.measures] == [name for name, _ in summary.policies[0].measures]
    assert [name for name, _ in comparison.measures] == [
        "resonation", "expression", "reception", "empathy", "bystander", "total",
    ]  # fmt: skip


def test_unscored_rewards_leave_the_mean_and_show_in_the_coverage(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case("ada", 1), {"personalized": 0.9, "generic": 0.5}),
        (a_case("ada", 2), {"personalized": None, "generic": 0.1}),
        (a_case("bea", 1), {"personalized": 0.7, "generic": None}),
        (a_case("cem", 1), {"personalized": None, "generic": None}),
    ]
    summary = summary_of(make_artifacts(rows))
    total = total_of(summary, "personalized")
    assert total.mean == pytest.approx(0.8)
    assert (total.n, total.users, total.asked, total.coverage) == (2, 2, 4, 0.5)
    difference = dict(summary.comparisons[0].measures)["total"]
    assert difference.mean == pytest.approx(0.4)
    assert (difference.n, difference.asked, difference.coverage) == (1, 4, 0.25)


def test_nothing_scored_is_no_figure(make_artifacts: Callable, a_case: Callable) -> None:
    summary = summary_of(make_artifacts([(a_case("ada", 1), {"generic": None}), (a_case("bea", 1), {"generic": None})]))
    total = total_of(summary, "generic")
    assert (total.mean, total.low, total.high, total.n, total.coverage) == (None, None, None, 0, 0.0)


def test_policy_without_a_figure_ranks_last(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [(a_case("ada", 1), {"a": None, "b": 0.2, "c": -0.4, "d": 0.2})]
    assert [row.policy for row in summary_of(make_artifacts(rows)).policies] == ["b", "d", "c", "a"]


def test_one_user_has_no_interval(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [(a_case("ada", n), {"generic": 0.1 * n}) for n in range(1, 5)]
    total = total_of(summary_of(make_artifacts(rows)), "generic")
    assert total.mean == pytest.approx(0.25)
    assert (total.low, total.high, total.n, total.users) == (None, None, 4, 1)


def test_origins_are_never_mixed(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case("ada", 1), {"generic": 0.2, "personalized": 0.3}),
        (a_case("ada", 2, origin="generated"), {"generic": 0.8, "personalized": 0.6}),
    ]
    summary = summary_of(make_artifacts(rows))
    assert (summary.gold_cases, summary.generated_cases) == (1, 1)
    assert total_of(summary, "generic").mean == pytest.approx(0.2)
    assert total_of(summary, "generic", "generated").mean == pytest.approx(0.8)
    found = {c.origin: dict(c.measures)["total"].mean for c in summary.comparisons}
    assert found == {"gold": pytest.approx(0.1), "generated": pytest.approx(-0.2)}


def test_known_order_counts_wins_and_half_ties(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case("ada", 1), {"best": 0.9, "middle": 0.5, "worst": 0.1}),
        (a_case("ada", 2), {"best": 0.5, "middle": 0.5, "worst": 0.6}),
        (a_case("bea", 1), {"best": 0.2, "middle": 0.5, "worst": None}),
        (a_case("bea", 2, origin="generated"), {"best": 0.9, "middle": 0.1}),
    ]
    summary = summary_of(make_artifacts(rows), known_order=["best", "middle", "worst", "never seen"])
    first, second = summary.known_order
    assert (first.better, first.worse, second.better, second.worse) == ("best", "middle", "middle", "worst")
    assert (first.accuracy.mean, first.accuracy.n, first.accuracy.asked) == (0.5, 3, 3)
    assert (second.accuracy.mean, second.accuracy.n, second.accuracy.asked) == (0.5, 2, 3)
    for check in summary.known_order:
        assert check.accuracy.low is None or 0 <= check.accuracy.low <= check.accuracy.high <= 1


@given(totals=st.lists(st.one_of(st.none(), st.floats(-0.3, 1)), min_size=1, max_size=8))
def test_mean_is_of_the_scored_alone(totals: list[float | None], make_artifacts: Callable, a_case: Callable) -> None:
    rows = [(a_case(f"user{n % 3}", n), {"generic": total}) for n, total in enumerate(totals)]
    total = total_of(summary_of(make_artifacts(rows)), "generic")
    scored = [value for value in totals if value is not None]
    assert (total.n, total.asked) == (len(scored), len(totals))
    assert total.mean == (pytest.approx(sum(scored) / len(scored)) if scored else None)


def test_no_cases_at_all() -> None:
    summary = summary_of(Artifacts(cases=(), criteria=(), replies=(), judgements=(), rewards=()))
    assert (summary.users, summary.policies, summary.comparisons, summary.known_order) == (0, (), (), ())


def test_reply_without_a_reward_is_an_error(make_artifacts: Callable, a_case: Callable) -> None:
    whole = make_artifacts([(a_case("ada", 1), {"generic": 0.5, "personalized": 0.6})])
    lost = whole.replies[1].id
    with pytest.raises(ArtifactError, match=lost):
        summary_of(whole.model_copy(update={"rewards": whole.rewards[:1]}))


def test_reward_without_a_reply_is_an_error(make_artifacts: Callable, a_case: Callable) -> None:
    whole = make_artifacts([(a_case("ada", 1), {"generic": 0.5, "personalized": 0.6})])
    with pytest.raises(ArtifactError, match=whole.replies[0].id):
        summary_of(whole.model_copy(update={"replies": whole.replies[1:]}))


def test_two_rewards_for_one_reply_are_an_error(make_artifacts: Callable, a_case: Callable, a_reward: Callable) -> None:
    whole = make_artifacts([(a_case("ada", 1), {"generic": 0.5})])
    second = a_reward(whole.replies[0], 0.9, [])
    with pytest.raises(ArtifactError, match="reward"):
        summary_of(whole.model_copy(update={"rewards": (*whole.rewards, second)}))


def test_two_replies_of_one_policy_to_one_case_are_an_error(
    make_artifacts: Callable, a_case: Callable, a_reward: Callable
) -> None:
    case = a_case("ada", 1)
    whole = make_artifacts([(case, {"generic": 0.5})])
    again = Reply(case_id=case.id, policy="generic", text="Another one.")
    changed = {"replies": (*whole.replies, again), "rewards": (*whole.rewards, a_reward(again, 0.4, []))}
    with pytest.raises(ArtifactError, match=f"generic answers {case.id} twice"):
        summary_of(whole.model_copy(update=changed))


def test_reply_to_an_unknown_case_is_an_error_that_names_it(make_artifacts: Callable, a_case: Callable) -> None:
    whole = make_artifacts([(a_case("ada", 1), {"generic": 0.5}), (a_case("ada", 2), {"generic": 0.5})])
    with pytest.raises(ArtifactError, match=whole.cases[1].id):
        summary_of(whole.model_copy(update={"cases": whole.cases[:1]}))


def test_case_twice_is_an_error(make_artifacts: Callable, a_case: Callable) -> None:
    whole = make_artifacts([(a_case("ada", 1), {"generic": 0.5})])
    with pytest.raises(ArtifactError, match="twice"):
        summary_of(whole.model_copy(update={"cases": whole.cases * 2}))


def test_what_was_left_out_and_what_failed_are_counted_apart(
    make_artifacts: Callable, a_case: Callable, make_memory: Callable[..., Memory]
) -> None:
    case = a_case("ada", 1)
    whole = make_artifacts([(case, {"generic": None})])
    no_answer = Failure(stage="criteria", kind="timeout", reason="no answer in time")
    gates = {"emotional_support": True, "consistent": False, "role_aware": False}
    artifacts = whole.model_copy(
        update={
            "memories": (make_memory(), make_memory("x", status="rejected", reason="evidence: not there")),
            "drops": (
                Drop(stage="queries", subject="sit-1", kind="length", reason="length: 2 tokens"),
                Drop(stage="queries", subject="sit-2", kind="length", reason="length: 1 token"),
                Drop(stage="queries", subject="sit-3", kind="truncated", reason="cut off", failed=True),
            ),
            "inspections": (
                Inspection(query_id="qry-1", **gates, kept=False, reasons=("consistent: no", "role_aware: no")),
                Inspection(query_id="qry-2", **dict.fromkeys(gates), kept=False, failure=no_answer),
            ),
            "criteria": (Criteria(case_id=case.id, method="model", failure=no_answer),),
        }
    )
    summary = summary_of(artifacts)
    assert {(c.stage, c.kind): c.n for c in summary.counts} == {
        ("queries", "length"): 2,
        ("memories", "rejected: evidence"): 1,
        ("inspection", "consistent"): 1,
        ("inspection", "role_aware"): 1,
    }
    assert {(c.stage, c.kind): c.n for c in summary.failures} == {
        ("queries", "truncated"): 1,
        ("criteria", "timeout"): 2,
    }
    assert next(c for c in summary.counts if c.kind == "length").example == "length: 2 tokens"


def test_usage_is_the_sum_over_purposes(make_artifacts: Callable, a_case: Callable) -> None:
    costs = {
        "judge": Usage(calls=4, input_tokens=400, output_tokens=40, cached_tokens=100),
        "criteria": Usage(calls=1, input_tokens=90, output_tokens=60),
    }
    summary = summary_of(make_artifacts([(a_case("ada", 1), {"generic": 0.5})]), costs=costs)
    assert summary.usage == Usage(calls=5, input_tokens=490, output_tokens=100, cached_tokens=100)
    assert [purpose for purpose, _ in summary.costs] == ["criteria", "judge"]


def test_summary_comes_back_from_its_json(make_artifacts: Callable, a_case: Callable) -> None:
    rows = [
        (a_case("ada", 1), {"personalized": 0.8, "generic": None}),
        (a_case("bea", 1), {"personalized": 0.1, "generic": 0.4}),
    ]
    summary = summary_of(make_artifacts(rows), known_order=["personalized", "generic"])
    assert Summary.model_validate_json(summary.model_dump_json()) == summary
