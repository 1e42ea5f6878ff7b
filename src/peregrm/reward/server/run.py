"""Running the server until it is told to stop.

At the first SIGTERM or SIGINT nothing more is accepted: new requests get 503, also on connections that were kept open, while what was
accepted is finished, for as long as the grace period. Then the reward is closed. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from peregrm.errors import SettingsError
from peregrm.listening import bind, url_of
from peregrm.reward.server.app import service_of
from peregrm.reward.server.service import Service

__all__ = ["KEY_VARIABLE", "run", "serve", "server_key"]

KEY_VARIABLE = "PEREGRM_SERVER_KEY"
"""The environment variable with the key that requests must carry."""

_log = logging.getLogger("peregrm.reward.server")

_KEEP_ALIVE_S = 75
_LAST_BYTES_S = 5
_LOOK_S = 0.05


def server_key() -> str | None:
    """Return the key from the environment, None where the variable is not set. Raises `SettingsError` where it is empty."""
    key = os.environ.get(KEY_VARIABLE)
    if key is not None and not key.strip():
        raise SettingsError(f"{KEY_VARIABLE} is set but empty; unset it to serve without a key")
    return None if key is None else key.strip()


def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 8300, ready: Callable[[str], None] | None = None) -> None:
    """Serve an application of `create_app` until a signal stops it; `ready` is told the URL. Port 0 takes a free one.

    Raises `SettingsError` where the address cannot be had.
    """
    asyncio.run(run(app, bind(host, port), ready))


async def run(app: FastAPI, listener: socket.socket, ready: Callable[[str], None] | None = None) -> None:
    """Serve on a listening socket until a signal, or `Service.stop`, ends it."""
    service = service_of(app)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_BYTES_S,
    )
    server = _Server(config, service)
    host, port = listener.getsockname()[:2]
    if ready is not None:
        ready(url_of(host, port))
    drain = asyncio.create_task(_drain(server, service))
    try:
        await server.serve(sockets=[listener])
    finally:
        drain.cancel()
        listener.close()


class _Server(uvicorn.Server):
    """Uvicorn, but that the first signal only closes the door."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.gate.stopping:
            self._service.abandon()
            super().handle_exit(sig, frame)
        self._service.stop()


async def _drain(server: uvicorn.Server, service: Service) -> None:
    """Wait for the word to stop, then for what was accepted, then end the server."""
    while not service.gate.stopping:
        await asyncio.sleep(_LOOK_S)
    _log.info("stopping: %d groups running, %d waiting", service.gate.running, service.gate.waiting)
    end = time.monotonic() + service.limits.grace_s
    while service.busy and time.monotonic() < end:
        await asyncio.sleep(_LOOK_S)
    service.abandon()
    server.should_exit = True
