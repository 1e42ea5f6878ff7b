"""What the tests of models share: the endpoint's waits, cut short or only recorded."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from peregrm.models import endpoint


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the endpoint wait next to nothing between its tries."""
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
