"""What the tests of failures share: one scoring against a server that misbehaves as told, held against that server's own log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

import faulty_server as faulty
from peregrm.dimensions import BYSTANDER_PARTS, EMPATHY
from peregrm.models.base import Model
from peregrm.models.cache import CachedModel, CallCache
from peregrm.models.endpoint import EndpointModel
from peregrm.models.ledger import Ledger
from peregrm.models.limits import Limits
from peregrm.records import Case, Criteria, Judgement, Reply
from peregrm.reward.base import Scored
from peregrm.reward.peregrm import PereGRM

__all__ = [
    "GUARD_S",
    "LOST",
    "BuildReply",
    "Plan",
    "Run",
    "assert_same_but_lost",
    "assert_same_values",
    "check",
    "faulty",
    "meets",
    "run",
    "values_of",
]

GUARD_S = 60.0
"""Far above every deadline set here: who runs into it has hung."""

BuildReply = Callable[..., Reply]
Plan = Callable[[Any], Any]
LOST = "01"
"""The marker of the reply that meets the fault."""


@dataclass
class Run:
    """One scoring of groups of replies and what the server saw of it."""

    grm: PereGRM
    server: Any
    criteria: Criteria | None
    scored: list[list[Scored]]


async def run(
    case: Case,
    reply_of: BuildReply,
    plan: Plan | None = None,
    *,
    mode: str = "shared",
    samples: int = 1,
    groups: int = 1,
    size: int = 3,
    deadline_s: float = 30.0,
    gives_n: bool = True,
    cache: CallCache | None = None,
    **fields: Any,
) -> Run:
    """Score `groups` groups at once, the replies numbered through."""
    async with faulty.JudgeServer(plan, samples=samples, gives_n=gives_n) as server:
        urls = [server.url, *fields.pop("more_urls", ())]
        model: Model = EndpointModel("judge", "m", urls, None, Limits(64), retries=1, deadline_s=deadline_s)
        if cache is not None:
            model = CachedModel(model, cache, Ledger({}))
        grm = PereGRM(model, mode=mode, samples=samples, **fields)
        try:
            replies = [
                [reply_of(f"reply [[{g * size + n:02}]], of that length") for n in range(size)] for g in range(groups)
            ]
            async with asyncio.timeout(GUARD_S):
                scored = await asyncio.gather(*(grm.score(case, group) for group in replies))
                criteria = await grm.criteria_for(case)
        finally:
            await model.aclose()
    return Run(grm, server, criteria, list(scored))


def values_of(judgement: Judgement) -> dict[str, list[float]] | None:
    if judgement.bystander is not None:
        return {key: [value] for key, value in judgement.bystander.model_dump().items()}
    return None if judgement.item_scores is None else {name: [*scores] for name, scores in judgement.item_scores}


def given_values(aspect: str, given: Mapping[str, Any] | None, mode: str) -> dict[str, list[float]] | None:
    """Return what the server gave as a judgement should hold it."""
    if given is None:
        return None
    if aspect == "bystander":
        return {key: [given[key]] for key, _ in BYSTANDER_PARTS}
    if mode == "paper":
        return {aspect: [given["score"]]}
    return {d.name: [v for k, v in given[d.name].items() if k.startswith("s")] for d in EMPATHY}


def expected_total(run: Run, marker: str, mode: str, samples: int) -> tuple[Fraction | None, int, int]:
    """Return the total that the server's log allows, and how many of how many judgements it holds. Quorum and lambda are 1/2."""
    trials = range(samples * (2 if mode == "listwise" else 1))
    weights = {} if run.criteria is None else {n: [i.weight for i in items] for n, items in run.criteria.items}
    aspects = {d.name: [(d.name if mode == "paper" else "dimensions", k) for k in trials] for d in EMPATHY}
    bystander = [("bystander", k) for k in (range(1) if mode == "paper" else trials)]
    asked = {question for questions in (*aspects.values(), bystander) for question in questions}
    log = {(a, k): given_values(a, run.server.given.get((marker, a, k)), mode) for a, k in asked}

    def mean(of: Callable[[dict[str, list[float]]], Fraction], questions: list[tuple[str, int]]) -> Fraction | None:
        there = [of(values) for question in questions if (values := log[question]) is not None]
        return sum(there, Fraction(0)) / len(there) if 2 * len(there) >= len(questions) else None

    def fifth(name: str, values: dict[str, list[float]]) -> Fraction:
        shares = weights.get(name, [100])
        return sum((Fraction(s) * w / 100 for s, w in zip(values[name], shares, strict=True)), Fraction(0)) / 5

    scores = [mean(partial(fifth, name), questions) for name, questions in aspects.items()]
    useful = mean(lambda values: Fraction(sum(int(v) for (v,) in values.values()), 100), bystander)
    there = sum(values is not None for values in log.values())
    if None in scores or useful is None:
        return None, there, len(log)
    empathy = 3 / sum(1 / score for score in scores if score is not None)
    return empathy + (useful - 1) / 2, there, len(log)


def check(run: Run, mode: str, samples: int, kinds: tuple[str, ...] = ()) -> None:
    """Hold every judgement and every reward against the server's log."""
    for scored in [one for group in run.scored for one in group]:
        (marker,) = faulty.MARKER.findall(scored.reply.text)
        for judgement in scored.judgements:
            given = run.server.given.get((marker, judgement.aspect, judgement.trial))
            assert values_of(judgement) == given_values(judgement.aspect, given, mode), judgement
            assert (judgement.failure is None) == (given is not None)
            if kinds and judgement.failure:
                assert judgement.failure.kind in kinds
        total, there, asked = expected_total(run, marker, mode, samples)
        assert len(scored.judgements) == asked
        assert scored.coverage == there / asked
        assert (scored.total is None) == (total is None) == (scored.failure is not None)
        if total is not None:
            assert scored.total == pytest.approx(float(total), rel=1e-12)
        else:
            assert not [v for v in (scored.empathy, scored.bystander) if v is not None and there == 0]


def assert_same_but_lost(after: Run, before: Run, lost: frozenset[str]) -> None:
    """Assert that the rewards and judgements of the others are the same to the last bit."""
    pairs = [pair for groups in zip(after.scored, before.scored, strict=True) for pair in zip(*groups, strict=True)]
    others = [(a, b) for a, b in pairs if faulty.MARKER.findall(a.reply.text)[0] not in lost]
    assert len(others) == len(pairs) - len(lost)
    for a, b in others:
        assert a.reward.model_dump_json() == b.reward.model_dump_json()
        assert [j.model_dump_json() for j in a.judgements] == [j.model_dump_json() for j in b.judgements]


def meets(fault: Any, question: Any, aspect: str, *, first_only: bool = False) -> bool:
    """Tell whether a question meets the fault: one about the lost reply, in a list the reversed one."""
    if question.aspect == "criteria" or (first_only and question.again):
        return False
    if question.aspect == "list":
        return question.is_reversed
    is_bystander = question.aspect == "bystander"
    wanted = {"all": True, "scores": not is_bystander, "bystander": is_bystander}[aspect]
    return question.markers == (LOST,) and wanted


def assert_same_values(after: Run, before: Run, lost: frozenset[str]) -> None:
    """Assert that every reply none of whose judgements failed has the numbers of the run without faults."""
    pairs = [pair for groups in zip(after.scored, before.scored, strict=True) for pair in zip(*groups, strict=True)]
    compared = 0
    for a, b in pairs:
        if faulty.MARKER.findall(a.reply.text)[0] not in lost:
            compared += 1
            assert (a.reward.scores, a.empathy, a.bystander, a.total, a.coverage) == (
                b.reward.scores,
                b.empathy,
                b.bystander,
                b.total,
                b.coverage,
            )
    assert compared == len(pairs) - len(lost)
