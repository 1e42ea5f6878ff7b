"""What every request passes before it reaches a route: the key, its body's size and type, a last catch for errors, and the count.

The body is read here, to its end or to the limit, whether or not its length was announced. Nothing of a body, a header or an unknown
path is logged, and of an unexpected error only its type and place, because its text may quote a reply.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import os
import time
import traceback

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peregrm.listening import replayed
from peregrm.reward.server.limits import Refused
from peregrm.reward.server.service import Gone, Service

__all__ = ["OPEN_ROUTES", "Door", "refusal_response"]

_log = logging.getLogger("peregrm.reward.server")

OPEN_ROUTES = frozenset({"/health"})
"""What may be asked without the key."""

_CHALLENGE = 'Bearer realm="peregrm", Basic realm="peregrm"'
_CLIENT_GONE = 499


def refusal_response(refused: Refused) -> JSONResponse:
    """Return a refusal as an answer."""
    headers = refused.headers()
    if refused.status == 401:
        headers["WWW-Authenticate"] = _CHALLENGE
    if refused.kind in {"stopping", "too_large", "slow_body"}:
        headers["Connection"] = "close"
    return JSONResponse(refused.body(), refused.status, headers)


class Door:
    """The ASGI middleware around all routes.

    Args:
        app: The routes.
        service: For limits, metrics and whether the server is stopping.
        key: What requests must carry, as `Bearer KEY` or as the password of Basic, or None.
        routes: The paths that are counted by name; all others are counted as `other`.
    """

    def __init__(self, app: ASGIApp, *, service: Service, key: str | None, routes: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._key = key
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        route = scope["path"] if scope["path"] in self._routes else "other"
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._serve(scope, receive, watched)
        except Refused as refused:
            await refusal_response(refused)(scope, receive, watched)
        except Gone:
            status = _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last catch: it is logged, and the client is told
            _log.error("%s: unexpected %s", route, _place(error))
            if not status:
                internal = Refused(500, "internal", "an unexpected error; the server's log says where")
                await refusal_response(internal)(scope, receive, watched)
        finally:
            seconds = time.monotonic() - started
            self._service.metrics.request(route, status, seconds)
            _log.info("%s %d %.3f s", route, status, seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"] not in OPEN_ROUTES and not self._admits(headers.get("authorization", "")):
            raise Refused(401, "key", "this server wants its key: Authorization: Bearer KEY")
        if scope["method"] not in {"POST", "PUT", "PATCH"}:
            await self._app(scope, receive, send)
            return
        if self._service.gate.stopping:
            raise self._service.gate.closing()
        body = await self._read(headers, receive)
        if body and scope["path"] in self._routes and not _is_json(headers.get("content-type", "")):
            raise Refused(415, "content_type", "a body is JSON and says so: send Content-Type: application/json")
        await self._app(scope, replayed(body, receive), send)

    def _admits(self, authorization: str) -> bool:
        if self._key is None:
            return True
        scheme, _, rest = authorization.encode("latin-1").strip().partition(b" ")
        given = rest.strip()
        if scheme.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(given, self._key.encode())

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        """Return the whole body, at most as large as the limit, within the deadline of a request."""
        most = self._service.limits.body_bytes
        too_large = Refused(413, "too_large", f"the body is larger than {most} bytes")
        if int(headers.get("content-length", "0")) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._service.limits.deadline_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused(408, "slow_body", "the body did not arrive in time") from None


def _is_json(content_type: str) -> bool:
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _place(error: Exception) -> str:
    """Return the type of an error and the last line of this package on its way."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}peregrm{os.sep}" in frame.filename]
    frame = (own or frames)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno} in {frame.name}"
