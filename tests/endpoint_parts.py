"""What the tests of the endpoint share: a request, an open model, what samples hold, and a port where nobody listens."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peregrm.errors import ModelError
from peregrm.models.base import Completion, Message, Request
from peregrm.models.endpoint import EndpointModel
from peregrm.models.limits import Limits
from peregrm.records import Usage

__all__ = ["asking", "model_at", "sum_of", "texts_of", "unused_port"]


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


def texts_of(samples: list[Completion | ModelError]) -> list[str]:
    return [sample.text if isinstance(sample, Completion) else sample.kind for sample in samples]


def sum_of(samples: list[Completion | ModelError]) -> Usage:
    return sum((sample.usage for sample in samples if isinstance(sample, Completion)), Usage())


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
