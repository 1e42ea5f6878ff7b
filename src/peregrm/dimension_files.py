"""Sets of dimensions from TOML files: those that come with the package and those a user writes.

A file has one `[[dimension]]` for each quality, with `name`, `measures`, `fails` and, if wanted, `criteria` that hold for any case;
`data/dimensions/politeness.toml` explains how to write one. Left out on purpose: weights and other arithmetic (every dimension counts
alike) and the check that no criterion rewards the mention of a memory, which `peregrm.reward.criteria` makes for any criteria.
"""

from __future__ import annotations

import keyword
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from peregrm.dimensions import EMPATHY, Dimension
from peregrm.errors import SettingsError
from peregrm.text import tokens

__all__ = ["load_dimensions", "shipped_dimensions"]

_MOST_DIMENSIONS = 8
_FEWEST_CRITERIA, _MOST_CRITERIA = 4, 6
_FEWEST_WORDS = 3
_ENDS = ".!?。！？"
_RESERVED = frozenset({
    "analysis", "bystander", "coverage", "criteria", "cut_off", "dimension", "dimensions", "empathy", "empty",
    "failure", "flagged_total", "judge", "language", "mean", "method", "no_reply", "parroting", "penalty", "policy",
    "repetition", "reply", "reward", "rule", "score", "scores", "sycophancy", "tokens", "total", "trial", "weight",
})  # fmt: skip
"""Names that stand beside those of dimensions in answers, records or reports."""


def shipped_dimensions() -> tuple[str, ...]:
    """Return the names of the sets that come with the package, the default first."""
    files = resources.files("peregrm").joinpath("data", "dimensions").iterdir()
    return ("empathy", *sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_dimensions(spec: str) -> tuple[Dimension, ...]:
    """Return the set of dimensions that `spec` means: a shipped name, or else the path of a TOML file.

    Raises:
        SettingsError: There is no such set or file, or the file is not what it must be; names the file and every fault in it.
    """
    if spec == "empathy":
        return EMPATHY
    if spec in shipped_dimensions():
        file = resources.files("peregrm").joinpath("data", "dimensions", f"{spec}.toml")
        return _parse(file.read_bytes(), spec)
    return _parse(_read(spec), spec)


def _read(spec: str) -> bytes:
    shipped = f"the sets that come with peregrm are {', '.join(shipped_dimensions())}"
    if not spec.strip():
        raise SettingsError(f"dimensions: neither a name nor a file is given; {shipped}")
    try:
        return Path(spec).read_bytes()
    except FileNotFoundError:
        raise SettingsError(f"{spec}: there is no such file or set of dimensions; {shipped}") from None
    except IsADirectoryError:
        raise SettingsError(f"{spec}: is a directory, not a file of dimensions; {shipped}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise SettingsError(f"{spec!r}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _parse(content: bytes, source: str) -> tuple[Dimension, ...]:
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SettingsError(f"{source}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source}: not TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{source}: not a file of dimensions: nested too deeply") from None
    try:
        entries = _File.model_validate(document).dimension
    except ValidationError as error:
        raise SettingsError(f"{source}: {'; '.join(_problems(error, document))}") from None
    twice = [*_repeated([entry.name for entry in entries], "the name"), *_repeated_criteria(entries)]
    if twice:
        raise SettingsError(f"{source}: {'; '.join(twice)}")
    return tuple(Dimension(e.name, e.measures, e.fails, tuple(e.criteria)) for e in entries)


def _name(name: str) -> str:
    if name in _RESERVED or keyword.iskeyword(name) or hasattr(BaseModel, name) or name.startswith("model_"):
        raise ValueError(f"{name!r} is taken for something else; choose another name")
    return name


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    if sum(word.isalpha() for word in tokens(line)) < _FEWEST_WORDS:
        raise ValueError("is not a sentence")
    return line


def _full_sentence(text: str) -> str:
    if not text.endswith(tuple(_ENDS)):
        raise ValueError("does not end like a sentence, with a full stop")
    return text


_Criterion = Annotated[str, Field(max_length=200), AfterValidator(_sentence)]
_Wording = Annotated[str, Field(max_length=500), AfterValidator(_sentence), AfterValidator(_full_sentence)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(?:_[a-z0-9]+)*$", max_length=40), AfterValidator(_name)]
    measures: _Wording
    fails: _Wording
    criteria: Annotated[list[_Criterion], Field(min_length=_FEWEST_CRITERIA, max_length=_MOST_CRITERIA)] = Field(
        default_factory=list
    )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dimension: Annotated[list[_Entry], Field(min_length=1, max_length=_MOST_DIMENSIONS)]


def _problems(error: ValidationError, document: dict[str, Any]) -> Iterator[str]:
    """Return one phrase a fault, each saying which dimension and key."""
    for problem in error.errors(include_url=False, include_context=False):
        where = [str(part + 1) if isinstance(part, int) else part for part in problem["loc"]]
        place = ".".join(where)
        if not document:
            yield "it has no [[dimension]]"
        elif problem["type"] == "extra_forbidden":
            known = _File if len(where) == 1 else _Entry
            yield f"{place}: unknown key; known here: {', '.join(known.model_fields)}"
        elif problem["loc"] == ("dimension",) and problem["type"] == "list_type":
            yield "dimension: write [[dimension]], with two brackets on each side"
        elif problem["type"] == "string_pattern_mismatch":
            yield f"{place}: a name is lower-case letters, digits and single underscores, and begins with a letter"
        else:
            yield f"{place}: {problem['msg'].removeprefix('Value error, ')}"


def _repeated(texts: Sequence[str], what: str) -> list[str]:
    return [f"{what} {text!r} occurs {n} times" for text, n in Counter(texts).items() if n > 1]


def _repeated_criteria(entries: Sequence[_Entry]) -> list[str]:
    """Return what occurs twice, in whichever dimensions; punctuation and case make no difference."""
    return _repeated([" ".join(tokens(text)) for entry in entries for text in entry.criteria], "the criterion")
