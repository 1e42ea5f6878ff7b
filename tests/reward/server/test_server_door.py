"""Key, sizes, metrics and health."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from peregrm import __version__
from peregrm.errors import ModelTimeout, SettingsError
from peregrm.models.cache import CachedModel
from peregrm.models.ledger import Ledger, Price
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Case
from peregrm.reward.opening import OpenedJudge
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.server.app import create_app
from peregrm.reward.server.limits import ServerLimits
from peregrm.reward.server.run import bind, server_key

KEY = "sesame 1 é"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()


async def test_the_key_opens(served: Any, reward: Any, case: Case) -> None:
    async with served(reward, key=KEY) as client:
        for header in (f"Bearer {KEY}", f"bearer  {KEY} ", basic(KEY)):
            assert (await client.score(case, "worth 1", headers={"Authorization": header}))[0] == 200
            assert (await client.get("/metrics", headers={"Authorization": header}))[0] == 200


WRONG = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer sesame",
    f"Bearer {KEY}x",
    f"Token {KEY}",
    KEY,
    basic("sesame"),
    "Basic !",
    "Basic /w==",
]


async def test_without_the_key_only_health_answers(served: Any, reward: Any, case: Case) -> None:
    async with served(reward, key=KEY) as client:
        for header in WRONG:
            headers = {"Authorization": header} if header else {}
            status, answer, said = await client.score(case, "worth 1", headers=headers)
            assert (status, answer["error"]["kind"]) == (401, "key"), header
            assert said["WWW-Authenticate"].startswith("Bearer")
            for path in ("/metrics", "/docs", "/openapi.json", "/nothing"):
                assert (await client.get(path, headers=headers))[0] == 401
            assert (await client.get("/health", headers=headers))[0] == 200
    assert reward.groups == []


def test_the_key_is_read_when_asked_for_and_never_empty(monkeypatch: pytest.MonkeyPatch, reward: Any) -> None:
    monkeypatch.delenv("PEREGRM_SERVER_KEY", raising=False)
    assert server_key() is None
    monkeypatch.setenv("PEREGRM_SERVER_KEY", " sesame\n")
    assert server_key() == "sesame"
    monkeypatch.setenv("PEREGRM_SERVER_KEY", " ")
    with pytest.raises(SettingsError, match="PEREGRM_SERVER_KEY"):
        server_key()
    with pytest.raises(SettingsError, match="empty"):
        create_app(reward, key="")


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    """A body without an announced length."""
    yield b'{"groups": "'
    for _ in range(size // 1000):
        yield b"x" * 1000
        await asyncio.sleep(0)
    yield b'"}'


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(served: Any, reward: Any, case: Case, chunked: bool) -> None:
    async with served(reward, limits=ServerLimits(body_bytes=20_000)) as client:
        data = in_pieces(30_000) if chunked else b"x" * 30_000
        headers = {"Content-Type": "application/json"}
        async with client.http.post(client.url + "/score", data=data, headers=headers) as response:
            assert response.status == 413
            assert json.loads(await response.text())["error"]["kind"] == "too_large"
            assert ("Content-Length" in response.request_info.headers) is not chunked
        small = in_pieces(10_000) if chunked else b"{}"
        async with client.http.post(client.url + "/score", data=small, headers=headers) as response:
            assert response.status == 422
        assert (await client.score(case, "worth 1"))[0] == 200


async def test_a_body_that_does_not_arrive_ends_at_the_deadline(served: Any, reward: Any) -> None:
    async with served(reward, limits=ServerLimits(deadline_s=0.1)) as client:
        port = int(client.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()


async def test_health_says_what_scores(served: Any, reward: Any) -> None:
    async with served(reward, key=KEY, judges=[OpenedJudge(ScriptedModel([], name="j1"), Ledger(), None)]) as client:
        status, text = await client.get("/health")
    said = json.loads(text)
    assert status == 200
    assert 0 <= said.pop("uptime_s") < 60
    assert said == {"status": "ok", "method": "played", "judges": ["j1"], "cases": 1, "version": __version__}


async def test_the_docs_name_every_route_and_load_nothing(served: Any, reward: Any) -> None:
    async with served(reward) as client:
        _, page = await client.get("/docs")
        schema = json.loads((await client.get("/openapi.json"))[1])
    for path in ("/score", "/get_reward", "/verify", "/metrics", "/health"):
        assert path in schema["paths"]
        assert path in page
    assert "ScoreRequest" in page
    assert "<script" not in page
    assert "http" not in page.replace("https://peregrm", "")


def samples(text: str) -> dict[str, float]:
    """Every sample of the metrics as `name{label=value,...}`."""
    return {
        sample.name + "{" + ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items())) + "}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_requests_replies_failures_and_what_is_going_on(
    served: Any, reward: Any, case: Case, until: Callable[..., Any]
) -> None:
    async with served(reward, limits=ServerLimits(running=1)) as client:
        await client.score(case, "worth 1", "nothing", "nothing")
        await client.post("/score", {})
        await client.get("/no/such/path/1")
        reward.door.clear()
        waiting = [asyncio.create_task(client.score(case, "worth 1")) for _ in range(3)]
        await until(lambda: client.service.gate.waiting == 2)
        during = samples((await client.get("/metrics"))[1])
        reward.door.set()
        await asyncio.gather(*waiting)
        after = samples((await client.get("/metrics"))[1])
    assert (during["peregrm_groups_running{}"], during["peregrm_groups_waiting{}"]) == (1, 2)
    assert (after["peregrm_groups_running{}"], after["peregrm_groups_waiting{}"]) == (0, 0)
    assert after["peregrm_requests_total{route=/score,status=200}"] == 4
    assert after["peregrm_requests_total{route=/score,status=422}"] == 1
    assert after["peregrm_requests_total{route=other,status=404}"] == 1
    assert after["peregrm_request_seconds_count{route=/score}"] == 5
    assert after["peregrm_group_seconds_count{}"] == 4
    assert (after["peregrm_replies_total{outcome=scored}"], after["peregrm_replies_total{outcome=failed}"]) == (4, 2)
    assert (
        after["peregrm_reply_failures_total{kind=timeout}"] == after["peregrm_reply_failures_total{kind=protocol}"] == 2
    )


async def test_metrics_show_what_the_judges_cost(served: Any, slow_judge: Any, case: Case) -> None:
    ledger = Ledger({"slow": Price(1.0, 2.0)})
    judge = OpenedJudge(CachedModel(slow_judge, None, ledger), ledger, None)
    play, broken = slow_judge._play, {"judge": ModelTimeout("late")}
    slow_judge._play = lambda request: broken.pop(request.purpose, None) or play(request)
    async with served(PereGRM(judge.model), judges=[judge]) as client:
        assert (await client.score(case, "worth 4", "worth 3"))[0] == 200
        found = samples((await client.get("/metrics"))[1])
    of = "model=slow,purpose="
    assert found[f"peregrm_judge_calls_total{{{of}criteria,source=fresh}}"] == 1
    assert found[f"peregrm_judge_calls_total{{{of}bystander,source=fresh}}"] == 2
    assert found[f"peregrm_judge_calls_total{{{of}bystander,source=cache}}"] == 0
    assert found[f"peregrm_judge_failures_total{{kind=timeout,{of}judge}}"] == 1
    assert found[f"peregrm_judge_tokens_total{{kind=input,{of}criteria}}"] == 0
    assert found[f"peregrm_judge_cost_total{{{of}criteria}}"] == 0
    assert found[f"peregrm_judge_seconds_count{{{of}bystander}}"] == 2


async def test_two_servers_count_apart(served: Any, reward: Any, case: Case) -> None:
    async with served(reward) as one, served(reward) as other:
        await one.score(case, "worth 1")
        assert samples((await one.get("/metrics"))[1])["peregrm_replies_total{outcome=scored}"] == 1
        assert "peregrm_replies_total{outcome=scored}" not in samples((await other.get("/metrics"))[1])


def test_an_address_that_cannot_be_had_is_named() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}"):
            bind("127.0.0.1", port)
    with pytest.raises(SettingsError, match="cannot listen"):
        bind("127.0.0.1", 70_000)


async def test_a_stranger_to_http_gets_no_trace(served: Any, reward: Any) -> None:
    async with served(reward) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.http.ws_connect(client.url + "/score"):
                pass
        assert (await client.get("/health"))[0] == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "Application/vnd.any+JSON"}, 200),
    ],
    ids=str,
)
async def test_a_body_says_that_it_is_json(
    served: Any, reward: Any, case: Case, header: dict[str, str], status: int
) -> None:
    body = json.dumps({"groups": [{"case_id": case.id, "replies": ["worth 1"]}]}).encode()
    async with served(reward) as client:
        skip = ["Content-Type"]  # the client would put one of its own
        options = {"data": body, "headers": header, "skip_auto_headers": skip}
        async with client.http.post(f"{client.url}/score", **options) as response:
            assert response.status == status
            if status == 415:
                error = (await response.json())["error"]
                assert (error["kind"], "Content-Type: application/json" in error["reason"]) == ("content_type", True)
        async with client.http.post(f"{client.url}/seed_session", skip_auto_headers=skip) as response:
            assert response.status == 200, "no body, nothing to say"
        async with client.http.post(f"{client.url}/nowhere", **options) as response:
            assert response.status == 404
