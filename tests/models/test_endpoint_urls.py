"""Several base URLs of one model: they take turns, and one that fails is set aside for a while."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from peregrm.models import endpoint
from peregrm.models.base import Message, Request
from peregrm.models.endpoint import EndpointModel
from peregrm.models.limits import Limits

_spec = importlib.util.spec_from_file_location("fake_server", Path(__file__).with_name("fake_server.py"))
assert _spec is not None
assert _spec.loader is not None
fake = importlib.util.module_from_spec(_spec)
sys.modules["fake_server"] = fake
_spec.loader.exec_module(fake)


def asking(text: str = "hi", **fields: Any) -> Request:
    return Request(
        messages=(Message(role="system", content="s"), Message(role="user", content=text)), max_tokens=9, **fields
    )


@asynccontextmanager
async def model_at(*urls: str, api_key: str | None = None, **options: Any) -> AsyncIterator[EndpointModel]:
    model = EndpointModel("judge", "m-1", urls, api_key, options.pop("limits", Limits(8)), **options)
    try:
        yield model
    finally:
        await model.aclose()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the endpoint's waits instead of waiting; everybody else sleeps as ever."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def nap(seconds: float, *rest: Any) -> Any:
        if sys._getframe(1).f_globals["__name__"] != endpoint.__name__:
            return await sleep(seconds, *rest)
        waited.append(seconds)
        return None

    monkeypatch.setattr(endpoint.asyncio, "sleep", nap)
    return waited


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_urls_take_turns() -> None:
    async with fake.FakeServer() as one, fake.FakeServer() as two, model_at(one.url, two.url) as model:
        for _ in range(4):
            await model.complete(asking())
    assert (one.calls, two.calls) == (2, 2)


@pytest.mark.parametrize("retries", [0, 3])
async def test_failing_url_is_set_aside_and_the_others_are_tried_at_once(naps: list[float], retries: int) -> None:
    dead = f"http://127.0.0.1:{unused_port()}/v1"
    async with (
        fake.FakeServer(default=fake.error(500)) as broken,
        fake.FakeServer() as good,
        model_at(dead, broken.url, good.url, retries=retries) as model,
    ):
        for _ in range(6):
            await model.complete(asking())
    assert (broken.calls, good.calls) == (1, 6)
    assert naps == []


async def test_url_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_ASIDE_S", 0.0)
    async with fake.FakeServer(fake.error(500)) as one, fake.FakeServer() as two, model_at(one.url, two.url) as model:
        for _ in range(4):
            await model.complete(asking())
    assert one.calls >= 2


async def test_all_urls_set_aside_are_still_tried() -> None:
    async with (
        fake.FakeServer(fake.error(500)) as one,
        fake.FakeServer(fake.error(500)) as two,
        model_at(one.url, two.url) as model,
    ):
        assert (await model.complete(asking())).text == "hello"
        assert one.calls + two.calls == 3
