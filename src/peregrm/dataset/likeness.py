"""How alike two short texts are, by the words they share: for duplicates of memories, for withheld matters, for near-copies of queries.

For likeness words are compared by their beginnings, so that "divorce" and "divorced" are one, and Chinese goes by pairs of characters.
Whether two texts state different things is told more strictly, by whole words and their English endings and by single Chinese characters.
Pure functions of the text. Left out on purpose: meaning, which needs embeddings, and synonyms.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from peregrm.text import content_tokens, tokens

__all__ = ["fullness", "is_negated", "jaccard", "shingles", "state_different_things", "stems"]

_BEGINNING = 5
_CJK = re.compile(r"[\u3400-\u9fff]")
_NEGATION = re.compile(
    r"\b(?:not|no|never|nor|without|cannot|stopped|quit|former|formerly|ex|anymore|\w+n['’]t|(?:do|ca|wo)nt"
    r"|pas|plus|jamais|nicht|kein\w*|não|nunca|non|не|нет|никогда)\b"
    r"|[不没別别]|戒了",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"\w", re.UNICODE)
_NUMBER = re.compile(r"\d+|[零〇两二三四五六七八九十百千万亿]+")
_CONTRACTION = re.compile(r"\b\w+n['’]t\b|['’](?:s|ll|d)\b", re.IGNORECASE)
_WRITTEN_OUT = {"'m": " am", "'re": " are", "'ve": " have"}
_EMPTY = frozenset([
    "am", "im", "ive", "dont", "cant", "wont", "really", "also", "too", "still", "now", "well", "so", "very", "quite", "just",
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
_ONE_LETTER = frozenset("aiurnx")
_ENDINGS = (("ies", "y"), ("ied", "y"), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"), ("s", ""))
_SIBILANT = re.compile(r"(?:s|x|z|ch|sh|o)es$")
_SHORTEST_BASE = 3
_LAST_LATIN = "\u024f"
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


def is_negated(text: str) -> bool:
    """Tell whether a text says that something is not or no longer so."""
    return bool(_NEGATION.search(text))


def state_different_things(one: str, other: str) -> bool:
    """Tell whether two texts must not be taken for one, however alike they are.

    That is so where one denies something and the other does not, where their numbers differ, and where each holds a telling word that the
    other lacks: "allergic to peanuts" and "allergic to shellfish". A text that only adds words to the other may say the same.
    """
    mine, theirs = _read(one), _read(other)
    if mine.negated != theirs.negated or mine.numbers != theirs.numbers:
        return True
    if any(_on_two_sides(mine.words, theirs.words, *pair) for pair in _OPPOSED):
        return True
    return not (_within(mine.telling, theirs.telling) or _within(theirs.telling, mine.telling))


def fullness(text: str) -> int:
    """Return how many words and Chinese characters of `text` can tell two facts apart."""
    return len(_read(text).telling)


class _Read(NamedTuple):
    negated: bool
    numbers: list[str]
    words: frozenset[str]
    telling: frozenset[str]


@lru_cache(maxsize=5_000)
def _read(text: str) -> _Read:
    words = _written_out(text)
    content = {word for word in content_tokens(" ".join(words)) if not _CJK.match(word)}
    letters = {word for word in words if len(word) == 1 and word not in _ONE_LETTER}
    telling = frozenset((content | letters) - _EMPTY - _EMPTY_CHARACTERS)
    return _Read(is_negated(text), _NUMBER.findall(text), frozenset(words), telling)


def _written_out(text: str) -> list[str]:
    plain = _CONTRACTION.sub(" ", text).replace("’", "'").lower()
    for short, full in _WRITTEN_OUT.items():
        plain = plain.replace(short, full)
    return tokens(plain)


def _on_two_sides(words: frozenset[str], others: frozenset[str], one: frozenset[str], other: frozenset[str]) -> bool:
    """Tell whether of two opposed groups of words each text holds a different one only: "from" and "to", "is" and "was"."""
    sides = [(bool(each & one), bool(each & other)) for each in (words, others)]
    return sorted(sides) == [(False, True), (True, False)]


def _within(some: frozenset[str], others: frozenset[str]) -> bool:
    """Tell whether all of `some` are among the others, in any inflection."""
    if some <= others:
        return True
    forms = {form for word in others for form in _forms(word)}
    return all(_forms(word) & forms for word in some)


@lru_cache(maxsize=50_000)
def _forms(word: str) -> frozenset[str]:
    """Return a word and what it may be an inflection or other spelling of; words of one such form count as the same."""
    word = re.sub(r"(?<=[a-z]{2})our", "or", re.sub(r"(?<=[a-z]{2})is(?=(?:e|ed|es|ing)$)", "iz", word))
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
