"""Several base URLs of one model: they take turns, and one that fails is set aside for a while."""

from __future__ import annotations

import pytest

import fake_server as fake
from endpoint_parts import asking, model_at, unused_port
from peregrm.models import endpoint

pytestmark = pytest.mark.usefixtures("short_waits")


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
