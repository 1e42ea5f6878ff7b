"""The routes of the study's page.

| route | what it is |
|---|---|
| GET / | consent, and the way back with a code |
| POST /consent, /return, /leave | a new participant; an old one; take the code off this device |
| GET /code, /done | the participant's code; thanks |
| GET /case, /case/N, POST /case/N | the next case; the Nth of this participant, and its answer |
| GET and POST /withdraw | delete everything of this participant |
| GET and POST /own, /own/N | a history of their own, where it is offered (`own_routes`) |
| GET /health | 200 |

No address names a participant: who they are is in their cookie alone, so there is nothing to guess. An answer is on disk before the browser
is sent on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from peregrm.study.answers import Full, is_code, new_code, tidy_code
from peregrm.study.material import Place
from peregrm.study.web.case_page import keep, not_open, show_case
from peregrm.study.web.door import Door
from peregrm.study.web.forms import Problem, read_form
from peregrm.study.web.own_routes import add_own, write_replies
from peregrm.study.web.pages import asset
from peregrm.study.web.visit import Stranger, Study, Visit, go, in_thread, message, of_theirs, page, read_fields

__all__ = ["create_app"]

_log = logging.getLogger("peregrm.study")
_PURGE_S = 5.0


def create_app(study: Study) -> FastAPI:
    """Return the application that serves `study`; it closes the answers and the model when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for one in await in_thread(study.answers.own_rounds):
            if one.state == "waiting":
                study.to_do.put_nowait((one.pid, one.number))
        tasks = [asyncio.create_task(_keep_clean(study))]
        if study.model is not None:
            tasks.append(asyncio.create_task(write_replies(study, study.model)))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await in_thread(study.answers.purge)
        await in_thread(study.answers.close)
        if study.model is not None:
            await study.model.aclose()

    app = FastAPI(title="peregrm study", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    _add_entrance(app, study)
    _add_cases(app, study)
    _add_way_out(app, study)
    if study.model is not None:
        add_own(app, study)
    _add_files(app)
    _add_errors(app, study)
    app.add_middleware(Door, uploads=frozenset({"/own"}))
    return app


async def _keep_clean(study: Study) -> None:
    """Finish the cleaning after withdrawals that another reader of the file held up, and after a kill."""
    while True:
        if not await in_thread(study.answers.purge):
            _log.warning("another program reads the answers: what was withdrawn is overwritten when it ends")
        await asyncio.sleep(_PURGE_S)


def _add_entrance(app: FastAPI, study: Study) -> None:
    def entrance(status: int = 200, problems: tuple[Problem, ...] = (), *, lost: bool = False) -> Response:
        values: dict[str, Any] = {
            "count": study.per_participant,
            "about": study.material.about,
            "own": study.model is not None,
            "new_code": new_code(),
        }
        return page(study, "consent", status=status, problems=problems, lost=lost, **values)

    @app.get("/")
    async def start(request: Request) -> Response:
        try:
            await Visit.of(study, request)
        except Stranger:
            return entrance()
        return go("/case")

    @app.post("/consent")
    async def consent(request: Request) -> Response:
        fields = (await read_fields(request)).fields
        code = fields.get("new_code", "")
        if fields.get("agree") != "yes" or not is_code(code):
            return entrance(422, (Problem("agree", "Tick the box to take part"),))
        try:
            await Visit.of(study, request)
        except Stranger:
            pass
        else:
            return go("/case")  # a second click on the button is not a second participant
        planned, each = study.material.participants, study.per_participant

        def join() -> None:
            study.answers.join(code, study.plan, planned=planned, cases=each)

        try:
            await in_thread(join)
        except Full:
            text = "As many people as were planned have taken part. Thank you for your interest."
            return message(study, "This study is complete", text, status=409)
        return go("/code", request, code)

    @app.post("/return")
    async def come_back(request: Request) -> Response:
        fields = (await read_fields(request)).fields
        code = tidy_code(fields.get("code", ""))
        found = await in_thread(study.answers.find, code)
        return entrance(404, lost=True) if found is None else go("/case", request, code)


def _add_cases(app: FastAPI, study: Study) -> None:
    @app.get("/code")
    async def code(request: Request) -> Response:
        visit = await Visit.of(study, request)
        answered = await in_thread(study.answers.answered, visit.participant.pid, "cases")
        return page(study, "code", visit, code=visit.code, answered=len(answered))

    @app.get("/case")
    async def next_case(request: Request) -> Response:
        visit = await Visit.of(study, request)
        answered = await in_thread(study.answers.answered, visit.participant.pid, "cases")
        left = [number for number in range(1, study.per_participant + 1) if number not in answered]
        return go(f"/case/{left[0]}" if left else "/done")

    @app.get("/case/{number}")
    async def read_case(number: int, request: Request) -> Response:
        visit = await Visit.of(study, request)
        place = _place(study, visit, number)
        answered = await in_thread(study.answers.answered, visit.participant.pid, "cases")
        if number in answered:
            text = "You have answered this case already. An answer is not changed once it was sent."
            return message(study, f"Case {number} is answered", text, link=("/case", "Go on"))
        await of_theirs(study.answers.open, visit.participant.pid, "cases", number)
        return show_case(study, visit, study.cases[place.case], place, number, len(answered), "cases")

    @app.post("/case/{number}")
    async def answer_case(number: int, request: Request) -> Response:
        visit, sent = await Visit.sending(study, request)
        place = _place(study, visit, number)
        if elsewhere := await not_open(study, visit, number, "cases"):
            return go(elsewhere)
        filled = read_form(sent.fields)
        if filled.problems:
            answered = await in_thread(study.answers.answered, visit.participant.pid, "cases")
            case = study.cases[place.case]
            return show_case(study, visit, case, place, number, len(answered), "cases", filled)
        await keep(study, visit, place, number, "cases", filled)
        return go("/case")

    @app.get("/done")
    async def done(request: Request) -> Response:
        visit = await Visit.of(study, request)
        answered = await in_thread(study.answers.answered, visit.participant.pid, "cases")
        if len(answered) < study.per_participant:
            return go("/case")
        return page(study, "done", visit, code=visit.code, total=study.per_participant, own=study.model is not None)


def _place(study: Study, visit: Visit, number: int) -> Place:
    if not 1 <= number <= study.per_participant:
        raise HTTPException(404)
    return study.places(visit.participant.slot)[number - 1]


def _add_way_out(app: FastAPI, study: Study) -> None:
    @app.post("/leave")
    async def leave(request: Request) -> Response:
        await Visit.sending(study, request)
        return go("/", code="")

    @app.get("/withdraw")
    async def ask_withdraw(request: Request) -> Response:
        return page(study, "withdraw", await Visit.of(study, request))

    @app.post("/withdraw")
    async def withdraw(request: Request) -> Response:
        visit, sent = await Visit.sending(study, request)
        if sent.fields.get("sure") != "yes":
            problem = Problem("sure", "Tick the box to have everything deleted")
            return page(study, "withdraw", visit, status=422, problems=(problem,))
        await in_thread(study.answers.withdraw, visit.participant.pid)
        return go("/gone", code="")

    @app.get("/gone")
    async def gone() -> Response:
        return message(study, "You have withdrawn", "Everything of yours was deleted. Thank you for your time.")


def _add_files(app: FastAPI) -> None:
    @app.get("/study.css")
    async def style() -> Response:
        return Response(asset("study.css"), media_type="text/css")

    @app.get("/study.js")
    async def script() -> Response:
        return Response(asset("study.js"), media_type="text/javascript")

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})


def _add_errors(app: FastAPI, study: Study) -> None:
    @app.exception_handler(Stranger)
    async def stranger(_: Request, __: Stranger) -> Response:
        text = "This browser is not known here (any more). Begin at the entrance: a code that you have brings you back to where you were."
        return message(study, "Please begin at the entrance", text, status=403, link=("/", "To the entrance"))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, __: RequestValidationError) -> Response:
        return _nothing_here(study, 404)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _nothing_here(study, error.status_code)


def _nothing_here(study: Study, status: int) -> HTMLResponse:
    text = "There is no such page." if status in (404, 405) else "This form could not be read."
    return message(study, "Nothing here", text, status=status, link=("/", "To the study"))
