"""The listwise mode: the group in one call, in two orders, each reply with its own scores whatever its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from statistics import fmean

import pytest

from listwise_parts import by_content, entry, scored_by, shown_replies, worth
from peregrm.models.base import Completion, Request, TokenLogprob
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Reply
from peregrm.reward.peregrm import PereGRM
from reward_parts import least_in_form

BuildReply = Callable[..., Reply]


def by_place(request: Request) -> ScriptEntry:
    """Judge by the place alone: the first is the best."""
    shown = shown_replies(request)
    return json.dumps({f"r{n}": entry(max(1, 6 - n)) for n in range(1, len(shown) + 1)})


async def test_a_group_of_8_takes_one_call_for_criteria_and_two_for_judging(case: Case, reply_of: BuildReply) -> None:
    judge = ScriptedModel(least_in_form)
    scored = await PereGRM(judge, mode="listwise").score(case, [reply_of(f"reply {n}") for n in range(8)])
    assert [request.purpose for request in judge.requests] == ["criteria", "judge", "judge"]
    assert [(s.coverage, s.failure) for s in scored] == [(1.0, None)] * 8
    assert all(s.empathy == pytest.approx(0.2) and s.bystander == 0 for s in scored)


async def test_the_second_order_is_the_first_reversed(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    texts = [f"reply {n}, worth {1 + n % 5}" for n in range(8)]
    _, judge = await scored_by(by_content, case, criteria, [reply_of(text) for text in texts])
    assert [shown_replies(request) for request in judge.requests] == [texts, texts[::-1]]
    one, two = judge.requests
    assert one.json_schema == two.json_schema
    assert list((one.json_schema or {})["properties"]) == [f"r{n}" for n in range(1, 9)]
    head = one.messages[1].content.split("<r1-")[0]
    assert two.messages[1].content.startswith(head), "what the orders have in common stands first"
    assert all(item.text in head for _, items in criteria.items for item in items)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 16, 17])
async def test_each_reply_has_its_own_scores_in_both_orders(
    case: Case, criteria: Criteria, reply_of: BuildReply, size: int
) -> None:
    """Groups of more than eight are judged in parts; nobody gets a neighbour's score."""
    replies = [reply_of(f"reply {n}, worth {1 + (3 * n) % 5}") for n in range(size)]
    scored, judge = await scored_by(by_content, case, criteria, replies)
    for reply, one in zip(replies, scored, strict=True):
        own = worth(reply.text)
        assert (one.reply, one.reward.reply_id) == (reply, reply.id)
        assert [(j.aspect, j.trial) for j in one.judgements] == [
            ("dimensions", 0),
            ("bystander", 0),
            ("dimensions", 1),
            ("bystander", 1),
        ]
        for judgement in one.judgements:
            assert judgement.reply_id == reply.id
            if judgement.item_scores is not None:
                assert {s for _, scores in judgement.item_scores for s in scores} == {float(own)}
                assert judgement.analysis == (("reply", f"worth {own}"),)
        assert one.empathy == pytest.approx(own / 5)
        assert one.bystander == pytest.approx(own / 5)
        assert one.total == pytest.approx(own / 5 + 0.5 * (own / 5 - 1))
    sizes = [len(shown_replies(request)) for request in judge.requests]
    full, rest = divmod(size, 8)
    assert sorted(sizes) == sorted(([8] * full + [rest] * bool(rest)) * 2)
    assert sorted(text for request in judge.requests for text in shown_replies(request)) == sorted(
        [reply.text for reply in replies] * 2
    )


@pytest.mark.parametrize("size", [2, 3, 5])
async def test_a_judge_that_always_likes_the_first_gives_equal_totals(
    case: Case, criteria: Criteria, reply_of: BuildReply, size: int
) -> None:
    scored, _ = await scored_by(by_place, case, criteria, [reply_of(f"reply {n}") for n in range(size)])
    first, *others = [(s.scores, s.bystander) for s in scored]
    for scores, bystander in others:
        assert scores == pytest.approx(first[0])
        assert bystander == pytest.approx(first[1])
    assert len({round(s.total, 12) for s in scored if s.total is not None}) == 1
    forward = [s.judgements[0].item_scores for s in scored]
    assert len(set(forward)) == size, "the places did show"


async def test_position_bias_does_not_hide_what_a_reply_is_worth(
    case: Case, criteria: Criteria, reply_of: BuildReply
) -> None:
    """A bonus for the first place adds the same to all: the order of the replies is that of their worth."""

    def biased(request: Request) -> str:
        said = {f"r{n}": entry(worth(t) + (n == 1)) for n, t in enumerate(shown_replies(request), 1)}
        return json.dumps(said)

    for texts in (["worth 2", "worth 3"], ["worth 3", "worth 2"]):
        scored, _ = await scored_by(biased, case, criteria, [reply_of(text) for text in texts])
        totals = {worth(s.reply.text): s.total for s in scored}
        assert totals[2] is not None
        assert totals[3] is not None
        assert totals[3] > totals[2]


async def test_the_reward_worked_out_by_hand(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    """The weights of the criteria hold here too, and both orders count the same."""
    forward = entry(3, points=20, resonation=[5, 4, 3, 2], expression=[1, 2, 3, 4], reception=[4, 4, 4, 4, 2])
    backward = entry(3, points=10, resonation=[1, 1, 1, 1], expression=[5, 5, 5, 5], reception=[3, 3, 3, 3, 3])

    def play(request: Request) -> str:
        first = shown_replies(request)[0] == "mine"
        return json.dumps({"r1": forward, "r2": entry(1)} if first else {"r1": entry(1), "r2": backward})

    (mine, other), _ = await scored_by(play, case, criteria, [reply_of("mine"), reply_of("other")])
    assert mine.scores == pytest.approx(
        {"resonation": fmean([4, 1]) / 5, "expression": fmean([2.5, 5]) / 5, "reception": fmean([3.9, 3]) / 5}
    )
    assert mine.bystander == pytest.approx(0.75)
    empathy = 3 / sum(1 / score for score in mine.scores.values() if score is not None)
    assert mine.total == pytest.approx(empathy - 0.125)
    assert other.empathy == pytest.approx(0.2)


async def test_several_samples_are_drawn_in_each_order(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    def play(request: Request) -> str:
        texts = shown_replies(request)
        return json.dumps({f"r{n}": entry(worth(text) + request.trial % 3) for n, text in enumerate(texts, 1)})

    scored, judge = await scored_by(play, case, criteria, [reply_of("worth 1"), reply_of("worth 3")], samples=3)
    assert len(judge.requests) == 6
    assert {request.temperature for request in judge.requests} == {0.7}
    for one, own in zip(scored, (1, 3), strict=True):
        assert [j.trial for j in one.judgements if j.aspect == "dimensions"] == list(range(6))
        assert one.resonation == pytest.approx((own + 1) / 5)


async def test_a_group_of_one_is_not_judged_twice_by_the_same_call(
    case: Case, criteria: Criteria, reply_of: BuildReply
) -> None:
    """Reversed it is the same list, so the second order must at least be another sample of it, with another seed."""
    _, judge = await scored_by(by_content, case, criteria, [reply_of("worth 4")], samples=2)
    asked = [(request.messages, request.trial) for request in judge.requests]
    assert len(set(asked)) == len(asked)


async def test_without_a_bystander_none_is_asked_for(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    def play(request: Request) -> str:
        said = {f"r{n}": entry(worth(text)) for n, text in enumerate(shown_replies(request), 1)}
        return json.dumps({label: {k: v for k, v in one.items() if k != "bystander"} for label, one in said.items()})

    scored, judge = await scored_by(play, case, criteria, [reply_of("worth 4"), ""], bystander_weight=0)
    assert len(judge.requests) == 2
    assert "onlooker" not in judge.requests[0].messages[0].content
    assert [(s.bystander, s.total == s.empathy, s.coverage) for s in scored] == [(None, True, 1.0)] * 2
    assert [j.aspect for s in scored for j in s.judgements] == ["dimensions"] * 4


async def test_without_reasons_no_analysis_is_asked_for(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    def play(request: Request) -> str:
        said = {f"r{n}": entry(worth(text)) for n, text in enumerate(shown_replies(request), 1)}
        return json.dumps({label: {k: v for k, v in one.items() if k != "analysis"} for label, one in said.items()})

    (scored,), _ = await scored_by(play, case, criteria, [reply_of("worth 4")], reasons=False)
    assert (scored.coverage, scored.empathy) == (1.0, pytest.approx(0.8))
    assert all(judgement.analysis == () for judgement in scored.judgements)


def with_chances(text: str, chances: Callable[[str, str, str], dict[str, float]]) -> Completion:
    """Return a completion a character a token; the digit of each score has the chances that (label, dimension, key) gives."""
    tops: dict[int, dict[str, float]] = {}
    label = dimension = ""
    for found in re.finditer(r'"(r\d+)": \{|"(resonation|expression|reception)": \{|"(s\d)": (\d)', text):
        label, dimension = found[1] or label, found[2] or dimension
        if found[3]:
            tops[found.start(4)] = chances(label, dimension, found[3])
    tokens = [
        TokenLogprob(
            token=char,
            logprob=math.log(tops.get(place, {}).get(char, 1.0)),
            top=tuple((word, math.log(chance)) for word, chance in tops.get(place, {}).items()),
        )
        for place, char in enumerate(text)
    ]
    return Completion(text=text, logprobs=tuple(tokens))


async def test_scores_are_each_replys_own_expectations(case: Case, criteria: Criteria, reply_of: BuildReply) -> None:
    """The probabilities at r2 in the first order are those of the reply that stands at r1 in the second."""

    def play(request: Request) -> Completion:
        shown = shown_replies(request)
        assert request.top_logprobs >= 5

        def chances(label: str, dimension: str, key: str) -> dict[str, float]:
            digit = worth(shown[int(label[1:]) - 1])
            share = {"resonation": 0.5, "expression": 0.25, "reception": 0.125}[dimension]
            return {str(digit): 1 - share, str(digit + 1): share} if key == "s1" else {str(digit): 1.0}

        text = json.dumps({f"r{n}": entry(worth(t)) for n, t in enumerate(shown, 1)})
        return with_chances(text, chances)

    replies = [reply_of("worth 1"), reply_of("worth 4"), reply_of("worth 2")]
    scored, _ = await scored_by(play, case, criteria, replies)
    for one in scored:
        own = worth(one.reply.text)
        for judgement in one.judgements:
            if judgement.aspect == "dimensions":
                assert judgement.expected
                assert judgement.item_scores is not None
                firsts = [scores[0] for _, scores in judgement.item_scores]
                assert firsts == pytest.approx([own + 0.5, own + 0.25, own + 0.125])
                assert {s for _, scores in judgement.item_scores for s in scores[1:]} == {float(own)}
            else:
                assert not judgement.expected
        assert one.resonation == pytest.approx((own + 0.5 * 0.4) / 5)
        assert one.expression == pytest.approx((own + 0.25 * 0.25) / 5)
        assert one.reception == pytest.approx((own + 0.125 * 0.7) / 5)


async def test_one_reply_without_probabilities_keeps_its_digits_and_the_others_their_expectations(
    case: Case, criteria: Criteria, reply_of: BuildReply
) -> None:
    def play(request: Request) -> Completion:
        shown = shown_replies(request)

        def chances(label: str, dimension: str, key: str) -> dict[str, float]:
            if "vague" in shown[int(label[1:]) - 1] and (dimension, key) == ("reception", "s5"):
                return {"3": 0.1, " maybe": 0.9}
            return {"3": 0.5, "4": 0.5}

        return with_chances(json.dumps({f"r{n}": entry(3) for n in range(1, len(shown) + 1)}), chances)

    (vague, clear), _ = await scored_by(play, case, criteria, [reply_of("vague"), reply_of("clear")])
    assert (vague.resonation, clear.resonation) == (pytest.approx(0.6), pytest.approx(0.7))
    assert [j.expected for s in (vague, clear) for j in s.judgements if j.aspect == "dimensions"] == [False] * 2 + [
        True
    ] * 2
