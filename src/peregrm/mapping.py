"""Run one async function over many items, in order, a bounded number at a time.

The first exception cancels the rest and is raised as it is, not in a group, so that callers can catch it by type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

__all__ = ["NoProgress", "Progress", "map_in_order"]

A = TypeVar("A")
B = TypeVar("B")


class Progress(Protocol):
    """Whoever shows how far a stage is."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins; 0 where the stage `read` does not know yet."""
        ...

    def advance(self, stage: str) -> None:
        """One step of the stage is done."""
        ...


class NoProgress:
    """Shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Ignore the beginning of a stage."""

    def advance(self, stage: str) -> None:
        """Ignore a step."""


async def map_in_order(
    function: Callable[[A], Awaitable[B]],
    items: Sequence[A],
    *,
    stage: str,
    progress: Progress,
    at_once: int = 512,
) -> list[B]:
    """Return `function(item)` for every item, in the order of the items, with at most `at_once` running."""
    progress.start(stage, len(items))
    results: dict[int, B] = {}
    left = enumerate(items)

    async def work() -> None:
        for place, item in left:
            results[place] = await function(item)
            progress.advance(stage)

    tasks = [asyncio.ensure_future(work()) for _ in range(min(at_once, len(items)))]
    try:
        await asyncio.gather(*tasks)
        return [results[place] for place in range(len(items))]
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
