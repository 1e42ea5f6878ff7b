"""How fast one endpoint may be asked, requests at once, requests a minute, tokens a minute, and how much it may answer.

Left out on purpose: limits shared between processes, and learning the limits from the server's headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from peregrm.errors import SettingsError
from peregrm.models.base import Request

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Limits", "estimated_tokens"]


def estimated_tokens(request: Request) -> int:
    """Guess the most a request may cost: 1/4 token per ASCII character, 1 per other, and `max_tokens` of output."""
    text = "".join(message.content for message in request.messages)
    ascii_count = len(text.encode("ascii", "ignore"))
    return ascii_count // 4 + (len(text) - ascii_count) + request.max_tokens


class Limits:
    """A gate in front of an endpoint.

    Args:
        concurrency: Requests in flight at once, at least 1.
        rpm: Requests a minute, None for no limit. As a leaky bucket: a burst of `rpm` passes at once, then one each
            60 / rpm s.
        tpm: Tokens a minute, None for no limit; a leaky bucket as well.
        answer_bytes: The largest body of an answer; more is a failure of the call.

    Raises:
        SettingsError: A limit is below 1.
    """

    def __init__(
        self, concurrency: int, rpm: int | None = None, tpm: int | None = None, answer_bytes: int = 32 * 2**20
    ) -> None:
        for label, value in (("concurrency", concurrency), ("rpm", rpm), ("tpm", tpm), ("answer_bytes", answer_bytes)):
            if value is not None and value < 1:
                raise SettingsError(f"{label} is {value}; it must be at least 1")
        self.concurrency = concurrency
        self.rpm = rpm
        self.tpm = tpm
        self.answer_bytes = answer_bytes
        self._gates: _Gates | None = None

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the body of the `async with`.

        `tokens` is the expected cost of the request. One that is larger than the whole `tpm` waits until the bucket
        is empty and then passes alone. Turns are given in the order of asking, so a large request cannot be starved
        by small ones.
        """
        gates = self._gates_of_this_loop()
        async with gates.places:
            if gates.buckets:
                async with gates.queue:
                    for bucket, counts_tokens in gates.buckets:
                        await bucket.acquire(min(tokens, bucket.max_rate) if counts_tokens else 1)
            yield

    def _gates_of_this_loop(self) -> _Gates:
        loop = asyncio.get_running_loop()
        if self._gates is None or self._gates.loop is not loop:
            self._gates = _Gates(loop, self.concurrency, self.rpm, self.tpm)
        return self._gates


class _Gates:
    """The waiting lines; they belong to one event loop and so are made inside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, concurrency: int, rpm: int | None, tpm: int | None) -> None:
        from aiolimiter import AsyncLimiter

        self.loop = loop
        self.places = asyncio.Semaphore(concurrency)
        # The bucket wakes the smallest waiter first; this first-come lock in front of it keeps the order fair.
        self.queue = asyncio.Lock()
        self.buckets: list[tuple[AsyncLimiter, bool]] = []
        if rpm is not None:
            self.buckets.append((AsyncLimiter(rpm, 60), False))
        if tpm is not None:
            self.buckets.append((AsyncLimiter(tpm, 60), True))
