"""What a request asks for beside text: structured output and log-probabilities, left out where a server refuses them."""

from __future__ import annotations

import json

import pytest

import fake_server as fake
from endpoint_parts import asking, model_at
from peregrm.errors import (
    ModelRequestError,
)
from peregrm.models.base import TokenLogprob

pytestmark = pytest.mark.usefixtures("short_waits")

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}


async def test_schema_is_sent() -> None:
    async with fake.FakeServer() as server, model_at(server.url) as model:
        await model.complete(asking(json_schema=SCHEMA, schema_name="verdict"))
    wanted = {"name": "verdict", "schema": SCHEMA, "strict": True}
    assert server.bodies[0]["response_format"] == {"type": "json_schema", "json_schema": wanted}


@pytest.mark.parametrize("status", [400, 422])
async def test_refused_schema_goes_in_words_and_is_remembered(status: int) -> None:
    picky = fake.refuse_field("response_format", "Unknown field: response_format", status)
    async with fake.FakeServer(default=picky) as server, model_at(server.url) as model:
        for _ in range(2):
            await model.complete(asking(json_schema=SCHEMA))
    assert ["response_format" in body for body in server.bodies] == [True, False, False]
    last = server.bodies[-1]["messages"]
    assert last[0]["content"] == "s"
    assert last[1]["content"].startswith("hi\n\n")
    assert last[1]["content"].endswith(json.dumps(SCHEMA))


async def test_refusal_that_was_about_something_else_is_not_remembered() -> None:
    message = "context too long; request was {response_format: ...}"
    rules = fake.FakeServer(fake.error(400, message), fake.error(400, "too long"))
    async with rules as server, model_at(server.url) as model:
        with pytest.raises(ModelRequestError, match="too long"):
            await model.complete(asking(json_schema=SCHEMA))
        await model.complete(asking(json_schema=SCHEMA))
    assert ["response_format" in body for body in server.bodies] == [True, False, True]


async def test_refused_log_probabilities_are_left_out() -> None:
    picky = fake.refuse_field("logprobs", "logprobs is not supported by this model")
    async with fake.FakeServer(default=picky) as server, model_at(server.url) as model:
        completion = await model.complete(asking(top_logprobs=4))
    assert completion.logprobs is None
    assert [body.get("top_logprobs") for body in server.bodies] == [4, None]


async def test_newer_name_of_max_tokens_is_used_where_the_server_wants_it() -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    rules = fake.FakeServer(default=fake.refuse_field("max_tokens", message))
    async with rules as server, model_at(server.url) as model:
        await model.complete(asking())
    assert server.bodies[1]["max_completion_tokens"] == 9


async def test_log_probabilities_are_asked_for_and_read() -> None:
    entry = {"token": "4", "logprob": -0.5, "top_logprobs": [{"token": "5", "logprob": -1.0}]}
    answer = fake.reply("4", logprobs={"content": [entry]})
    async with fake.FakeServer(answer) as server, model_at(server.url) as model:
        completion = await model.complete(asking(top_logprobs=2))
    assert (server.bodies[0]["logprobs"], server.bodies[0]["top_logprobs"]) == (True, 2)
    assert completion.logprobs == (TokenLogprob(token="4", logprob=-0.5, top=(("5", -1.0),)),)
