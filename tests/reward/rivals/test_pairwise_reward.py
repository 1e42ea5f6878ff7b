"""The pairwise judge: every pair in both orders, position bias gone, honest where a comparison failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import ModelTimeout
from peregrm.models.base import Request
from peregrm.reward.rivals.pairwise import MOST_OPPONENTS, pairs

Score = Callable[..., Any]
Honest = Callable[[Request], str]


def says(verdict: str) -> Callable[[Request], str]:
    return lambda _: json.dumps({"analysis": "So.", "verdict": verdict})


def shows(request: Request, a: str, b: str) -> bool:
    text = request.messages[1].content
    return f"\n{a}\n</reply-a" in text and f"\n{b}\n</reply-b" in text


async def test_a_known_order_is_recovered(score: Score, honest: Honest) -> None:
    replies = [f"worth {worth}" for worth in (3, 7, 1, 5, 8, 2, 6, 4)]
    scored, model = await score("pairwise", replies, honest)
    assert [one.total for one in scored] == pytest.approx([n / 7 for n in (2, 6, 0, 4, 7, 1, 5, 3)])
    assert len({request.messages for request in model.requests}) == 56
    assert [len(one.judgements) for one in scored] == [14] * 8
    assert [one.scores["won"] for one in scored] == [one.total for one in scored]


@pytest.mark.parametrize("verdict", ["A", "B", "tie"])
@pytest.mark.parametrize("count", [2, 5, 8, 12])
async def test_a_judge_that_sees_only_the_place_says_nothing(verdict: str, count: int, score: Score) -> None:
    scored, _ = await score("pairwise", [f"reply {n}" for n in range(count)], says(verdict))
    assert [one.total for one in scored] == [0.5] * count


async def test_what_a_judgement_tells(score: Score) -> None:
    scored, _ = await score("pairwise", ["first", "second"], says("A"))
    one, other = scored
    assert [j.values for j in one.judgements] == [(("won", 1.0), ("place", 1.0)), (("won", 0.0), ("place", 2.0))]
    assert [j.values for j in other.judgements] == [(("won", 0.0), ("place", 2.0)), (("won", 1.0), ("place", 1.0))]
    assert [j.trial for j in one.judgements] == [0, 1]
    assert {dict(j.analysis)["against"] for j in one.judgements} == {other.reply.id}
    assert {dict(j.analysis)["pairwise"] for j in one.judgements} == {"So."}
    assert {j.aspect for j in one.judgements} == {"pairwise"}


@pytest.mark.parametrize("verdict", ["a", "C", "AB", "", None, 1, "reply A", ["A"]])
async def test_another_verdict_is_none(verdict: Any, score: Score) -> None:
    scored, _ = await score("pairwise", ["one", "two"], says(verdict))
    assert [one.total for one in scored] == [None, None]
    assert {one.failure.kind for one in scored} == {"invalid"}


async def test_one_reply_alone_cannot_be_scored(score: Score) -> None:
    (one,), model = await score("pairwise", ["worth 5"], [])
    assert (one.total, one.coverage, one.judgements, model.requests) == (None, 0.0, (), [])
    assert one.failure.kind == "no_comparison"
    assert dict(one.reward.measured)["tokens"] == 2
    failed = ["worth 5", "<think>never ended"]
    assert [s.failure.kind for s in (await score("pairwise", failed, []))[0]] == ["no_comparison", "unclosed_thinking"]


async def test_an_empty_reply_loses_to_all_others_by_rule(score: Score, honest: Honest) -> None:
    scored, model = await score("pairwise", ["worth 1", "", "worth 3", " "], honest)
    assert [one.total for one in scored] == pytest.approx([2 / 3, 0, 1, 0])
    assert len(model.requests) == 2
    assert [len(one.judgements) for one in scored] == [6, 1, 6, 1]
    for one in scored:
        assert len({j.id for j in one.judgements}) == len(one.judgements)
    (one, empty), unasked = await score("pairwise", ["worth 1", ""], [])
    assert (one.total, empty.total, unasked.requests) == (1.0, 0.0, [])


async def test_wins_by_rule_do_not_make_a_quorum(score: Score) -> None:
    scored, _ = await score("pairwise", ["one", "two", "", "", "", ""], lambda _: ModelTimeout("late"))
    assert [one.total for one in scored] == [None, None, 0.0, 0.0, 0.0, 0.0]
    assert [one.coverage for one in scored] == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert scored[0].failure.kind == "timeout"


@pytest.mark.parametrize(("quorum", "totals"), [(0.5, [1.0, 0.25, 0.5]), (0.6, [None, 0.25, None])])
async def test_a_failed_comparison_counts_for_neither(quorum: float, totals: list[float | None], score: Score) -> None:
    """One beats two in both orders, two and three win as the second shown, one and three are never compared."""

    def play(request: Request) -> Any:
        if shows(request, "one", "three") or shows(request, "three", "one"):
            return ModelTimeout("late")
        return says("A" if shows(request, "one", "two") else "B")(request)

    scored, _ = await score("pairwise", ["one", "two", "three"], play, quorum=quorum)
    assert [one.total for one in scored] == totals
    assert [one.coverage for one in scored] == [0.5, 1.0, 0.5]


async def test_one_lost_order_leaves_the_mean(score: Score) -> None:
    def play(request: Request) -> Any:
        return ModelTimeout("late") if shows(request, "two", "one") else says("A")(request)

    scored, _ = await score("pairwise", ["one", "two"], play)
    assert [(one.total, one.coverage) for one in scored] == [(1.0, 0.5), (0.0, 0.5)]


async def test_equal_replies_are_compared_like_others(score: Score) -> None:
    scored, _ = await score("pairwise", ["same", "same"], says("A"))
    assert [one.total for one in scored] == [0.5, 0.5]


async def test_samples_are_trials_of_every_comparison(score: Score) -> None:
    def play(request: Request) -> str:
        return says("A" if request.trial < 2 else "tie")(request)

    scored, model = await score("pairwise", ["one", "two"], play, samples=3)
    assert len(model.requests) == 6
    assert [one.total for one in scored] == [0.5, 0.5]
    assert [j.trial for j in scored[0].judgements] == list(range(6))


async def test_a_large_group_is_compared_in_part(score: Score, honest: Honest) -> None:
    replies = [f"worth {n % 9 + 1}, {n}" for n in range(20)]
    scored, model = await score("pairwise", replies, honest)
    assert len(model.requests) == 20 * MOST_OPPONENTS
    assert {len(one.judgements) for one in scored} == {2 * MOST_OPPONENTS}
    again, _ = await score("pairwise", replies, honest)
    assert [one.total for one in again] == [one.total for one in scored]
    other, _ = await score("pairwise", replies, honest, seed=1)
    assert [one.total for one in other] != [one.total for one in scored]


@given(st.integers(0, 40), st.integers(0, 3))
def test_the_design_is_balanced_connected_and_fixed(count: int, seed: int) -> None:
    keys = [f"{seed} {n}" for n in range(count)]
    chosen = pairs(keys)
    assert chosen == pairs(keys) == sorted(set(chosen))
    assert all(0 <= a < b < count for a, b in chosen)
    met = Counter(place for pair in chosen for place in pair)
    assert set(met.values()) <= {min(count - 1, MOST_OPPONENTS)}
    reached = {0} if count else set()
    while grown := {x for pair in chosen if reached & set(pair) for x in pair} - reached:
        reached |= grown
    assert reached == (set(range(count)) if count != 1 else {0})


def test_up_to_nine_all_are_compared() -> None:
    assert [len(pairs([str(n) for n in range(count)])) for count in (0, 1, 2, 8, 9, 10)] == [0, 0, 1, 28, 36, 40]
