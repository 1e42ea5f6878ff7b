"""Where the seconds of a training step go: writing replies, waiting for the judge, and the update.

A trainer that writes and judges its own replies (TRL's GRPO and RLOO) is watched from outside: its methods `_generate` and
`_calculate_rewards` are timed where it has them. For one that has not, only whole steps are known. What the judge does while the trainer
works on something else is not waited for and not counted.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

__all__ = ["GENERATING", "JUDGING", "Clock"]

GENERATING = "generating"
JUDGING = "judging"


class Clock:
    """Adds up seconds by what they were spent on, and counts the replies and tokens written, since it was last read."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._begun: float | None = None
        self.seconds: dict[str, float] = {}
        self.whole = 0.0
        self.replies = 0
        self.tokens = 0

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the seconds of a block towards `what`."""
        start = self._now()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + self._now() - start

    def begin_step(self) -> None:
        """A training step begins."""
        self._begun = self._now()

    def end_step(self) -> None:
        """The weights were updated: the step is over."""
        if self._begun is not None:
            self.whole += self._now() - self._begun
            self._begun = None

    def read(self) -> tuple[dict[str, float], float, int, int]:
        """Return the seconds by what they were spent on, those of whole steps, replies and their tokens, and begin anew."""
        found = (self.seconds, self.whole, self.replies, self.tokens)
        self.seconds, self.whole, self.replies, self.tokens = {}, 0.0, 0, 0
        return found

    def watch(self, trainer: Any) -> None:
        """Time the methods of a trainer by which it writes replies and has them judged, as far as it has them."""
        for name, what in (("_generate", GENERATING), ("_calculate_rewards", JUDGING)):
            method = getattr(trainer, name, None)
            if callable(method):
                setattr(trainer, name, self._watched(method, what))

    def _watched(self, method: Callable[..., Any], what: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def timed(*args: Any, **options: Any) -> Any:
            with self.timed(what):
                made = method(*args, **options)
            if what == GENERATING:
                self._count(made)
            return made

        return timed

    def _count(self, made: Any) -> None:
        """Count what TRL's `_generate` returns: the tokens of each prompt, and second those of each reply."""
        if isinstance(made, tuple) and len(made) > 1 and isinstance(made[1], list):
            replies = [one for one in made[1] if isinstance(one, Sized)]
            self.replies += len(replies)
            self.tokens += sum(map(len, replies))
