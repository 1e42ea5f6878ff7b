"""The one seam to any model: a request goes in, a completion comes out, or a `ModelError` is raised.

Every model, hosted, embedded or scripted, is something with `name`, `complete` and `aclose`. Wrappers (cache, ledger) are models
around models. One that can draw several samples of a request in one call offers `complete_many` as well; callers go through
`peregrm.models.samples`, which serves both kinds. Left out on purpose: streaming, tools and images, which nothing here needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol, Self, runtime_checkable

from pydantic import Field

from peregrm.errors import ModelError
from peregrm.records import Message, Part, Usage

__all__ = ["Completion", "Message", "Model", "Request", "SamplingModel", "Schema", "TokenLogprob", "request_key"]

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class Schema(dict[str, Any]):
    """A JSON schema that many requests share and nobody changes: its canonical JSON is made once."""

    @cached_property
    def canonical(self) -> str:
        """The schema with sorted keys, without spaces, in ASCII."""
        return _CANONICAL.encode(self)


class Request(Part):
    """One call, complete: equal requests to one model are the same call and are answered from the cache.

    `json_schema` asks for structured output. `top_logprobs` asks for that many alternatives a token (0: none). `trial` tells
    repeated samples of the same request apart; it is part of the cache key and, where a seed is set, added to it. `purpose` is
    the stage's name, for the ledger; it is not part of the key.
    """

    messages: tuple[Message, ...]
    max_tokens: int = Field(gt=0)
    temperature: float = Field(default=0.0, ge=0)
    json_schema: dict[str, Any] | None = None
    schema_name: str = "answer"
    top_logprobs: int = Field(default=0, ge=0, le=20)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    trial: int = Field(default=0, ge=0)
    purpose: str = "call"

    def sample(self, number: int) -> Request:
        """Return the request for sample `number` of this one, counted from 0: the same with `trial` + `number`."""
        return self if number == 0 else self.model_copy(update={"trial": self.trial + number})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with changes; the copy's keys are its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("known_keys", None)
        return copy

    @cached_property
    def known_keys(self) -> dict[str, str]:
        """What `request_key` gave so far, by the model's name: a call is looked up and recorded under the same key."""
        return {}

    def canonical(self) -> str:
        """Return everything in the request but its purpose as JSON with sorted keys, without spaces, in ASCII."""
        schema = self.json_schema
        if not isinstance(schema, Schema):
            return _CANONICAL.encode(self.model_dump(mode="json", exclude={"purpose"}))
        start = f'{{"json_schema":{schema.canonical},"max_tokens":{self.max_tokens}'
        rest = _canonical_rest(self.schema_name, self.seed, self.stop, self.temperature, self.top_logprobs, self.trial)
        return f'{start},"messages":[{",".join(map(_canonical_message, self.messages))}],{rest}'


@lru_cache(maxsize=256, typed=True)
def _canonical_rest(
    schema_name: str, seed: int | None, stop: tuple[str, ...], temperature: float, top_logprobs: int, trial: int
) -> str:
    """Return what stands behind the messages, where the names come last in the alphabet and the values are the same in many requests."""
    rest = {"schema_name": schema_name, "seed": seed, "stop": stop, "temperature": temperature}
    return _CANONICAL.encode({**rest, "top_logprobs": top_logprobs, "trial": trial})[1:]


def _canonical_message(message: Message) -> str:
    content = _quoted_rules(message.content) if message.role == "system" else _CANONICAL.encode(message.content)
    return f'{{"content":{content},"role":{_CANONICAL.encode(message.role)}}}'


@lru_cache(maxsize=64)
def _quoted_rules(content: str) -> str:
    """Return a system message in quotes: it is the same in many requests."""
    return _CANONICAL.encode(content)


def request_key(model_name: str, request: Request) -> str:
    """Return the SHA-256 of the model's name and everything in the request but its purpose, as 64 hex digits.

    It is the key of the call in the cache file, and the hash that tells in an audit what a model was asked.
    """
    known = request.known_keys
    if model_name not in known:
        text = f'{{"model":{_CANONICAL.encode(model_name)},"request":{request.canonical()}}}'
        known[model_name] = hashlib.sha256(text.encode("ascii")).hexdigest()
    return known[model_name]


class TokenLogprob(Part):
    """One generated token, its log-probability and the likeliest alternatives with theirs (natural log)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Completion(Part):
    """What a model answered.

    `text` is the message content, `thinking` what the endpoint returned apart as reasoning. `finish_reason` is `stop`, `length`
    (cut off at max_tokens) or another word of the endpoint. `logprobs` is None where the endpoint gave none. `seconds` is the time
    the call took when it was made; `cached` whether it came from the cache this time. Of several samples drawn in one call the
    first carries the usage and the seconds of that call, and the others none, so that sums over samples are right.
    """

    text: str
    thinking: str = ""
    finish_reason: str = "stop"
    model: str = ""
    usage: Usage = Usage()
    logprobs: tuple[TokenLogprob, ...] | None = None
    seconds: float = 0.0
    cached: bool = False


class Model(Protocol):
    """Anything that completes requests. Safe to call from many tasks of one event loop at once."""

    @property
    def name(self) -> str:
        """A stable name: it enters cache keys, judgements and reports."""
        ...

    @property
    def concurrency(self) -> int:
        """How many calls it works on at once; further ones wait. Callers use it to order work, not to limit themselves."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Answer one request or raise a `ModelError`."""
        ...

    async def aclose(self) -> None:
        """Free connections, processes and memory. Safe to call twice."""
        ...


@runtime_checkable
class SamplingModel(Model, Protocol):
    """A model that can draw several samples of a request in one call."""

    async def complete_many(self, request: Request, n: int) -> Sequence[Completion | ModelError]:
        """Draw up to `n` samples; number k is the answer to `request.sample(k)`.

        It may return fewer than `n`, even none where it can only draw one at a time: the rest is then asked by single calls.
        A `ModelError` that is not fatal may stand in the place of a sample that failed alone. One that is raised is the failure of
        the whole call.
        """
        ...
