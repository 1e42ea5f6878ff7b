"""Which words a query shares with a user's notes: BM25 over their stems, and over pairs of characters where a script has no spaces.

The formula is that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with k1 = 1.2, b = 0.75 and
a logarithm that stays above zero. A search reads one user's notes, hundreds rather than millions, so there is no index: written out it
is shorter than the use of a library, and its counts hold that user's notes and a fixed background, nobody else's. Left out on purpose:
real stemmers and word lists by language.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from peregrm.text import content_tokens, tokens

__all__ = ["beyond_latin", "bm25", "terms"]

_K1, _B = 1.2, 0.75
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_RUN = re.compile(f"[{_UNSPACED}]+")
_SUFFIXES = ("ing", "ies", "ed", "es", "s", "ly", "al", "ation")
_SHORTEST_STEM = 3
_FOREIGN_STEM = 5
_LAST_LATIN = "\u024f"
_BEYOND = 0.3


def terms(text: str) -> list[str]:
    """Return what of `text` is compared, in no telling order: stems of content words, and pairs of neighbouring unspaced characters."""
    kept = content_tokens(text)
    words = [_stem(word) for word in tokens(text) if word in kept and not _RUN.search(word)]
    runs = _RUN.findall(unicodedata.normalize("NFKC", text).lower())
    return [*words, *(run[i : i + 2] for run in runs for i in range(len(run) - 1))]


def beyond_latin(text: str) -> bool:
    """Tell whether so many letters are of another script than Latin that embeddings made for English say nothing about it."""
    letters = [character for character in text if character.isalpha()]
    return sum(letter > _LAST_LATIN for letter in letters) > _BEYOND * len(letters)


def bm25(query: str, texts: Sequence[str]) -> list[float]:
    """Return how well each text answers to the words of `query`, 0 or more, by its place."""
    counts = [Counter(terms(text)) for text in texts]
    lengths = [count.total() for count in counts]
    background = _background()
    total = len(counts) + len(background)
    mean_length = (sum(lengths) + sum(map(len, background))) / total
    scores = [0.0] * len(counts)
    for term in sorted(set(terms(query))):
        places = [place for place, count in enumerate(counts) if term in count]
        if not places:
            continue
        spread = len(places) + sum(term in text for text in background)
        rarity = math.log(1 + (total - spread + 0.5) / (spread + 0.5))
        for place in places:
            often = counts[place][term]
            scores[place] += rarity * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * lengths[place] / mean_length))
    return scores


def _stem(word: str) -> str:
    """Return a word without a common English ending, or its first letters where it is of another script."""
    if word[0] > _LAST_LATIN:
        return word[:_FOREIGN_STEM]
    word = re.sub("['’]s$", "", word)
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word[: -len(suffix)]
    return word


@cache
def _background() -> tuple[frozenset[str], ...]:
    text = files("peregrm.memory").joinpath("data/background.toml").read_text(encoding="utf-8")
    return tuple(frozenset(terms(note)) for language in tomllib.loads(text).values() for note in language["notes"])
