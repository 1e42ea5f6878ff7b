"""How much an endpoint may answer, and the room that a model gets to think in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

import fake_server as fake
from peregrm.errors import ModelError, ModelProtocolError, SettingsError
from peregrm.models.base import Message, Request
from peregrm.models.endpoint import EndpointModel
from peregrm.models.ledger import Ledger
from peregrm.models.limits import Limits
from peregrm.models.registry import open_model
from peregrm.settings import ModelSettings, Settings

pytestmark = pytest.mark.usefixtures("short_waits")

REQUEST = Request(messages=(Message(role="user", content="hi"),), max_tokens=9)


@asynccontextmanager
async def model_at(url: str, answer_bytes: int = 2000, **options: Any) -> AsyncIterator[EndpointModel]:
    model = EndpointModel("judge", "m-1", [url], None, Limits(8, answer_bytes=answer_bytes), **options)
    try:
        yield model
    finally:
        await model.aclose()


def without_end(sent: list[int], status: int = 200) -> Any:
    """Send white space until the client hangs up; `sent` gets a number for each block."""

    async def behave(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while len(sent) < 1000:
            await response.write(b" " * 2**16)
            sent.append(2**16)
        return response

    return behave


@pytest.mark.parametrize("status", [200, 404])
async def test_an_answer_without_end_is_given_up_at_the_limit(status: int) -> None:
    sent: list[int] = []
    async with fake.FakeServer(without_end(sent, status)) as server, model_at(server.url, 2**18) as model:
        with pytest.raises(ModelProtocolError, match=r"larger than 0\.25 MiB \(answer_mib") as error:
            await model.complete(REQUEST)
        assert (error.value.kind, error.value.fatal, server.calls) == ("too_large", False, 1)
        assert sum(sent) < 2**25, "the server goes on only until its own buffers are full"
        assert (await model.complete(REQUEST)).text == "hello"


async def test_the_limit_is_of_bytes_and_counts_every_one() -> None:
    size = len(json.dumps(fake.completion_body()).encode())
    for most, passes in ((size, True), (size - 1, False)):
        async with fake.FakeServer() as server, model_at(server.url, most) as model:
            if passes:
                assert (await model.complete(REQUEST)).text == "hello"
            else:
                with pytest.raises(ModelError, match="larger than"):
                    await model.complete(REQUEST)


def test_a_limit_below_one_makes_no_sense() -> None:
    with pytest.raises(SettingsError, match="answer_bytes"):
        Limits(1, answer_bytes=0)


async def test_thinking_gets_its_room_on_the_wire() -> None:
    """What the settings say of a model that thinks reaches the server, in single calls and in those for several samples."""
    async with fake.FakeServer(fake.reply(), fake.Sampling()) as server:
        off = {"chat_template_kwargs": {"enable_thinking": False}}
        entry = ModelSettings(model="m", base_url=(server.url,), thinking_tokens=500, extra_body=off)
        model = open_model("big", Settings(models={"big": entry}), cache=None, ledger=Ledger())
        await model.complete(REQUEST)
        await model.complete_many(REQUEST.model_copy(update={"temperature": 0.7}), 2)  # type: ignore[attr-defined]
        await model.aclose()
    assert [body["max_tokens"] for body in server.bodies] == [509, 509]
    assert [body["chat_template_kwargs"] for body in server.bodies] == [{"enable_thinking": False}] * 2


async def test_thinking_that_used_everything_up_is_said_with_what_helps() -> None:
    async with fake.FakeServer(fake.reply(None, finish_reason="length")) as server, model_at(server.url) as model:
        with pytest.raises(ModelProtocolError, match="thinking_tokens in the settings"):
            await model.complete(REQUEST)
