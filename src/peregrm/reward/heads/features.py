"""What a head sees of a reply: how it meets this person, how it sounds, and whether that is how the person wants to be talked to.

Four groups of numbers, all computed offline by MiniLM embeddings of single sentences and by word lists:

- `near`: cosines of the reply's sentences with query, situation, facts, wishes and sore points (mean, the two that are met best, and what
  is met without having been asked about), and measures of the writing per word or per sentence;
- `tones`: the share of its sentences that has each tone (`tones.py`);
- `wishes`: which tones the person asked for or refused; the head learns how much it counts when tones meet wishes;
- `sense`: the mean embedding of the sentences.

Nothing grows with length as such: all are shares, rates and means, and the top two of anything are taken whatever there is. What is left
of length is met by a nuisance term in training (`peregrm.training.fitting`), whose weight is thrown away. The one exception is `brevity`:
how far a reply falls short of 30 different words, 0 from there on, because shares and means of one word say nothing. `FEATURE_VERSION`
and the hash of the word lists and of the embedding model enter the file of a head, and a head refuses other features than its own. Left out
on purpose: languages other than English, which the embedding model and the word lists do not know. Another script is noticed
(`foreign_share`); another language in Latin letters is not.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from peregrm.models.embeddings import EMBEDDING_SIZE, Embedder
from peregrm.records import Case
from peregrm.reward.asking import Hideable
from peregrm.reward.heads.tones import TONE_FILES, Statement, sentences_of, tone_names, tones_of, wishes_of

__all__ = [
    "FEATURE_VERSION",
    "MOST_CHARACTERS",
    "MOST_FOREIGN",
    "NEAR_NAMES",
    "Features",
    "Featuring",
    "Known",
    "Moment",
    "distinct_words",
    "feature_stamp",
    "foreign_share",
    "moment_of",
    "wishes_in",
    "without_person",
]

Vector = npt.NDArray[np.float64]

FEATURE_VERSION = 2
"""Raised with every change of this module or `tones.py` that changes a number."""

MOST_CHARACTERS = 20_000
"""Longer texts are neither judged nor learned from."""

MOST_FOREIGN = 0.2
"""The share of letters of other scripts beyond which a text counts as one of another language: a name or a quoted word stays below."""

_ENOUGH_WORDS = 30
"""Different words from which on `brevity` is 0. The shortest honest reply that the shipped head learned from has 53, so it knows nothing of
short replies that are meant, and a higher number would count against more of them."""

_WISH_LABELS = {
    "Interaction_Preferences": 1,
    "Disliked_Topics": -1,
    "Sensitive_Topics": -1,
    "Do_Not_Remember": -1,
    "Negative": -1,
    "Positive": 1,
}
"""The labels (their last part) that say how somebody wants to be talked to, and which way they point where the words do not say."""

_ABOUT_TALK = re.compile(
    r"\b(?:told|tell\w*|talk\w*|advice|advis\w*|repl\w+|answer\w*|comfort\w*|reassur\w*|pep talks?|jok\w+|sympath\w*|pity|lectur\w*|"
    r"being asked|be asked|spoken to|straight|blunt\w*|small talk|honest\w*|directness|tone)\b",
    re.IGNORECASE,
)
_KINDS = ("sore", "wish", "fact")
_MEASURES = ("mean", "top", "unasked")
NEAR_NAMES = (
    *(f"{kind}_{measure}" for kind in _KINDS for measure in _MEASURES),
    "query_mean",
    "situation_mean",
    "query_whole",
    "situation_whole",
    "memory_whole",
    "memory_mean",
    "coherence",
    "sentence_words",
    "word_letters",
    "you",
    "i",
    "digits",
    "commas",
    "colons",
    "quotes",
    "brevity",
)
"""The names of the first group, in the order of its vector."""

_OF_PERSON = (*(f"{kind}_" for kind in _KINDS), "memory_")

_REMEMBERED = 20_000


class Known(NamedTuple):
    """One thing known of a person: its label in the taxonomy, empty where it has none, and its text."""

    label: str
    text: str


class Moment(NamedTuple):
    """What of a case features are made of."""

    query: str
    situation: str
    known: tuple[Known, ...]


class Features(NamedTuple):
    """The numbers of one reply, or of many, a row each; `log_words` is the natural logarithm of its length and no feature."""

    near: Vector
    tones: Vector
    wishes: Vector
    sense: Vector
    log_words: Vector


def moment_of(case: Case, hidden: frozenset[Hideable] = frozenset()) -> Moment:
    """Return what is looked at of a case; traits of the persona join the memories where they say something that these do not."""
    memories = [memory for memory in case.memories if memory.status == "kept" and "memories" not in hidden]
    known = [Known(memory.label, memory.value) for memory in memories]
    if "persona" not in hidden:
        there = " ".join(memory.value for memory in memories).lower()
        known += [Known("", trait.text) for trait in case.persona.traits if trait.text.lower() not in there]
    return Moment(case.query, "" if "situation" in hidden else case.situation, tuple(known))


def without_person(table: Features) -> Features:
    """Return features, a row each, as they are where nothing is known of the person."""
    near = table.near.copy()
    near[:, [place for place, name in enumerate(NEAR_NAMES) if name.startswith(_OF_PERSON)]] = 0
    return table._replace(near=near, wishes=np.zeros_like(table.wishes))


def _leaning(known: Known) -> int | None:
    """Return which way a statement of how to be talked to points, 0 where only its words say, None for other facts."""
    kind = known.label.rpartition("/")[2]
    if kind in _WISH_LABELS:
        return _WISH_LABELS[kind]
    return 0 if kind in ("", "UNMAPPED") and _ABOUT_TALK.search(known.text) else None


def _kind(known: Known) -> str:
    leaning = _leaning(known)
    if leaning is None or known.label.endswith("Positive"):
        return "fact"
    return "sore" if leaning < 0 else "wish"


def wishes_in(moment: Moment) -> Vector:
    """Return which tones a person asks for (+1) or refuses (-1), in the order of `tone_names`."""
    leanings = [(known, _leaning(known)) for known in moment.known]
    return wishes_of([Statement(known.text, leaning) for known, leaning in leanings if leaning is not None])


@cache
def feature_stamp() -> str:
    """Return the version of the features with a hash of the word lists they rest on."""
    digest = hashlib.sha256()
    for name in TONE_FILES:
        digest.update(resources.files("peregrm.reward.heads").joinpath("data", name).read_bytes())
    digest.update(" ".join((*NEAR_NAMES, *tone_names())).encode())
    return f"{FEATURE_VERSION}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True, eq=False)
class _Ground:
    """What is the same for all replies in a moment."""

    wishes: Vector
    by_kind: dict[str, Vector]
    everything: Vector
    asked: Vector
    query: Vector
    situation: Vector


class Featuring:
    """Makes features; remembers the embeddings of the last sentences and the grounds of the last moments. Not safe to share by threads."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vector] = {}
        self._grounds: dict[Moment, _Ground] = {}

    def features(self, moment: Moment, text: str) -> Features:
        """Return the features of a reply that holds at least one word."""
        sentences = sentences_of(text)
        ground = self._ground(moment)
        each = self._embedded(sentences)
        whole = self._embedded([text])[0]
        near = [
            *(value for kind in _KINDS for value in _met(each, ground.by_kind[kind], ground.asked)),
            float((each @ ground.query).mean()),
            float((each @ ground.situation).mean()),
            float(whole @ ground.query),
            float(whole @ ground.situation),
            _top(ground.everything @ whole, 3),
            float((ground.everything @ whole).mean()) if len(ground.everything) else 0.0,
            float((each @ each.mean(axis=0)).mean()),
            *_written(text, len(sentences)),
        ]
        return Features(
            np.array(near), tones_of(sentences), ground.wishes, each.mean(axis=0), np.log(np.array(_words(text)))
        )

    def _ground(self, moment: Moment) -> _Ground:
        if moment not in self._grounds:
            if len(self._grounds) >= _REMEMBERED // 10:
                del self._grounds[next(iter(self._grounds))]
            self._grounds[moment] = self._made(moment)
        return self._grounds[moment]

    def _made(self, moment: Moment) -> _Ground:
        kinds: dict[str, list[str]] = {kind: [] for kind in _KINDS}
        for known in moment.known:
            kinds[_kind(known)].append(known.text)
        asked = [*sentences_of(moment.query), *sentences_of(moment.situation)]
        return _Ground(
            wishes=wishes_in(moment),
            by_kind={kind: self._embedded(texts) for kind, texts in kinds.items()},
            everything=self._embedded([known.text for known in moment.known]),
            asked=self._embedded(asked),
            query=self._embedded([moment.query])[0],
            situation=self._embedded([moment.situation])[0] if moment.situation else np.zeros(EMBEDDING_SIZE),
        )

    def _embedded(self, texts: Sequence[str]) -> Vector:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        for text, vector in zip(new, self._embedder.embed(new), strict=True):
            self._vectors[text] = vector.astype(np.float64)
        found = [self._vectors[text] for text in texts]
        while len(self._vectors) > _REMEMBERED:
            del self._vectors[next(iter(self._vectors))]
        return np.array(found).reshape(len(texts), EMBEDDING_SIZE)


def _met(each: Vector, known: Vector, asked: Vector) -> tuple[float, float, float]:
    """Return how near the sentences come to what is known: on the whole, at best, and where nobody asked about it."""
    if not len(known):
        return 0.0, 0.0, 0.0
    cosines = each @ known.T
    best = cosines.max(axis=0)
    before = (asked @ known.T).max(axis=0) if len(asked) else np.zeros(len(known))
    return float(cosines.mean()), _top(best, 2), float(np.maximum(best - before, 0).max())


def _top(values: Vector, most: int) -> float:
    return float(np.sort(values)[::-1][:most].mean()) if len(values) else 0.0


def _words(text: str) -> int:
    return max(1, len(text.split()))


_WORD = re.compile(r"[^\W_]+")


def distinct_words(text: str) -> int:
    """Return how many different words a text holds, whatever their case; a run of letters or digits is a word."""
    return len(set(_WORD.findall(text.lower())))


def foreign_share(text: str) -> float:
    """Return the share of the letters of a text that are of another script than the Latin one, 0 where there are no letters."""
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not character.isascii() and not _is_latin(character) for character in letters)
    return foreign / max(1, len(letters))


@lru_cache(maxsize=4096)
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN ")


def _written(text: str, sentences: int) -> list[float]:
    words, lower = _words(text), text.lower().replace("’", "'")
    return [
        float(np.log(words / sentences)),
        sum(map(len, text.split())) / words,
        len(re.findall(r"\b(?:you|your|yours)\b", lower)) / words,
        len(re.findall(r"\b(?:i|me|my)\b", lower)) / words,
        len(re.findall(r"\d", text)) / words,
        text.count(",") / words,
        (text.count(":") + text.count(";")) / words,
        len(re.findall('["“”]', text)) / words,
        max(0.0, float(np.log(_ENOUGH_WORDS / max(1, distinct_words(text))))),
    ]
