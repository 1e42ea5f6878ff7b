"""Running the study's page until it is told to stop: what was sent is kept and answered first, then the file is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from peregrm.listening import bind, url_of

__all__ = ["Server", "serve"]

_LAST_S = 20


def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 8400, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the address. Port 0 takes a free one. Raises `SettingsError` where it is taken."""
    listener = bind(host, port)
    if ready is not None:
        ready(f"{url_of(host, listener.getsockname()[1])}/")
    try:
        asyncio.run(Server(app).serve(sockets=[listener]))
    finally:
        listener.close()


class Server(uvicorn.Server):
    """Uvicorn, but that a signal ends it in order and with exit code 0; a second one ends it at once."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=_LAST_S,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order at the first signal, at once at the second."""
        if self.should_exit:
            super().handle_exit(sig, frame)
        self.should_exit = True
