"""Many at once, and a server that dies: what was acknowledged is there, and everybody sees only what is theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from peregrm.study.answers import Answers
from peregrm.study.rows import read_rows


@pytest.mark.slow
async def test_fifty_at_once_lose_nothing_and_see_only_their_own(
    make_folder: Callable[..., Path], in_process: Any, new_person: Any
) -> None:
    folder = make_folder(cases=12, per_participant=4, participants=60)

    async def take_part(number: int, url: str) -> tuple[str, str]:
        person, seen = new_person(url), ""
        code = await person.agree()
        for place in range(1, 5):
            assert await person.answer(place, comment=f"words of person {number:02} on {place}") == 200
            seen += person.page
        assert person.at == "/done"
        for path in ("/code", "/case/1", "/withdraw"):
            await person.get(path)
            seen += person.page
        await person.session.close()
        return code, seen

    async with in_process(folder) as (_, url):
        done = await asyncio.gather(*(take_part(number, url) for number in range(50)))
    codes = [code for code, _ in done]
    assert len(set(codes)) == 50
    for number, (_, seen) in enumerate(done):
        others = [code for code in codes if code != codes[number]]
        assert not [code for code in others if code in seen]
        assert "words of person" not in seen
    rows = read_rows(folder)
    said = sorted(row.comment for row in rows)
    assert said == sorted(f"words of person {number:02} on {place}" for number in range(50) for place in range(1, 5))
    by_person: dict[str, set[str]] = {}
    for row in rows:
        by_person.setdefault(row.participant, set()).add(row.comment[:18])
    assert len(by_person) == 50
    assert all(len(words) == 1 for words in by_person.values())
    with Answers(folder) as answers:
        assert sorted(one.slot for one in answers.participants()) == list(range(50))


@pytest.mark.slow
async def test_a_killed_server_comes_back_with_every_acknowledged_answer(
    make_folder: Callable[..., Path], in_process: Any, new_person: Any
) -> None:
    folder = make_folder(cases=12, per_participant=12, participants=60)
    told: dict[str, set[int]] = {}

    async def take_part(url: str, enough: asyncio.Event) -> None:
        person = new_person(url)
        with contextlib.suppress(aiohttp.ClientError):
            code = await person.agree()
            for place in range(1, 13):
                if await person.answer(place) == 200:
                    told.setdefault(code, set()).add(place)
                if sum(map(len, told.values())) >= 60:
                    enough.set()
        await person.session.close()

    async with in_process(folder) as (process, url):
        enough = asyncio.Event()
        people = [asyncio.create_task(take_part(url, enough)) for _ in range(12)]
        await asyncio.wait_for(enough.wait(), 60)
        process.kill()
        await asyncio.gather(*people)
    assert sum(map(len, told.values())) >= 60
    assert any(len(places) < 12 for places in told.values())  # it died in the middle
    async with in_process(folder) as (process, url):
        for code, places in told.items():
            person = new_person(url)
            assert await person.post("/return", {"code": code}) == 200
            for place in places:
                await person.get(f"/case/{place}")
                assert "answered this case already" in person.page
            await person.session.close()
        process.terminate()
        assert await process.wait() == 0  # told to stop, it ends in order
    with Answers(folder) as answers:
        for code, places in told.items():
            person = answers.find(code)
            assert person is not None
            assert answers.answered(person.pid, "cases") >= places
