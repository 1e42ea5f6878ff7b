"""Scoring for requests: admission, one deadline a request, and what is said where there is no number.

A request is cancelled when its client is gone or its deadline passes; criteria that other requests wait for are not. Left out on
purpose: gathering replies of one case from several requests into one group. A reward that compares a group (listwise, several judges)
sees the replies of one request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from peregrm.errors import ArtifactError, ModelError, PeregrmError
from peregrm.records import Case, Reply
from peregrm.reward.base import RewardModel, Scored
from peregrm.reward.opening import OpenedJudge
from peregrm.reward.server.limits import Gate, Refused, ServerLimits, Ticket
from peregrm.reward.server.metrics import Metrics
from peregrm.reward.server.wire import Group

__all__ = ["Gone", "Service"]

_log = logging.getLogger("peregrm.reward.server")

_MOST_REMEMBERED = 100_000

_Work = asyncio.Task[list[list[Scored]]]


class Gone(Exception):
    """The client left before its answer was ready."""


class Service:
    """One reward for all requests.

    Args:
        reward: What scores. It is closed with the service.
        cases: The cases that requests may name by id.
        judges: The judges that were opened for this reward: their ledgers are in the metrics, and they are closed with it.
        limits: How much is taken on.
        look: Returns a case with its flags where nobody looked at it before, as at one that came with a request; None leaves it so.
    """

    def __init__(
        self,
        reward: RewardModel,
        cases: Mapping[str, Case],
        judges: Sequence[OpenedJudge],
        limits: ServerLimits,
        look: Callable[[Case], Case] | None = None,
    ) -> None:
        self.reward = reward
        self.cases = cases
        self.judges = judges
        self.limits = limits
        self._look = look
        self._flags: dict[str, tuple[str, ...] | None] = {}
        self.gate = Gate(limits)
        self.metrics = Metrics(self.gate, [judge.ledger for judge in judges])
        self._started = time.monotonic()
        self._at_work: set[_Work] = set()

    @property
    def uptime_s(self) -> float:
        """Seconds since the service was made."""
        return time.monotonic() - self._started

    @property
    def busy(self) -> bool:
        """Tell whether anything that was accepted is not over."""
        return bool(self._at_work)

    async def score(self, groups: Sequence[Group], gone: Callable[[], Awaitable[None]]) -> list[list[Scored]]:
        """Return the scores of each group, in order. `gone` returns when the client has left.

        Raises `Refused` where the server is full or stopping, the deadline passed, or the judge is of no use, and `Gone`.
        """
        _check(groups, self.limits)
        work = self._start(groups, self.gate.admit(len(groups)))
        watch = asyncio.ensure_future(gone())
        try:
            await asyncio.wait({work, watch}, timeout=self.limits.deadline_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return _result(work, self.gate)
            if watch.done():
                raise Gone
            raise Refused(504, "deadline", f"not scored within {self.limits.deadline_s:g} s")
        finally:
            work.cancel()
            watch.cancel()

    def _start(self, groups: Sequence[Group], ticket: Ticket) -> _Work:
        """Score in a task of its own, which holds its places until it has really ended."""

        def over(ended: _Work) -> None:
            ticket.close()
            self._at_work.discard(ended)
            if not ended.cancelled():
                ended.exception()  # seen, also where nobody waits for it any more

        work = asyncio.create_task(self._score_all(groups, ticket))
        self._at_work.add(work)
        work.add_done_callback(over)
        return work

    async def _score_all(self, groups: Sequence[Group], ticket: Ticket) -> list[list[Scored]]:
        async with asyncio.TaskGroup() as together:
            tasks = [together.create_task(self._score_one(case, replies, ticket)) for case, replies in groups]
        return [task.result() for task in tasks]

    async def _score_one(self, case: Case, replies: Sequence[Reply | str], ticket: Ticket) -> list[Scored]:
        async with ticket.turn():
            started = time.monotonic()
            scored = await self.reward.score(await self._looked_at(case), replies)
            seconds = time.monotonic() - started
        if len(scored) != len(replies):
            raise ArtifactError(f"reward {self.reward.method}: {len(scored)} scores for {len(replies)} replies")
        self.gate.took(seconds)
        self.metrics.group(scored, seconds)
        return scored

    async def _looked_at(self, case: Case) -> Case:
        """Return a case with its flags. Looking takes tenths of a second: a thread does it, and what it finds is remembered."""
        if self._look is None or case.flags is not None:
            return case
        if case.id not in self._flags:
            flags = (await asyncio.to_thread(self._look, case)).flags
            if len(self._flags) >= _MOST_REMEMBERED:
                self._flags.clear()
            self._flags[case.id] = flags
        return case.model_copy(update={"flags": self._flags[case.id]})

    def stop(self) -> None:
        """Take on nothing more; what was accepted goes on."""
        self.gate.stopping = True

    def abandon(self) -> None:
        """Cancel what is still being scored; those requests are answered with 503."""
        for work in self._at_work:
            work.cancel()

    async def aclose(self) -> None:
        """Close the reward and its judges. Safe to call twice."""
        self.stop()
        await self.reward.aclose()
        for judge in self.judges:
            await judge.aclose()


def _check(groups: Sequence[Group], limits: ServerLimits) -> None:
    """Refuse groups that are too large, and text that no judge could be sent."""
    for number, (_, replies) in enumerate(groups):
        if len(replies) > limits.replies:
            reason = f"group {number} has {len(replies)} replies; this server takes at most {limits.replies}"
            raise Refused(422, "too_many_replies", reason)
        for place, reply in enumerate(replies):
            try:
                (reply if isinstance(reply, str) else reply.text).encode()
            except UnicodeEncodeError:
                reason = f"group {number}: reply {place} holds half of a surrogate pair"
                raise Refused(422, "malformed", reason) from None


def _result(work: _Work, gate: Gate) -> list[list[Scored]]:
    if work.cancelled():
        raise gate.closing()
    try:
        return work.result()
    except BaseExceptionGroup as group:
        raise _refusal(group.exceptions[0]) from None


def _refusal(error: BaseException) -> BaseException:
    """Return what a client is told of an error; what only the owner of the server can mend goes to the log."""
    if isinstance(error, ModelError):
        _log.error("a judge is of no use: %s", error.kind)
        return Refused(502, error.kind, str(error))
    if isinstance(error, PeregrmError):
        _log.error("cannot score: %s", error)
        return Refused(500, "misconfigured", "the server cannot score; its log says why")
    return error
