"""`PereGRM.score`, as a trainer calls it: how many calls, whose criteria, what the judge is shown, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from typing import Any

import pytest

from peregrm.errors import ArtifactError, ModelAuthError, ModelTimeout
from peregrm.models.base import Completion, Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Failure, Reply
from peregrm.reward import peregrm as peregrm_module
from peregrm.reward.peregrm import MODES, PereGRM
from reward_parts import Play, in_form, purposes

BuildReply = Callable[..., Reply]


class Held(ScriptedModel):
    """Waits at `gate` before it answers, and counts what is under way."""

    def __init__(self, play: Play = in_form, *, hold: Callable[[Request], bool] = lambda request: True) -> None:
        super().__init__(play)
        self.gate = asyncio.Event()
        self.hold = hold
        self.under_way = 0

    async def complete(self, request: Request) -> Completion:
        self.under_way += 1
        try:
            if self.hold(request):
                await self.gate.wait()
            return await super().complete(request)
        finally:
            self.under_way -= 1


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def test_a_group_of_8_takes_17_calls(case: Case, reply_of: BuildReply) -> None:
    model = ScriptedModel(in_form)
    scored = await PereGRM(model).score(case, [reply_of(f"reply {n}") for n in range(8)])
    assert purposes(model) == {"criteria": 1, "judge": 8, "bystander": 8}
    for one in scored:
        assert (one.empathy, one.bystander, one.coverage) == (pytest.approx(0.8), pytest.approx(0.75), 1.0)
        assert one.total == pytest.approx(0.8 - 0.125)


async def test_the_next_groups_of_a_case_take_16(case: Case, reply_of: BuildReply) -> None:
    model = ScriptedModel(in_form)
    grm = PereGRM(model)
    epochs = [await grm.score(case, [reply_of(f"reply {n}") for n in range(8)]) for _ in range(3)]
    assert purposes(model) == {"criteria": 1, "judge": 24, "bystander": 24}
    assert epochs[0] == epochs[1] == epochs[2]
    assert {j.criteria_id for scored in epochs for s in scored for j in s.judgements} == {
        (await grm.criteria_for(case)).id  # type: ignore[union-attr]
    }


async def test_scores_come_in_order_whatever_the_order_of_the_answers(case: Case, reply_of: BuildReply) -> None:
    class Last(ScriptedModel):
        async def complete(self, request: Request) -> Completion:
            found = re.search(r"reply (\d)", request.messages[1].content)
            await asyncio.sleep(0.005 * (9 - int(found[1])) if found else 0)
            return await super().complete(request)

    replies = [reply_of(f"reply {n}") for n in range(8)]
    scored = await PereGRM(Last(in_form)).score(case, replies)
    assert [one.reply for one in scored] == replies
    assert [{j.reply_id for j in one.judgements} for one in scored] == [{reply.id} for reply in replies]
    assert [one.reward.reply_id for one in scored] == [reply.id for reply in replies]


async def test_20_groups_at_once_share_one_set_of_criteria(case: Case, reply_of: BuildReply) -> None:
    model = Held(hold=lambda request: request.purpose == "criteria")
    grm = PereGRM(model)
    running = [asyncio.create_task(grm.score(case, [reply_of(f"reply {n}")])) for n in range(20)]
    await until(lambda: model.under_way == 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert model.under_way == 1
    model.gate.set()
    scored = [one for group in await asyncio.gather(*running) for one in group]
    assert purposes(model) == {"criteria": 1, "judge": 20, "bystander": 20}
    assert len({j.criteria_id for one in scored for j in one.judgements}) == 1
    assert all(one.failure is None for one in scored)


async def test_two_cases_have_each_their_own_criteria(case: Case, reply_of: BuildReply) -> None:
    other = case.model_copy(update={"query": "he came after all!"})
    model = ScriptedModel(in_form)
    grm = PereGRM(model)
    mine = reply_of()
    theirs = mine.model_copy(update={"case_id": other.id})
    one, two = await asyncio.gather(grm.score(case, [mine]), grm.score(other, [theirs]))
    assert purposes(model)["criteria"] == 2
    assert one[0].judgements[0].criteria_id != two[0].judgements[0].criteria_id


async def test_failed_criteria_are_not_remembered(case: Case, reply_of: BuildReply) -> None:
    down = True

    def play(request: Request) -> ScriptEntry:
        return ModelTimeout("late") if down and request.purpose == "criteria" else in_form(request)

    model = ScriptedModel(play)
    grm = PereGRM(model)
    first = await asyncio.gather(*(grm.score(case, [reply_of(f"reply {n}")]) for n in range(5)))
    assert purposes(model) == {"criteria": 1}, "who asked at once shares the failure"
    for (one,) in first:
        assert (one.total, one.coverage, one.judgements) == (None, 0.0, ())
        assert one.failure is not None
        assert one.failure.reason == "there are no criteria: late"
    down = False
    (one,) = await grm.score(case, [reply_of()])
    assert (one.failure, purposes(model)["criteria"]) == (None, 2)


async def test_a_refused_key_reaches_all_who_wait_and_is_not_remembered(case: Case, reply_of: BuildReply) -> None:
    down = True
    model = ScriptedModel(lambda request: ModelAuthError("no") if down else in_form(request))
    grm = PereGRM(model)
    outcomes = await asyncio.gather(*(grm.score(case, [reply_of()]) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ModelAuthError] * 3
    assert len(model.requests) == 1
    down = False
    assert (await grm.score(case, [reply_of()]))[0].failure is None


@pytest.mark.parametrize("gives_up", [0, 1, 2])
async def test_who_gives_up_waiting_takes_nothing_from_the_others(
    case: Case, reply_of: BuildReply, gives_up: int
) -> None:
    """Also where it is the one that asked first."""
    model = Held(hold=lambda request: request.purpose == "criteria")
    grm = PereGRM(model)
    running = [asyncio.create_task(grm.score(case, [reply_of(f"reply {n}")])) for n in range(3)]
    await until(lambda: model.under_way == 1)
    running[gives_up].cancel()
    await asyncio.sleep(0)
    model.gate.set()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert isinstance(outcomes[gives_up], asyncio.CancelledError)
    others = [outcome for n, outcome in enumerate(outcomes) if n != gives_up]
    assert all(isinstance(outcome, list) and outcome[0].failure is None for outcome in others)
    assert purposes(model) == {"criteria": 1, "judge": 2, "bystander": 2}


async def test_criteria_that_nobody_waited_for_are_kept(case: Case, reply_of: BuildReply) -> None:
    """They are paid for."""
    model = Held()
    grm = PereGRM(model)
    running = asyncio.create_task(grm.score(case, [reply_of()]))
    await until(lambda: model.under_way == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    model.gate.set()
    await until(lambda: model.under_way == 0)
    for _ in range(5):
        await asyncio.sleep(0)
    (one,) = await grm.score(case, [reply_of()])
    assert (one.failure, purposes(model)["criteria"]) == (None, 1)


async def test_an_error_that_nobody_waited_for_is_not_shouted(case: Case, reply_of: BuildReply) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    model = Held(lambda request: ModelAuthError("no"))
    running = asyncio.create_task(PereGRM(model).score(case, [reply_of()]))
    await until(lambda: model.under_way == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    model.gate.set()
    await until(lambda: model.under_way == 0)
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_fatal_error_is_raised_when_no_call_is_under_way_any_more(
    case: Case, criteria: Criteria, reply_of: BuildReply, mode: str
) -> None:
    """Else the calls go on behind the caller's back, on connections that are closed meanwhile."""
    lost = "reply 09" if mode == "listwise" else "reply 03"

    def play(request: Request) -> ScriptEntry:
        return ModelAuthError("no") if lost in request.messages[1].content else in_form(request)

    model = Held(play, hold=lambda r: lost not in r.messages[1].content and "reply 00" not in r.messages[1].content)
    grm = PereGRM(model, mode=mode)
    grm.use_criteria([criteria])
    running = asyncio.create_task(grm.score(case, [reply_of(f"reply {n:02}") for n in range(17)]))
    await until(lambda: any(lost in request.messages[1].content for request in model.requests))
    for _ in range(50):
        await asyncio.sleep(0)
    model.gate.set()
    with pytest.raises(ModelAuthError):
        await running
    assert model.under_way == 0


@pytest.mark.parametrize("mode", MODES)
async def test_who_gives_up_a_score_gives_up_its_calls(
    case: Case, criteria: Criteria, reply_of: BuildReply, mode: str
) -> None:
    model = Held()
    grm = PereGRM(model, mode=mode)
    grm.use_criteria([criteria])
    running = asyncio.create_task(grm.score(case, [reply_of(f"reply {n}") for n in range(3)]))
    await until(lambda: model.under_way > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    assert model.under_way == 0


async def test_given_criteria_are_used_and_none_are_asked_for(
    case: Case, criteria: Criteria, reply_of: BuildReply
) -> None:
    model = ScriptedModel(in_form)
    grm = PereGRM(model)
    grm.use_criteria(iter([criteria]))
    assert await grm.criteria_for(case) == criteria
    (one,) = await grm.score(case, [reply_of()])
    assert purposes(model) == {"judge": 1, "bystander": 1}
    assert {judgement.criteria_id for judgement in one.judgements} == {criteria.id}


async def test_given_criteria_win_over_those_being_written(
    case: Case, criteria: Criteria, reply_of: BuildReply
) -> None:
    model = Held(hold=lambda request: request.purpose == "criteria")
    grm = PereGRM(model)
    running = asyncio.create_task(grm.score(case, [reply_of()]))
    await until(lambda: model.under_way == 1)
    grm.use_criteria([criteria])
    model.gate.set()
    await running
    assert await grm.criteria_for(case) == criteria


async def test_given_criteria_are_never_forgotten(
    case: Case, criteria: Criteria, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are written meanwhile: those made by hand must not be replaced by a model's without a word."""
    monkeypatch.setattr(peregrm_module, "_REMEMBERED", 2)
    model = ScriptedModel(in_form)
    grm = PereGRM(model)
    grm.use_criteria([criteria])
    others = [case.model_copy(update={"query": f"message {n}"}) for n in range(4)]
    for other in others:
        await grm.criteria_for(other)
    assert await grm.criteria_for(case) == criteria
    assert purposes(model) == {"criteria": 4}
    await grm.criteria_for(others[3])
    assert purposes(model) == {"criteria": 4}, "the latest are remembered"


async def test_failed_criteria_are_not_taken_over(case: Case) -> None:
    lost = Criteria(case_id=case.id, method="model", failure=Failure(stage="criteria", kind="check", reason="no"))
    model = ScriptedModel(in_form)
    grm = PereGRM(model)
    grm.use_criteria([lost])
    criteria = await grm.criteria_for(case)
    assert criteria is not None
    assert criteria.failure is None


@pytest.mark.parametrize("wrong", ["a dimension less", "a dimension more", "another name", "one twice"])
def test_criteria_of_other_dimensions_are_refused(criteria: Criteria, wrong: str) -> None:
    items = {
        "a dimension less": criteria.items[:2],
        "a dimension more": (*criteria.items, ("humour", criteria.items[0][1])),
        "another name": (*criteria.items[:2], ("humour", criteria.items[2][1])),
        "one twice": (*criteria.items, criteria.items[0]),
    }[wrong]
    with pytest.raises(ArtifactError, match="criteria"):
        PereGRM(ScriptedModel([])).use_criteria([criteria.model_copy(update={"items": items})])


async def test_without_weight_no_bystander_is_asked(case: Case, reply_of: BuildReply) -> None:
    model = ScriptedModel(in_form)
    scored = await PereGRM(model, bystander_weight=0).score(case, [*(reply_of(f"reply {n}") for n in range(7)), ""])
    assert purposes(model) == {"criteria": 1, "judge": 7}
    assert [(one.bystander, one.total == one.empathy, one.coverage) for one in scored] == [(None, True, 1.0)] * 8
    assert [len(one.judgements) for one in scored] == [1] * 8


@pytest.mark.parametrize("mode", MODES)
async def test_no_replies_take_no_call(case: Case, mode: str) -> None:
    model = ScriptedModel([])
    assert await PereGRM(model, mode=mode).score(case, []) == []


@pytest.mark.parametrize("mode", MODES)
async def test_where_there_is_no_reply_at_all_nothing_is_asked(case: Case, mode: str) -> None:
    model = ScriptedModel([])
    scored = await PereGRM(model, mode=mode).score(case, ["<think>hm", "<think>so"])
    assert [(one.total, one.coverage) for one in scored] == [(None, 0.0)] * 2
    assert {one.failure.kind for one in scored if one.failure} == {"unclosed_thinking"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_reply_to_another_case_is_refused_before_any_call(case: Case, reply_of: BuildReply, mode: str) -> None:
    model = ScriptedModel([])
    stranger = reply_of().model_copy(update={"case_id": "case-0"})
    with pytest.raises(ArtifactError, match=stranger.id):
        await PereGRM(model, mode=mode).score(case, [reply_of(), stranger])
    assert model.requests == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_text_is_a_policys_raw_output(case: Case, mode: str) -> None:
    model = ScriptedModel(in_form)
    (one,) = await PereGRM(model, mode=mode).score(case, ["<think>secret plan</think>Stay in tonight."])
    assert (one.reply.text, one.reply.thinking) == ("Stay in tonight.", "secret plan")
    assert not any("secret" in message.content for request in model.requests for message in request.messages)
    assert one.failure is None


@pytest.mark.parametrize(
    "group", ["Stay in tonight.", [None], [{"text": "Stay in tonight."}]], ids=["text", "none", "row"]
)
async def test_what_is_no_group_of_replies_is_refused_before_any_call(case: Case, group: Any) -> None:
    """A text is a sequence of letters: taken for a group, each of them would be scored."""
    model = ScriptedModel(in_form)
    with pytest.raises(TypeError, match="reply"):
        await PereGRM(model).score(case, group)
    with pytest.raises(TypeError, match="reply"):
        await PereGRM(model).score(case, Reply(case_id=case.id, policy="p", text="x"))  # type: ignore[arg-type]
    assert model.requests == []
