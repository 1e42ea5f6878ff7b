"""What the tests of a verl launch share: prompts of a few users, and a judge behind a port."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from peregrm.models.base import Request
from peregrm.records import Case, Message
from peregrm.training.rows import prompt_rows
from peregrm.training.verl_launch import LaunchRows
from reward_parts import in_form

__all__ = ["WordTokenizer", "cases_of", "judge_at", "rows_of"]


class WordTokenizer:
    """As much of a tokenizer of transformers as the prompts need: a token a word."""

    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012
    all_special_tokens: Sequence[str] = ("<|end|>",)

    def apply_chat_template(self, chat: list[dict[str, str]], **_: Any) -> str:
        return " ".join(f"<|{message['role']}|> {message['content']} <|end|>" for message in chat) + " <|assistant|>"

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))}


def cases_of(case: Case, users: int, each: int = 2) -> list[Case]:
    """Return some cases of some users, like `case` but for the user and the number in the query."""
    return [
        case.model_copy(update={"user_id": f"user{user}", "query": f"{case.query} ({user}.{number}) 小明"})
        for user in range(users)
        for number in range(each)
    ]


def rows_of(case: Case, tokenizer: Any = None, *, train: int = 8, room: int = 3000) -> LaunchRows:
    """Return the prompts of `train` cases and of two other users, the last of whom has a flagged case."""
    tokenizer = tokenizer or WordTokenizer()
    others = [one.model_copy(update={"user_id": f"other-{one.user_id}"}) for one in cases_of(case, 2, 1)]
    others[-1] = others[-1].model_copy(update={"flags": ("self_harm",)})
    parts = [
        prompt_rows(part, tokenizer, setting="personalized", room=room)
        for part in (cases_of(case, -(-train // 2))[:train], others)
    ]
    return LaunchRows(parts[0], parts[1], room)


@asynccontextmanager
async def judge_at(asked: list[str] | None = None) -> AsyncIterator[str]:
    """Serve a judge that gives 4 for everything, and never answers about a reply that says `lost`; the value is its base URL.

    `asked` gets the model's name of every call.
    """

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        if asked is not None:
            asked.append(body["model"])
        if re.search(r"\blost\b", body["messages"][-1]["content"]):
            await asyncio.sleep(30)
        schema = body["response_format"]["json_schema"]["schema"]
        question = Request(messages=(Message(role="user", content=""),), max_tokens=9, json_schema=schema, purpose="t")
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": in_form(question)},
        }
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        made = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        return web.Response(text=json.dumps(made), content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()
