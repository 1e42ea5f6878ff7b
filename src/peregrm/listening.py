"""What the servers here share: the socket they listen on, its address, and a body that was read and is handed on."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from peregrm.errors import SettingsError

__all__ = ["bind", "replayed", "url_of"]

_BACKLOG = 2048

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""How an ASGI application is given its request."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `SettingsError`, naming the address."""
    if not 0 <= port <= 65535:
        raise SettingsError(f"cannot listen on {host}:{port}: a port is 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    # Connections inherit it. An answer goes out as head and body: without it the body waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(host: str, port: int) -> str:
    """Return the address as a browser takes it, without a path."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read already, and then what comes after it."""
    is_read = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
