"""Whatever the judge's server does: no number is invented, the coverage is right, nothing hangs, and the others keep their rewards.

Every reward is held against the server's own log of what it really gave, with arithmetic written out anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failure_runs import (
    GUARD_S,
    LOST,
    BuildReply,
    assert_same_but_lost,
    assert_same_values,
    check,
    faulty,
    meets,
    run,
    values_of,
)
from peregrm.errors import ModelAuthError, ModelError, ModelRequestError
from peregrm.models.endpoint import EndpointModel
from peregrm.models.limits import Limits
from peregrm.records import Case, Criteria
from peregrm.reward.peregrm import MODES, PereGRM

pytestmark = pytest.mark.usefixtures("fast_endpoint")

IN_EVERY_MODE = {"reset in mid-body", "429", "503", "empty body", "HTML", "truncated JSON", "refusal"}
"""A failed call is the same in every mode: of the other faults of whole calls the fast run has only the shared mode."""


def rows() -> Iterator[Any]:
    waiting = [("all", name, fault) for name, fault in faulty.WAITING_FAULTS.items()]
    for mode in MODES:
        table = [("all", n, f) for n, f in {**faulty.CALL_FAULTS, **faulty.TEXT_FAULTS}.items()]
        table += [("all", n, f) for n, f in faulty.HARMLESS.items()]
        table += [("scores", n, f) for n, f in faulty.SCORE_FAULTS.items()]
        if mode == "shared":
            table += [("bystander", n, f) for n, f in faulty.POINT_FAULTS.items()]
        for aspect, name, fault in table:
            is_told_elsewhere = mode != "shared" and name in faulty.CALL_FAULTS.keys() - IN_EVERY_MODE
            marks = [pytest.mark.slow] if is_told_elsewhere else []
            yield pytest.param(mode, aspect, fault, id=f"{mode}-{name}", marks=marks)
        for _, name, fault in waiting:
            slow = [] if mode == "shared" else [pytest.mark.slow]
            yield pytest.param(mode, "scores", fault, id=f"{mode}-{name}", marks=slow)


@pytest.mark.parametrize(("mode", "aspect", "fault"), [*rows()])
async def test_a_fault_costs_one_reply_its_number_and_no_other(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any], mode: str, aspect: str, fault: Any
) -> None:
    before = await unharmed(mode=mode)
    check(before, mode, 1)
    deadline_s = 1.0 if fault.kinds == ("timeout",) else 30.0
    after = await run(
        case, reply_of, lambda q: fault if meets(fault, q, aspect) else None, mode=mode, deadline_s=deadline_s
    )
    check(after, mode, 1, fault.kinds)
    if fault.counts:
        assert_same_values(after, before, frozenset())
        assert all(s.coverage == 1.0 and s.failure is None for s in after.scored[0])
    elif mode == "listwise":
        assert [s.coverage for s in after.scored[0]] == [0.5] * 3
    else:
        assert_same_but_lost(after, before, frozenset({LOST}))
        lost = after.scored[0][int(LOST)]
        assert (lost.total, lost.failure is None) == (None, False)
        assert (
            lost.coverage
            == {
                ("shared", "all"): 0.0,
                ("shared", "scores"): 0.5,
                ("shared", "bystander"): 0.5,
                ("paper", "all"): 0.0,
                ("paper", "scores"): 0.25,
            }[mode, aspect]
        )


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(mode, name, marks=[pytest.mark.slow] if mode != "shared" and place % 3 else [])
        for mode in MODES
        for place, name in enumerate(sorted(faulty.TEXT_FAULTS))
    ],
)
async def test_an_answer_that_is_mended_on_the_second_try_counts(
    case: Case, reply_of: BuildReply, mode: str, name: str
) -> None:
    fault = faulty.TEXT_FAULTS[name]
    after = await run(case, reply_of, lambda q: fault if meets(fault, q, "all", first_only=True) else None, mode=mode)
    check(after, mode, 1)
    assert [s.coverage for s in after.scored[0]] == [1.0] * 3
    assert any(question.again for question in after.server.asked)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "error"), [("401", ModelAuthError), ("404", ModelRequestError)], ids=["401", "404"])
async def test_what_makes_further_calls_pointless_stops_the_run(
    case: Case, reply_of: BuildReply, mode: str, name: str, error: type[ModelError]
) -> None:
    fault = faulty.FATAL_FAULTS[name]
    with pytest.raises(error) as caught:
        await run(case, reply_of, lambda q: fault if meets(fault, q, "scores") else None, mode=mode)
    assert caught.value.fatal


def closed_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/v1"


@pytest.mark.parametrize("mode", MODES)
async def test_where_nobody_listens_there_is_no_number(
    case: Case, criteria: Criteria, reply_of: BuildReply, mode: str
) -> None:
    model = EndpointModel("judge", "m", [closed_url()], None, Limits(8), retries=1, deadline_s=5)
    grm = PereGRM(model, mode=mode, samples=2)
    grm.use_criteria([criteria])
    async with asyncio.timeout(GUARD_S):
        scored = await grm.score(case, [reply_of(f"reply {n}") for n in range(3)])
    await model.aclose()
    for one in scored:
        assert one.failure is not None
        assert (one.failure.kind, one.coverage) == ("refused", 0.0)
        assert [one.total, one.empathy, one.bystander, *one.scores.values()] == [None] * 6
        assert len(one.judgements) == {"shared": 4, "paper": 7, "listwise": 8}[mode]
        assert all(values_of(judgement) is None for judgement in one.judgements)


async def test_a_dead_url_beside_a_living_one_changes_nothing(
    case: Case, reply_of: BuildReply, unharmed: Callable[..., Any]
) -> None:
    before = await unharmed(mode="shared")
    after = await run(case, reply_of, more_urls=[closed_url()])
    assert_same_but_lost(after, before, frozenset())
