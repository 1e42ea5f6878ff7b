"""A stand-in for a Letta server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class FakeLetta:
    """A server with the five paths of Letta's API that the store uses, in the shapes of its client's types."""

    def __init__(self) -> None:
        self.agents: dict[str, dict[str, Any]] = {}
        self.passages: dict[str, list[dict[str, Any]]] = {}
        self.answer: web.Response | None = None
        self.calls: list[tuple[str, str]] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        if self.answer is not None:
            return self.answer
        parts = request.path.strip("/").split("/")[2:]
        if not parts:
            return await self.serve_agents(request)
        agent = parts[0]
        if request.method == "DELETE" and len(parts) == 1:
            del self.agents[agent], self.passages[agent]
            return web.json_response({"message": "deleted"})
        rows = self.passages[agent]
        if request.method == "POST":
            body = await request.json()
            number = sum(len(each) for each in self.passages.values())
            rows.append({"id": f"passage-{number}-{len(self.calls)}", "embedding": None, **body})
            return web.json_response(rows[-1:])
        if request.method == "DELETE":
            self.passages[agent] = [row for row in rows if row["id"] != parts[2]]
            return web.Response(status=204)
        if parts[-1] == "search":
            wanted = set(request.query["query"].split())
            near = sorted(rows, key=lambda row: -len(wanted & set(row["text"].split())))
            results = [{"id": r["id"], "content": r["text"], "timestamp": "", "tags": r["tags"]} for r in near]
            results = results[: int(request.query["top_k"])]
            return web.json_response({"count": len(results), "results": results})
        ids = [row["id"] for row in rows]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        return web.json_response(rows[start : start + int(request.query["limit"])])

    async def serve_agents(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response([a for a in self.agents.values() if a["name"] == request.query["name"]])
        body = await request.json()
        agent = f"agent-{len(self.agents)}"
        self.agents[agent] = {"id": agent, **body}
        self.passages[agent] = []
        return web.json_response(self.agents[agent])


@asynccontextmanager
async def serving_letta() -> AsyncIterator[tuple[FakeLetta, str]]:
    """A running stand-in and its URL."""
    fake = FakeLetta()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield fake, f"http://{host}:{port}/"
    finally:
        await runner.cleanup()
