"""The page, without a browser: what is asked, kept, refused, and who sees what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.study.answers import Answers
from peregrm.study.material import read_material
from peregrm.study.rows import read_rows

PAGES = ("/", "/code", "/case", "/case/1", "/withdraw")


async def test_a_participant_goes_from_consent_to_thanks(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder(contact="Ada Example")
    async with served(folder) as person:
        ada = person()
        assert await ada.get("/") == 200
        assert "Ada Example" in ada.page
        assert await ada.post("/consent", {}) == 422
        assert "Tick the box" in ada.page
        code = await ada.agree()
        assert code in ada.page
        for number in (1, 2, 3):
            assert await ada.get("/case") == 200
            assert ada.at == f"/case/{number}"
            assert await ada.answer(number, comment=f"write to me@example.org {number}") == 200
        assert ada.at == "/done"
        assert code in ada.page
    rows = read_rows(folder)
    assert [row.number for row in rows] == [1, 2, 3]
    assert rows[0].comment == "write to [e-mail] 1"
    assert all(row.chosen == ("a" if row.a_first else "b") for row in rows)


async def test_no_page_tells_who_wrote_what(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder()
    material = read_material(folder)
    ids = {case.id for case in material.cases} | {blind for case in material.cases for blind in case.replies}
    seen = ""
    async with served(folder) as person:
        ada = person()
        await ada.agree()
        for number in (1, 2, 3):
            for path in PAGES:
                await ada.get(path)
                seen += ada.page + str(ada.headers)
            await ada.answer(number)
            seen += ada.page
    assert not [word for word in {"zebrawarm", "quaggacold", *ids} if word in seen]


async def test_a_form_with_gaps_comes_back_filled_in(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder()
    async with served(folder) as person:
        ada = person()
        await ada.agree()
        await ada.get("/case/1")
        sent = {"first-understood": "6", "second-fits": "9", "choice": "third", "comment": "<b>still here</b>"}
        assert await ada.post("/case/1", sent) == 422
        assert "<title>Error: Case 1 of 3" in ada.page
        assert 'value="6" checked' in ada.page
        assert "<b>still here</b></textarea>" in ada.page  # escaped; the helper unescapes once
        for field in ("first-fits", "second-understood", "second-fits", "choice"):
            assert f'href="#{field}"' in ada.page
            assert f'id="{field}"' in ada.page
        assert 'href="#first-understood"' not in ada.page
        assert await ada.post("/case/1", {**sent, "comment": "x" * 2001}) == 422
        assert 'href="#comment"' in ada.page
    assert read_rows(folder) == []


async def test_sending_twice_keeps_the_first(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder()
    async with served(folder) as person:
        ada = person()
        await ada.agree()
        assert await ada.answer(1, comment="one") == 200
        await ada.get("/case/2")
        token = re.search(r'name="token" value="(\w+)"', ada.page)
        assert token
        rated = {
            f"{side}-{name}": "1"
            for side in ("first", "second")
            for name in ("understood", "fits", "satisfied", "go_on")
        }
        assert await ada.post("/case/1", {**rated, "choice": "none", "comment": "two"}, token[1]) == 200
        assert ada.at == "/case/2"
        assert await ada.get("/case/1") == 200
        assert "answered this case already" in ada.page
    assert [row.comment for row in read_rows(folder)] == ["one"]


async def test_the_code_brings_back_and_leaving_takes_it_off(make_folder: Callable[..., Path], served: Any) -> None:
    async with served(make_folder()) as person:
        ada, elsewhere = person(), person()
        code = await ada.agree()
        await ada.answer(1)
        assert await elsewhere.post("/return", {"code": code.lower().replace("-", " ")}) == 200
        assert elsewhere.at == "/case/2"
        assert await elsewhere.post("/leave", {}) == 200
        assert elsewhere.code == ""
        assert await elsewhere.get("/case/2") == 403
        assert await elsewhere.post("/return", {"code": "AAAA-BBBB-CCCC-DDDD-EEEE"}) == 404
        assert "no participant with this code" in elsewhere.page


async def test_withdrawing_deletes_and_ends(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder()
    async with served(folder) as person:
        ada, ben = person(), person()
        codes = [await ada.agree(), await ben.agree()]
        await ada.answer(1, comment="only ada says this")
        await ben.answer(1, comment="only ben says this")
        await ada.get("/withdraw")
        assert await ada.post("/withdraw", {}) == 422
        assert await ada.post("/withdraw", {"sure": "yes"}) == 200
        assert ada.at == "/gone"
        left = b"".join(path.read_bytes() for path in folder.iterdir())
        assert b"only ada" not in left
        assert b"only ben" in left
        assert await ada.post("/return", {"code": codes[0]}) == 404
        assert await ben.get("/case/2") == 200
    assert [row.comment for row in read_rows(folder)] == ["only ben says this"]


async def test_strangers_and_other_sites_are_turned_away(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder()
    async with served(folder) as person:
        ada, eve = person(), person()
        await ada.agree()
        await ada.get("/case/1")
        for path in ("/code", "/case", "/case/1", "/done", "/withdraw"):
            assert await eve.get(path) == 403
        await eve.agree()
        await eve.get("/case/1")
        token = re.search(r'name="token" value="(\w+)"', eve.page)
        assert token
        for wrong in ("", "0" * 64, token[1], "é"):
            assert await ada.post("/withdraw", {"sure": "yes"}, wrong) == 403
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert await ada.post("/withdraw", {"sure": "yes"}, headers=headers) == 403
            assert await eve.post("/consent", {"agree": "yes"}, headers=headers) == 403
        assert await ada.get("/case/1") == 200
        cookie = next(one for one in ada.session.cookie_jar if one.key == "peregrm_study")
        assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "strict", "/")
    with Answers(folder) as answers:
        assert len(answers.participants()) == 2


@pytest.mark.parametrize(
    "path", ["/case/0", "/case/4", "/case/x", "/case/-1", "/own", "/key.json", "/docs", "/openapi.json", "/../key.json"]
)
async def test_there_is_nothing_else(make_folder: Callable[..., Path], served: Any, path: str) -> None:
    async with served(make_folder()) as person:
        ada = person()
        await ada.agree()
        assert await ada.get(path) == 404
        assert "zebrawarm" not in ada.page


async def test_sizes_and_headers_hold_on_every_answer(make_folder: Callable[..., Path], served: Any) -> None:
    async with served(make_folder()) as person:
        ada = person()
        await ada.agree()
        await ada.get("/case/1")
        assert await ada.post("/case/1", {"comment": "x" * 70_000}) == 413
        for path in ("/case/1", "/nothing", "/study.css", "/health"):
            await ada.get(path)
            assert "default-src 'none'" in ada.headers["Content-Security-Policy"]
            assert ada.headers["Cache-Control"] == "no-store"
            assert ada.headers["X-Content-Type-Options"] == "nosniff"
        async with ada.session.post(ada.url + "/consent", data=b"\xff%zz&&&=") as answer:
            assert answer.status in (400, 422)


async def test_a_full_study_lets_nobody_in(make_folder: Callable[..., Path], served: Any) -> None:
    async with served(make_folder(participants=2)) as person:
        for _ in range(2):
            one = person()
            await one.agree()
            for number in (1, 2, 3):
                await one.answer(number)
        late = person()
        await late.get("/")
        assert await late.post("/consent", {"agree": "yes"}) == 409
        assert "complete" in late.page
        assert late.code == ""


async def test_text_of_users_and_models_is_shown_as_text(make_folder: Callable[..., Path], served: Any) -> None:
    async with served(make_folder(title="A & <B>", about="<script>x</script>")) as person:
        ada = person()
        async with ada.session.get(ada.url + "/") as answer:
            raw = await answer.text()
    assert "A &amp; &lt;B&gt;" in raw
    assert "<script>x" not in raw


async def test_a_consent_sent_four_times_at_once_is_one_participant(
    make_folder: Callable[..., Path], served: Any
) -> None:
    folder = make_folder()
    async with served(folder) as person:
        ada = person()
        await ada.get("/")
        assert await asyncio.gather(*(ada.post("/consent", {"agree": "yes"}) for _ in range(4))) == [200] * 4
        await ada.get("/case/1")
        assert "Case 1 of 3" in ada.page
        assert await ada.post("/leave", {}) == 200
        async with ada.session.post(ada.url + "/consent", data={"agree": "yes", "new_code": "AAAA"}) as answer:
            assert answer.status == 422
    with Answers(folder) as answers:
        assert len(answers.participants()) == 1


async def test_an_answer_to_a_page_that_was_never_read_is_not_taken(
    make_folder: Callable[..., Path], served: Any
) -> None:
    folder = make_folder()
    rated = {
        f"{side}-{name}": "1" for side in ("first", "second") for name in ("understood", "fits", "satisfied", "go_on")
    }
    async with served(folder) as person:
        bot = person()
        await bot.agree()
        await bot.get("/withdraw")
        assert await bot.post("/case/1", {**rated, "choice": "none"}) == 200
        assert bot.at == "/case/1"
        assert await bot.post("/case/1", {**rated, "choice": "none"}) == 200
        assert bot.at == "/case/2"
    with Answers(folder) as answers:
        assert [one.seconds is not None for one in answers.all_answers()] == [True]
