"""Guards of the reward: how long a reply is, how much of it recites what is known, how much of it flatters. Pure, no model.

They are measured for every reply and cost nothing unless a coefficient is set. Parroting counts tokens that lie in a run of five
words or eight Chinese characters (or a mixture of that size) which stands word for word in a kept memory or in the persona, and not in
the message itself: four words in a row are names and set phrases, five or more with at least three that carry content are seldom chance.
Sycophancy counts sentences by the patterns in `data/sycophancy_*.txt`. Left out on purpose: recital in other words, which the judge
must see, and patterns for other languages than English and Chinese, in which sycophancy is therefore never found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence, Set
from functools import cache
from importlib import resources
from operator import itemgetter
from typing import NamedTuple

from pydantic import Field

from peregrm.records import Case, Part
from peregrm.text import content_tokens, tokens

__all__ = ["Guards", "measure", "penalty"]

_WORD_SIZE, _CHARACTER_SIZE, _RUN_SIZE = 8, 5, 40  # a run is five words or eight Chinese characters
_FEWEST_CONTENT = 3
_CHARACTERS_PER_TOKEN = 8

_LANGUAGES = ("en", "zh")
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^“”\n]*”|「[^「」\n]*」|'(?<!\w')(?:[^'\n]|(?<=\w)'(?=\w))*'(?!\w)|‘(?:[^‘’\n]|(?<=\w)’(?=\w))*’(?!\w)"
)
_SENTENCE_END = re.compile(r"[!?。.\s](?:(?<=[!?。\n])|(?<=\.\s)|(?<=\.)\.{2,})")
"""A mark or a new line, three full stops or more, or the space behind a full stop; what each begins with stands first, to be found fast."""
_RULE = re.compile(r"(counts|spares)\s+(\S.*)")
_FIRST_WORDS = re.compile(
    r"\\b(?:(?P<word>[a-z](?![?*+{]))|\(\?:(?P<words>[a-z](?:[a-z' -]|'\?)*(?:\|[a-z](?:[a-z' -]|'\?)*)*)\)(?![?*+{]))"
)
_GROUP = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\((?:\\.|[^()\\])*\)")
_MACRO = re.compile(r"@([A-Z]+)\s*=\s*(.*)")

Run = tuple[str, ...]

_MOST_KNOWN = 256
_KNOWN: dict[str, frozenset[Run]] = {}
"""The runs of the last cases by the case's id: the same for all replies of a group."""


class Guards(Part):
    """What the guards take off a total. Coefficients run from 0 (off) to 1000; a total is 1 at best, so 1 is much."""

    length_limit: int = Field(default=768, ge=1, strict=True)
    """Tokens free of charge (`peregrm.text.tokens`: words and Chinese characters, not those of a model)."""

    length_coefficient: float = Field(default=0.0, ge=0, le=1000, allow_inf_nan=False, strict=True)
    """Taken off for every token over the limit."""

    parroting_coefficient: float = Field(default=0.0, ge=0, le=1000, allow_inf_nan=False, strict=True)
    """Taken off, times the share of the reply that is copied from memories or persona."""

    sycophancy_coefficient: float = Field(default=0.0, ge=0, le=1000, allow_inf_nan=False, strict=True)
    """Taken off, times the share of the reply's sentences that flatter or agree without conditions."""


def measure(case: Case, reply_text: str) -> tuple[tuple[str, float], ...]:
    """Return what the guards see in a reply: `tokens` (a count), `parroting` and `sycophancy` (shares, 0 to 1).

    An empty reply measures 0 throughout. The work grows with the length of the reply and of what is known, not with their product.
    """
    sequence = _sequence(reply_text)
    copied = _copied(case, reply_text, sequence)
    return (
        ("tokens", float(_length(reply_text, sequence))),
        ("parroting", copied / len(sequence) if sequence else 0.0),
        ("sycophancy", _sycophancy(reply_text)),
    )


def penalty(guards: Guards, measured: Sequence[tuple[str, float]]) -> float:
    """Return what is taken off the total, 0 or more; 0 where every guard is off.

    Raises `ValueError` where `measured` lacks a measure that costs something.
    """
    values = dict(measured)
    charges = (
        ("tokens", guards.length_coefficient, guards.length_limit),
        ("parroting", guards.parroting_coefficient, 0),
        ("sycophancy", guards.sycophancy_coefficient, 0),
    )
    missing = [name for name, coefficient, _ in charges if coefficient and name not in values]
    if missing:
        raise ValueError(f"not measured: {', '.join(missing)}")
    return sum((c * max(0.0, values[name] - free) for name, c, free in charges if c), 0.0)


def _copied(case: Case, reply_text: str, sequence: Sequence[str]) -> int:
    """Return how many tokens of a reply lie in a run copied from kept memories or the persona and not from the message."""
    if case.id not in _KNOWN:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.pop(next(iter(_KNOWN)), None)
        _KNOWN[case.id] = _known_runs(case)
    known = _KNOWN[case.id]
    if known.isdisjoint(map(itemgetter(1), _runs(sequence))):
        return 0
    stretches = list(_stretches(sequence, known))
    content = content_tokens(_normal(reply_text))
    return sum(
        end - start
        for start, end in stretches
        if len({token for token in sequence[start:end] if token in content or _is_character(token)}) >= _FEWEST_CONTENT
    )


def _known_runs(case: Case) -> frozenset[Run]:
    """Return the runs of what is known that the message does not hold."""
    sources = [memory.value for memory in case.memories if memory.status == "kept"]
    sources += [*case.persona.profile.splitlines(), *(trait.text for trait in case.persona.traits)]
    known = {run for source in dict.fromkeys(sources) for _, run in _runs(_sequence(source))}
    return frozenset(known.difference(run for _, run in _runs(_sequence(case.query))))


def _stretches(sequence: Sequence[str], known: Set[Run]) -> Iterator[tuple[int, int]]:
    """Return where the tokens stand that known runs cover, as (start, end); runs that overlap are one stretch."""
    first = last = 0
    for start, run in _runs(sequence):
        if run not in known:
            continue
        if start >= last:
            if last:
                yield first, last
            first = start
        last = start + len(run)
    if last:
        yield first, last


def _runs(sequence: Sequence[str]) -> Iterator[tuple[int, Run]]:
    """Return from each position the shortest run that is long enough to count; none longer needs to be compared.

    The same tokens give the same runs wherever they stand, so what two texts share is found by comparing sets.
    """
    if "".join(sequence).isascii():  # words only, so that every run has as many tokens
        return enumerate(zip(*(sequence[n:] for n in range(_RUN_SIZE // _WORD_SIZE)), strict=False))
    return _uneven_runs(sequence)


def _uneven_runs(sequence: Sequence[str]) -> Iterator[tuple[int, Run]]:
    end = size = 0
    for start, token in enumerate(sequence):
        while size < _RUN_SIZE and end < len(sequence):
            size += _size(sequence[end])
            end += 1
        if size < _RUN_SIZE:
            return
        yield start, tuple(sequence[start:end])
        size -= _size(token)


def _is_character(token: str) -> bool:
    return len(token) == 1 and "\u3400" <= token <= "\u9fff"


def _size(token: str) -> int:
    return _CHARACTER_SIZE if _is_character(token) else _WORD_SIZE


def _normal(text: str) -> str:
    """Return the text in compatibility form with straight apostrophes and without invisible format characters."""
    if text.isascii():
        return text
    normal = unicodedata.normalize("NFKC", text).replace("’", "'")
    if normal.isascii():
        return normal
    return "".join(c for c in normal if c.isascii() or unicodedata.category(c) != "Cf")


def _sequence(text: str) -> list[str]:
    return tokens(_normal(text))


def _length(text: str, sequence: Sequence[str]) -> int:
    """Count tokens; where they are few for so many characters (no spaces, only emoji), one for every eight characters.

    `sequence` are the tokens of the text in its normal form, which for plain text are its own.
    """
    own = sequence if text.isascii() else tokens(text)
    if len(own) * _CHARACTERS_PER_TOKEN >= len(text):
        return len(own)
    visible = sum(map(len, text.split()))
    return max(len(own), -(-visible // _CHARACTERS_PER_TOKEN)) if visible else 0


def _sycophancy(text: str) -> float:
    """Return the share of sentences outside quotation marks that flatter; a reply all in quotation marks is read as it stands."""
    said = _QUOTED.sub(" ", unicodedata.normalize("NFKC", text))
    sentences = _sentences(said) or _sentences(text)
    return sum(map(_flatters, sentences)) / len(sentences) if sentences else 0.0


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE_END.split(_normal(text).lower()) if any(map(str.isalnum, part))]


def _flatters(sentence: str) -> bool:
    for language in _LANGUAGES[:1] if sentence.isascii() else _LANGUAGES:
        patterns = _patterns(language)
        if _is_found(patterns.counts, sentence) and _is_found(patterns.counts, patterns.spares.sub(" ", sentence)):
            return True
    return False


def _is_found(patterns: Sequence[re.Pattern[str]], sentence: str) -> bool:
    return any(pattern.search(sentence) for pattern in patterns)


class _Patterns(NamedTuple):
    counts: tuple[re.Pattern[str], ...]
    spares: re.Pattern[str]


@cache
def _patterns(language: str) -> _Patterns:
    name = f"sycophancy_{language}.txt"
    lines = resources.files("peregrm.reward").joinpath("data", name).read_text(encoding="utf-8").splitlines()
    macros: dict[str, str] = {}
    rules: dict[str, list[str]] = {"counts": [], "spares": []}
    for line in (line.strip() for line in lines):
        if not line or line == "#" or line.startswith("# "):
            continue
        expanded = re.sub(r"\{([A-Z]+)\}", lambda found: macros[found[1]], line)
        if define := _MACRO.fullmatch(expanded):
            macros[define[1]] = define[2]
        elif rule := _RULE.fullmatch(expanded):
            rules[rule[1]].append(rule[2])
        else:
            raise ValueError(f"{name}: neither a rule nor a macro: {line!r}")
    at_words = [pattern for pattern in rules["counts"] if _beginnings(pattern)]
    others = [pattern for pattern in rules["counts"] if not _beginnings(pattern)]
    counts = tuple(_any_of(some) for some in (at_words, others) if some)  # one by one they take two thirds of the time
    return _Patterns(counts, re.compile("|".join(f"(?:{pattern})" for pattern in rules["spares"])))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that is found wherever one of these is.

    Those that begin with a word are sorted by its first letter and tried at the edges of words alone.
    """
    by_letter: dict[str, list[str]] = {}
    others: list[str] = []
    for pattern in patterns:
        beginnings = _beginnings(pattern)
        for word in beginnings:
            by_letter.setdefault(word[0], []).append(word[1:])
        if not beginnings:
            others.append(pattern)
    words = "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in by_letter.items())
    return re.compile("|".join([rf"\b(?:{words})"] * bool(words) + [f"(?:{pattern})" for pattern in others]))


def _beginnings(pattern: str) -> list[str]:
    r"""Return what a pattern of the form `\bword...` or `\b(?:word|other word)...` stands for behind `\b`, by word; else nothing."""
    before, outside = "", pattern
    while before != outside:
        before, outside = outside, _GROUP.sub("", outside)
    found = _FIRST_WORDS.match(pattern)
    if found is None or "|" in outside:
        return []
    return [word + pattern[found.end() :] for word in (found["word"] or found["words"]).split("|")]
