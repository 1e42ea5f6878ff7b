"""An OpenAI-compatible server for fault injection: it behaves as told, call by call, and records what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from own_server import OwnServer

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def completion_body(content: str | None = "hello", **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "served-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}},
    }


def reply(content: str | None = "hello", **choice: Any) -> Behaviour:
    return raw(json.dumps(completion_body(content, **choice)))


def raw(body: str, *, status: int = 200, content_type: str = "application/json", **headers: str) -> Behaviour:
    async def behave(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=body, status=status, content_type=content_type, headers=named)

    return behave


def error(status: int, message: str = "something", **headers: str) -> Behaviour:
    return raw(json.dumps({"error": {"message": message, "code": None}}), status=status, **headers)


def hang() -> Behaviour:
    async def behave(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    return behave


def drop() -> Behaviour:
    async def behave(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return behave


def cut() -> Behaviour:
    async def behave(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.close()
        return response

    return behave


def refuse_field(field: str, message: str, status: int = 400) -> Behaviour:
    """Answer with an error where the request holds `field`, else as usual."""

    async def behave(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (error(status, message) if field in body else reply())(request, body)

    return behave


class Sampling:
    """A behaviour: as many choices as `n` asks for, at most `gives`, or an error where `refuses` says why it takes no `n`.

    Choice i says `seed S`, S being the request's seed plus i, as servers number their samples. The attributes count what
    was served: the tokens of all answers, and the texts in order.
    """

    def __init__(self, *, gives: int = 99, refuses: str | None = None, status: int = 400, wait_s: float = 0.0) -> None:
        self.gives = gives
        self.refuses = refuses
        self.status = status
        self.wait_s = wait_s
        self.texts: list[str] = []
        self.input_tokens = 0
        self.output_tokens = 0

    async def __call__(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(self.wait_s)
        n = body.get("n", 1)
        if n > 1 and self.refuses is not None:
            return await error(self.status, self.refuses)(request, body)
        texts = [f"seed {body.get('seed', 0) + number}" for number in range(min(n, self.gives))]
        self.texts += texts
        self.input_tokens += 100
        self.output_tokens += 3 * len(texts)
        return await raw(json.dumps(choices_body(*texts)))(request, body)


def choices_body(*contents: str | dict[str, Any] | None, tokens: int = 3) -> dict[str, Any]:
    """Return an answer with one choice for each content, or for each choice written out in full."""
    choices = [
        {"index": number, **(content if isinstance(content, dict) else {"message": {"content": content}})}
        for number, content in enumerate(contents)
    ]
    for choice in choices:
        choice.setdefault("finish_reason", "stop")
    usage = {"prompt_tokens": 100, "completion_tokens": tokens * len(choices)}
    return {"model": "served-model", "choices": choices, "usage": usage}


class FakeServer(OwnServer):
    """Plays `behaviours` in order, then `default` for ever; `bodies` and `headers` hold what came in."""

    def __init__(self, *behaviours: Behaviour, default: Behaviour | None = None) -> None:
        self.behaviours = list(behaviours)
        self.default = default or reply()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        super().__init__()

    @property
    def calls(self) -> int:
        return len(self.bodies)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        behaviour = self.behaviours.pop(0) if self.behaviours else self.default
        return await behaviour(request, body)
