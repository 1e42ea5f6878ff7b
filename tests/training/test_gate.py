"""A judge that goes away is waited for, and what it never gave is never made up. No torch: the gate knows nothing of trainers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from group_parts import TopicReward, gone, topic_cases
from peregrm.errors import FailureBudgetExceeded, ModelAuthError
from peregrm.models.endpoint import OUTAGE
from peregrm.records import Case, Failure, Reply
from peregrm.reward.base import Scored
from peregrm.training.grpo.gate import Gate
from peregrm.training.grpo.looped import Looped, OwnLoop


@pytest.fixture(scope="module")
def cases(make_memory: Callable[..., Any]) -> list[Case]:
    return topic_cases(make_memory, 3)


def gate_of(reward: Any, *, wait_s: float = 60, budget: float = 0.2, window: int = 20) -> tuple[Gate, list[str]]:
    said: list[str] = []
    return Gate(reward, wait_s=wait_s, budget=budget, window=window, say=said.append, pauses_s=(0.001, 0.002)), said


class Away:
    """Says of the first `times` groups it is asked about that nobody answers."""

    def __init__(self, times: int, kind: str = "unavailable") -> None:
        self.left = times
        self.asked = 0
        self.kind = kind

    def __call__(self, case: Case) -> Failure | None:
        self.asked += 1
        self.left -= 1
        return gone(self.kind) if self.left >= 0 else None


@pytest.mark.parametrize("kind", [*sorted(OUTAGE), "check+timeout"])
async def test_a_judge_that_comes_back_has_lost_nothing(cases: list[Case], kind: str) -> None:
    away = Away(3, kind)
    gate, said = gate_of(TopicReward(away))
    scored = await gate.score(cases[0], ["garden", "boats"])
    assert [one.total for one in scored] == [1.0, 0.0]
    assert away.asked == 4
    assert len(said) == 2
    assert "waits up to 60 s" in said[0]
    assert "answers again" in said[1]
    gate.check()


@pytest.mark.parametrize("kind", ["unparsable", "echo", "flagged", "refusal", "deadline"])
async def test_what_is_no_outage_is_not_asked_again(cases: list[Case], kind: str) -> None:
    away = Away(1, kind)
    gate, said = gate_of(TopicReward(away))
    scored = await gate.score(cases[0], ["garden"])
    assert scored[0].total is None
    assert (away.asked, said) == (1, [])


async def test_a_judge_that_declines_everything_is_no_training(cases: list[Case]) -> None:
    gate, _ = gate_of(TopicReward(lambda case: gone("flagged")))
    for _ in range(5):
        await gate.score(cases[0], ["garden"] * 4)
    with pytest.raises(FailureBudgetExceeded, match="none of the last 20 replies has a reward"):
        gate.check()


async def test_a_judge_that_stays_away_is_waited_for_once_and_leaves_no_number(cases: list[Case]) -> None:
    away = Away(10**6)
    gate, said = gate_of(TopicReward(away), wait_s=0.05)
    first = await gate.score(cases[0], ["garden"] * 4)
    tries = away.asked
    second = await gate.score(cases[1], ["boats"] * 4)
    assert tries > 2
    assert away.asked == tries + 1
    assert [one.total for one in first + second] == [None] * 8
    assert ["has not answered" in line for line in said] == [False, True]


async def test_a_second_outage_is_waited_for_again(cases: list[Case]) -> None:
    away = Away(2)
    gate, said = gate_of(TopicReward(away), wait_s=60)
    await gate.score(cases[0], ["garden"])
    away.left = 2
    scored = await gate.score(cases[0], ["garden"])
    assert scored[0].total == 1.0
    assert len(said) == 4


class OneSilent(TopicReward):
    """Never answers about the first reply of a group."""

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        scored = await super().score(case, replies)
        (lost,) = await TopicReward(lambda _: gone("timeout")).score(case, [scored[0].reply])
        return [lost, *scored[1:]]


async def test_a_reply_that_alone_gets_no_answer_is_given_up_while_the_judge_is_there(
    cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peregrm.training.grpo.gate._ALONE_S", 0.02)
    gate, _ = gate_of(OneSilent(), wait_s=3600)
    scored = await gate.score(cases[0], ["garden", "boats", "garden"])
    assert [one.total for one in scored] == [None, 0.0, 1.0]


async def test_the_budget_counts_what_should_have_a_reward(cases: list[Case]) -> None:
    gate, _ = gate_of(TopicReward(lambda _: gone("flagged")), budget=0.0)
    await gate.score(cases[0], ["garden"] * 19)
    gate.check()
    gate, _ = gate_of(TopicReward(lambda _: gone("unparsable")), budget=0.5, window=40)
    await gate.score(cases[0], ["<think>so"] * 20)
    gate.check()
    await gate.score(cases[0], ["garden"] * 19)
    gate.check()
    await gate.score(cases[0], ["garden"] * 2)
    with pytest.raises(FailureBudgetExceeded, match=r"21 of the last 40 .*unparsable: nobody answers.*same command"):
        gate.check()


async def test_replies_without_a_reward_are_counted_by_kind_whatever_the_kind(cases: list[Case]) -> None:
    kinds = iter(["language", "unparsable", "language"])
    gate, _ = gate_of(TopicReward(lambda _: gone(next(kinds))))
    for count in (3, 1, 2):
        await gate.score(cases[0], ["garden"] * count)
    assert gate.taken_failures() == {"language": 5, "unparsable": 1}
    assert gate.taken_failures() == {}


async def test_what_lies_far_back_counts_no_more_and_few_replies_are_no_share(cases: list[Case]) -> None:
    away = Away(1, "unparsable")
    gate, _ = gate_of(TopicReward(away), budget=0.1, window=20)
    await gate.score(cases[0], ["garden"] * 19)
    gate.check()
    await gate.score(cases[0], ["garden"] * 20)
    gate.check()


async def test_what_makes_further_calls_pointless_is_raised(cases: list[Case]) -> None:
    def refuse(_: Case) -> Failure | None:
        raise ModelAuthError("key refused")

    with pytest.raises(ModelAuthError):
        await gate_of(TopicReward(refuse))[0].score(cases[0], ["garden"])


def test_a_reward_in_a_loop_of_its_own_is_asked_from_any_other(cases: list[Case]) -> None:
    import asyncio

    loops: set[int] = set()

    def note(_: Case) -> Failure | None:
        loops.add(id(asyncio.get_running_loop()))
        return None

    with OwnLoop() as loop:
        reward = Looped(TopicReward(note), loop)
        assert reward.method == "topic"
        for _ in range(2):
            (scored,) = asyncio.run(reward.score(cases[0], ["garden"]))
            assert scored.total == 1.0
        loop.run(reward.aclose())
    assert len(loops) == 1


def test_an_interrupted_wait_leaves_nothing_running() -> None:
    import asyncio

    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("stopped")

    with OwnLoop() as loop:
        asyncio.run_coroutine_threadsafe(forever(), loop._loop)
        loop.run(asyncio.sleep(0))
    assert ended == ["stopped"]
