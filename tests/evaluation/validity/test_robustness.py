"""A planted order is found to hold, a planted flip is found and named, and a judge that sees nothing is not praised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from peregrm.evaluation.inference import paired
from peregrm.evaluation.validity.robustness import RobustnessRows, ScoredRow, _tau, orders, robustness

POLICIES = ("best", "good", "poor")


def rows(
    users: int, means: dict[str, tuple[float, ...]], seed: int, noise: float = 0.1, failed: float = 0.0
) -> list[ScoredRow]:
    """Two cases a user under every construction of `means`, which holds the true mean of each policy."""
    random = np.random.default_rng(seed)
    quality = random.normal(size=(users, 2, len(POLICIES))) * noise  # what a reply is worth, however the case is made
    return [
        ScoredRow(
            construction=name,
            user=f"u{user:03}",
            case_id=f"c{user}-{case}",
            policy=policy,
            score=None
            if random.uniform() < failed
            else truth + float(quality[user, case, n]) + noise * float(random.normal()),
        )
        for name, truths in means.items()
        for user in range(users)
        for case in range(2)
        for n, (policy, truth) in enumerate(zip(POLICIES, truths, strict=True))
    ]


STEADY = {"base": (0.8, 0.6, 0.4), "other": (0.75, 0.6, 0.45), "third": (0.8, 0.6, 0.4)}
FLIPPED = {"base": (0.8, 0.6, 0.4), "other": (0.6, 0.8, 0.4)}
FLAT = {"base": (0.6, 0.6, 0.6), "other": (0.6, 0.6, 0.6)}


@pytest.mark.parametrize("seed", range(5))
def test_an_order_that_holds_is_no_cause_for_alarm(seed: int) -> None:
    finding = robustness(RobustnessRows(rows(30, STEADY, seed)), seed=seed)
    assert finding.verdict == "good", finding.words
    assert [figure.estimate.mean for figure in finding.figures] == [1.0, 1.0]


def test_a_perfect_judge_whose_scores_never_vary_is_no_cause_for_alarm() -> None:
    finding = robustness(RobustnessRows(rows(20, STEADY, 0, noise=0.0)), seed=0)
    assert finding.verdict == "good", finding.words


@pytest.mark.parametrize("seed", range(5))
def test_a_flip_is_found_and_named(seed: int) -> None:
    finding = robustness(RobustnessRows(rows(30, FLIPPED, seed)), seed=seed)
    assert finding.verdict == "bad"
    assert finding.words[0].startswith("ORDER REVERSED: best is better than good under base")
    assert "and worse under other" in finding.words[0]


def test_a_lost_difference_is_in_part() -> None:
    lost = {"base": (0.8, 0.6, 0.4), "other": (0.6, 0.6, 0.4)}
    finding = robustness(RobustnessRows(rows(40, lost, 0)), seed=0)
    assert finding.verdict == "doubtful"
    assert any("best over good is lost under other" in word for word in finding.words)


@pytest.mark.parametrize("seed", range(5))
def test_a_judge_that_sees_no_difference_is_not_praised(seed: int) -> None:
    assert robustness(RobustnessRows(rows(30, FLAT, seed)), seed=seed).verdict in ("unknown", "doubtful")


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=6))
def test_tau_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs, dtype=float).T
    expected = kendalltau(one, other).statistic
    found = _tau(one, other)
    assert found is None if np.isnan(expected) else found == pytest.approx(expected)


def false_alarms(means: dict[str, tuple[float, ...]], seeds: int) -> int:
    return sum(robustness(RobustnessRows(rows(16, means, seed)), seed=seed).verdict == "bad" for seed in range(seeds))


@pytest.mark.slow
def test_flips_are_seldom_found_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "PERMUTATIONS", 999)
    assert false_alarms(FLAT, 10) <= 1
    assert false_alarms(STEADY, 3) == 0


@pytest.mark.slow
def test_planted_means_and_changes_lie_within_their_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "PERMUTATIONS", 999)
    inside = changes = known = 0
    for seed in range(12):
        found, fates = orders(rows(12, STEADY, seed), seed=seed)
        for order in found:
            for policy, truth in zip(POLICIES, STEADY[order.construction], strict=True):
                known += 1
                one = order.means[policy]
                assert one.low is not None
                assert one.high is not None
                inside += one.low <= truth <= one.high
        wide = next(f for f in fates if (f.better, f.worse, f.construction) == ("best", "poor", "other"))
        assert wide.change.low is not None
        assert wide.change.high is not None
        changes += wide.change.low <= -0.1 <= wide.change.high
    assert inside >= 0.9 * known
    assert changes >= 10


def test_failed_scores_are_counted_and_left_out() -> None:
    some = rows(30, STEADY, 0, failed=0.05)
    finding = robustness(RobustnessRows(some), seed=0)
    assert (finding.asked, finding.scored) == (len(some), sum(row.score is not None for row in some))
    found, _ = orders(some, seed=0)
    assert all(0.85 < order.coverage < 1 for order in found)
    assert len({one.n for order in found for one in order.means.values()}) == 1


@pytest.mark.parametrize("scores", [[], "all failed", "one construction"])
def test_nothing_to_compare_is_unknown_and_said(scores: Any) -> None:
    means = {"base": STEADY["base"]} if scores == "one construction" else STEADY
    some = rows(12, means, 0, failed=1.0 if scores == "all failed" else 0.0) if scores else []
    finding = robustness(RobustnessRows(some, notes=("no questionnaire",)), seed=0)
    assert finding.verdict == "unknown"
    assert finding.words[-1] == "no questionnaire"
    assert len(finding.words) == (3 if scores == "all failed" else 2)


def test_constructions_of_other_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="same replies"):
        orders(rows(3, STEADY, 0)[:-1], seed=0)


def test_the_order_of_the_rows_makes_no_difference_but_for_which_construction_is_the_base() -> None:
    some = rows(12, STEADY, 0)
    turned = sorted(some, key=lambda row: (list(STEADY).index(row.construction), row.user[::-1], row.policy))
    assert robustness(RobustnessRows(some), seed=0) == robustness(RobustnessRows(turned), seed=0)


def test_a_few_scores_of_many_decide_nothing() -> None:
    some = rows(30, STEADY, 0, noise=0.02)
    few = [row if int(row.user[1:]) % 12 == 0 else row.model_copy(update={"score": None}) for row in some]
    finding = robustness(RobustnessRows(few), seed=0)
    assert finding.verdict == "unknown"
    assert finding.words[0].startswith("TOO LITTLE DATA: ")
