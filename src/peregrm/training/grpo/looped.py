"""A reward that may be asked from any event loop, because its judge lives in one of its own.

Trainers run rewards in a loop of theirs, an evaluation in between runs in another, and connections to a judge belong to the loop that
opened them. So all of them are opened, used and closed in one loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from peregrm.records import Case, Reply
from peregrm.reward.base import RewardModel, Scored

__all__ = ["Looped", "OwnLoop"]

T = TypeVar("T")


class OwnLoop:
    """An event loop in a thread of its own; a context that stops it in the end, with everything that still runs in it."""

    def __enter__(self) -> OwnLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judging", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_stop_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and wait for it; raises what it raises. Stops it where the waiting is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def hand_over(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in this loop and wait for it in the caller's."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


async def _stop_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Looped:
    """A reward in a loop of its own; see `peregrm.reward.base.RewardModel`."""

    def __init__(self, reward: RewardModel, loop: OwnLoop) -> None:
        self._reward = reward
        self._loop = loop

    @property
    def method(self) -> str:
        """That of the reward."""
        return self._reward.method

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Have a group scored in the reward's loop."""
        return await self._loop.hand_over(self._reward.score(case, replies))

    async def aclose(self) -> None:
        """Close the reward in its loop. Safe to call twice."""
        await self._loop.hand_over(self._reward.aclose())
