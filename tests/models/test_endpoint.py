from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest

import fake_server as fake
from endpoint_parts import asking, model_at, unused_port
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
from peregrm.models import endpoint
from peregrm.models.base import Request
from peregrm.models.endpoint import OUTAGE, EndpointModel
from peregrm.models.ledger import Ledger, Price
from peregrm.models.limits import Limits
from peregrm.records import Usage

pytestmark = pytest.mark.usefixtures("short_waits")

KEY = "sk-very-secret-0123"


async def failure_of(behaviour: Any, request: Request | None = None, **options: Any) -> tuple[ModelError, int]:
    async with fake.FakeServer(default=behaviour) as server, model_at(server.url, **options) as model:
        with pytest.raises(ModelError) as caught:
            await model.complete(request or asking())
        assert server.url in str(caught.value)
        assert "m-1" in str(caught.value)
        return caught.value, server.calls


async def test_answer_is_read_in_full() -> None:
    answer = fake.reply("  yes ", message={"reasoning_content": "hmm"}, finish_reason="length")
    async with fake.FakeServer(answer) as server, model_at(server.url, api_key=KEY, extra_body={"top_k": 3}) as model:
        completion = await model.complete(asking("é中", seed=5, trial=2, temperature=0.5, stop=("END",)))
    assert (completion.text, completion.thinking, completion.finish_reason) == ("  yes ", "hmm", "length")
    assert completion.model == "served-model"
    assert completion.usage == Usage(calls=1, input_tokens=11, output_tokens=7, cached_tokens=5)
    assert completion.seconds > 0
    assert completion.logprobs is None
    assert not completion.cached
    assert server.bodies == [
        {
            "model": "m-1",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "é中"}],
            "temperature": 0.5,
            "max_tokens": 9,
            "stop": ["END"],
            "seed": 7,
            "top_k": 3,
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_no_seed_is_sent_where_none_is_set_and_no_account_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    async with fake.FakeServer() as server, model_at(server.url) as model:
        await model.complete(asking(trial=3))
    assert "seed" not in server.bodies[0]
    assert not any("private" in value or KEY in value for value in server.headers[0].values())


async def test_null_usage_and_half_characters_do_no_harm() -> None:
    body = fake.completion_body("a\ud83d")
    body["usage"] = None
    async with fake.FakeServer(fake.raw(json.dumps(body))) as server, model_at(server.url) as model:
        completion = await model.complete(asking("b\udc00"))
    assert completion.text == "a\ufffd"
    assert completion.usage == Usage(calls=1, unmetered=1)
    ledger = Ledger({"m": Price(1.0, 1.0)})
    ledger.record("m", "judge", completion)
    assert ledger.total_cost() is None, "tokens that nobody reported do not cost nothing"
    assert server.bodies[0]["messages"][1]["content"] == "b\ufffd"


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        (lambda: fake.raw("<html><body>Welcome</body></html>", content_type="text/html"), "protocol", "web page"),
        (lambda: fake.raw("  "), "protocol", "empty"),
        (lambda: fake.raw('{"choices": [{"mess'), "protocol", "not valid JSON"),
        (lambda: fake.raw("[" * 200_000), "protocol", "not valid JSON"),
        (lambda: fake.raw("data: {}", content_type="text/event-stream"), "protocol", "not valid JSON"),
        (lambda: fake.raw("[]"), "protocol", "not an object"),
        (lambda: fake.raw("{}"), "protocol", "no choices"),
        (lambda: fake.raw('{"choices": []}'), "protocol", "no choices"),
        (lambda: fake.raw('{"choices": ["x"]}'), "protocol", "no choices"),
        (lambda: fake.raw('{"choices": [{"message": null}]}'), "protocol", "no choices"),
        (lambda: fake.raw('{"error": {"message": "upstream is gone"}}'), "protocol", "upstream is gone"),
        (lambda: fake.reply(None), "no_content", "no text"),
        (lambda: fake.reply(None, finish_reason="length"), "no_content", "max_tokens"),
        (lambda: fake.reply(None, message={"refusal": "I will not."}), "refusal", "I will not."),
    ],
)
async def test_what_is_no_completion_is_a_protocol_error(behaviour: Callable[[], Any], kind: str, words: str) -> None:
    error, calls = await failure_of(behaviour())
    assert isinstance(error, ModelProtocolError)
    assert error.kind == kind
    assert words in str(error)
    assert calls == 1


async def test_server_that_does_not_speak_http() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0 hello\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, model_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as model:
        with pytest.raises(ModelProtocolError, match="does not speak HTTP"):
            await model.complete(asking())


@pytest.mark.parametrize("status", [401, 403])
async def test_rejected_key_is_fatal_said_plainly_and_never_shown(status: int) -> None:
    error, calls = await failure_of(fake.error(status, f"Incorrect API key provided: {KEY}"), api_key=KEY)
    assert isinstance(error, ModelAuthError)
    assert error.fatal
    assert calls == 1
    assert f"{status}: the key was rejected" in str(error)
    assert "api_key_env" in str(error)
    assert KEY not in str(error)


async def test_missing_key_is_said() -> None:
    error, _ = await failure_of(fake.error(401))
    assert "none was given" in str(error)


async def test_key_is_not_shown_from_protocol_errors_either() -> None:
    error, _ = await failure_of(fake.raw(f"oops {KEY}"), api_key=KEY)
    assert KEY not in str(error)
    assert "[key]" in str(error)


@pytest.mark.parametrize(("status", "fatal"), [(400, False), (404, True), (413, False), (422, False)])
async def test_wrong_requests_are_not_tried_again(status: int, fatal: bool) -> None:
    error, calls = await failure_of(fake.error(status, "the context is too long\nreally"))
    assert isinstance(error, ModelRequestError)
    assert error.fatal is fatal
    assert str(status) in str(error)
    assert "the context is too long really" in str(error)
    assert calls == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda: fake.error(402, "pay first"),
        lambda: fake.raw('{"error": {"message": "m", "code": "insufficient_quota"}}', status=429),
    ],
)
async def test_empty_account_is_fatal_at_once(behaviour: Callable[[], Any]) -> None:
    error, calls = await failure_of(behaviour())
    assert isinstance(error, ModelRateLimited)
    assert (error.kind, error.fatal, calls) == ("quota", True, 1)


@pytest.mark.parametrize("behaviour", [lambda: fake.error(500), lambda: fake.error(503), fake.drop, fake.cut])
async def test_passing_trouble_is_tried_again(behaviour: Callable[[], Any]) -> None:
    async with fake.FakeServer(behaviour(), fake.error(429), behaviour()) as server, model_at(server.url) as model:
        assert (await model.complete(asking())).text == "hello"
        assert server.calls == 4


@pytest.mark.parametrize(
    ("behaviour", "kind", "error_type"),
    [
        (lambda: fake.error(502, "bad gateway"), "server_error", ModelUnavailable),
        (fake.drop, "reset", ModelUnavailable),
        (fake.cut, "reset", ModelUnavailable),
        (lambda: fake.error(429), "rate_limited", ModelRateLimited),
    ],
)
async def test_trouble_that_stays_is_raised_after_the_last_retry(
    behaviour: Callable[[], Any], kind: str, error_type: type[ModelError]
) -> None:
    error, calls = await failure_of(behaviour(), retries=2)
    assert type(error) is error_type
    assert error.kind == kind
    assert error.kind in OUTAGE
    assert not error.fatal
    assert calls == 3


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (ConnectionRefusedError(), "refused"),
        (socket.gaierror(), "unknown_host"),
        (ssl.SSLError(), "tls"),
        (ConnectionResetError(), "reset"),
        (aiohttp.ServerDisconnectedError(), "reset"),
        (TimeoutError(), "connect_timeout"),
        (OSError("no route to host"), "unavailable"),
    ],
)
async def test_what_happens_to_a_connection_is_an_outage(
    cause: Exception, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with model_at("http://127.0.0.1:9/v1", retries=0) as model:
        model._open_clients()

        async def break_off(*_: Any, **__: Any) -> Any:
            raise aiohttp.ClientError from cause

        for client in model._clients.values():
            monkeypatch.setattr(client, "post", break_off)
        with pytest.raises(ModelUnavailable) as caught:
            await model.complete(asking())
    assert caught.value.kind == kind
    assert kind in OUTAGE


async def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{unused_port()}/v1"
    async with model_at(url, retries=1) as model:
        with pytest.raises(ModelUnavailable, match="connection refused") as caught:
            await model.complete(asking())
    assert caught.value.kind == "refused"
    assert url in str(caught.value)


async def test_waits_double_are_spread_and_the_same_each_time(
    naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 1.0)
    await failure_of(fake.error(500), retries=3)
    first = naps.copy()
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(first))
    await failure_of(fake.error(500), retries=3)
    assert naps[3:] == first
    await failure_of(fake.error(500), asking("other"), retries=3)
    assert naps[6:] != first


async def test_retry_after_is_honoured(naps: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    rules = [fake.error(429, Retry_After="7"), fake.error(503, Retry_After=soon), fake.error(429, Retry_After="0")]
    async with fake.FakeServer(*rules) as server, model_at(server.url) as model:
        await model.complete(asking())
    assert naps[0] == 7
    assert 40 < naps[1] <= 50
    assert naps[2] == 0


async def test_retry_after_past_the_deadline_ends_the_call(naps: list[float]) -> None:
    error, calls = await failure_of(fake.error(429, Retry_After="300"))
    assert isinstance(error, ModelRateLimited)
    assert "past the deadline of 120 s" in str(error)
    assert (naps, calls) == ([], 1)


async def test_deadline_holds_over_a_silent_server() -> None:
    error, calls = await failure_of(fake.hang(), deadline_s=0.2)
    assert isinstance(error, ModelTimeout)
    assert "no answer within 0.2 s" in str(error)
    assert calls == 1


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock of the running loop forward: deadlines are over without a wait, and however slow the machine is, not before."""

    def forward(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + seconds)

    return forward


async def test_timeout_tells_what_was_before(pass_time: Callable[[float], None]) -> None:
    silent = asyncio.Event()

    async def hang(request: Any, body: Any) -> Any:
        silent.set()
        return await fake.hang()(request, body)

    rules = fake.FakeServer(fake.error(500, "flaky"), default=hang)
    async with rules as server, model_at(server.url, deadline_s=60) as model:
        call = asyncio.create_task(model.complete(asking()))
        await asyncio.wait_for(silent.wait(), 60)
        pass_time(61)
        with pytest.raises(ModelTimeout, match=r"before that: .*500.*flaky"):
            await call


async def test_waiting_for_a_place_does_not_count_as_the_servers_time(pass_time: Callable[[float], None]) -> None:
    limits = Limits(1)
    async with fake.FakeServer() as server, model_at(server.url, limits=limits, deadline_s=60) as model:
        async with limits.slot(0):
            calls = [asyncio.create_task(model.complete(asking(str(n)))) for n in range(5)]
            await asyncio.sleep(0)  # each has gone as far as it can without a place
            pass_time(61)
            await asyncio.sleep(0.01)
            assert server.calls == 0
        done = await asyncio.gather(*calls)
    assert len(done) == server.calls == 5


@pytest.mark.parametrize(
    ("urls", "options"),
    [
        ([], {}),
        ("http://a/v1", {}),
        (["localhost:8000"], {}),
        (["ftp://a"], {}),
        (["http://me:hunter22@a/v1"], {}),
        (["http://a/v1"], {"retries": -1}),
        (["http://a/v1"], {"deadline_s": 0}),
        (["http://a/v1"], {"api_key": "sk-\u2026"}),
    ],
)
def test_senseless_settings_are_refused(urls: Any, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        EndpointModel("judge", "m", urls, options.pop("api_key", None), Limits(1), **options)


async def test_query_of_a_url_is_not_shown() -> None:
    async with model_at(f"http://127.0.0.1:{unused_port()}/v1?token=hunter22", retries=0) as model:
        with pytest.raises(ModelUnavailable) as caught:
            await model.complete(asking())
    assert "hunter22" not in str(caught.value)


async def test_closing_twice_and_calling_again() -> None:
    async with fake.FakeServer() as server, model_at(server.url) as model:
        await model.complete(asking())
        await model.aclose()
        await model.aclose()
        assert (await model.complete(asking())).text == "hello"


def test_importing_and_building_load_no_client() -> None:
    code = (
        "import sys; from peregrm.models.endpoint import EndpointModel; from peregrm.models.limits import Limits; "
        "EndpointModel('a', 'm', ['http://127.0.0.1:9/v1'], None, Limits(1, 1, 1)); "
        "sys.exit(bool({'openai', 'aiohttp', 'httpx', 'httpx2', 'json_repair'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
