"""What the client costs: judge calls a second through `PereGRM.score`, against bare loops over the same client in the same run.

The mock answers at once and runs on the same machine, so the figure is what a machine can ask, not what a judge can answer. Four ways take
turns, for as many rounds as asked, with the same requests and as many calls at once:

- `package`: the loop that one writes by hand, `chat.completions.create` of the `openai` package over its aiohttp transport; no reading of
  what the judge said, no retries, no reward;
- `stripped`: our own `EndpointModel.complete` on requests that were built before: retries, a deadline, limits, nothing else;
- `score`: `PereGRM.score` with the judge named as `NAME@URL`, on all groups at once: criteria, rendering, reading and adding up;
- `score, cache`: the same with a new call cache on disk.

The goal holds for the share of `package`; that of `stripped`, which leaves out what the package itself does to a request, is printed beside
it. Goals hold for the medians over the rounds. Rates hang on what else the machine does; a share is taken within each round. The time of
this process's processor for each call is the figure least disturbed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from mock_judge import MODEL, serving
from setting import GROUP, Goal, about, groups, save, say_about, say_goals

from peregrm.cli.common import collect_less_often
from peregrm.models.base import Completion, Model, Request
from peregrm.models.endpoint import EndpointModel
from peregrm.models.limits import Limits
from peregrm.models.wire import request_body
from peregrm.records import Case, Reply
from peregrm.reward.peregrm import PereGRM

__all__ = ["WAYS", "Lap", "goals", "main", "measure"]

CONCURRENCY = 32
"""Calls at once, for the bare loops as for `NAME@URL`."""

WAYS = ("package", "stripped", "score", "score, cache")
BARE = WAYS[:2]

Work = Sequence[tuple[Case, list[Reply]]]


@dataclass(frozen=True)
class Lap:
    """One way in one round: `seconds` of wall time and of this process's processor time for `calls` calls, and the load before it."""

    way: str
    round: int
    calls: int
    seconds: float
    cpu_seconds: float
    coverage: float
    load: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


@dataclass
class _Recorder:
    """A model that keeps the requests it is asked and passes them on."""

    inner: EndpointModel
    requests: list[Request] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def concurrency(self) -> int:
        return self.inner.concurrency

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        return await self.inner.complete(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Package:
    """The `openai` package as it is used by hand, with the bodies that `EndpointModel` sends, made before the clock runs."""

    def __init__(self, address: str) -> None:
        import openai

        transport = openai.DefaultAioHttpClient()
        self.client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, http_client=transport)
        self._places = asyncio.Semaphore(CONCURRENCY)
        self._bodies: list[dict[str, Any]] = []

    async def ask_all(self, requests: Sequence[Request]) -> float:
        """Ask all requests and return the share that were answered."""
        self._bodies = self._bodies or [request_body(request, MODEL) for request in requests]
        return sum(await asyncio.gather(*map(self._ask, self._bodies))) / len(self._bodies)

    async def _ask(self, body: dict[str, Any]) -> bool:
        async with self._places:
            answer = await self.client.chat.completions.create(**body)
        return bool(answer.choices[0].message.content)


async def measure(address: str, work: Work, rounds: int) -> list[Lap]:
    """Return one lap for each way and round; the first, unmeasured pass records the requests of the bare loops."""
    client = EndpointModel("bare", MODEL, [f"{address}/v1"], None, Limits(CONCURRENCY))
    recorder = _Recorder(client)
    await _score_all(PereGRM(recorder), work)
    requests = recorder.requests
    package = _Package(address)
    await package.ask_all(requests)
    laps: list[Lap] = []
    for number in range(rounds):
        turn = number % len(WAYS)
        for way in WAYS[turn:] + WAYS[:turn]:
            load = round(os.getloadavg()[0], 2)
            with tempfile.TemporaryDirectory() as folder:
                if way in BARE:
                    job = package.ask_all(requests) if way == "package" else _ask_all(client, requests)
                    laps.append(await _lap(way, number, len(requests), load, job))
                    continue
                cache = Path(folder, "calls.sqlite") if way == "score, cache" else None
                grm = PereGRM(f"{MODEL}@{address}/v1", cache=cache)
                await _connect(grm.asking.model, requests[0])
                laps.append(await _lap(way, number, len(requests), load, _score_all(grm, work)))
                await grm.aclose()
    await package.client.close()
    await client.aclose()
    return laps


async def _lap(way: str, number: int, calls: int, load: float, job: Awaitable[float]) -> Lap:
    gc.collect()
    gc.freeze()  # what was there before: a full collection of it, 0.1 s, falls into some laps and not into others
    started, cpu = time.perf_counter(), time.process_time()
    coverage = await job
    return Lap(way, number, calls, time.perf_counter() - started, time.process_time() - cpu, coverage, load)


async def _connect(model: Model, request: Request) -> None:
    """Open all connections, as those of the bare loop are open, by questions that are not asked again."""
    others = [request.model_copy(update={"trial": 1_000_000 + number}) for number in range(CONCURRENCY)]
    await asyncio.gather(*map(model.complete, others))


async def _score_all(grm: PereGRM, work: Work) -> float:
    """Score all groups at once and return the mean coverage."""
    scored = [one for group in await asyncio.gather(*(grm.score(*group) for group in work)) for one in group]
    return sum(one.coverage for one in scored) / len(scored)


async def _ask_all(client: EndpointModel, requests: Sequence[Request]) -> float:
    completions = await asyncio.gather(*(client.complete(request) for request in requests))
    return sum(bool(completion.text) for completion in completions) / len(requests)


def goals(laps: Sequence[Lap]) -> list[Goal]:
    """Return the goals: the rate with and without cache, and without it the share of the package's rate in the same round.

    With a cache every answer is written to disk before it is used, which no bare loop does: that share is printed, not held to a goal.
    """
    by_way = {way: [lap for lap in laps if lap.way == way] for way in WAYS}
    reached = [Goal(f"calls/s, {way}", median(lap.rate for lap in by_way[way]), least=300) for way in WAYS[2:]]
    share = median(_shares(laps, "score", "package"))
    return [*reached, Goal("share of a bare loop over the package's client, score", share, least=0.8)]


def _shares(laps: Sequence[Lap], way: str, bare: str) -> list[float]:
    rates = {lap.round: lap.rate for lap in laps if lap.way == bare}
    return [lap.rate / rates[lap.round] for lap in laps if lap.way == way]


def _say(laps: Sequence[Lap]) -> None:
    heads = ["way", "calls/s, median (least to most)", *(f"share of {bare}" for bare in BARE), "processor ms a call"]
    print(f"| {' | '.join(heads)} | coverage |\n{'|---' * (len(heads) + 1)}|")
    for way in WAYS:
        own = [lap for lap in laps if lap.way == way]
        rates = [lap.rate for lap in own]
        shares = [_shares(laps, way, bare) for bare in BARE]
        said = [f"{median(some):.2f} ({min(some):.2f} to {max(some):.2f})" for some in shares]
        cpu = median(1000 * lap.cpu_seconds / lap.calls for lap in own)
        print(
            f"| {way} | {median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) | {' | '.join(said)} "
            f"| {cpu:.2f} | {min(lap.coverage for lap in own):.2f} |"
        )


async def _run(options: argparse.Namespace) -> list[Lap]:
    with serving(0.0, logprobs=options.logprobs) as address:
        return await measure(address, groups(options.groups, options.seed), options.rounds)


def main() -> int:
    """Measure, print the table and the goals; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, default=60, help="groups of 8 replies, 17 calls each")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    parser.add_argument("--logprobs", action="store_true", help="the mock gives digit log-probabilities, ten a token")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    collect_less_often()  # as the command does, for all ways alike
    facts: dict[str, Any] = about(options.seed)
    say_about(facts)
    print(
        f"{options.groups} groups of {GROUP}, {options.rounds} rounds, {CONCURRENCY} calls at once, the mock on the same machine"
    )
    laps = asyncio.run(_run(options))
    _say(laps)
    reached = goals(laps)
    setup = {"groups": options.groups, "rounds": options.rounds, "logprobs": options.logprobs}
    save(options.json, {**facts, **setup, "laps": [asdict(lap) for lap in laps]}, reached)
    return say_goals(reached)


if __name__ == "__main__":
    sys.exit(main())
