"""The routes of the reward server.

| route | what it is |
|---|---|
| POST /score | groups of replies to cases, scored; a reply that cannot be scored has a null total and says why |
| POST /get_reward | OpenRLHF, see `openrlhf` |
| POST /verify, /seed_session, /aggregate_metrics | NeMo-Gym, see `nemo_gym` |
| GET /metrics | Prometheus text |
| GET /health | 200, or 503 while shutting down; needs no key |
| GET /openapi.json, /docs | what the routes take and give |

Whatever is not a score is `{"error": {"kind", "reason"}}`: 401 key, 404 unknown case, 408 and 413 body, 415 no JSON by its
Content-Type, 422 malformed, 500 the server's own fault, 502 the judge failed, 503 full or stopping (with Retry-After), 504 deadline.
All groups of a request are checked before any is scored.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from json import dumps
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from peregrm import __version__
from peregrm.errors import SettingsError
from peregrm.records import Case
from peregrm.reward.base import RewardModel
from peregrm.reward.opening import OpenedJudge
from peregrm.reward.server import nemo_gym, openrlhf
from peregrm.reward.server.door import Door, refusal_response
from peregrm.reward.server.limits import Refused, ServerLimits
from peregrm.reward.server.metrics import CONTENT_TYPE
from peregrm.reward.server.page import docs_page
from peregrm.reward.server.service import Service
from peregrm.reward.server.wire import (
    Group,
    ScoredGroup,
    ScoreRequest,
    ScoreResponse,
    explain_invalid,
    find_case,
    reply_score,
)

__all__ = ["create_app", "service_of"]


def create_app(
    reward: RewardModel,
    *,
    cases: Mapping[str, Case] | None = None,
    key: str | None = None,
    limits: ServerLimits | None = None,
    judges: Sequence[OpenedJudge] = (),
    no_reply_score: float | None = None,
    look: Callable[[Case], Case] | None = None,
) -> FastAPI:
    """Return the application that serves `reward`; it closes the reward and the judges when it shuts down.

    Args:
        reward: What scores. One instance serves all requests.
        cases: Cases that requests may name by id.
        key: What requests must carry; None admits everybody.
        limits: How much is taken on; the defaults of `ServerLimits` where None.
        judges: The judges that were opened for this reward, for names, metrics and closing.
        no_reply_score: What a policy's output without a reply (thinking that never ended) is worth to OpenRLHF and NeMo-Gym, which demand
            a number. None: it has no reward.
        look: Returns a case with its flags where nobody looked at it before, as at one that came with a request. None leaves it so.

    Raises:
        SettingsError: The key is empty, or the score of no reply is no finite number.
    """
    if no_reply_score is not None and not math.isfinite(no_reply_score):
        raise SettingsError(f"the score of no reply is {no_reply_score}, not a finite number")
    if key is not None and not key.strip():
        raise SettingsError("the server's key is empty")
    service = Service(reward, cases or {}, judges, limits or ServerLimits(), look)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.aclose()

    app = FastAPI(title="peregrm reward", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    _add_scoring(app, service)
    _add_trainers(app, service, no_reply_score)
    _add_watching(app, service)
    _add_errors(app)
    routes = frozenset(str(getattr(route, "path", "")) for route in app.routes)
    app.add_middleware(Door, service=service, key=None if key is None else key.strip(), routes=routes)
    return app


def service_of(app: FastAPI) -> Service:
    """Return the service behind an application that `create_app` made."""
    service = app.state.service
    if not isinstance(service, Service):
        raise TypeError("not an application of create_app")
    return service


async def _leaves(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_scoring(app: FastAPI, service: Service) -> None:
    @app.post("/score")
    async def score(body: ScoreRequest, request: Request) -> ScoreResponse:
        """Score groups of replies. A reply that cannot be scored has a null total and a failure, never a number."""
        groups: list[Group] = [
            (find_case(service.cases, group, f"groups.{number}.case_id"), group.replies)
            for number, group in enumerate(body.groups)
        ]
        scored = await service.score(groups, lambda: _leaves(request))
        return ScoreResponse(
            groups=tuple(
                ScoredGroup(case_id=case.id, scores=tuple(map(reply_score, scores)))
                for (case, _), scores in zip(groups, scored, strict=True)
            )
        )


def _add_trainers(app: FastAPI, service: Service, no_reply_score: float | None) -> None:
    @app.post("/get_reward")
    async def get_reward(
        body: openrlhf.RewardRequest, request: Request, failed: Literal["error", "nan"] = "error"
    ) -> Response:
        """Score rows of OpenRLHF; `failed=nan` is for runs with dynamic filtering only."""
        rows = openrlhf.rows_of(body, service.cases)
        scored = await service.score(rows.to_score(), lambda: _leaves(request))
        answer = openrlhf.answer(rows.scored(scored), nan=failed == "nan", no_reply_score=no_reply_score)
        return Response(dumps(answer), media_type="application/json")  # Starlette's own JSON refuses NaN

    @app.post("/verify")
    async def verify(body: nemo_gym.VerifyRequest, request: Request) -> dict[str, Any]:
        """Score one rollout of NeMo-Gym."""
        group = nemo_gym.group_of(body, service.cases)
        ((scored,),) = await service.score([group], lambda: _leaves(request))
        return nemo_gym.answer(body, scored, no_reply_score=no_reply_score)

    @app.post("/seed_session")
    async def seed_session() -> dict[str, Any]:
        """Begin a rollout of NeMo-Gym: there is nothing to prepare."""
        return {}

    @app.post("/aggregate_metrics")
    async def aggregate_metrics() -> dict[str, Any]:
        """Add nothing to what NeMo-Gym computes itself."""
        return {"group_level_metrics": [], "agent_metrics": {}, "key_metrics": {}}


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> JSONResponse:
        """Say whether requests are taken, and what scores them."""
        stopping = service.gate.stopping
        said = {
            "status": "stopping" if stopping else "ok",
            "method": service.reward.method,
            "judges": [judge.model.name for judge in service.judges],
            "cases": len(service.cases),
            "version": __version__,
            "uptime_s": round(service.uptime_s, 3),
        }
        return JSONResponse(said, 503 if stopping else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the counters in Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return refusal_response(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return refusal_response(explain_invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        kind = {404: "unknown_route", 405: "method"}.get(error.status_code, "malformed")
        return refusal_response(Refused(error.status_code, kind, str(error.detail)))
