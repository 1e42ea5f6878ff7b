"""A limit on the body of an answer, kept while it arrives: a server that never stops sending must not fill the memory.

Bytes are counted as they come over the wire. Left out on purpose: counting what a compressed body unpacks to, which guards against
malice and not against a broken server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["bounding"]


def bounding(most: int, error: Callable[[], Exception]) -> Callable[[Any], Awaitable[None]]:
    """Return a response hook for the HTTP client of the `openai` package: a body of more than `most` bytes raises `error()`.

    It raises where the body is read, of good answers as of error pages.
    """

    async def bound(response: Any) -> None:
        package = type(response).__module__.partition(".")[0]
        response.stream = _stream_type(package)(response.stream, most, error)

    return bound


@lru_cache(maxsize=4)
def _stream_type(package: str) -> Any:
    """Return the stream's class, derived from that of the HTTP package `openai` was built on, which differs by version."""
    return type("BoundedStream", (_Counting, import_module(package).AsyncByteStream), {})


class _Counting:
    def __init__(self, stream: Any, most: int, error: Callable[[], Exception]) -> None:
        self._stream = stream
        self._most = most
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._most:
                raise self._error()
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
