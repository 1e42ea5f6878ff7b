"""Asking a model for a value: it comes as a value or as a failure with its reason, never as a guess.

What counts as a value is decided in `parsing`. Here is who is asked, how often, and what is said on the second try. Left
out on purpose: a third try, and schemas that refer to themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from peregrm.errors import ModelError
from peregrm.models.base import Completion, Message, Model, Request, Schema, request_key
from peregrm.models.digits import Path, expected_digits, integer_spans
from peregrm.models.echo import Material
from peregrm.models.parsing import Check, Found, Unparsed, find_answer, parse_answer
from peregrm.models.samples import complete_samples, each_outcome
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Usage

__all__ = [
    "Answer",
    "Check",
    "Path",
    "Unparsed",
    "ask",
    "ask_samples",
    "expected_digits",
    "integer_spans",
    "parse_answer",
    "strict_schema",
]

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What `ask` brought back: a value or a failure, never both and never neither.

    `completion` is the one the value came from, or the last one, or None where no call succeeded; `raw` is its text
    as it came; `usage` is the sum over all tries.
    """

    value: T | None
    failure: Failure | None
    completion: Completion | None
    raw: str
    usage: Usage
    prompt_key: str
    """The `request_key` of what was asked first: the key of that call in the cache file."""
    start: int | None = None
    """Offset of the value's JSON object in `raw`, None where there is no value or its text had to be repaired."""

    @property
    def has_logprobs(self) -> bool:
        """Whether `expected_digits` can tell anything."""
        return self.completion is not None and self.completion.logprobs is not None and self.start is not None

    def expected_digits(self, paths: Sequence[Path], low: int = 1, high: int = 5) -> list[float | None]:
        """Return, for each path to an integer of `value`, its expectation over the digits `low` to `high`, or None.

        None means that the log-probabilities do not tell (see the function `expected_digits`): use the sampled digit.
        """
        if self.completion is None or self.completion.logprobs is None or self.start is None:
            return [None] * len(paths)
        spans = integer_spans(self.raw, paths, self.start)
        known = expected_digits(self.completion, [span for span in spans if span is not None], low, high)
        found = iter(known)
        return [None if span is None else next(found) for span in spans]


async def ask(model: Model, request: Request, schema: type[T], check: Check[T] | None = None) -> Answer[T]:
    """Ask a model for a value of `schema`; on an unusable answer ask once more, showing the model its mistake.

    Args:
        model: Who answers.
        request: The question; its `json_schema` is filled in unless it is set, its `purpose` becomes the failure's
            stage.
        schema: A pydantic model; every field must be present, whatever its default.
        check: Returns what is wrong with a value that fits the schema, or None.

    Returns:
        The value, or the failure of the last try with its kind: one of `Unparsed`, or that of a `ModelError`.

    Raises:
        ModelError: Only a fatal one.
        ScriptExhausted: The scripted model has no more answers.
    """
    (answer,) = await ask_samples(model, request, schema, 1, check)
    return answer


async def ask_samples(
    model: Model, request: Request, schema: type[T], n: int, check: Check[T] | None = None
) -> list[Answer[T]]:
    """Ask for `n` samples of a value, in one call where the model can; each unusable one is asked for once more, alone.

    Sample k is what `ask` would return for `request` with `trial` + k, but for the usage: that of a call which brought
    several samples is with the first of them, so that the sum is right.

    Args:
        model: Who answers.
        request: The question of the first sample, as for `ask`.
        schema: As for `ask`.
        n: At least 1.
        check: As for `ask`.

    Raises:
        ModelError: Only a fatal one, once no call is under way any more.
        ScriptExhausted: The scripted model has no more answers.
        ValueError: `n` is below 1.
    """
    if request.json_schema is None:
        request = request.model_copy(update={"json_schema": strict_schema(schema)})
    material = Material(message.content for message in request.messages if message.role == "user")
    answers: list[Answer[T]] = []
    for number, outcome in enumerate(await complete_samples(model, request, n)):
        key = request_key(model.name, request.sample(number))
        answers.append(_after(None, key, outcome, request.purpose, schema, check, material))
    unusable = {number: answer.failure for number, answer in enumerate(answers) if answer.failure and answer.completion}
    second = await each_outcome(
        model.complete(_with_correction(request.sample(number), answers[number].raw, failure.reason))
        for number, failure in unusable.items()
    )
    for number, outcome in zip(unusable, second, strict=True):
        first = answers[number]
        answers[number] = _after(first, first.prompt_key, outcome, request.purpose, schema, check, material)
    return answers


def _after(
    before: Answer[T] | None,
    key: str,
    outcome: Completion | ModelError,
    stage: str,
    schema: type[T],
    check: Check[T] | None,
    material: Material,
) -> Answer[T]:
    """Return the answer as it stands after one more try."""
    if isinstance(outcome, ModelError):
        failure = Failure(stage=stage, kind=outcome.kind, reason=str(outcome))
        return Answer(None, failure, None, "", Usage(), key) if before is None else replace(before, failure=failure)
    cut = outcome.finish_reason == "length"
    found = find_answer(outcome.text, schema, truncated=cut, check=check, material=material)
    usage = outcome.usage if before is None else before.usage + outcome.usage
    if isinstance(found, Found):
        return Answer(found.value, None, outcome, outcome.text, usage, key, found.start)
    failure = Failure(stage=stage, kind=found.kind, reason=found.reason)
    return Answer(None, failure, outcome, outcome.text, usage, key)


def _with_correction(request: Request, text: str, problem: str) -> Request:
    """Return the request, what was answered, and what is wrong with it, which may hold words of the answer."""
    said = Message(role="assistant", content=text.strip() or "(no answer)")
    messages = (*request.messages, said, *render("retry", problem=Untrusted(problem)))
    return request.model_copy(update={"messages": messages})


@lru_cache(maxsize=512)
def strict_schema(schema: type[BaseModel]) -> Schema:
    """Return the JSON schema of a pydantic model as structured-output back ends want it.

    References are inlined, every object lists all its properties as required and allows no others; titles, defaults
    and class docstrings are dropped, field descriptions stay. The same type gives the same object, which must not be
    changed.

    Raises:
        ValueError: The schema refers to itself.
    """
    document = schema.model_json_schema()
    return Schema(_strict(document, document.get("$defs", {}), ()))


def _strict(node: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_strict(item, definitions, inside) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        if name in inside:
            raise ValueError(f"the schema of {name} refers to itself, which structured output cannot express")
        merged = {
            **_strict(definitions[name], definitions, (*inside, name)),
            **{k: v for k, v in node.items() if k != "$ref"},
        }
        merged.pop("default", None)
        return merged
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _strict(part, definitions, inside) for name, part in value.items()}
        elif key in ("enum", "const"):
            out[key] = value
        elif key not in ("$defs", "title", "default", "discriminator"):
            out[key] = _strict(value, definitions, inside)
    if "properties" in out:
        out.pop("description", None)
        out["required"] = list(out["properties"])
        out["additionalProperties"] = False
    return out
