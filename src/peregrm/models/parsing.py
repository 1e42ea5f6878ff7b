"""How a model's text becomes a value of a schema, or the reason why it holds none; never a guess.

One rule runs through this file: the last complete object that fits the schema strictly and is not quoted from the
question is the answer, and whatever does not fit is an error. Nothing is clipped, rounded, converted or filled in, and a
truncated object is never completed. Repair may mend punctuation only: every word and number of the repaired object must
stand in the text in the same order.

Left out on purpose: answers that are not one JSON object, and whoever is asked for them (see `structured`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from peregrm.models.echo import Material
from peregrm.text import THINK_CLOSE, THINK_OPEN

__all__ = ["UNUSABLE", "Check", "Found", "Unparsed", "find_answer", "parse_answer"]

T = TypeVar("T", bound=BaseModel)
Check = Callable[[T], str | None]
"""Says what is wrong with a value that fits the schema, or returns None."""

_OBJECT_START = re.compile(r"\{\s*(?:[\"'“”‘’}]|[A-Za-z_]\w*\s*:)")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_WORD = re.compile(r"[-+.\d/%]*\d[-+.\d/%\w]*|\w+")
_MAX_REPORTED_ERRORS = 5


UNUSABLE = frozenset({"empty", "unclosed_thinking", "truncated", "unparsable", "invalid", "check", "echo"})
"""The kinds of failure of a model that did answer, but with nothing of use."""


class Unparsed(NamedTuple):
    """Why a text holds no value.

    `kind` is `empty`, `unclosed_thinking`, `truncated`, `unparsable` (no complete JSON object), `invalid` (it does
    not fit the schema), `check` (the caller's check refused it) or `echo` (the question holds it, and the model only
    quotes it). `reason` says so to a person, and to the model in a retry.
    """

    kind: str
    reason: str


class Found(NamedTuple):
    """A value and where its JSON text stands; `start` is None where it had to be repaired."""

    value: Any
    start: int | None


def parse_answer(text: str, schema: type[T], *, truncated: bool = False, check: Check[T] | None = None) -> T | Unparsed:
    """Read the value of `schema` out of a model's text.

    The whole text is taken as JSON first. Failing that, thinking is removed and of all complete top-level objects in
    the rest, fenced or not, the last that fits counts. An object with broken punctuation is repaired only if its
    braces and brackets close and the text was not `truncated`. Validation is strict: no conversion between types, no
    missing, unknown or repeated keys, no number out of range, no NaN or infinity.
    """
    found = find_answer(text, schema, truncated=truncated, check=check, material=Material(()))
    return found.value if isinstance(found, Found) else found


def find_answer(
    text: str, schema: type[T], *, truncated: bool, check: Check[T] | None, material: Material
) -> Found | Unparsed:
    """Do what `parse_answer` does, pass over objects that stand in `material`, and say where in `text` the value stands."""
    if not text.strip():
        return Unparsed("empty", "it is empty")
    for start in _whole_answer_starts(text):
        document = _loads(text[start:])
        if not isinstance(document, Unparsed):
            return _own(_validated(document, schema, check, start), text[start:], material)
        if document.kind == "invalid":
            return document
    answer_start = _after_thinking(text)
    if answer_start is None:
        return Unparsed("unclosed_thinking", "the thinking never ended, so there is no answer after it")
    return _last_fitting(text, answer_start, schema, truncated=truncated, check=check, material=material)


def _last_fitting(
    text: str, answer_start: int, schema: type[T], *, truncated: bool, check: Check[T] | None, material: Material
) -> Found | Unparsed:
    if not text[answer_start:].strip():
        return Unparsed("empty", "there is nothing after the thinking")
    reason = Unparsed("unparsable", "it holds no complete JSON object")
    if truncated:
        reason = Unparsed("truncated", "it was cut off at the length limit; be brief")
    for start, end in reversed(list(_objects(text, answer_start))):
        read = _read_object(text[start:end], schema, check, start, may_repair=not truncated)
        found = _own(read, text[start:end], material)
        if isinstance(found, Found):
            return found
        if reason.kind == "unparsable" and found.kind != "unparsable":
            reason = found
    return reason


def _own(found: Found | Unparsed, text: str, material: Material) -> Found | Unparsed:
    if isinstance(found, Found) and material.holds(text):
        return Unparsed("echo", "it is quoted from the material between tags; give an answer of your own")
    return found


def _leading_space(text: str) -> int:
    return len(text) - len(text.lstrip())


def _whole_answer_starts(text: str) -> Iterator[int]:
    yield 0
    opened = THINK_OPEN.match(text, _leading_space(text))
    closed = THINK_CLOSE.search(text, opened.end()) if opened else None
    if closed:
        yield closed.end()


def _after_thinking(text: str) -> int | None:
    """Return where the answer starts, or None where the last thinking is not closed."""
    start = max((match.end() for match in THINK_CLOSE.finditer(text)), default=0)
    return None if THINK_OPEN.search(text, start) else start


def _objects(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of the top-level objects that close. One that never closes swallows the rest."""
    while (start := text.find("{", start)) >= 0:
        if not _OBJECT_START.match(text, start):
            start += 1
            continue
        end = _closing(text, start)
        if end is None:
            return
        yield start, end
        start = end


def _closing(text: str, start: int) -> int | None:
    """Return the end of the object that opens at `start`, or None where braces and brackets do not close in order."""
    expected: list[str] = []
    position = start
    while position < len(text):
        char = text[position]
        if char == '"':
            string = _STRING.match(text, position)
            if string is None:
                return None
            position = string.end()
            continue
        if char in "{[":
            expected.append("}" if char == "{" else "]")
        elif char in "}]":
            if expected.pop() != char:
                return None
            if not expected:
                return position + 1
        position += 1
    return None


def _read_object(
    text: str, schema: type[T], check: Check[T] | None, start: int, *, may_repair: bool
) -> Found | Unparsed:
    document = _loads(text)
    if not isinstance(document, Unparsed):
        return _validated(document, schema, check, start)
    if document.kind == "unparsable" and may_repair:
        repaired = _repaired(text)
        if repaired is not None:
            return _validated(repaired, schema, check, None)
    return document


def _loads(text: str) -> Any:
    """Parse JSON; line breaks inside strings pass, repeated keys and non-finite numbers are `invalid`."""
    try:
        return _DECODER.decode(text)
    except _Refused:
        return _invalid_or_unparsable(text)
    except (ValueError, RecursionError):
        return Unparsed("unparsable", "it is not valid JSON")


class _Refused(Exception):
    """JSON, at least so far, that holds a repeated key or a number that is not finite."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Refused
    return found


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise _Refused
    return value


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite)


def _invalid_or_unparsable(text: str) -> Unparsed:
    """Read to the end a text in which something was refused: what is no JSON either is `unparsable`."""
    refusals: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            refusals.append("a key occurs twice in one object")
        return dict(pairs)

    def finite(literal: str) -> float:
        value = float(literal)
        if not math.isfinite(value):
            refusals.append(f"{literal} is not a finite number")
        return value

    try:
        json.loads(text, strict=False, object_pairs_hook=unique, parse_constant=finite, parse_float=finite)
    except (ValueError, RecursionError):
        return Unparsed("unparsable", "it is not valid JSON")
    return Unparsed("invalid", refusals[0])


def _repaired(text: str) -> dict[str, Any] | None:
    """Mend the punctuation of an object, or return None where more than punctuation would change."""
    import json_repair

    try:
        document = json_repair.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    before = _words(re.sub(r'\\[nrtbf"\\/]', " ", text))
    after = [word for leaf in _leaves(document) for word in _words(leaf)]
    return document if before == after else None


def _words(text: str) -> list[str]:
    return [{"True": "true", "False": "false", "None": "null"}.get(word, word) for word in _WORD.findall(text)]


def _leaves(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _leaves(value)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value)
    else:
        yield node if isinstance(node, str) else json.dumps(node)


def _validated(document: Any, schema: type[T], check: Check[T] | None, start: int | None) -> Found | Unparsed:
    try:
        value = schema.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        return Unparsed("invalid", _plain(error))
    misfit = _key_misfit(document, value)
    if misfit is not None:
        return Unparsed("invalid", misfit)
    complaint = check(value) if check is not None else None
    return Unparsed("check", complaint) if complaint is not None else Found(value, start)


def _plain(error: ValidationError) -> str:
    problems = [
        f"{'.'.join(map(str, problem['loc'])) or 'the answer'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    more = len(problems) - _MAX_REPORTED_ERRORS
    return "; ".join(problems[:_MAX_REPORTED_ERRORS]) + (f"; and {more} more" if more > 0 else "")


def _key_misfit(document: Any, value: Any, where: str = "") -> str | None:
    """Say which keys are missing or unknown, also where the pydantic model has defaults or would ignore them."""
    children: list[tuple[Any, Any, str]] = []
    kind: type = type(value)
    names = _names_by_key(kind)
    if names is not None and isinstance(document, dict):
        if names.keys() != document.keys():
            missing, unknown = names.keys() - document, document.keys() - names
            label = "missing" if missing else "not in the schema"
            return f"{', '.join(sorted(where + key for key in missing or unknown))}: {label}"
        nested = [(key, name) for key, name in names.items() if isinstance(document[key], (dict, list))]
        children = [(document[key], getattr(value, name), f"{where}{key}.") for key, name in nested]
    elif isinstance(value, dict) and isinstance(document, dict):
        children = [(document[key], value[key], f"{where}{key}.") for key in document if key in value]
    elif isinstance(value, list | tuple) and isinstance(document, list):
        children = [(d, v, f"{where}{i}.") for i, (d, v) in enumerate(zip(document, value, strict=False))]
    for child in children:
        if (misfit := _key_misfit(*child)) is not None:
            return misfit
    return None


@lru_cache(maxsize=1024)
def _names_by_key(kind: type) -> dict[str, str] | None:
    """Return the names of a model's fields by their keys, None for a type that is no model: asking the type itself takes longer."""
    if not issubclass(kind, BaseModel):
        return None
    return {field.alias or name: name for name, field in kind.model_fields.items()}
