"""The one way a prompt becomes messages.

A prompt is a text file in this folder: a `=== system` part and a `=== user` part, as Jinja templates. Rendering is a single pass:
what a value contains is never interpreted again. Names are checked both ways: a value the prompt does not use and a name it was
not given are errors. Text that came from outside (histories, memories, replies) is passed as `Untrusted` and can only be printed
through the `fence` filter, which marks where it begins and ends with a tag that does not occur in it, or through `spoken`, where
it is the whole of what the user says to a policy. Parts that are equal for
many calls stand first in the files, so that servers can reuse their prefix. Left out on purpose: prompts in Python.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, lru_cache
from importlib import resources
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from peregrm.errors import PromptError
from peregrm.records import Message
from peregrm.templates import environment

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = ["Untrusted", "defuse", "prompt_hash", "prompt_names", "prompt_text", "render"]


class Untrusted(str):
    """Text from outside: data for a prompt, never part of its wording. Only the filters `fence` and `spoken` print it."""

    __slots__ = ("_fenced",)

    _fenced: dict[str, _Fenced]

    def fenced(self, label: str) -> _Fenced:
        """Return the text in its fence, which is made once: what a group of replies has in common is printed for each of them."""
        try:
            known = self._fenced
        except AttributeError:
            known = self._fenced = {}
        if label not in known:
            known[label] = _fence(self, label)
        return known[label]


class _Fenced(str):
    """Text that is safe to print where it stands."""

    __slots__ = ()


_SPECIAL = re.compile(
    r"<(?=[|｜])|[|｜](?=>)|<(?=/?(?:start_of_turn|end_of_turn|s|bos|eos|pad|unk|mask)>)|<(?=</?sys>>)"
    r"|\[(?=/?(?:inst|bos|eos|tool_calls|available_tools|tool_results|system_prompt)\])",
    re.IGNORECASE,
)

_SPECIAL_STARTS = "<|｜["
"""Each of the above begins with one of these; most texts hold none."""


def defuse(text: str) -> str:
    """Return `text` with an invisible space inside whatever spells a special token of a chat template.

    A fence made of text does not hold below the text: many servers read such words in a message as the tokens themselves, which end a
    turn. Broken up they are words again, and read the same to a person.
    """
    return _SPECIAL.sub("\\g<0>\u200b", text) if any(map(text.__contains__, _SPECIAL_STARTS)) else text


def _fence(value: str, label: str) -> _Fenced:
    """Enclose `value` in tags that name it and that it cannot close, because their suffix does not occur in it."""
    suffix = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    value = defuse(value)
    folded = value.lower()
    width = 6
    while suffix[:width] in folded:
        width += 1
    tag = f"{label}-{suffix[:width]}"
    return _Fenced(f"<{tag}>\n{value}\n</{tag}>")


def _fence_once(value: Any, label: str) -> _Fenced:
    return value.fenced(label) if isinstance(value, Untrusted) else _fence(value, label)


def _spoken(value: str) -> _Fenced:
    """Print a user's message as it is: it must be all that the user part holds."""
    return _Fenced(value)


def _finalize(value: Any) -> Any:
    if isinstance(value, Untrusted):
        raise PromptError("text from outside is printed without a fence")
    return value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment(escape=False, finalize=_finalize)
    made.filters.update(fence=_fence_once, spoken=_spoken)
    return made


@cache
def prompt_text(name: str) -> str:
    """Return the text of the prompt file `name` (without `.txt`)."""
    file = resources.files(__package__).joinpath(f"{name}.txt")
    if not file.is_file():
        raise PromptError(f"there is no prompt {name!r}")
    return file.read_text(encoding="utf-8")


def prompt_names() -> list[str]:
    """Return the names of all prompts, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".txt") for file in files if file.name.endswith(".txt"))


def prompt_hash(name: str) -> str:
    """Return 12 hex digits that change with the wording of the prompt."""
    return _hash_of(prompt_text(name))


@lru_cache(maxsize=256)
def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_FENCE_LINE = re.compile(r'\{\{ (\w+) \| fence\("(\w+)"\) \}\}')
_MOST_SETTLED = 256
_SETTLED: dict[tuple[object, ...], tuple[list[object], Message]] = {}
"""The messages that hold no text from outside, by the objects they were made of, which stay alive with them."""


class _Part(NamedTuple):
    role: str
    template: Template
    names: tuple[str, ...]
    """What the part declares, sorted."""
    fences: list[tuple[str, str]]
    """The name and label of each line, where all that the part holds is one fence a line: it needs no template."""


@lru_cache(maxsize=256)
def _templates(name: str, text: str) -> tuple[_Part, ...]:
    """Return the parts with their compiled templates: compiling costs many times what rendering does."""
    from jinja2 import meta

    engine = _environment()
    return tuple(
        _Part(
            role,
            engine.from_string(part),
            tuple(sorted(meta.find_undeclared_variables(engine.parse(part)))),
            _FENCE_LINE.findall(part) if all(map(_FENCE_LINE.fullmatch, part.splitlines())) else [],
        )
        for role, part in _parts(name, text)
    )


@lru_cache(maxsize=256)
def _declared(name: str, text: str) -> frozenset[str]:
    return frozenset(variable for part in _templates(name, text) for variable in part.names)


def _parts(name: str, text: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("=== "):
            parts.append((line[4:].strip(), []))
        elif parts:
            parts[-1][1].append(line)
        elif line.strip():
            raise PromptError(f"prompt {name!r}: text before the first part")
    roles = [role for role, _ in parts]
    if roles not in (["user"], ["system", "user"]):
        raise PromptError(f"prompt {name!r}: parts must be 'system' and 'user', found {roles}")
    return [(role, "\n".join(lines).strip()) for role, lines in parts]


def render(name: str, **values: object) -> tuple[Message, ...]:
    """Fill the prompt `name` with exactly the values it declares and return its messages.

    Raises `PromptError` where a value is missing, superfluous, or comes from outside and is not fenced.
    """
    text = prompt_text(name)
    declared = _declared(name, text)
    if declared != values.keys():
        missing, extra = sorted(declared - values.keys()), sorted(values.keys() - declared)
        raise PromptError(f"prompt {name!r}: missing {missing}, superfluous {extra}")
    return tuple(_message(name, number, part, values) for number, part in enumerate(_templates(name, text)))


def _message(name: str, number: int, part: _Part, values: dict[str, object]) -> Message:
    """Return the message of one part. Without text from outside it is the same for many calls, and made once for the same objects."""
    if part.fences:  # text from outside and nothing else
        return Message(role=part.role, content=_filled(part, values))
    given = [values[variable] for variable in part.names]
    key = (name, number, part.template, *map(id, given))
    if key in _SETTLED:
        return _SETTLED[key][1]
    message = Message(role=part.role, content=_filled(part, values))
    if all(map(_is_settled, given)):
        if len(_SETTLED) >= _MOST_SETTLED:
            _SETTLED.pop(next(iter(_SETTLED)), None)
        _SETTLED[key] = given, message
    return message


def _filled(part: _Part, values: dict[str, object]) -> str:
    """Render without copying Jinja's own functions into every context: a prompt names nothing that it was not given."""
    if part.fences:
        return "\n".join(_fence_once(values[name], label) for name, label in part.fences)
    context = part.template.new_context(values, shared=True)
    return "".join(part.template.root_render_func(context)).strip()


def _is_settled(value: object) -> bool:
    """Tell whether a value can never change and comes from nowhere else; `Untrusted` is another type than `str`."""
    return type(value) in (str, bool, int, NoneType) or (isinstance(value, tuple) and all(map(_is_settled, value)))
