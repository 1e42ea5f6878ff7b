"""What a build costs beside the model's own time, on one process and on Ray: histories an hour, calls in flight, overhead, peak memory.

Made-up histories (one conversation each, every text its own) go through all stages of `peregrm build` with a model behind HTTP that
answers every call after the same time with something that passes the checks, so that each history takes five calls: memories, persona,
situations, query, inspection. Each size is built by each engine in a process of its own, on an empty folder; the model is another
process on the same machine.

*Ideal* is what no way of asking can beat: the calls of each stage, so many at a time, one after another (a stage begins when the one
before it is written). *Overhead* is what the build takes beyond it, as a share of it. *In flight* is the mean over the stages that ask,
and the most, as the model saw them. *Peak* is the memory of the build and all its children together (proportional set size, looked at
every half second), without the model's. On a machine whose processors the model, the client and Ray have to share, that sharing is
part of the overhead: look at the processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from setting import Goal, about, save, say_about, say_goals
from watching import Watch

__all__ = ["ENGINES", "Figures", "answer", "main", "measure", "write_histories"]

ENGINES = ("local", "ray")
OVERHEAD = 0.1
"""What a build may take beyond the ideal time, as a share of it."""
GROWTH = 1.5
"""How much longer a history may take at the largest size than at the one before it."""

_MODEL = "mock-builder"
_STAGE_OF = {"memories": "memories", "persona": "persona", "situations": "situations", "query": "queries"}
_SYLLABLES = ("ba", "den", "fo", "gar", "hi", "kel", "lo", "mur", "ne", "pas", "ri", "so", "tan", "vu", "wes", "yor")
_JOBS = ("nurse", "welder", "teacher", "baker", "pilot", "clerk", "gardener", "translator")
_KIN = ("brother", "sister", "mother", "father", "cousin", "wife", "husband", "daughter")


@dataclass(frozen=True)
class Figures:
    """One build: `seconds` from reading to the flags, `ideal` for its calls, `processor` seconds of the build and its children."""

    engine: str
    histories: int
    cases: int
    calls: int
    seconds: float
    ideal: float
    processor: float
    peak_megabytes: float
    mean_in_flight: float
    most_in_flight: int
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def overhead(self) -> float:
        """What the build took beyond the ideal time, as a share of it."""
        return self.seconds / self.ideal - 1

    @property
    def an_hour(self) -> float:
        """Histories built in an hour at this rate."""
        return 3600 * self.histories / self.seconds


def write_histories(path: Path, count: int, seed: int) -> None:
    """Write `count` users with one conversation each, as rows like WildChat's; the seed decides the texts."""
    rng = random.Random(seed)  # noqa: S311
    with path.open("w", encoding="utf-8") as handle:
        for number in range(count):
            handle.write(json.dumps(_row(number, rng), ensure_ascii=False) + "\n")


def _row(number: int, rng: random.Random) -> dict[str, Any]:
    said = [
        f"I work as a {rng.choice(_JOBS)} in {_word(rng).title()} and the early shifts wear me out more than I admit.",
        f"My {rng.choice(_KIN)} {_word(rng).title()} has not called me since we argued about the house in {_word(rng).title()}.",
        f"I want to learn to play the {_word(rng)} before the winter, and I am afraid that I am too old for it.",
    ]
    turns = [
        {"role": role, "content": text, "language": "English", "toxic": False}
        for text in said
        for role, text in (("user", text), ("assistant", f"Tell me more about the {_word(rng)}."))
    ]
    return {
        "conversation_hash": hashlib.sha256(f"c{number}".encode()).hexdigest()[:32],
        "hashed_ip": hashlib.sha256(f"u{number}".encode()).hexdigest(),
        "timestamp": "2024-01-01T00:00:00+00:00",
        "language": "English",
        "toxic": False,
        "redacted": False,
        "conversation": turns,
    }


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4)))


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the model answers to a request body, by its messages alone: a value that passes the stage's checks."""
    prompt = body["messages"][-1]["content"]
    rng = random.Random(hashlib.sha256(prompt.encode("utf-8")).digest())  # noqa: S311
    name = body["response_format"]["json_schema"]["name"]
    if name == "memories":
        return {"memories": list(_notes(prompt))}
    if name == "persona":
        traits = [{"text": f"Puts the {_word(rng)} before rest.", "memories": [1]}]
        profile = f"Somebody tired, who thinks of {_word(rng)} and {_word(rng)} a good deal."
        return {
            "profile": profile,
            "traits": traits,
            "topics": ["rest"],
            "gate_reason": "much is known",
            "is_deep": True,
        }
    if name == "situations":
        text = f"The {_word(rng)} was sold to {_word(rng)} this morning and the letter about the {_word(rng)} is on the table."
        item = {"category": "emotional_support", "topic": "loss", "memories": [1], "traits": [1], "text": text}
        return {"situations": [item]}
    if name == "query":
        return {
            "query": f"what would you do about the {_word(rng)} and {_word(rng)}, with {_word(rng)} {_word(rng)} gone?"
        }
    gates = ("emotional_support", "consistent", "role_aware")
    return {gate: {"reason": "It is what this person would say.", "holds": True} for gate in gates}


def _notes(prompt: str) -> Iterator[dict[str, Any]]:
    labels = ("Personal_Background/Occupation", "Social_Relationships/Family", "Goals/Aspirations")
    lines = [line for line in prompt.splitlines() if "] user: " in line]
    for label, line in zip(labels, lines, strict=False):
        turn, text = line.split("] user: ", 1)
        yield {
            "label": label,
            "type": "direct",
            "about": "user",
            "value": text[:80],
            "turn": int(turn.lstrip("[")),
            "quote": text[:60],
            "confidence": 90,
            "time_scope": "long_term",
        }


class _Server:
    """The model: answers after `latency_s` and keeps count."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._clear()

    def _clear(self) -> None:
        self._by_schema: Counter[str] = Counter()
        self._in_flight = self._most = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/stats", self._stats)
        return app

    async def _stats(self, _: web.Request) -> web.Response:
        said = {"calls": sum(self._by_schema.values()), "most": self._most, "by_schema": dict(self._by_schema)}
        self._clear()
        return web.json_response(said)

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._by_schema[body["response_format"]["json_schema"]["name"]] += 1
        self._in_flight += 1
        self._most = max(self._most, self._in_flight)
        await asyncio.sleep(self._latency_s)
        self._in_flight -= 1
        message = {"role": "assistant", "content": json.dumps(answer(body))}
        usage = {"prompt_tokens": 500, "completion_tokens": 50, "total_tokens": 550}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        said = {"id": "mock", "object": "chat.completion", "created": 0, "model": body["model"]}
        return web.json_response({**said, "choices": [choice], "usage": usage})


async def _serve(latency_s: float) -> None:
    runner = web.AppRunner(_Server(latency_s).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


@contextmanager
def _serving(latency_s: float) -> Iterator[str]:
    """Start the model in a process of its own, yield its address, and stop it."""
    command = [sys.executable, __file__, "--serve", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


class _Times:
    """Progress that notes when each stage began and ended."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def start(self, stage: str, total: int) -> None:
        self.began.setdefault(stage, time.perf_counter())

    def advance(self, stage: str) -> None:
        self.ended[stage] = time.perf_counter()

    def seconds(self) -> dict[str, float]:
        return {name: round(self.ended[name] - began, 2) for name, began in self.began.items() if name in self.ended}


async def _build(histories: Path, out: Path, address: str, engine: str, in_flight: int) -> dict[str, Any]:
    """Build `histories` into `out` and return what it took."""
    from peregrm.pipeline.build import BUILD_STAGES
    from peregrm.pipeline.job import RunConfig
    from peregrm.pipeline.session import execute
    from peregrm.settings import Settings

    entry = {"model": _MODEL, "base_url": f"{address}/v1", "concurrency": in_flight}
    run = {"model": "mock", "memories": "model", "safety": "rules", "cases": 1}
    settings = Settings.model_validate({"models": {"mock": entry}, "run": run})
    kept = {name: getattr(settings.run, name) for name in RunConfig.model_fields if hasattr(settings.run, name)}
    kept |= {"judge": "mock", "criteria": "model", "reasons": "yes"}
    config = RunConfig.model_validate({**kept, "histories": str(histories), "format": "wildchat"})
    times = _Times()
    started = time.perf_counter()
    await execute(out, config, settings, BUILD_STAGES, times, lambda line: None, engine=engine)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "stages": times.seconds()}


def measure(engine: str, count: int, address: str, latency_s: float, in_flight: int, seed: int) -> Figures:
    """Build `count` histories by one engine in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        histories, out = Path(folder, "histories.jsonl"), Path(folder, "out")
        write_histories(histories, count, seed)
        asyncio.run(_stats(address))
        command = [sys.executable, __file__, "--build", str(histories), str(out), address, engine, str(in_flight)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            watch = Watch(process.pid)
            said = process.communicate()[0]
            watch.stop()
        if process.returncode:
            raise RuntimeError(f"the build of {count} histories by {engine} failed")
        found = json.loads(said)
        cases = (out / "cases.jsonl").read_text(encoding="utf-8").count("\n")
    served = asyncio.run(_stats(address))
    shares = [calls * latency_s / in_flight for calls in served["by_schema"].values()]
    stages: dict[str, float] = found["stages"]
    asking = sum(stages.get(name, 0.0) for name in (*_STAGE_OF.values(), "inspection"))
    return Figures(
        engine=engine,
        histories=count,
        cases=cases,
        calls=served["calls"],
        seconds=found["seconds"],
        ideal=sum(max(latency_s, share) for share in shares),
        processor=watch.processor,
        peak_megabytes=watch.peak / 1e6,
        mean_in_flight=served["calls"] * latency_s / asking,
        most_in_flight=served["most"],
        stages=stages,
    )


async def _stats(address: str) -> dict[str, Any]:
    """Return what the model counted since it was last asked."""
    async with ClientSession() as session, session.get(f"{address}/stats") as response:
        counted: dict[str, Any] = await response.json()
        return counted


def goals(found: Sequence[Figures]) -> list[Goal]:
    """Return the goals, for each engine: overhead at the largest size, and how the time of a history grows."""
    reached = []
    for engine in ENGINES:
        own = sorted((one for one in found if one.engine == engine), key=lambda one: one.histories)
        if own:
            reached.append(Goal(f"overhead, {engine}, {own[-1].histories} histories", own[-1].overhead, most=OVERHEAD))
        if len(own) > 1:
            last, before = own[-1], own[-2]
            growth = (last.seconds / last.histories) / (before.seconds / before.histories)
            reached.append(
                Goal(f"time of a history, {engine}, {last.histories} : {before.histories}", growth, most=GROWTH)
            )
    return reached


def _say(found: Sequence[Figures]) -> None:
    print(
        "| engine | histories | calls | s | ideal s | overhead | histories/h | in flight, mean (most) | processor s | peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for one in found:
        print(
            f"| {one.engine} | {one.histories} | {one.calls} | {one.seconds:.1f} | {one.ideal:.1f} | {one.overhead:.0%} "
            f"| {one.an_hour:,.0f} | {one.mean_in_flight:.0f} ({one.most_in_flight}) | {one.processor:.0f} | {one.peak_megabytes:.0f} |"
        )
    for one in found:
        print(
            f"{one.engine}, {one.histories}: " + ", ".join(f"{name} {took:.1f} s" for name, took in one.stages.items())
        )


def _measure_all(options: argparse.Namespace) -> int:
    facts = about(options.seed)
    say_about(facts)
    print(
        f"{options.latency} s a call, {options.in_flight} in flight, 5 calls a history, the model on the same machine"
    )
    found: list[Figures] = []
    with _serving(options.latency) as address:
        for count in options.sizes:
            for engine in options.engines:
                found.append(measure(engine, count, address, options.latency, options.in_flight, options.seed))
                print(f"{engine}, {count}: {found[-1].seconds:.1f} s", file=sys.stderr)
    _say(found)
    setup = {"latency": options.latency, "in_flight": options.in_flight}
    rows = [{**asdict(one), "overhead": one.overhead, "an_hour": one.an_hour} for one in found]
    reached = goals(found)
    save(options.json, {**facts, **setup, "builds": rows}, reached)
    return say_goals(reached)


def main() -> int:
    """Measure, print the table and the goals; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["local"], help="ray needs the extra ray")
    parser.add_argument("--sizes", nargs="+", type=int, default=[100, 1000, 10_000], help="histories")
    parser.add_argument("--latency", type=float, default=0.3, help="seconds that each call takes")
    parser.add_argument("--in-flight", type=int, default=200, help="calls at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--build", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.latency))
    elif options.build:
        histories, out, address, engine, in_flight = options.build
        print(json.dumps(asyncio.run(_build(Path(histories), Path(out), address, engine, int(in_flight)))))
    else:
        return _measure_all(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
