"""Tones: how a reply sounds, and which tones a person asks for or refuses.

A tone of a reply is the share of its sentences that have it, 0 to 1, so a longer reply is not more of anything. A wish is read from what is
known of how the person wants to be talked to: +1 asked for, -1 refused, 0 nothing known. Sentence embeddings are nearly blind to a "no" in
front of a word, so the direction of a wish comes from the words around it. Word lists lie in `data/` and are English. Left out on purpose:
whole grammars of negation; a wish that is read the wrong way costs a little of the accuracy that the head's card states.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from peregrm.errors import ArtifactError

__all__ = ["TONE_FILES", "WRITTEN_FROM", "Statement", "sentences_of", "tone_names", "tones_of", "wishes_of"]

TONE_FILES = ("tones_en.txt", "refusals_en.txt")
"""The data files that features depend on."""

WRITTEN_FROM = ("declan", "hana", "ingrid", "marcus", "maya", "priya", "ruth", "sofia", "tomas", "yusuf")
"""The users of the hand-written gold whose texts were read when the word lists were drawn up: figures on them say less than on others."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")
_NEAR = 12
_HAS_WORD = re.compile(r"\w")
_CASED = re.compile(r"[a-z]\.\*")
_BREAK = re.compile(r"[;.:!?]\s|;|\n| - | – | — ")


class Statement(NamedTuple):
    """Something known of how a person wants to be talked to; `leaning` is which way its kind points where its words do not say."""

    text: str
    leaning: int


class _Tone(NamedTuple):
    name: str
    said: re.Pattern[str]
    said_cased: re.Pattern[str] | None
    asked: re.Pattern[str]


class _Refusals(NamedTuple):
    against: re.Pattern[str]
    in_favour: re.Pattern[str]
    after: re.Pattern[str]


def tone_names() -> tuple[str, ...]:
    """Return the names of the tones, in the order of every vector of tones."""
    return tuple(tone.name for tone in _tones())


def sentences_of(text: str) -> list[str]:
    """Return the sentences and lines of a text that hold a word, each without space around it."""
    return [part.strip() for part in _SENTENCE_END.split(text) if _HAS_WORD.search(part)]


def tones_of(sentences: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return for each tone the share of the sentences that have it, 0 to 1; zeros where there are no sentences."""
    shares = np.zeros(len(_tones()))
    for sentence in sentences:
        plain = sentence.replace("’", "'")
        lower = plain.lower()
        shares += [
            bool(tone.said.search(lower)) or bool(tone.said_cased and tone.said_cased.match(plain)) for tone in _tones()
        ]
    return shares / max(1, len(sentences))


def wishes_of(statements: Sequence[Statement]) -> npt.NDArray[np.float64]:
    """Return for each tone how far it is asked for (to +1) or refused (to -1), 0 where nothing is known."""
    wishes = np.zeros(len(_tones()))
    for statement in statements:
        for clause in _BREAK.split(statement.text.replace("’", "'").lower()):
            wishes += _clause_wishes(clause, statement.leaning)
    return np.tanh(wishes)


class _Turns(NamedTuple):
    """The words of a clause that turn what follows them: where they end, in order, and which way they point; -1 refuses."""

    ends: list[int]
    signs: list[int]

    def before(self, place: int, otherwise: int) -> int:
        """Return the sign that holds at a place: of the turn that starts last of those that end by then."""
        count = bisect_right(self.ends, place)
        return self.signs[count - 1] if count else otherwise


def _turns(clause: str) -> _Turns:
    words = _refusals()
    refusals = [found.span() for found in words.against.finditer(clause)]
    refused = [end for _, end in refusals]
    turns = [(start, end, -1) for start, end in refusals]
    for found in words.in_favour.finditer(clause):
        nearest = bisect_right(refused, found.start()) - 1
        if nearest < 0 or found.start() - refused[nearest] > _NEAR:  # "does not want" is no wanting
            turns.append((*found.span(), 1))
    turns.sort(key=lambda turn: turn[1])
    return _Turns([end for _, end, _ in turns], [sign for *_, sign in accumulate(turns, max)])


def _clause_wishes(clause: str, leaning: int) -> npt.NDArray[np.float64]:
    turns = _turns(clause)
    ending = max((found.start() for found in _refusals().after.finditer(clause)), default=-1)
    wishes = np.zeros(len(_tones()))
    for place, tone in enumerate(_tones()):
        directions = {
            -1 if ending >= found.end() else turns.before(found.start() + 1, leaning)
            for found in tone.asked.finditer(clause)
        }
        wishes[place] = sum(directions)
    return wishes


@cache
def _tones() -> tuple[_Tone, ...]:
    blocks: list[tuple[str, dict[str, list[str]]]] = []
    for line in _lines("tones_en.txt"):
        if line.startswith("["):
            blocks.append((line.strip("[]"), {"said": [], "asked": []}))
        else:
            kind, _, pattern = line.partition(" ")
            blocks[-1][1][kind].append(pattern.strip())
    return tuple(_Tone(name, *_said(own["said"]), _any_of(own["asked"])) for name, own in blocks)


def _said(patterns: Sequence[str]) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
    """Return what is looked for in lower case, and what is held against the sentence as it is written."""
    cased = [pattern for pattern in patterns if _CASED.match(pattern) or pattern.startswith("[a-z]")]
    rest = [pattern for pattern in patterns if pattern not in cased]
    return _any_of(rest), re.compile("|".join(cased)) if cased else None


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    parts = [
        pattern if ".*" in pattern or pattern.startswith(("[!", "[?", r"\W")) else rf"\b(?:{pattern})(?!\w)"
        for pattern in patterns
    ]
    whole = [rf"^(?:{part})$" if part.startswith((r"\W", ".*")) else part for part in parts]
    return re.compile("|".join(whole))


@cache
def _refusals() -> _Refusals:
    kinds: dict[str, list[str]] = {"against": [], "for": [], "after": []}
    for line in _lines("refusals_en.txt"):
        kind, _, pattern = line.partition(" ")
        kinds[kind].append(pattern.strip())
    return _Refusals(*(re.compile(rf"\b(?:{'|'.join(patterns)})\b") for patterns in kinds.values()))


def _lines(name: str) -> list[str]:
    text = resources.files("peregrm.reward.heads").joinpath("data", name).read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("# ")]
    if not kept:
        raise ArtifactError(f"{name}: there are no rules in it")
    return kept
