"""A judge behind HTTP that gives an honest verdict on every question, plays faults on command, and logs what it really gave.

The verdict follows from the reply's marker (`[[07]]`), what is asked about it and the seed, so that two runs give the same numbers.
`given` is the truth that a reward is held against: for each judgement the values of the last answer, or None where it held none.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiohttp import web

from own_server import OwnServer

MARKER = re.compile(r"\[\[(\d+)\]\]")
_QUALITY = re.compile(r"The quality is (\w+)\.")

Key = tuple[str, str, int]
"""(marker of the reply, aspect, trial) of one judgement."""


@dataclass(frozen=True)
class Question:
    """What one call asks: `aspect` as in judgements, or `list`, or `criteria`; `again` for the second try of an answer."""

    aspect: str
    markers: tuple[str, ...]
    seed: int
    again: bool

    @property
    def is_reversed(self) -> bool:
        return list(self.markers) != sorted(self.markers)


class Served(NamedTuple):
    """One call as it would be answered: the verdict of every choice, another verdict that fits as well, and both as text."""

    verdicts: list[dict[str, Any]]
    others: list[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        return [json.dumps(verdict) for verdict in self.verdicts]


Play = Callable[[web.Request, Served], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """Something other than an honest answer.

    `kinds` are those a failure may have, none where the verdict `counts` all the same; `fatal` says that the run stops. `choice`
    limits it to one of several choices.
    """

    play: Play
    kinds: tuple[str, ...] = ()
    counts: bool = False
    fatal: bool = False
    choice: int | None = None


Plan = Callable[[Question], Fault | None]


class JudgeServer(OwnServer):
    """Listens on 127.0.0.1; `plan` says which question meets which fault; `samples` is K; `gives_n` whether it takes `n`."""

    def __init__(self, plan: Plan | None = None, *, samples: int = 1, gives_n: bool = True) -> None:
        self.plan = plan or (lambda question: None)
        self.samples = samples
        self.gives_n = gives_n
        self.given: dict[Key, dict[str, Any] | None] = {}
        self.asked: list[Question] = []
        self.bodies: list[dict[str, Any]] = []
        self._schemas: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
        super().__init__()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        schema = self._schema_of(body)
        question = question_of(body, schema)
        self.bodies.append(body)
        self.asked.append(question)
        if "n" in body and not self.gives_n:
            return web.json_response({"error": {"message": "parameter n must be 1"}}, status=400)
        fault = self.plan(question)
        seeds = range(question.seed, question.seed + body.get("n", 1))
        served = Served(
            [honest(question, schema["schema"], seed) for seed in seeds],
            [honest(question, schema["schema"], -1 - seed) for seed in seeds],
        )
        for number, (seed, verdict) in enumerate(zip(seeds, served.verdicts, strict=True)):
            is_hit = fault is not None and fault.choice in (None, number)
            self._log(question, seed, None if fault and is_hit and not fault.counts else verdict)
        return await (fault.play if fault else answers)(request, served)

    def _schema_of(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the asked-for schema, also where it was left out because an earlier request with it was refused."""
        system, user = (message["content"] for message in body["messages"][:2])
        key = system, tuple(MARKER.findall(user))
        if "response_format" in body:
            self._schemas[key] = body["response_format"]["json_schema"]
        return self._schemas[key]

    def _log(self, question: Question, seed: int, verdict: dict[str, Any] | None) -> None:
        if question.aspect == "list":
            trial = seed % self.samples + (self.samples if question.is_reversed else 0)
            for number, marker in enumerate(question.markers, 1):
                of_one = None if verdict is None else verdict[f"r{number}"]
                self.given[marker, "dimensions", trial] = of_one
                self.given[marker, "bystander", trial] = None if of_one is None else of_one["bystander"]
        elif question.aspect != "criteria":
            (marker,) = question.markers
            self.given[marker, question.aspect, seed] = verdict


def question_of(body: dict[str, Any], schema: dict[str, Any]) -> Question:
    system, user = (message["content"] for message in body["messages"][:2])
    aspect = {"criteria": "criteria", "bystander": "bystander", "judge": "dimensions"}[schema["name"]]
    if quality := _QUALITY.search(system):
        aspect = quality[1]
    elif "r1" in schema["schema"]["properties"]:
        aspect = "list"
    return Question(aspect, tuple(MARKER.findall(user)), body.get("seed", 0), again=len(body["messages"]) > 2)


def honest(question: Question, schema: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the verdict; in a list each reply has its own, whatever its place."""
    if question.aspect != "list":
        return _fill(schema, random.Random(f"{question.aspect}/{question.markers}/{seed}"))
    return {
        f"r{number}": _fill(
            schema["properties"][f"r{number}"], random.Random(f"list/{marker}/{question.is_reversed}/{seed}")
        )
        for number, marker in enumerate(question.markers, 1)
    }


def _fill(schema: dict[str, Any], rng: random.Random) -> Any:
    if schema["type"] == "object":
        return {name: _fill(part, rng) for name, part in schema["properties"].items()}
    if schema["type"] == "array":
        return [_fill(schema["items"], rng) for _ in range(schema["minItems"])]
    if schema["type"] == "integer":
        return rng.randint(schema["minimum"], schema["maximum"])
    return f"The reply meets the need number {rng.getrandbits(40)}."


def completion(*contents: str | None, **choice: Any) -> str:
    """Return the body of an answer with one choice for each content."""
    choices = [
        {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": content}, **choice}
        for n, content in enumerate(contents)
    ]
    usage = {"prompt_tokens": 100, "completion_tokens": 20 * len(choices)}
    return json.dumps({"model": "served", "choices": choices, "usage": usage})


async def answers(_: web.Request, served: Served) -> web.StreamResponse:
    return web.Response(text=completion(*served.texts), content_type="application/json")


def status(code: int, message: str = "5 out of 5, says the server", **headers: str) -> Play:
    async def play(_: web.Request, __: Served) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": {"message": message}}, status=code, headers=named)

    return play


_ECHO = 'invalid input: {"n": 4, "logprobs": true, "max_tokens": 900, "response_format": {"type": "json_schema"}, ...}'
"""Some servers repeat the request, and with it the name of every feature, whatever is wrong with it."""


def body(make: Callable[[Served], str], content_type: str = "application/json") -> Play:
    """Answer 200 with this body."""

    async def play(_: web.Request, served: Served) -> web.StreamResponse:
        return web.Response(text=make(served), content_type=content_type)

    return play


def says(edit: Callable[[dict[str, Any], dict[str, Any]], str], choice: int | None = None, **extra: Any) -> Play:
    """Answer with an edited text, made from the verdict and another that fits; `extra` goes into the choices."""

    def make(served: Served) -> str:
        texts = [
            edit(verdict, other) if choice in (None, n) else json.dumps(verdict)
            for n, (verdict, other) in enumerate(zip(served.verdicts, served.others, strict=True))
        ]
        return completion(*texts, **extra)

    return body(make)


def with_chances(of: Callable[[str], dict[str, Any]]) -> Play:
    """Answer honestly, each character a token with the log-probabilities `of` gives."""

    def make(served: Served) -> str:
        document = json.loads(completion(*served.texts))
        for choice, text in zip(document["choices"], served.texts, strict=True):
            choice["logprobs"] = {"content": [{"token": char, **of(char)} for char in text]}
        return json.dumps(document)

    return body(make)


def _top(**chances: float) -> list[dict[str, Any]]:
    return [{"token": token.removeprefix("_"), "logprob": logprob} for token, logprob in chances.items()]


async def hangs(_: web.Request, __: Served) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def drips(request: web.Request, served: Served) -> web.StreamResponse:
    """Send the whole answer and then blanks for ever: always something, never the end."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(completion(*served.texts).encode())
    while True:
        await asyncio.sleep(0.02)
        await response.write(b" ")


async def slow_but_whole(request: web.Request, served: Served) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    whole = completion(*served.texts).encode()
    for start in range(0, len(whole), 200):
        await response.write(whole[start : start + 200])
        await asyncio.sleep(0.001)
    return response


async def resets(request: web.Request, served: Served) -> web.StreamResponse:
    """Break off in mid-body, behind a complete verdict."""
    whole = completion(*served.texts).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole) + 9)})
    await response.prepare(request)
    await response.write(whole)
    assert request.transport is not None
    request.transport.close()
    return response


async def aborts(request: web.Request, _: Served) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def with_number(verdict: dict[str, Any], literal: str) -> str:
    """Return the verdict with the raw JSON `literal` in the place of its first score or points."""
    copy = json.loads(json.dumps(verdict))
    assert _plant(copy, "score") or _plant(copy, "s1") or _plant(copy, "content")
    return json.dumps(copy).replace('"PLANTED"', literal)


def _plant(node: dict[str, Any], key: str) -> bool:
    if isinstance(node.get(key), int):
        node[key] = "PLANTED"
        return True
    return any(_plant(part, key) for part in node.values() if isinstance(part, dict))


def with_number_of(literal: str) -> Play:
    return says(lambda verdict, _: with_number(verdict, literal))


def lacks_one(verdict: dict[str, Any], _: dict[str, Any]) -> str:
    """Leave a dimension out, in a list of one reply only; or the score, or a part of the points."""
    copy = json.loads(json.dumps(verdict))
    inside = copy.get("r2", copy)
    del inside["reception" if "reception" in inside else list(inside)[-1]]
    return json.dumps(copy)


def _renamed(node: Any) -> Any:
    return {f"键{key}": _renamed(part) for key, part in node.items()} if isinstance(node, dict) else node


def _reworded(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _reworded(part) for key, part in node.items()}
    if isinstance(node, list):
        return [_reworded(part) for part in node]
    return f"这条回复很贴合她:{node}" if isinstance(node, str) else node


_HTML = "<html><body><h1>502 Bad Gateway</h1> 5 out of 5</body></html>"

CALL_FAULTS: dict[str, Fault] = {
    "reset in mid-body": Fault(resets, ("reset",)),
    "connection aborted": Fault(aborts, ("reset",)),
    "429": Fault(status(429), ("rate_limited",)),
    "429, Retry-After now": Fault(status(429, Retry_After="0"), ("rate_limited",)),
    "429, Retry-After an hour": Fault(status(429, Retry_After="3600"), ("rate_limited",)),
    "500": Fault(status(500), ("server_error",)),
    "503": Fault(status(503), ("server_error",)),
    "503, Retry-After an hour": Fault(status(503, Retry_After="3600"), ("server_error",)),
    "400, the reply is too long": Fault(status(400, "this model's context is 4096 tokens"), ("request",)),
    "422, naming every feature": Fault(status(422, _ECHO), ("request",)),
    "empty body": Fault(body(lambda _: ""), ("protocol",)),
    "HTML": Fault(body(lambda _: _HTML, "text/html"), ("protocol",)),
    "HTML said to be JSON": Fault(body(lambda _: _HTML), ("protocol",)),
    "truncated JSON": Fault(body(lambda served: completion(*served.texts)[:-3]), ("protocol",)),
    "a bare verdict": Fault(body(lambda served: served.texts[0]), ("protocol",)),
    "no choices": Fault(body(lambda _: completion()), ("protocol",)),
    "an error with status 200": Fault(body(lambda _: '{"error": {"message": "5"}}'), ("protocol",)),
    "no content": Fault(body(lambda _: completion(None)), ("no_content",)),
    "refusal": Fault(
        body(lambda _: completion(None, message={"content": None, "refusal": "I give no 5 here."})), ("refusal",)
    ),
}
"""What becomes of a call as a whole."""

WAITING_FAULTS: dict[str, Fault] = {
    "timeout": Fault(hangs, ("timeout",)),
    "slow stream": Fault(drips, ("timeout",)),
}
"""These last until the deadline."""

FATAL_FAULTS: dict[str, Fault] = {
    "401": Fault(status(401), ("auth",), fatal=True),
    "404": Fault(status(404), ("request",), fatal=True),
}

TEXT_FAULTS: dict[str, Fault] = {
    "no text": Fault(says(lambda *_: ""), ("empty",)),
    "HTML in the text": Fault(says(lambda *_: _HTML), ("unparsable",)),
    "refusal in words": Fault(says(lambda *_: "I am sorry, I cannot give this a 5."), ("unparsable",)),
    "cut off at the limit": Fault(says(lambda v, _: json.dumps(v)[:-9], finish_reason="length"), ("truncated",)),
    "cut off without a word": Fault(says(lambda v, _: json.dumps(v)[:-1]), ("unparsable",)),
    "wrong schema": Fault(says(lambda *_: '{"verdict": "good", "rating": 5}'), ("invalid",)),
    "a list": Fault(says(lambda v, _: json.dumps([v])), ("invalid", "unparsable")),
    "missing dimension": Fault(says(lacks_one), ("invalid",)),
    "a key twice": Fault(
        says(lambda v, _: f'{json.dumps(v)[:-1]}, "{list(v)[-1]}": {json.dumps(list(v.values())[-1])}}}'), ("invalid",)
    ),
    "extra keys": Fault(says(lambda v, _: json.dumps({**v, "overall": 5})), ("invalid",)),
    "keys translated": Fault(says(lambda v, _: json.dumps(_renamed(v), ensure_ascii=False)), ("invalid",)),
    "a verdict in thinking only": Fault(says(lambda v, _: f"<think>{json.dumps(v)}"), ("unclosed_thinking",)),
}
"""What becomes of the text of a call, in every kind of question."""

SCORES = ("0", "6", "45", "4.5", "4.0", '"4/5"', '"4"', "NaN", "Infinity", "true", "null", "4/5", "-1", "[4]")
SCORE_FAULTS: dict[str, Fault] = {
    f"score {literal}": Fault(with_number_of(literal), ("invalid", "unparsable")) for literal in SCORES
}
POINTS = ("-1", "21", "45", "15.5", '"15/20"', "NaN", "true")
POINT_FAULTS: dict[str, Fault] = {
    f"points {literal}": Fault(with_number_of(literal), ("invalid", "unparsable")) for literal in POINTS
}

HARMLESS: dict[str, Fault] = {
    "slow but whole": Fault(slow_but_whole, counts=True),
    "two verdicts": Fault(says(lambda v, other: f"{json.dumps(other)}\nI misread it:\n{json.dumps(v)}"), counts=True),
    "a verdict, then one cut off": Fault(
        says(lambda v, other: f"{json.dumps(v)} or rather {json.dumps(other)[:-2]}"), counts=True
    ),
    "a verdict, then one out of range": Fault(
        says(lambda v, other: f"{json.dumps(v)} or rather {with_number(other, '45')}"), counts=True
    ),
    "thinking with another verdict": Fault(
        says(lambda v, other: f"<think>{json.dumps(other)}</think>{json.dumps(v)}"), counts=True
    ),
    "probabilities that are no numbers": Fault(with_chances(lambda char: {"logprob": "high"}), counts=True),
    "probabilities that are NaN": Fault(
        with_chances(lambda char: {"logprob": math.nan, "top_logprobs": _top(_5=math.nan)}), counts=True
    ),
    "probabilities above 1": Fault(
        with_chances(lambda char: {"logprob": 3.0, "top_logprobs": _top(_5=3.0)}), counts=True
    ),
    "probabilities of digits out of range": Fault(
        with_chances(lambda char: {"logprob": -9.0, "top_logprobs": _top(_9=-0.01, _0=-5.0, _6=-6.0)}), counts=True
    ),
    "probabilities of other words": Fault(
        with_chances(lambda char: {"token": f"{char}5", "logprob": 0.0}), counts=True
    ),
    "in a fence": Fault(says(lambda v, _: f"Here:\n```json\n{json.dumps(v)}\n```\nI give a 5."), counts=True),
    "words in another language": Fault(says(lambda v, _: json.dumps(_reworded(v), ensure_ascii=False)), counts=True),
}
"""Odd, and yet a verdict."""
