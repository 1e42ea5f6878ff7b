"""What the tests of the judge share: criteria of the one case, replies to it, answers a judge could give, and asking one."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from peregrm.dimensions import BYSTANDER_PARTS, EMPATHY
from peregrm.models import endpoint
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.records import Case, Criteria, Criterion, Judgement, Reply
from peregrm.reward.asking import Asking
from peregrm.reward.judge import judge_bystander, judge_dimensions

BuildReply = Callable[..., Reply]
BuildVerdict = Callable[..., dict[str, Any]]
BuildPoints = Callable[..., str]
Judge = Callable[..., Any]
Play = Callable[[Request], ScriptEntry]

WEIGHTS = {"resonation": (40, 30, 20, 10), "expression": (25, 25, 25, 25), "reception": (70, 10, 10, 5, 5)}


@pytest.fixture(scope="session")
def criteria(case: Case) -> Criteria:
    """Four or five criteria a dimension, with unequal weights."""
    items = tuple(
        (name, tuple(Criterion(text=f"{name}: criterion number {n}.", weight=w) for n, w in enumerate(weights, 1)))
        for name, weights in WEIGHTS.items()
    )
    return Criteria(case_id=case.id, items=items, method="test")


@pytest.fixture(scope="session")
def reply_of(case: Case) -> Callable[..., Reply]:
    """Build a reply to the case."""

    def build(text: str = "No. You were looking forward to it.", **fields: Any) -> Reply:
        return Reply.model_validate({"case_id": case.id, "policy": "mine", "text": text, **fields})

    return build


@pytest.fixture(scope="session")
def verdict() -> Callable[..., dict[str, Any]]:
    """Build a judge's answer: one score for everything, or a dimension's own scores in their order."""

    def build(score: int = 4, analysis: str = "It fits.", **own: Sequence[Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for dimension in EMPATHY:
            count = len(WEIGHTS[dimension.name])
            scores = own.get(dimension.name, [score] * count)
            answer[dimension.name] = {"analysis": analysis} | {f"s{n}": s for n, s in enumerate(scores, 1)}
        return answer

    return build


@pytest.fixture(scope="session")
def points() -> Callable[..., str]:
    """Build a bystander's answer as text: the same points for every part, but for those given."""

    def build(each: int = 15, **own: Any) -> str:
        parts: Mapping[str, Any] = {key: own.pop(key, each) for key, _ in BYSTANDER_PARTS}
        return json.dumps({"analysis": "It helps.", **parts, **own})

    return build


@pytest.fixture(scope="session")
def dimensions_of(case: Case, criteria: Criteria, reply_of: BuildReply) -> Judge:
    """Let a judge that plays a script judge the dimensions of a reply."""

    async def call(*script: ScriptEntry, reply: Reply | None = None) -> tuple[Judgement, ScriptedModel]:
        model = ScriptedModel(script, name="judge-1")
        asking = Asking(model, seed=5)
        (judgement,) = await judge_dimensions(asking, case, criteria, reply or reply_of())
        return judgement, model

    return call


@pytest.fixture(scope="session")
def bystander_of(case: Case, criteria: Criteria, reply_of: BuildReply) -> Judge:
    """Let a judge that plays a script judge a reply as a bystander."""

    async def call(*script: ScriptEntry, reply: Reply | None = None) -> tuple[Judgement, ScriptedModel]:
        model = ScriptedModel(script, name="judge-1")
        (judgement,) = await judge_bystander(Asking(model, seed=5), case, criteria, reply or reply_of())
        return judgement, model

    return call


@pytest.fixture(scope="session")
def honest(verdict: BuildVerdict, points: BuildPoints) -> Play:
    """A judge that gives the score written in the reply (`worth 4`), and five points for each of it."""

    def play(request: Request) -> str:
        found = re.search(r"worth (\d)", request.messages[1].content)
        worth = int(found[1]) if found else 3
        return json.dumps(verdict(worth)) if request.purpose == "judge" else points(4 * worth)

    return play


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@pytest.fixture
def fast_endpoint(monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext) -> None:
    """Wait little between tries, and do not read the certificates anew for every client: nothing here speaks TLS."""
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: tls)


@pytest.fixture(scope="module")
def baselines() -> dict[tuple[Any, ...], Any]:
    return {}


@pytest.fixture
def unharmed(case: Case, reply_of: BuildReply, baselines: dict[tuple[Any, ...], Any]) -> Callable[..., Any]:
    """Return the same run without faults, made once."""
    from failure_runs import run

    async def get(**settings: Any) -> Any:
        key = tuple(sorted(settings.items()))
        if key not in baselines:
            baselines[key] = await run(case, reply_of, **settings)
        return baselines[key]

    return get
