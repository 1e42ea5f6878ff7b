"""One request of a participant: who they are by their cookie, whether their form is theirs, and the answers that pages are."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile

from peregrm.models.base import Model
from peregrm.study.answers import Answers, Participant
from peregrm.study.material import BlindCase, Material, Place
from peregrm.study.web.pages import render_page

__all__ = [
    "COOKIE",
    "Sent",
    "Stranger",
    "Study",
    "Visit",
    "go",
    "in_thread",
    "message",
    "of_theirs",
    "page",
    "read_fields",
]

COOKIE = "peregrm_study"
_COOKIE_S = 90 * 24 * 3600

T = TypeVar("T")


@dataclass
class Study:
    """What is served: the blind material, the hash of the plan, the answers, and, for own histories, a model.

    `where` tells participants in a sentence where the model is; `max_tokens` and `temperature` are those of its replies.
    """

    material: Material
    plan: str
    answers: Answers
    model: Model | None = None
    where: str = ""
    max_tokens: int = 256
    temperature: float = 0.7
    cases: dict[str, BlindCase] = field(init=False)
    to_do: asyncio.Queue[tuple[str, int]] = field(init=False, default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.cases = {case.id: case for case in self.material.cases}

    @property
    def per_participant(self) -> int:
        """How many cases each participant sees."""
        return len(self.material.slots[0])

    def places(self, slot: int) -> tuple[Place, ...]:
        """Return what the participant on a slot sees; slots beyond the design begin it again."""
        return self.material.slots[slot % len(self.material.slots)]


class Sent(NamedTuple):
    """A form: its texts, and the name and content of its file, both empty where there is none."""

    fields: dict[str, str]
    file_name: str = ""
    data: bytes = b""


class Stranger(Exception):
    """There is no participant behind this request, or the form is not theirs."""


@dataclass(frozen=True)
class Visit:
    """A request of a participant that is known."""

    participant: Participant
    code: str

    @property
    def token(self) -> str:
        """What their forms carry: it cannot be made without the code."""
        return hmac.new(self.code.encode(), b"form", "sha256").hexdigest()

    @classmethod
    async def of(cls, study: Study, request: Request) -> Visit:
        """Return the visit; raises `Stranger`."""
        code = request.cookies.get(COOKIE, "")
        found = await in_thread(study.answers.find, code) if code else None
        if found is None:
            raise Stranger
        return cls(found, code)

    @classmethod
    async def sending(cls, study: Study, request: Request) -> tuple[Visit, Sent]:
        """Return the visit that sends a form, and the form; raises `Stranger` where the form is not theirs."""
        visit = await cls.of(study, request)
        sent = await read_fields(request)
        if not hmac.compare_digest(sent.fields.get("token", "").encode("utf-8", "replace"), visit.token.encode()):
            raise Stranger
        return visit, sent


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run what waits for the disk without holding up other participants."""
    return await asyncio.to_thread(work, *arguments)


async def of_theirs(work: Callable[..., T], *arguments: Any) -> T:
    """Do a participant's `work` in a thread; raises `Stranger` where they have withdrawn meanwhile, which `work` says by `KeyError`."""
    try:
        return await in_thread(work, *arguments)
    except KeyError:
        raise Stranger from None


async def read_fields(request: Request) -> Sent:
    """Return what a form holds; a file without a name or content is none."""
    async with request.form(max_files=1, max_fields=40, max_part_size=2 * 2**20) as form:
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        file = next((value for value in form.values() if isinstance(value, UploadFile)), None)
        data = await file.read() if file is not None else b""
    return Sent(fields, file.filename or "" if file is not None and data else "", data)


def page(study: Study, name: str, visit: Visit | None = None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page of the study."""
    common = {
        "title": study.material.title,
        "contact": study.material.contact,
        "token": visit.token if visit else "",
        "problems": (),
    }
    return HTMLResponse(render_page(name, **{**common, **values}), status)


def message(
    study: Study, heading: str, text: str, *, status: int = 200, link: tuple[str, str] = ("", "")
) -> HTMLResponse:
    """Return a page that says one thing; `link` is an address and its words."""
    return page(study, "message", status=status, heading=heading, text=text, link=link[0], link_text=link[1])


def go(where: str, request: Request | None = None, code: str | None = None) -> Response:
    """Send the browser to another page, with the code in its cookie where one is given; an empty one takes the cookie away."""
    answer = RedirectResponse(where, 303)
    if code and request is not None:
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, code, max_age=_COOKIE_S, path="/", secure=is_secure, httponly=True, samesite="strict")
    elif code == "":
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer
