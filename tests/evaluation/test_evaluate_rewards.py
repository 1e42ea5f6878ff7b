"""All figures of an evaluation from rewards with a planted truth, from the same in another order, and from rewards without a number."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from peregrm.evaluation.evaluate import Evaluated, evaluate_rewards
from peregrm.evaluation.evaluation import Evaluation
from peregrm.evaluation.inference.paired import Difference
from peregrm.records import Case, Failure, Judgement, Reply, Reward, Usage
from peregrm.reward.composed import compose_criteria

NAMES = ("resonation", "expression", "reception")
JUDGES = ("one", "two")
GAIN, NOISE = 0.1, 0.05


def _evaluate(given: Evaluated) -> Evaluation:
    return evaluate_rewards(given, samples=2, bystander_weight=0.5, seed=3)


@pytest.fixture(scope="module")
def planted(case: Case) -> Evaluated:
    """Thirty users, `better` above `plain` by 0.1, `same` equal to it but for noise; two trials a reply on whole scores."""
    chance = random.Random(5)
    made = [
        case.model_copy(update={"user_id": f"user-{u}", "query": f"Question {u} {n}"})
        for u in range(30)
        for n in (0, 1)
    ]
    cases = {one.id: one for one in made}
    criteria = {key: compose_criteria(one) for key, one in cases.items()}
    policies = ("better", "plain", "same")
    replies = [Reply(case_id=key, policy=p, text="word " * chance.randint(3, 60)) for key in cases for p in policies]
    taste = {key: chance.gauss(0.5, 0.08) for key in cases}
    rewards: dict[str, dict[str, Reward]] = {judge: {} for judge in JUDGES}
    judgements: dict[str, list[Judgement]] = {judge: [] for judge in JUDGES}
    for reply in replies:
        truth = taste[reply.case_id] + GAIN * (reply.policy == "better")
        for judge in JUDGES:
            level = truth + chance.gauss(0, NOISE)
            rewards[judge][reply.id] = Reward(
                case_id=reply.case_id,
                reply_id=reply.id,
                policy=reply.policy,
                judge=judge,
                scores=tuple((name, level) for name in NAMES),
                empathy=level,
                bystander=1.0,
                total=level,
                coverage=1.0,
                judgement_ids=(),
            )
            items = criteria[reply.case_id].items
            judgements[judge] += [
                Judgement(
                    case_id=reply.case_id,
                    reply_id=reply.id,
                    criteria_id=criteria[reply.case_id].id,
                    judge=judge,
                    aspect="dimensions",
                    trial=trial,
                    item_scores=tuple(
                        (n, (float(3 + (trial if judge == "two" else 0)),) * len(rows)) for n, rows in items
                    ),
                    raw="{}",
                )
                for trial in range(2)
            ]
    return Evaluated(
        cases=cases,
        criteria=criteria,
        replies=replies,
        rewards=rewards,
        judgements=judgements,
        usage=dict.fromkeys(JUDGES, Usage()),
        costs=dict.fromkeys(JUDGES),
        prompts=[],
    )


def _of(found: Evaluation, a: str, b: str) -> list[Difference]:
    return [d for d in found.differences if (d.measure, d.a, d.b) == ("total", a, b)]


def test_what_was_planted_is_found(planted: Evaluated) -> None:
    found = _evaluate(planted)
    for one in _of(found, "better", "plain"):
        assert one.difference.low is not None
        assert one.difference.high is not None
        assert one.difference.low < GAIN < one.difference.high
        assert one.p_holm is not None
        assert one.p_holm < 0.01
        rewards = planted.rewards[one.judge]
        by = {(r.case_id, r.policy): rewards[r.id].total or 0.0 for r in planted.replies}
        gaps = np.array([by[key, "better"] - by[key, "plain"] for key in planted.cases])
        assert one.difference.mean == pytest.approx(gaps.mean())
        assert one.effect == pytest.approx(gaps.mean() / gaps.std(ddof=1))
        assert (one.won, one.lost) == ((gaps > 0).sum(), (gaps < 0).sum())
    assert all(one.p_holm is not None and one.p_holm > 0.05 for one in _of(found, "plain", "same"))
    total = next(a.alpha.mean for a in found.alphas if a.measure == "total")
    assert total is not None
    expected = (0.08**2 + GAIN**2 * 2 / 9) / (0.08**2 + GAIN**2 * 2 / 9 + NOISE**2)
    assert total == pytest.approx(expected, abs=0.1)
    noise = {one.judge: one.deviation for one in found.noise if one.measure == "reception"}
    assert noise == {"one": 0.0, "two": pytest.approx(np.std([3, 4], ddof=1) / 5)}


def test_a_total_without_dimensions_has_an_interval_on_its_own_scale(planted: Evaluated) -> None:
    """A trained head's totals may be lower than any sum of dimensions: the interval holds the mean wherever that is."""
    alone = {
        key: one.model_copy(update={"scores": (), "empathy": None, "bystander": None, "total": (one.total or 0) - 3})
        for key, one in planted.rewards["two"].items()
    }
    found = _evaluate(replace(planted, rewards={**planted.rewards, "two": alone}))
    assert found.given("one")[-1] == found.measures[-1] == "total"
    assert found.given("two") == ["total"]
    for score in (*found.scores, *found.slices):
        total = dict(score.measures)["total"]
        assert total.low is not None
        assert total.high is not None
        assert total.low <= (total.mean or 0) <= total.high
        assert ((total.mean or 0) < -1) == (score.judge == "two")


@pytest.mark.slow
def test_another_order_of_everything_gives_the_same_bytes(planted: Evaluated) -> None:
    chance = random.Random(1)
    mixed = replace(
        planted,
        cases=dict(chance.sample(list(planted.cases.items()), len(planted.cases))),
        replies=chance.sample(list(planted.replies), len(planted.replies)),
        rewards={j: dict(reversed(planted.rewards[j].items())) for j in JUDGES},
        judgements={j: chance.sample(list(planted.judgements[j]), len(planted.judgements[j])) for j in JUDGES},
    )
    assert _evaluate(mixed).model_dump_json() == _evaluate(planted).model_dump_json()


def test_rewards_without_a_number_give_figures_without_one(planted: Evaluated) -> None:
    failure = Failure(stage="judge", kind="http", reason="gone")
    nothing = {"scores": (), "empathy": None, "bystander": None, "total": None, "coverage": 0.0, "failure": failure}
    rewards = {j: {key: r.model_copy(update=nothing) for key, r in planted.rewards[j].items()} for j in JUDGES}
    found = _evaluate(replace(planted, rewards=rewards, judgements=dict.fromkeys(JUDGES, ())))
    assert {(e.mean, e.n, e.asked) for s in found.scores for _, e in s.measures} == {(None, 0, 60)}
    assert {(d.p, d.p_holm, d.effect, d.detectable) for d in found.differences} == {(None, None, None, None)}
    assert {a.alpha.mean for a in found.alphas} == {p.rank.mean for p in found.ranks} == {None}
    assert found.noise == ()


@pytest.mark.slow
def test_empty_replies_are_no_agreement_of_judges(planted: Evaluated) -> None:
    """A rule scores them alike for every judge; a text without a visible character is one of them."""
    silent = [Reply(case_id=key, policy="silent", text="\u200b") for key in planted.cases]
    low = {"scores": tuple((name, 0.2) for name in NAMES), "empathy": 0.2, "bystander": 0.0, "total": -0.3}
    rewards = {
        j: dict(planted.rewards[j])
        | {
            r.id: next(iter(planted.rewards[j].values())).model_copy(
                update={**low, "case_id": r.case_id, "reply_id": r.id, "policy": "silent"}
            )
            for r in silent
        }
        for j in JUDGES
    }
    found, before = (
        _evaluate(replace(planted, replies=[*planted.replies, *silent], rewards=rewards)),
        _evaluate(planted),
    )
    assert next(p for p in found.policies if p.policy == "silent").empty == len(silent)
    assert (found.alphas, found.ranks) == (before.alphas, before.ranks)
    assert next(x for x in found.lengths if x.policy == "silent").rank.n == 0
