"""Failures of many kinds at once, of criteria, of one sample of several, and on a second run: the same rules hold."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from failure_runs import (
    LOST,
    BuildReply,
    Plan,
    Run,
    assert_same_but_lost,
    assert_same_values,
    check,
    faulty,
    run,
    values_of,
)
from peregrm.models.cache import CallCache
from peregrm.records import Case
from peregrm.reward.peregrm import MODES

pytestmark = pytest.mark.usefixtures("fast_endpoint")

CRITERIA_FAULTS = {
    name: fault
    for name, fault in {**faulty.CALL_FAULTS, **faulty.TEXT_FAULTS}.items()
    if name not in ("429", "500", "connection aborted")
}


@pytest.mark.parametrize("name", sorted(CRITERIA_FAULTS))
async def test_without_criteria_no_reply_is_scored_and_no_judge_asked(
    case: Case, reply_of: BuildReply, name: str
) -> None:
    fault = CRITERIA_FAULTS[name]
    after = await run(case, reply_of, lambda q: fault if q.aspect == "criteria" else None)
    assert {question.aspect for question in after.server.asked} == {"criteria"}
    for one in after.scored[0]:
        assert (one.total, one.empathy, one.bystander, one.coverage, one.judgements) == (None, None, None, 0.0, ())
        assert one.failure is not None
        assert one.failure.kind in fault.kinds


PASSING = {**faulty.CALL_FAULTS, **faulty.TEXT_FAULTS, **faulty.SCORE_FAULTS, **faulty.HARMLESS}


def mixed(seed: int, share: float, faults: Mapping[str, Any]) -> tuple[Plan, Counter[str]]:
    """Return a plan by which that share of the questions meets a fault drawn at random; half of them on the first try only."""
    met: Counter[str] = Counter()

    def plan(question: Any) -> Any:
        rng = random.Random(f"{seed}/{question.aspect}/{question.markers}/{question.seed}")
        if question.aspect == "criteria" or rng.random() >= share:
            return None
        name = rng.choice(sorted(faults))
        if question.aspect == "bystander" and name in faulty.SCORE_FAULTS:
            return None
        if rng.random() < 0.5 and question.again:
            return None
        met[name] += 1
        return faults[name]

    return plan, met


def touched(run: Run) -> frozenset[str]:
    return frozenset(marker for marker, _, _ in (key for key, values in run.server.given.items() if values is None))


MIXES = [
    pytest.param("shared", 1, 0.1, id="shared-1-tenth"),
    pytest.param("shared", 3, 0.5, id="shared-3-half"),
    pytest.param("paper", 2, 0.3, id="paper-2-third"),
    pytest.param("listwise", 2, 0.4, id="listwise-2-much"),
    *(
        pytest.param(mode, 4, share, id=f"{mode}-4-{share}", marks=pytest.mark.slow)
        for mode, few in (("shared", 0.1), ("paper", 0.1), ("listwise", 0.3))
        for share in (few, 0.6)
    ),
]


@pytest.mark.parametrize(("mode", "samples", "share"), MIXES)
@pytest.mark.parametrize("gives_n", [True, False], ids=["n", "calls"])
async def test_all_faults_mixed_at_random(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any], mode: str, samples: int, share: float, gives_n: bool
) -> None:
    settings = {"mode": mode, "samples": samples, "groups": 2, "size": 5 if mode == "paper" else 8}
    before = await unharmed(**settings)
    plan, met = mixed(7, share, PASSING)
    after = await run(case, reply_of, plan, gives_n=gives_n, **settings)
    check(after, mode, samples)
    assert met
    lost = touched(after)
    if mode == "listwise":
        return
    retried = frozenset(q.markers[0] for q in after.server.asked if q.again or (q.markers and plan(q) is not None))
    assert_same_values(after, before, lost)
    if samples == 1:
        assert_same_but_lost(after, before, lost | retried)


@pytest.mark.parametrize("fault", sorted({**faulty.CALL_FAULTS, **faulty.WAITING_FAULTS}))
@pytest.mark.slow
async def test_a_tenth_of_the_questions_meets_one_fault(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any], fault: str
) -> None:
    settings = {"mode": "shared", "samples": 2, "groups": 3, "size": 8}
    before = await unharmed(**settings)
    faults = {**faulty.CALL_FAULTS, **faulty.WAITING_FAULTS}
    plan, met = mixed(11, 0.1, {fault: faults[fault]})
    after = await run(case, reply_of, plan, deadline_s=2.0, **settings)
    check(after, "shared", 2, faults[fault].kinds)
    assert met
    assert_same_but_lost(after, before, touched(after) | asked_again(after))


def asked_again(run: Run) -> frozenset[str]:
    return frozenset(marker for question in run.server.asked if question.again for marker in question.markers)


async def test_every_second_call_hangs_and_the_rest_is_scored(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any]
) -> None:
    before = await unharmed(mode="shared", size=8)
    hung = frozenset({"01", "04", "05", "07"})
    after = await run(
        case,
        reply_of,
        lambda q: faulty.WAITING_FAULTS["timeout"] if q.markers and q.markers[0] in hung else None,
        size=8,
        deadline_s=1.0,
    )
    check(after, "shared", 1, ("timeout",))
    assert_same_but_lost(after, before, hung)
    assert [s.coverage for s in after.scored[0]] == [0.0 if f"{n:02}" in hung else 1.0 for n in range(8)]


@pytest.mark.parametrize("mode", MODES)
async def test_a_second_run_asks_for_what_failed_and_nothing_else(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any], tmp_path: Path, mode: str
) -> None:
    """What the first run got is on disk; the rewards are then those of a run in which nothing ever failed."""
    settings = {"mode": mode, "samples": 2, "size": 6}
    before = await unharmed(**settings)
    faults = {name: fault for name, fault in faulty.CALL_FAULTS.items() if not name.startswith("4")}
    plan, met = mixed(3, 0.5, faults)

    def spare_the_first(question: Any) -> Any:
        """An endpoint whose very first answer fails is taken to be absent, which stops the run."""
        return None if question.markers == ("00",) else plan(question)

    with CallCache(tmp_path / "calls.sqlite") as cache:
        broken = await run(case, reply_of, spare_the_first, cache=cache, gives_n=False, **settings)
        check(broken, mode, 2)
        assert met
        mended = await run(case, reply_of, cache=cache, gives_n=False, **settings)
    lost = {key for key, values in broken.server.given.items() if values is None}
    assert lost
    assert mended.server.given.keys() == lost | (expected_keys(before) - broken.server.given.keys())
    assert_same_values(mended, before, frozenset())
    assert all(one.coverage == 1.0 for one in mended.scored[0])


def expected_keys(run: Run) -> set[Any]:
    return set(run.server.given)


@pytest.mark.parametrize("gives_n", [True, False], ids=["n", "calls"])
async def test_several_samples_are_each_their_own(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any], gives_n: bool
) -> None:
    """However they are drawn, in one call or in several, sample k has seed k and its own verdict."""
    one = await run(case, reply_of, samples=4, gives_n=gives_n)
    check(one, "shared", 4)
    for scored in one.scored[0]:
        assert [(j.aspect, j.trial) for j in scored.judgements] == [
            (aspect, k) for aspect in ("dimensions", "bystander") for k in range(4)
        ]
        assert len({str(values_of(j)) for j in scored.judgements if j.aspect == "dimensions"}) > 1
    other = await unharmed(mode="shared", samples=4)
    assert_same_values(one, other, frozenset())


@pytest.mark.parametrize("name", ["no text", "wrong schema", "keys translated", "missing dimension"])
async def test_one_broken_choice_of_several_costs_one_trial(case: Case, reply_of: BuildReply, name: str) -> None:
    """The third trial is broken and stays so when it is asked for again, alone."""
    edit = {
        "no text": lambda *_: "",
        "wrong schema": lambda *_: '{"rating": 5}',
        "keys translated": lambda v, _: str(v).replace("resonation", "共鸣"),
        "missing dimension": faulty.lacks_one,
    }[name]

    def plan(question: Any) -> Any:
        if question.aspect != "dimensions" or question.markers != (LOST,):
            return None
        if question.seed == 2:
            return faulty.Fault(faulty.says(edit, choice=0), ("any",), choice=0)
        return faulty.Fault(faulty.says(edit, choice=2), ("any",), choice=2) if question.seed == 0 else None

    after = await run(case, reply_of, plan, samples=4)
    check(after, "shared", 4)
    lost = after.scored[0][int(LOST)]
    assert (lost.coverage, lost.failure) == (7 / 8, None)
    assert [j.trial for j in lost.judgements if j.failure] == [2]
