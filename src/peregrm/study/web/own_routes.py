"""The pages for a participant's own history, and the one task that has replies written.

What is waiting stands in the answers' file, so that a server that was killed goes on with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from peregrm.errors import PeregrmError
from peregrm.models.base import Model
from peregrm.records import Case
from peregrm.study.answers import OWN_ROUNDS, OwnRound
from peregrm.study.material import BlindCase, Place
from peregrm.study.own import READ_CHARACTERS, NotUsable, history_of_file, history_of_text, own_case, own_replies
from peregrm.study.web.case_page import keep, not_open, show_case
from peregrm.study.web.forms import Problem, read_form
from peregrm.study.web.visit import Sent, Study, Visit, go, in_thread, message, of_theirs, page

__all__ = ["add_own", "write_replies"]

_log = logging.getLogger("peregrm.study")

_MESSAGE_LENGTH = 2000
_TEXT_LENGTH = 1_000_000


async def write_replies(study: Study, model: Model) -> None:
    """Have the replies written, one round after the other, for as long as the server runs."""
    while True:
        pid, number = await study.to_do.get()
        rounds = await in_thread(study.answers.own_rounds, pid)
        waiting = [one for one in rounds if one.number == number and one.state == "waiting"]
        for one in waiting:
            replies, why = await _replies(study, model, one)
            await in_thread(study.answers.finish_own, pid, number, replies, why)


async def _replies(study: Study, model: Model, one: OwnRound) -> tuple[list[tuple[str, str, str]], str]:
    case = Case.model_validate_json(one.case_json)
    try:
        return await own_replies(model, case, max_tokens=study.max_tokens, temperature=study.temperature), ""
    except NotUsable as error:
        return [], str(error)
    except PeregrmError as error:
        _log.error("the model is of no use: %s", type(error).__name__)
        return [], "The model could not be asked. Please tell the people who run this study."


def add_own(app: FastAPI, study: Study) -> None:
    """Add the routes."""

    async def overview(
        visit: Visit, values: dict[str, str], problems: tuple[Problem, ...] = (), status: int = 200
    ) -> Response:
        rounds = await in_thread(study.answers.own_rounds, visit.participant.pid)
        answered = await in_thread(study.answers.answered, visit.participant.pid, "own")
        waiting = any(one.state == "waiting" for one in rounds)
        return page(
            study,
            "own",
            visit,
            status=status,
            problems=problems,
            rounds=rounds,
            answered=answered,
            waiting=waiting,
            free=not waiting and _used(rounds) < OWN_ROUNDS,
            where=study.where,
            values=values,
            message_length=_MESSAGE_LENGTH,
            read=READ_CHARACTERS,
        )

    @app.get("/own")
    async def own(request: Request) -> Response:
        return await overview(await Visit.of(study, request), {})

    @app.post("/own")
    async def give(request: Request) -> Response:
        visit, sent = await Visit.sending(study, request)
        problems = _problems(sent)
        if not problems:
            try:
                case = await in_thread(_case_of, sent)
            except NotUsable as error:
                problems = (Problem("text", str(error)),)
            else:
                await _begin(study, visit, case)
                return go("/own")
        return await overview(visit, sent.fields, problems, 422)

    @app.get("/own/{number}")
    async def read_own(number: int, request: Request) -> Response:
        visit = await Visit.of(study, request)
        case, place = await _ready(study, visit, number)
        if number in await in_thread(study.answers.answered, visit.participant.pid, "own"):
            text = "You have answered this already. An answer is not changed once it was sent."
            return message(study, "Answered", text, link=("/own", "Go on"))
        await of_theirs(study.answers.open, visit.participant.pid, "own", number)
        return show_case(study, visit, case, place, number, 0, "own")

    @app.post("/own/{number}")
    async def answer_own(number: int, request: Request) -> Response:
        visit, sent = await Visit.sending(study, request)
        case, place = await _ready(study, visit, number)
        if elsewhere := await not_open(study, visit, number, "own"):
            return go(elsewhere)
        filled = read_form(sent.fields)
        if filled.problems:
            return show_case(study, visit, case, place, number, 0, "own", filled)
        await keep(study, visit, place, number, "own", filled)
        return go("/own")


async def _begin(study: Study, visit: Visit, case: Case) -> None:
    """Have replies to a case written; nothing where the participant has had all rounds. Raises `Stranger` where they have withdrawn."""
    begun = await of_theirs(study.answers.add_own, visit.participant.pid, case.model_dump_json())
    if begun is not None:
        study.to_do.put_nowait((begun.pid, begun.number))


def _used(rounds: Sequence[OwnRound]) -> int:
    """Return how many rounds count; those that failed may be tried again."""
    return sum(one.state != "failed" for one in rounds)


async def _ready(study: Study, visit: Visit, number: int) -> tuple[BlindCase, Place]:
    """Return a round that can be read, as cases are shown; 404 where there is none."""
    rounds = await in_thread(study.answers.own_rounds, visit.participant.pid)
    found = next((one for one in rounds if one.number == number and one.state == "ready"), None)
    if found is None:
        raise HTTPException(404)
    case = Case.model_validate_json(found.case_json)
    name = f"own-{visit.participant.pid}-{number}"
    texts = {blind: text for blind, _, text in found.replies}
    first, second = texts
    shown = BlindCase(id=name, language=case.language, situation="", person="", query=case.query, replies=texts)
    return shown, Place(case=name, first=first, second=second)


def _problems(sent: Sent) -> tuple[Problem, ...]:
    text, said = sent.fields.get("text", ""), sent.fields.get("message", "").strip()
    found = []
    if not text.strip() and not sent.data:
        found.append(Problem("text", "Paste a conversation or choose a file"))
    if len(text) > _TEXT_LENGTH:
        found.append(Problem("text", "The pasted text is too long: choose a file instead"))
    if not said or len(said) > _MESSAGE_LENGTH:
        found.append(Problem("message", f"Write a message of at most {_MESSAGE_LENGTH} characters"))
    if sent.fields.get("agree") != "yes":
        found.append(Problem("agree", "Tick the box if you want this to be read and answered"))
    return tuple(found)


def _case_of(sent: Sent) -> Case:
    history = history_of_file(sent.data, sent.file_name) if sent.data else history_of_text(sent.fields["text"])
    return own_case(history, sent.fields["message"].strip())
