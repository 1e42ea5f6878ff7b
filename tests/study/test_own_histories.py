"""A participant's own history: read, masked, answered twice, rated blind, and gone when they withdraw."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case
from peregrm.settings import Settings
from peregrm.study import own
from peregrm.study.answers import Answers
from peregrm.study.own import NotUsable, history_of_file, history_of_text, own_case, own_replies, whereabouts
from peregrm.study.rows import read_rows
from peregrm.study.web import own_routes
from peregrm.study.web.own_routes import _case_of

MINE = """Me: My sister Lena moved to Porto and I miss her a lot.
Assistant: That sounds hard.
Me: I work as a nurse on nights. My number is +44 20 7946 0958.
I hate being told to calm down."""
MESSAGE = "she forgot my birthday again"


def answering(request: Request) -> str:
    return "a reply that knows" if "Lena" in str(request.messages) else "a reply that does not"


def test_pasted_lines_become_turns_and_facts() -> None:
    history = history_of_text(MINE)
    (session,) = history.sessions
    assert [turn.role for turn in session.turns] == ["user", "assistant", "user"]
    case = own_case(history, f"{MESSAGE}, mail me@example.org")
    assert any("Lena" in memory.value for memory in case.memories)
    assert "7946" not in case.model_dump_json()
    assert case.query == f"{MESSAGE}, mail [e-mail]"


def test_files_are_read_in_the_formats_of_the_readers() -> None:
    messages = [{"role": "user", "content": "My brother Tom is a baker."}, {"role": "assistant", "content": "Nice."}]
    history = history_of_file(json.dumps({"messages": messages}).encode(), "chat.jsonl")
    assert history.sessions[0].turns[0].text == "My brother Tom is a baker."
    assert history_of_text(json.dumps({"messages": messages})).sessions == history.sessions
    assert history_of_file(MINE.encode(), "notes.TXT").sessions == history_of_text(MINE).sessions


def test_of_a_long_history_the_newest_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "READ_CHARACTERS", 80)
    case = own_case(history_of_text("Me: My brother Tom is a baker.\n" * 3 + MINE), MESSAGE)
    assert "Tom" not in case.model_dump_json()
    assert "calm down" in case.model_dump_json()


def zipped(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", data)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("give", "why"),
    [
        (lambda: history_of_file(gzip.compress(b" " * 70 * 2**20), "a.json.gz"), "too large"),
        (lambda: history_of_file(zipped(b" " * 70 * 2**20), "a.zip"), "too large"),
        (lambda: history_of_file(b"PAR1....", "a.parquet"), "a table"),
        (lambda: history_of_file(b"\x1f\x8b damaged", "a.gz"), "could not be read"),
        (lambda: history_of_file(b"[" * 100_000, "a.json"), "could not be read"),
        (lambda: history_of_file(b"\x00\x01", "chat.json"), "could not be read"),
        (lambda: history_of_file(b"{}", "../../etc/passwd"), "could not be read"),
        (lambda: history_of_text("Assistant: hello"), "Nothing in the text is yours"),
        (lambda: own_case(history_of_text("ok"), "hm"), "Nothing lasting"),
        (lambda: own_case(history_of_text(MINE), "I want to kill myself tonight"), "emergency number"),
    ],
)
def test_what_cannot_be_used_is_said_to_the_participant(give: Callable[[], object], why: str) -> None:
    with pytest.raises(NotUsable, match=why) as error:
        give()
    assert "/tmp" not in str(error.value)


@settings(max_examples=30)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_anything_may_be_pasted_or_sent(given_: str | bytes) -> None:
    try:
        if isinstance(given_, str):
            own_case(history_of_text(given_), "hello")
        else:
            history_of_file(given_, "x.json")
    except NotUsable:
        pass  # said to the participant; anything else is a crash


async def test_both_replies_are_made_and_a_failure_is_said() -> None:
    case = own_case(history_of_text(MINE), MESSAGE)
    made = await own_replies(ScriptedModel(answering), case, max_tokens=50, temperature=0)
    assert {setting: text for _, setting, text in made} == {
        "generic": "a reply that does not",
        "personalized": "a reply that knows",
    }
    with pytest.raises(NotUsable):
        await own_replies(ScriptedModel(["", ""]), case, max_tokens=50, temperature=0)


def test_participants_are_told_where_the_model_is() -> None:
    assert "same computer" in whereabouts("embedded", Settings())
    assert "models.example.org" in whereabouts("m@https://models.example.org/v1", Settings())


async def until_ready(person: Any, text: str) -> None:
    for _ in range(200):
        await person.get("/own")
        if text in person.page:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(person.page)


async def give(person: Any, **fields: Any) -> int:
    """Send the form as a browser does, in parts."""
    await person.get("/own")
    form = aiohttp.FormData(
        {"message": MESSAGE, "agree": "yes", "token": person.page.split('name="token" value="')[1][:64]}
    )
    for name, value in fields.items():
        form.add_field(name, value, **({"filename": "chat.txt"} if isinstance(value, bytes) else {}))
    async with person.session.post(person.url + "/own", data=form) as answer:
        return int(await person._read(answer))


async def test_from_paste_to_export_to_nothing(make_folder: Callable[..., Path], served: Any) -> None:
    folder = make_folder()
    async with served(folder, ScriptedModel(answering)) as person:
        ada, ben = person(), person()
        await ada.agree()
        await ben.agree()
        await ada.get("/own")
        assert "The model runs here." in ada.page
        assert await give(ada, text="") == 422
        assert await give(ada, text=MINE) == 200
        await until_ready(ada, "Two replies to your message are ready")
        await ada.get("/own/1")
        assert MESSAGE in ada.page
        assert "a reply that knows" in ada.page
        assert not [word for word in ("personalized", "generic", "Lena") if word in ada.page]
        assert await ben.get("/own/1") == 404
        rated = {
            f"{side}-{name}": "6"
            for side in ("first", "second")
            for name in ("understood", "fits", "satisfied", "go_on")
        }
        assert await ada.post("/own/1", {"choice": "first"}) == 422
        assert await ada.post("/own/1", {**rated, "choice": "first"}) == 200
        assert "conversation 1 is answered" in ada.page
        assert await give(ben, file=MINE.encode()) == 200
        await until_ready(ben, "ready")
        (row,) = read_rows(folder)
        assert (row.arm, row.policy_a, row.policy_b) == ("own", "personalized", "generic")
        assert (row.chosen == "a") == row.a_first
        assert "Lena" not in row.model_dump_json()
        assert b"Lena" in b"".join(path.read_bytes() for path in folder.iterdir())
        for one in (ada, ben):
            await one.get("/withdraw")
            assert await one.post("/withdraw", {"sure": "yes"}) == 200
        left = b"".join(path.read_bytes() for path in folder.iterdir())
        for trace in (b"Lena", MESSAGE.encode(), b"a reply that"):
            assert trace not in left


async def test_what_was_waiting_when_the_server_died_is_made_at_the_next_start(
    make_folder: Callable[..., Path], served: Any
) -> None:
    folder = make_folder()
    async with served(folder) as person:
        code = await person().agree()
    with Answers(folder) as answers:
        pid = answers.find(code).pid  # type: ignore[union-attr]
        answers.add_own(pid, own_case(history_of_text(MINE), MESSAGE).model_dump_json())
    async with served(folder, ScriptedModel(answering)) as person:
        ada = person()
        await ada.post("/return", {"code": code})
        await until_ready(ada, "ready")


async def test_a_model_that_fails_is_said_and_may_be_tried_again(make_folder: Callable[..., Path], served: Any) -> None:
    async with served(make_folder(), ScriptedModel(["", "", "one", "two"])) as person:
        ada = person()
        await ada.agree()
        await give(ada, text=MINE)
        await until_ready(ada, "The model did not answer")
        assert 'name="message"' in ada.page


async def test_who_withdraws_while_a_history_is_read_leaves_nothing_behind(
    make_folder: Callable[..., Path], served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder()
    reading, go_on = threading.Event(), threading.Event()

    def slowly(sent: Any) -> Case:
        reading.set()
        assert go_on.wait(20)
        return _case_of(sent)

    monkeypatch.setattr(own_routes, "_case_of", slowly)
    model = ScriptedModel(answering)
    async with served(folder, model) as person:
        ada = person()
        await ada.agree()
        giving = asyncio.create_task(give(ada, text=MINE))
        await asyncio.to_thread(reading.wait, 20)
        other = person()
        await other.post("/return", {"code": ada.code})
        await other.get("/withdraw")
        assert await other.post("/withdraw", {"sure": "yes"}) == 200
        go_on.set()
        assert await giving == 403
    assert model.requests == []
    with Answers(folder) as answers:
        assert answers.own_rounds() == []
