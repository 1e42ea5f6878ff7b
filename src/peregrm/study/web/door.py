"""What every request of the study's page passes: its size and speed, where a form came from, and the headers of every answer.

A form that another site sends is refused by the browser's own word on it (Sec-Fetch-Site, Origin); cookies of other sites' requests are not
sent at all, and forms carry a token besides. Nothing of a request is logged but its method and status, and of an unexpected error its type
and place.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import PurePath
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peregrm.listening import replayed

__all__ = ["FORM_BYTES", "UPLOAD_BYTES", "Door"]

_log = logging.getLogger("peregrm.study")

FORM_BYTES = 64 * 2**10
UPLOAD_BYTES = 8 * 2**20
"""The largest bodies: of a form, and of one that brings a history."""

_BODY_S = 60.0

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    """A request is not served: the status and a sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Door:
    """The ASGI middleware around all pages. `uploads` are the paths whose bodies may be large."""

    def __init__(self, app: ASGIApp, *, uploads: frozenset[str]) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            await self._serve(scope, receive, dressed)
        except _Refused as refused:
            await PlainTextResponse(refused.reason, refused.status, {"Connection": "close"})(scope, receive, dressed)
        except Exception as error:  # noqa: BLE001 - the last catch: it is logged, and the participant is told
            _log.error("unexpected %s", _place(error))
            if not status:
                said = "Something went wrong here, and this page was not kept. Please go back and try again."
                await PlainTextResponse(said, 500)(scope, receive, dressed)
        finally:
            _log.info("%s %d", scope["method"], status)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _is_own(headers):
            raise _Refused(403, "This form was sent from another site.")
        body = await _read(receive, UPLOAD_BYTES if scope["path"] in self._uploads else FORM_BYTES)
        await self._app(scope, replayed(body, receive), send)


def _is_own(headers: Headers) -> bool:
    """Tell whether a form came from a page of this server, as far as the client says; every browser does."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


async def _read(receive: Receive, most: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Refused(499, "gone")
                body += message.get("body", b"")
                if len(body) > most:
                    raise _Refused(413, f"That is more than this page takes ({most // 2**10} KiB).")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise _Refused(408, "The page did not arrive in time.") from None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
