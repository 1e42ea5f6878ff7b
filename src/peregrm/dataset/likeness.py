"""How alike two short texts are, by the words they share: for duplicates of memories, for withheld matters, for near-copies of queries.

For likeness words are compared by their beginnings, so that "divorce" and "divorced" are one, and Chinese goes by pairs of characters.
Whether two texts state different things is told more strictly, by whole words and their English endings and by single Chinese characters.
Pure functions of the text. Left out on purpose: meaning, which needs embeddings, and synonyms.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from peregrm.text import content_tokens

__all__ = ["fullness", "jaccard", "shingles", "state_different_things", "stems"]

_BEGINNING = 5
_CJK = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(
    r"[\u3400-\u9fff]|(?:[^\W_\u3400-\u9fff]|[\u0300-\u036f\u0900-\u0963\u0966-\u109f\u1780-\u17ff])+"
    r"(?:(?<=[^\W\d_])[+#]+(?!\w))?"
)
"""A Chinese character, or a word with its vowel signs (in Hindi they are no letters to `re`) and the end of "C++" and "C#"."""
_DENIED = re.compile(
    r"\b(?:(can)not|(\w+)n't|(do|does|did|is|are|was|were|has|have|had|ca|wo|would|could|should|must|need|ai)nt)\b",
    re.IGNORECASE,
)
_FULL_VERB = {"ca": "can", "wo": "will", "sha": "shall", "ai": ""}
_SHORT_VERB = re.compile(r"(?<=\w)'(m|re|ve)\b", re.IGNORECASE)
_FULL_BE = {"m": " am", "re": " are", "ve": " have"}
_CUT = re.compile(r"(?<=\w)'(?:s|ll|d)\b", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:^|[.!?。！？])\W{0,4}A\b|\bA(?=\s[A-Z]{2})")
_DENIAL = re.compile(
    r"\b(?:not|no|never|nor|without|stopped|quit|former|formerly|ex|anymore|pas|plus|jamais|nicht|nie|kein\w*"
    r"|niet|geen|inte|ikke|não|nunca|non|не|нет|никогда|안|못)\b"
    r"|않|없|(?<!잘)못하|(?<![危少])ない|なかった|(?<!すみ)ません|नहीं|[不没沒別别未无無]|戒了",
    re.IGNORECASE,
)
_NO_DENIAL = re.compile(
    r"[特分区區性个個级級类類告离離][别別]|[别別][人墅的处處名]|不[过過错錯仅僅但管断斷久]|了不起|[对對]不起|不好意思|未来|未來|[无無][聊论論比]"
)
_HEDGE = re.compile(
    r"\b(?:almost|nearly|rarely|seldom|hardly|barely|scarcely|sometimes|occasionally|maybe|perhaps|might|wanna"
    r"|used\s+to|(?:want(?:s|ed)?|hop(?:es?|ed|ing)|plan(?:s|ned|ning)?|wish(?:es|ed)?|tr(?:y|ies|ied|ying))\s+to"
    r"|(?:would|'d)\s+(?:like|love)\s+to)\b"
    r"|差一?点|差一?點|差不多|几乎|幾乎|很少|有时|有時|偶尔|偶爾|也许|也許|可能|曾经|曾經|打算|想",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"\w", re.UNICODE)
_NUMBER = re.compile(r"\d+|\b(?:II|III|IV)\b|[零〇两二三四五六七八九十百千万亿]+")
_EMPTY = frozenset([
    "am", "im", "ive", "really", "also", "too", "still", "now", "well", "so", "very", "quite", "just",
    "ok", "okay", "oh", "hi", "hey", "hello", "yes", "yeah", "please", "btw", "remember", "know", "think", "honestly", "actually",
    "basically", "literally", "currently", "definitely",
])  # fmt: skip
_EMPTY_CHARACTERS = frozenset("的了呢吧啊呀嘛吗着过得地也都就还很挺真是在我一个")
_OPPOSED = tuple(
    tuple(frozenset(words.split()) for words in pair)
    for pair in (
        ("he his him", "she her hers"),
        ("am im is are", "was were"),
        ("have has ive", "had"),
        ("from", "to"),
        ("up", "down"),
        ("in", "out"),
        ("on", "off"),
    )
)
_ONE_LETTER = frozenset("aiurnxI")
_ENDINGS = (("ies", "y"), ("ied", "y"), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("s", ""))
_SIBILANT = re.compile(r"(?:s|x|z|ch|sh|o)es$")
_SHORTEST_BASE = 3
_LAST_LATIN = "\u024f"
_LAST_CYRILLIC = "\u052f"
_SHORTEST_FOREIGN = 4


def stems(text: str) -> frozenset[str]:
    """Return the beginnings of the words of `text` that carry content, and its pairs of Chinese characters."""
    words = content_tokens(text)
    return frozenset(
        word if _CJK.match(word) else word.replace("’", "'").removesuffix("'s")[:_BEGINNING]
        for word in words
        if len(word) > 1
    )


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of what both sets hold among what either holds, 0 to 1; 0 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 0.0


def state_different_things(one: str, other: str) -> bool:
    """Tell whether two texts must not be taken for one, however alike they are.

    That is so where one denies more often than the other, where only one hedges ("almost", "want to"), where their numbers differ, where
    each holds a telling word that the other lacks ("allergic to peanuts" and "allergic to shellfish"), and where the words they share come
    in another order ("from Leeds to Bristol" and "from Bristol to Leeds"). A text that only adds words to the other may say the same.
    """
    mine, theirs = _read(one), _read(other)
    if (mine.denials, mine.hedged, mine.numbers) != (theirs.denials, theirs.hedged, theirs.numbers):
        return True
    if any(len(side) == len(turned) and side != turned for side, turned in zip(mine.sides, theirs.sides, strict=True)):
        return True
    return not _runs_through(*sorted((mine.telling, theirs.telling), key=len))


def fullness(text: str) -> int:
    """Return how many different words and Chinese characters of `text` can tell two facts apart."""
    return len(set(_read(text).telling))


class _Read(NamedTuple):
    """What a text is compared by; `sides` says for each of `_OPPOSED` which of its two groups the words belong to, in turn."""

    denials: int
    hedged: bool
    numbers: list[str]
    sides: tuple[tuple[bool, ...], ...]
    telling: tuple[str, ...]


@lru_cache(maxsize=5_000)
def _read(text: str) -> _Read:
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    full = _written_out(plain)
    words = _WORD.findall(full)
    lowered = [word.lower() for word in words]
    return _Read(
        denials=len(_DENIAL.findall(_NO_DENIAL.sub(" ", full))),
        hedged=bool(_HEDGE.search(plain)),
        numbers=_NUMBER.findall(plain),
        sides=tuple(_sides(lowered, *pair) for pair in _OPPOSED),
        telling=tuple(word.lower() for word in words if _tells(word)),
    )


def _written_out(plain: str) -> str:
    """Return a text with its short forms in full, "isnt" as "is not"; an "A" that begins a sentence or stands in capitals is small."""
    full = _DENIED.sub(_not, plain)
    full = _SHORT_VERB.sub(lambda short: _FULL_BE[short[1].lower()], full)
    return _ARTICLE.sub(lambda first: first[0].lower(), _CUT.sub(" ", full))


def _not(denied: re.Match[str]) -> str:
    verb = denied[denied.lastindex or 0]
    return f"{_FULL_VERB.get(verb.lower(), verb)} not"


def _tells(word: str) -> bool:
    """Tell whether a word, in the case in which it stands, can tell two facts apart: a single capital can ("hepatitis A")."""
    if len(word) == 1:
        return word not in _ONE_LETTER and word not in _EMPTY_CHARACTERS
    lowered = word.lower()
    return lowered not in _EMPTY and (lowered[-1] in "+#" or not lowered.isascii() or bool(content_tokens(lowered)))


def _sides(words: Sequence[str], one: frozenset[str], other: frozenset[str]) -> tuple[bool, ...]:
    """Return in turn which of two groups the words belong to, False for `one`; neighbours of one group count once."""
    return tuple(side for side, _ in groupby(word in other for word in words if word in one or word in other))


def _runs_through(shorter: Sequence[str], longer: Sequence[str]) -> bool:
    """Tell whether all words of one text stand in the other in the same order, in any inflection."""
    rest = iter(longer)
    return all(any(word == other or _forms(word) & _forms(other) for other in rest) for word in shorter)


@lru_cache(maxsize=50_000)
def _forms(word: str) -> frozenset[str]:
    """Return a word and what it may be an inflection or other spelling of; words of one such form count as the same."""
    word = re.sub(r"(?<=[a-z]{2})our", "or", re.sub(r"(?<=[a-z]{2})is(?=(?:e|ed|es|ing)$)", "iz", word))
    if word[0] > _LAST_CYRILLIC:
        return frozenset([word])
    if word[0] > _LAST_LATIN:
        return frozenset([word, word[: max(_SHORTEST_FOREIGN, len(word) - 2)]])
    found = {word}
    if _SIBILANT.search(word):
        found.add(word[:-2])
    for ending, base in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or len(stem + base) < _SHORTEST_BASE or word.endswith("ss"):
            continue
        found.add(stem + base)
        if not base and ending != "s" and stem[-1] == stem[-2]:
            found.add(stem[:-1])
    return frozenset(found)


def shingles(text: str, length: int = 3) -> frozenset[str]:
    """Return the runs of `length` letters or digits of `text`, case, blanks and punctuation left out; a shorter text is one run."""
    plain = "".join(_LETTERS.findall(unicodedata.normalize("NFKC", text).casefold()))
    if len(plain) <= length:
        return frozenset([plain] if plain else [])
    return frozenset(plain[start : start + length] for start in range(len(plain) - length + 1))
