"""Models behind HTTP: any OpenAI-compatible server, with retries, a deadline, and errors in plain words.

One model may have several base URLs that serve the same weights; they take turns, and one that fails is set aside for
a while. What a server refuses (structured output, log-probabilities, several samples in one call) is left out from
then on. Left out on purpose: streaming, batch APIs and circuit breakers; the retry loop of the `openai` package is off,
because it knows one URL and no deadline.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from peregrm.errors import (
    ModelAuthError,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRequestError,
    ModelTimeout,
    ModelUnavailable,
    SettingsError,
)
from peregrm.models.base import Completion, Request
from peregrm.models.bounded import bounding
from peregrm.models.limits import Limits, estimated_tokens
from peregrm.models.rotation import Rotation, shown_url
from peregrm.models.wire import (
    Feature,
    one_line,
    read_completions,
    refused_feature,
    request_body,
    retry_after_s,
    server_message,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OUTAGE", "EndpointModel"]

_ASIDE_S = 30.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_CONNECT_S = 10.0
_PASSING_STATUSES = frozenset({408, 409, 425})
_NO_KEY = "none"
_SHORTEST_SECRET = 6

_CONNECTION_WORDS = {
    "refused": "connection refused; is the server running?",
    "unknown_host": "unknown host",
    "tls": "no secure connection; is it http://, or a private certificate?",
    "reset": "the connection broke before the answer was complete",
    "connect_timeout": "no connection in time",
}
"""What can happen to a connection, by the kind of its failure."""

_SERVER_ERROR = "server_error"

_ABSENT = (ModelUnavailable, ModelRateLimited, ModelTimeout, ModelProtocolError)

OUTAGE = frozenset({*_CONNECTION_WORDS, _SERVER_ERROR, *(error.kind for error in _ABSENT)})
"""Kinds of failure that pass when the server is back: nobody answers there, or something in between does."""


class EndpointModel:
    """A model behind one or several OpenAI-compatible base URLs.

    Nothing is imported, opened or contacted before the first call.

    Args:
        name: The name of this model in cache keys, judgements and reports.
        model: The name the server knows it by.
        base_urls: At least one URL, as `http://127.0.0.1:8000/v1`.
        api_key: None for servers that need none.
        limits: How fast the URLs together may be asked, and how large an answer may be. A call holds its place while it
            waits to try again.
        retries: How often a call is tried again after 429, 5xx or a broken connection; another URL that is ready is
            tried at once and does not count.
        deadline_s: Seconds after which a call is given up, with all its tries and the waits between them. The time
            spent waiting for a place in `limits` does not count: with many calls at once it says nothing about the
            server.
        extra_body: Further fields of the request body; they win over those set here.
        thinking_tokens: Added to `max_tokens` of every request: room for a model that thinks before it answers.

    Raises:
        SettingsError: An argument makes no sense.
    """

    def __init__(
        self,
        name: str,
        model: str,
        base_urls: Sequence[str],
        api_key: str | None,
        limits: Limits,
        *,
        retries: int = 4,
        deadline_s: float = 120.0,
        extra_body: Mapping[str, Any] | None = None,
        thinking_tokens: int = 0,
    ) -> None:
        if not base_urls or isinstance(base_urls, str):
            raise SettingsError(f"model {name}: it needs a list of at least one base URL")
        for url in base_urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise SettingsError(
                    f"model {name}: {shown_url(url)!r} must be http:// or https:// and a host, no password"
                )
        if retries < 0 or deadline_s <= 0:
            raise SettingsError(f"model {name}: retries must be at least 0 and deadline_s above 0")
        self._api_key = (api_key or "").strip() or _NO_KEY
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise SettingsError(f"model {name}: the key holds characters that no key can hold; was it pasted whole?")
        self._name = name
        self._model = model
        self._urls = Rotation(base_urls)
        self._limits = limits
        self._retries = retries
        self._deadline_s = deadline_s
        self._extra_body = dict(extra_body or {})
        self._thinking_tokens = thinking_tokens
        self._refused: dict[str, frozenset[Feature]] = dict.fromkeys(base_urls, frozenset())
        self._clients: dict[str, AsyncOpenAI] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def name(self) -> str:
        """The name given at construction."""
        return self._name

    @property
    def concurrency(self) -> int:
        """Calls in flight at once, over all base URLs."""
        return self._limits.concurrency

    async def complete(self, request: Request) -> Completion:
        """Send one request and wait for its answer.

        `seconds` of the completion is the time from the first try to the answer.

        Raises:
            ModelError: One of its subclasses, as drawn in `peregrm.errors`; the message names the URL and the model.
        """
        (sample,) = await self._call(request, 1)
        if isinstance(sample, ModelError):
            raise sample
        return sample

    async def complete_many(self, request: Request, n: int) -> list[Completion | ModelError]:
        """Draw up to `n` samples in one call; none where no URL gives several, or greedy decoding would repeat one.

        A server that refuses `n`, or gives fewer choices than asked, is never again asked for more than one. The first
        completion carries the usage and the seconds of the call. Servers give sample k the seed of the request plus k, as
        single calls do.

        Raises:
            ModelError: As in `complete`, for the call as a whole. What is wrong with one choice stands in its place.
        """
        is_greedy = not self._extra_body.get("temperature", request.temperature)
        if is_greedy or all("n" in refused for refused in self._refused.values()):
            return []
        return await self._call(request, n)

    async def _call(self, request: Request, n: int) -> list[Completion | ModelError]:
        self._open_clients()
        if self._thinking_tokens:
            request = request.model_copy(update={"max_tokens": request.max_tokens + self._thinking_tokens})
        async with self._limits.slot(estimated_tokens(request) + (n - 1) * request.max_tokens):
            started = time.monotonic()
            troubles: list[ModelError] = []
            try:
                async with asyncio.timeout(self._deadline_s):
                    samples = await self._ask_until_answered(request, n, started + self._deadline_s, troubles)
            except TimeoutError:
                raise self._without_key(self._timed_out(troubles)) from None
            except ModelError as error:
                raise self._without_key(error) from None
        seconds = time.monotonic() - started
        return [
            self._without_key(sample)
            if isinstance(sample, ModelError)
            else sample.model_copy(update={"seconds": seconds if sample.usage.calls else 0.0})
            for sample in samples
        ]

    async def aclose(self) -> None:
        """Close the connections. Safe to call twice; a later call opens new ones."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    def _open_clients(self) -> None:
        """Make a client for each URL; connections belong to one event loop, so another loop gets new ones."""
        loop = asyncio.get_running_loop()
        if self._clients and self._loop is loop:
            return
        import openai

        self._loop = loop
        for url in self._urls:
            client = openai.AsyncOpenAI(
                base_url=url,
                api_key=self._api_key,
                max_retries=0,
                timeout=openai.Timeout(None, connect=min(_CONNECT_S, self._deadline_s)),
                http_client=openai.DefaultAioHttpClient(event_hooks={"response": [self._bounding(url)]}),
            )
            # The package takes these two from the environment and would send them to any server.
            client.organization = client.project = None
            self._clients[url] = client

    async def _ask_until_answered(
        self, request: Request, n: int, deadline: float, troubles: list[ModelError]
    ) -> Sequence[Completion | ModelError]:
        for attempt in range(self._retries + 1):
            tried: list[str] = []
            waits: list[float] = []
            url: str | None = self._first_url(n)
            while url is not None:
                try:
                    samples = await self._ask(url, request, n)
                except _PassingTrouble as trouble:
                    self._urls.set_aside(url, _ASIDE_S if trouble.wait_s is None else trouble.wait_s)
                    waits.append(_backoff_s(request, attempt) if trouble.wait_s is None else trouble.wait_s)
                    troubles.append(trouble.error)
                else:
                    self._urls.restore(url)
                    return samples
                tried.append(url)
                url = self._urls.next_ready(tried)
            if attempt < self._retries:
                await self._pause(min(waits), deadline, troubles[-1])
        raise troubles[-1]

    def _first_url(self, n: int) -> str:
        refusing = [url for url, refused in self._refused.items() if "n" in refused] if n > 1 else []
        return self._urls.next_ready(refusing) or self._urls.next()

    async def _pause(self, wait_s: float, deadline: float, trouble: ModelError) -> None:
        if time.monotonic() + wait_s >= deadline:
            message = f"{trouble}; the next try, in {wait_s:.0f} s, is past the deadline of {self._deadline_s:g} s"
            raise type(trouble)(message, kind=trouble.kind)
        await asyncio.sleep(wait_s)

    def _timed_out(self, troubles: list[ModelError]) -> ModelTimeout:
        before = f"; before that: {troubles[-1]}" if troubles else ""
        where = ", ".join(shown_url(url) for url in self._urls)
        return ModelTimeout(f"{where} ({self._model}): no answer within {self._deadline_s:g} s{before}")

    async def _ask(self, url: str, request: Request, n: int) -> Sequence[Completion | ModelError]:
        """Ask one URL, leaving out what it refuses. A refusal is remembered once the request has passed without."""
        without = self._refused[url]
        while True:
            body = request_body(request, self._model, without, n)
            asked: int = body.get("n", 1)
            try:
                samples = await self._post(url, body)
            except _FeatureRefused as refusal:
                without |= {refusal.feature}
            else:
                self._refused[url] |= without | ({"n"} if len(samples) < asked else set())
                return samples[:asked]

    async def _post(self, url: str, body: dict[str, Any]) -> Sequence[Completion | ModelError]:
        import aiohttp
        import openai

        where = self._where(url)
        try:
            # Not `chat.completions.create`, which takes as long to check the body field by field as all the rest does.
            text = await self._clients[url].post("/chat/completions", cast_to=str, body={**body, **self._extra_body})
        except openai.APIStatusError as error:
            status, headers = error.status_code, error.response.headers
            self._raise_for_status(where, status, error.response.text, headers.get("retry-after"), body)
        except (openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            raise _connection_trouble(where, error) from None
        return read_completions(text, self._model, where)

    def _raise_for_status(
        self, where: str, status: int, text: str, retry_after: str | None, body: Mapping[str, Any]
    ) -> NoReturn:
        said = server_message(text)
        if status in (401, 403):
            raise ModelAuthError(f"{where}: {_key_advice(status, self._api_key)}; the server said: {said}")
        if status == 402 or (status == 429 and "insufficient_quota" in text):
            raise _fatal(ModelRateLimited(f"{where}: {status}: the account has no credit left: {said}", kind="quota"))
        if status == 429:
            limited = ModelRateLimited(f"{where}: 429: too many requests: {said}")
            raise _PassingTrouble(limited, retry_after_s(retry_after))
        if status >= 500 or status in _PASSING_STATUSES:
            failed = ModelUnavailable(f"{where}: {status}: the server failed: {said}", kind=_SERVER_ERROR)
            raise _PassingTrouble(failed, retry_after_s(retry_after))
        feature = refused_feature(text, body) if status in (400, 422) else None
        if feature is not None:
            raise _FeatureRefused(feature)
        if status == 404:
            advice = "no such model or no API at this address (most base URLs end in /v1)"
            raise _fatal(ModelRequestError(f"{where}: 404: {advice}: {said}"))
        raise ModelRequestError(f"{where}: {status}: the server rejected the request: {said}")

    def _bounding(self, url: str) -> Callable[[Any], Awaitable[None]]:
        most = self._limits.answer_bytes
        message = f"{self._where(url)}: the answer is larger than {most / 2**20:g} MiB (answer_mib in the settings)"
        return bounding(most, lambda: ModelProtocolError(message, kind="too_large"))

    def _where(self, url: str) -> str:
        return f"{shown_url(url)} ({self._model})"

    def _without_key(self, error: ModelError) -> ModelError:
        """Blot the key out of an error's message: some servers repeat it. Placeholders such as `EMPTY` are no
        secret.
        """
        if len(self._api_key) >= _SHORTEST_SECRET:
            error.args = (str(error).replace(self._api_key, "[key]"),)
        return error


class _PassingTrouble(Exception):
    """Something that may pass: try another URL, or wait `wait_s` seconds (None: back off) and try again."""

    def __init__(self, error: ModelError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class _FeatureRefused(Exception):
    """The server does not take requests with this feature."""

    def __init__(self, feature: Feature) -> None:
        super().__init__(feature)
        self.feature = feature


def _fatal(error: ModelError) -> ModelError:
    error.fatal = True
    return error


def _key_advice(status: int, api_key: str) -> str:
    where_to_set = "set the key's environment variable or api_key_env in the settings"
    if api_key == _NO_KEY:
        return f"{status}: the server wants a key and none was given ({where_to_set})"
    return f"{status}: the key was rejected ({where_to_set})"


def _backoff_s(request: Request, attempt: int) -> float:
    """Return how long to wait after a failed attempt: doubling, and spread over half its length by the request's own
    text.
    """
    seed = f"{attempt}/{request.trial}/{request.messages[-1].content if request.messages else ''}"
    spread = zlib.crc32(seed.encode("utf-8", "surrogatepass")) / 2**32
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**attempt) * (0.5 + spread / 2)


def _connection_trouble(where: str, error: BaseException) -> Exception:
    """Say what happened to a connection. The causes tell it: the outer errors lump timeouts and refusals together."""
    import socket
    import ssl

    import aiohttp

    kinds: dict[type[BaseException] | tuple[type[BaseException], ...], str] = {
        ConnectionRefusedError: "refused",
        socket.gaierror: "unknown_host",
        (ssl.SSLError, ssl.CertificateError): "tls",
        (ConnectionError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError): "reset",
        TimeoutError: "connect_timeout",
    }
    causes = list(_causes(error))
    own = next((cause for cause in causes if isinstance(cause, ModelError)), None)
    if own is not None:  # an older `openai` wraps what is raised while a body is read
        return own
    for types, kind in kinds.items():
        if any(isinstance(cause, types) for cause in causes):
            return _PassingTrouble(ModelUnavailable(f"{where}: {_CONNECTION_WORDS[kind]}", kind=kind))
    if isinstance(error, aiohttp.ClientResponseError):
        return ModelProtocolError(f"{where}: what answers there does not speak HTTP")
    return _PassingTrouble(ModelUnavailable(f"{where}: the connection failed: {one_line(str(causes[-1]))}"))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
