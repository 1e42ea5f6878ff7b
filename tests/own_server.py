"""An HTTP server of a test's own, open on 127.0.0.1 for as long as its block lasts."""

from __future__ import annotations

from typing import Self

from aiohttp import web

__all__ = ["OwnServer"]


class OwnServer:
    """Answers chat completions under `url`, which is known from when the block is entered, as `_handle` says."""

    url = ""

    def __init__(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
