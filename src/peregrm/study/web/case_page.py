"""The page of one case with its two replies, and the keeping of what is sent from it; the same for both arms."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from peregrm.histories.language import UNDETERMINED
from peregrm.study.answers import Answer, Arm
from peregrm.study.material import BlindCase, Place
from peregrm.study.plan import OUTCOMES
from peregrm.study.web.forms import COMMENT_LENGTH, SIDES, Filled
from peregrm.study.web.visit import Study, Visit, in_thread, of_theirs, page

__all__ = ["keep", "not_open", "show_case"]


async def keep(study: Study, visit: Visit, place: Place, number: int, arm: Arm, filled: Filled) -> None:
    """Keep an answer; it is on disk on return. Raises `Stranger` where the participant has withdrawn meanwhile."""
    answer = Answer(
        visit.participant.pid,
        arm,
        number,
        place.case,
        place.first,
        place.second,
        filled.ratings,
        filled.choice,
        filled.comment,
    )
    await of_theirs(study.answers.submit, answer)


async def not_open(study: Study, visit: Visit, number: int, arm: Arm) -> str:
    """Return where to go with an answer to a page that is not open, nothing where it is: on after a second click, else to the page."""
    if await in_thread(study.answers.was_opened, visit.participant.pid, arm, number):
        return ""
    start = "/own" if arm == "own" else "/case"
    answered = await in_thread(study.answers.answered, visit.participant.pid, arm)
    return start if number in answered else f"{start}/{number}"


def show_case(
    study: Study,
    visit: Visit,
    case: BlindCase,
    place: Place,
    number: int,
    answered: int,
    arm: Arm,
    filled: Filled | None = None,
) -> HTMLResponse:
    """Return the page of one case with its two replies; `filled` is a form that was sent and cannot be kept yet."""
    mine = arm == "own"
    texts = [case.replies[place.first], case.replies[place.second]]
    return page(
        study,
        "case",
        visit,
        status=422 if filled else 200,
        heading=f"Your conversation {number}" if mine else f"Case {number} of {study.per_participant}",
        mine=mine,
        case=case,
        lang="" if case.language == UNDETERMINED else case.language,
        sides=list(zip(SIDES, texts, strict=True)),
        action=f"/{'own' if mine else 'case'}/{number}",
        answered=answered,
        total=0 if mine else study.per_participant,
        outcomes=OUTCOMES,
        question=study.material.choice,
        values=filled.values if filled else {},
        problems=filled.problems if filled else (),
        comment_length=COMMENT_LENGTH,
    )
