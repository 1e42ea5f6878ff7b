"""Several judges as one reward: standardised, averaged, and brought back; and how far they agree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import ArtifactError, ModelAuthError, ModelTimeout
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Failure, Reply, Reward
from peregrm.reward.base import Scored, as_replies
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.pool import Pool, agreement, pool_scored, pool_totals
from reward_parts import least_in_form

BuildReply = Callable[..., Reply]
Totals = list[float | None]

totals = st.floats(-1, 1).map(lambda value: round(value, 3))


def reward_of(reply: Reply, total: float | None, judge: str = "j", **fields: Any) -> Reward:
    failure = None if total is not None else Failure(stage="reward", kind="timeout", reason="late")
    usual: dict[str, Any] = {
        "case_id": reply.case_id,
        "reply_id": reply.id,
        "policy": reply.policy,
        "judge": judge,
        "method": "shared",
        "scores": (("resonation", total),),
        "empathy": total,
        "bystander": total,
        "total": total,
        "coverage": 0.0 if total is None else 1.0,
        "judgement_ids": (f"jud-{judge}",),
        "failure": failure,
    }
    return Reward.model_validate({**usual, **fields})


class Fixed:
    """A reward that gives each reply the total of a table."""

    method = "fixed"

    def __init__(self, judge: str, totals: Sequence[float | None]) -> None:
        self.judge = judge
        self.totals = totals
        self.closed = 0

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        group = as_replies(case, replies)
        return [Scored(r, reward_of(r, t, self.judge)) for r, t in zip(group, self.totals, strict=True)]

    async def aclose(self) -> None:
        self.closed += 1


async def test_each_judges_own_scores_are_kept(case: Case, reply_of: BuildReply) -> None:
    members = (Fixed("a", [0.2, 0.8, None]), Fixed("b", [0.1, None, None]))
    pool = Pool(members, quorum=0.5)
    replies = [reply_of(f"reply {n}") for n in range(3)]
    one, two, three = await pool.score(case, replies)
    assert [[part.total for part in s.parts] for s in (one, two, three)] == [[0.2, 0.1], [0.8, None], [None, None]]
    assert [[part.reward.judge for part in s.parts] for s in (one, two, three)] == [["a", "b"]] * 3
    assert [s.reply for s in (one, two, three)] == replies
    assert (one.reward.judge, one.reward.judgement_ids) == ("a + b", ("jud-a", "jud-b"))
    assert [s.coverage for s in (one, two, three)] == [1.0, 0.5, 0.0]
    assert one.scores == {"resonation": pytest.approx(0.15)}
    assert two.scores == {"resonation": 0.8}
    assert (three.total, three.scores, three.empathy, three.bystander) == (None, {"resonation": None}, None, None)
    assert (one.failure, two.failure) == (None, None)
    assert three.failure is not None
    assert (three.failure.kind, three.failure.reason) == (
        "timeout",
        "2 of 2 judges gave no reward; the first: late",
    )


async def test_below_the_quorum_of_judges_there_is_no_number_left(case: Case, reply_of: BuildReply) -> None:
    pool = Pool((Fixed("a", [0.2, 0.8]), Fixed("b", [0.1, None])), quorum=1.0)
    one, two = await pool.score(case, [reply_of("x"), reply_of("y")])
    assert one.total is not None
    assert (two.total, two.failure is not None) == (None, True)
    assert two.failure is not None
    assert two.failure.reason.startswith("1 of 2 judges")


async def test_the_pool_is_the_same_whether_texts_or_replies_come_in(case: Case) -> None:
    pool = Pool((Fixed("a", [0.2, 0.8]), Fixed("b", [0.3, 0.4])))
    texts = ["<think>hm</think>one", "two"]
    made = as_replies(case, texts)
    assert await pool.score(case, texts) == await pool.score(case, made)
    assert [scored.reply.text for scored in await pool.score(case, texts)] == ["one", "two"]


async def test_a_reply_to_another_case_is_an_error(case: Case, reply_of: BuildReply) -> None:
    stranger = reply_of("x").model_copy(update={"case_id": "case-0"})
    with pytest.raises(ArtifactError, match=stranger.id):
        await Pool((Fixed("a", [0.2]),)).score(case, [stranger])


async def test_all_members_are_closed_and_the_method_is_theirs() -> None:
    members = (Fixed("a", []), Fixed("b", []))
    pool = Pool(members)
    assert pool.method == "fixed"
    await pool.aclose()
    await pool.aclose()
    assert [member.closed for member in members] == [2, 2]


class Unclosable(Fixed):
    async def aclose(self) -> None:
        await super().aclose()
        raise OSError("the server is gone")


async def test_one_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    members = (Unclosable("a", []), Fixed("b", []))
    with pytest.raises(OSError, match="gone"):
        await Pool(members).aclose()
    assert [member.closed for member in members] == [1, 1]


def scripted(
    criteria: Criteria, name: str, score: Callable[[str], Any], points: Callable[..., str], verdict: Any
) -> PereGRM:
    def play(request: Request) -> ScriptEntry:
        if request.purpose == "bystander":
            return points(20)
        said = score(request.messages[1].content)
        return said if isinstance(said, Exception) else json.dumps(verdict(said))

    grm = PereGRM(ScriptedModel(play, name=name))
    grm.use_criteria([criteria])
    return grm


async def test_real_rewards_pool_and_one_failing_judge_shows(
    case: Case, criteria: Criteria, reply_of: BuildReply, verdict: Callable[..., Any], points: Callable[..., str]
) -> None:
    mild = scripted(criteria, "mild", lambda prompt: 5 if "good" in prompt else 4, points, verdict)
    stern = scripted(
        criteria,
        "stern",
        lambda prompt: ModelTimeout("late") if "odd" in prompt else 3 if "good" in prompt else 1,
        points,
        verdict,
    )
    pool = Pool((mild, stern))
    good, bad, odd = await pool.score(case, [reply_of("good"), reply_of("bad"), reply_of("odd")])
    assert [part.total for part in good.parts] == [pytest.approx(1.0), pytest.approx(0.6)]
    assert [part.total for part in odd.parts] == [pytest.approx(0.8), None]
    assert (good.coverage, odd.coverage) == (1.0, 0.75)
    assert len(good.judgements) == 4
    assert {j.judge for j in good.judgements} == {"mild", "stern"}
    assert good.total is not None
    assert bad.total is not None
    assert good.total > bad.total
    by_hand = pool_totals([[1.0, 0.8, 0.8], [0.6, 0.2, None]], 0.5)
    assert [good.total, bad.total, odd.total] == pytest.approx(by_hand)
    assert pool_scored([(good.parts[0],), (good.parts[1],)], 0.5)[0].parts == good.parts


@pytest.mark.parametrize("reward", ["shared", "listwise"])
async def test_several_judges_judge_by_one_set_of_criteria(case: Case, reply_of: BuildReply, reward: str) -> None:
    """Those of the first; the others are not asked for any, and a group is judged by one ruler."""
    first, second = (ScriptedModel(least_in_form, name=name) for name in ("first", "second"))
    pool = open_reward(RewardOptions(reward=reward), (first, second))
    scored = await pool.score(case, [reply_of("a"), reply_of("b")])
    assert [sum(r.purpose == "criteria" for r in model.requests) for model in (first, second)] == [1, 0]
    assert len({j.criteria_id for one in scored for j in one.judgements}) == 1
    assert {j.judge for one in scored for j in one.judgements} == {"first", "second"}
    assert [(one.coverage, one.failure) for one in scored] == [(1.0, None)] * 2
    assert isinstance(pool, Pool)
    assert [[part.reward.judge for part in one.parts] for one in scored] == [["first", "second"]] * 2


async def test_in_paper_mode_each_judge_writes_its_own(case: Case, reply_of: BuildReply) -> None:
    first, second = (ScriptedModel(least_in_form, name=name) for name in ("first", "second"))
    await open_reward(RewardOptions(reward="paper"), (first, second)).score(case, [reply_of("a")])
    assert [len(model.requests) for model in (first, second)] == [4, 4]


async def test_a_refused_key_of_one_judge_stops_the_run_and_leaves_no_call_behind(
    case: Case, criteria: Criteria, reply_of: BuildReply, verdict: Callable[..., Any], points: Callable[..., str]
) -> None:
    refused = scripted(criteria, "refused", lambda prompt: ModelAuthError("no"), points, verdict)
    slow = scripted(criteria, "slow", lambda prompt: 3, points, verdict)
    before = asyncio.all_tasks()
    with pytest.raises(ModelAuthError):
        await Pool((refused, slow)).score(case, [reply_of("a"), reply_of("b")])
    assert asyncio.all_tasks() == before


def table(case_ids: Sequence[str], totals_of: Sequence[float | None], reply_of: BuildReply) -> dict[str, Reward]:
    rewards = {}
    for number, (case_id, total) in enumerate(zip(case_ids, totals_of, strict=True)):
        reply = reply_of(f"reply {number}").model_copy(update={"case_id": case_id})
        rewards[f"rep-{number}"] = reward_of(reply, total)
    return rewards


def test_agreement_worked_out_by_hand(reply_of: BuildReply) -> None:
    """Pairs are of one case: here (0, 1), (0, 2), (1, 2) of x, and (3, 4) of y."""
    cases = ["x", "x", "x", "y", "y"]
    one = table(cases, [1.0, 2.0, 3.0, 9.0, 8.0], reply_of)
    other = table(cases, [0.1, 0.3, 0.2, 0.5, 0.4], reply_of)
    (found,) = agreement({"one": one, "other": other})
    assert (found.one, found.other, found.n) == ("one", "other", 5)
    assert (found.pairs, found.comparable) == (3 / 4, 4)
    # ranks 1 2 3 5 4 and 1 3 2 5 4: the squared differences sum to 2
    assert found.rank == pytest.approx(1 - 6 * 2 / (5 * 24))


def test_ties_and_unscored_replies_are_no_pairs(reply_of: BuildReply) -> None:
    cases = ["x"] * 4
    one = table(cases, [1.0, 1.0, 2.0, None], reply_of)
    other = table(cases, [0.1, 0.2, 0.2, 0.9], reply_of)
    (found,) = agreement({"one": one, "other": other})
    assert (found.n, found.pairs, found.comparable) == (3, 1.0, 1)
    assert found.rank == pytest.approx(0.5)  # ranks 1.5 1.5 3 and 1 2.5 2.5


@pytest.mark.parametrize(
    ("a", "b", "rank", "pairs"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0, 1.0),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0, 0.0),
        ([1.0, 2.0], [1.0, 2.0], None, 1.0),
        ([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], None, None),
        ([1.0], [1.0], None, None),
        ([None, 2.0], [1.0, None], None, None),
        ([], [], None, None),
    ],
)
def test_agreement_at_the_edges(
    reply_of: BuildReply, a: Totals, b: Totals, rank: float | None, pairs: float | None
) -> None:
    (found,) = agreement({"a": table(["x"] * len(a), a, reply_of), "b": table(["x"] * len(b), b, reply_of)})
    assert found.rank == (None if rank is None else pytest.approx(rank))
    assert found.pairs == pairs


def test_replies_are_joined_by_id_and_every_two_judges_compared(reply_of: BuildReply) -> None:
    full = table(["x"] * 4, [1.0, 2.0, 3.0, 4.0], reply_of)
    part = dict(reversed([pair for pair in full.items() if pair[0] != "rep-0"]))
    found = agreement({"a": full, "b": part, "c": {}})
    assert [(f.one, f.other, f.n, f.pairs) for f in found] == [
        ("a", "b", 3, 1.0),
        ("a", "c", 0, None),
        ("b", "c", 0, None),
    ]
    assert agreement({"a": full}) == []


@given(st.lists(st.tuples(st.sampled_from("xy"), totals, totals), min_size=3, max_size=12))
def test_agreement_is_symmetric_and_in_range(rows: list[tuple[str, float, float]]) -> None:
    def build(text: str) -> Reply:
        return Reply(case_id="case-1", policy="mine", text=text)

    one = table([c for c, _, _ in rows], [a for _, a, _ in rows], build)
    other = table([c for c, _, _ in rows], [b for _, _, b in rows], build)
    (there,) = agreement({"a": one, "b": other})
    (back,) = agreement({"b": other, "a": one})
    assert (there.n, there.pairs, there.comparable) == (back.n, back.pairs, back.comparable)
    assert (there.rank is None) == (back.rank is None)
    assert there.pairs is None or 0 <= there.pairs <= 1
    assert there.rank is None or -1 - 1e-9 <= there.rank <= 1 + 1e-9
