"""What the tests of the study share: a small study, its page served in this process or another, and a participant who fills it in."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from peregrm.models.base import Model
from peregrm.records import Case, Reply
from peregrm.study.answers import Answers
from peregrm.study.drawing import Asked, make_study
from peregrm.study.material import read_material
from peregrm.study.plan import OUTCOMES, read_plan
from peregrm.study.web.app import create_app
from peregrm.study.web.run import Server, bind
from peregrm.study.web.visit import COOKIE, Study

POLICIES = ("zebrawarm", "quaggacold")
FIELDS = [f"{side}-{one.name}" for side in ("first", "second") for one in OUTCOMES]


@pytest.fixture
def make_cases(case: Case) -> Callable[..., dict[str, Case]]:
    """Make cases of some users, told apart by their queries."""

    def make(n: int, users: int = 3, flags: tuple[str, ...] | None = ()) -> dict[str, Case]:
        made = [
            case.model_copy(update={"user_id": f"user{k % users}", "query": f"question number {k}?", "flags": flags})
            for k in range(n)
        ]
        return {one.id: one for one in made}

    return make


@pytest.fixture
def make_folder(make_cases: Callable[..., dict[str, Case]], tmp_path: Path) -> Callable[..., Path]:
    """Write a study of two policies, whose replies say nothing of them."""

    def make(cases: int = 6, name: str = "study", **asked: Any) -> Path:
        known = make_cases(cases)
        texts = ("I am with you in this.", "Have you tried lists?")
        replies = [
            Reply(case_id=one, policy=policy, text=f"{text} ({known[one].query[-3:-1]})")
            for one in known
            for policy, text in zip(POLICIES, texts, strict=True)
        ]
        usual: dict[str, Any] = {"policies": POLICIES, "cases": cases, "per_participant": 3, "participants": 4}
        make_study(tmp_path / name, known, replies, Asked(**{**usual, **asked}))
        return tmp_path / name

    return make


class Person:
    """A participant with a browser of their own that runs no script."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.page = ""
        self.at = ""

    async def get(self, path: str) -> int:
        """Open a page; what it says is then `page`, and where redirects led `at`."""
        async with self.session.get(self.url + path) as answer:
            return await self._read(answer)

    async def post(self, path: str, fields: dict[str, str], token: str | None = None, **options: Any) -> int:
        """Send a form with the token of the page that is open."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.page)
        given = token if token is not None else found[1] if found else ""
        code = re.search(r'name="new_code" value="([0-9A-Z-]+)"', self.page)
        hidden = {"token": given, **({"new_code": code[1]} if code else {})}
        async with self.session.post(self.url + path, data={**fields, **hidden}, **options) as answer:
            return await self._read(answer)

    async def _read(self, answer: aiohttp.ClientResponse) -> int:
        self.page, self.at, self.headers = unescape(await answer.text()), answer.url.path, answer.headers
        return answer.status

    async def agree(self) -> str:
        """Take part, and return the code."""
        await self.get("/")
        assert await self.post("/consent", {"agree": "yes"}) == 200
        assert self.at == "/code"
        return self.code

    @property
    def code(self) -> str:
        return next((cookie.value for cookie in self.session.cookie_jar if cookie.key == COOKIE), "")

    async def answer(self, number: int, comment: str = "", choice: str = "first") -> int:
        """Open a case and answer it."""
        await self.get(f"/case/{number}")
        rated = {field: str(1 + (number + place) % 7) for place, field in enumerate(FIELDS)}
        return await self.post(f"/case/{number}", {**rated, "choice": choice, "comment": comment})


@pytest.fixture
def served() -> Any:
    """Serve a study's folder in this process for as long as a block lasts; gives a function that brings in a person."""

    @asynccontextmanager
    async def open_page(folder: Path, model: Model | None = None) -> AsyncIterator[Callable[[], Person]]:
        _, digest = read_plan(folder)
        where = "The model runs here." if model else ""
        study = Study(read_material(folder), digest, Answers(folder), model, where)
        server, listener = Server(create_app(study)), bind("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running = asyncio.create_task(server.serve(sockets=[listener]))
        people: list[Person] = []

        def person() -> Person:
            people.append(Person(url))
            return people[-1]

        try:
            yield person
        finally:
            for one in people:
                await one.session.close()
            server.should_exit = True
            await running
            listener.close()

    return open_page


SERVE = "import sys, peregrm.cli.study; from peregrm.cli import main; main(sys.argv[1:])"


@asynccontextmanager
async def _process(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    command = [sys.executable, "-c", SERVE, "study", "serve", str(folder), "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        line = (await process.stderr.readline()).decode()
        assert line.startswith("Study: "), line
        yield process, line.removeprefix("Study: ").strip().rstrip("/")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture
def in_process() -> Any:
    """Serve a study's folder by the command, in a process of its own that can be killed; gives the process and the address."""
    return _process


@pytest.fixture
def new_person() -> Callable[[str], Person]:
    """Bring in a person to any address; the test closes their session."""
    return Person
