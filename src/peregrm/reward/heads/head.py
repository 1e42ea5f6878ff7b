"""The file of a head: weights, what they belong to, and what the head is worth. One JSON document, nothing that could run code.

It holds the weights of the whole training set and those of each fold. For every user of the training set it knows which fold did not see
them, by the user's id and by hashes of what they said and of what is known of them: whoever was seen is judged by the fold that did not
see them, everybody else by the whole. The query decides first, so a case of one user under another's persona goes to the fold of the one
who asked. The card says what it was trained on and what it got right on users it had not seen. A head refuses other features than those it
was trained with, and another embedding model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from peregrm.dimensions import EMPATHY
from peregrm.errors import InputError
from peregrm.models.embeddings import EMBEDDING_SIZE
from peregrm.models.heads import head_bytes, head_path
from peregrm.records import Case, Part
from peregrm.reward.heads.features import NEAR_NAMES, Features, Vector, feature_stamp
from peregrm.reward.heads.tones import sentences_of, tone_names
from peregrm.store import summarise_validation

__all__ = [
    "FIT_NAMES",
    "TOTAL",
    "VERSION",
    "Dataset",
    "Head",
    "HeadCard",
    "Measured",
    "Weights",
    "content_keys",
    "key_of",
    "load_head",
    "met",
]

TOTAL = "total"
"""The output of a head whose labels say which reply is better and not in what."""

VERSION: Final = 2
"""Of the format of the file: raised with every change of its fields."""

FIT_NAMES = ("fit", "fit_asked", "fit_refused")
_CLIP = 3.0
_FEWEST_WORDS = 5

_OUTPUTS = ([TOTAL], sorted(dimension.name for dimension in EMPATHY))
_LARGEST = 1e6

Number = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]
Numbers = tuple[Number, ...]


class Weights(Part):
    """One linear score: log odds against the average reply of its training set. Lengths are those of the features."""

    near: Numbers
    tones: Numbers
    fit: Numbers
    sense: Numbers
    tone_mean: Numbers
    tone_spread: Numbers
    centre: Number

    @model_validator(mode="after")
    def _lengths(self) -> Weights:
        tones = len(tone_names())
        wanted = {"near": len(NEAR_NAMES), "tones": tones, "fit": len(FIT_NAMES), "sense": EMBEDDING_SIZE}
        wanted |= {"tone_mean": tones, "tone_spread": tones}
        for name, length in wanted.items():
            if len(getattr(self, name)) != length:
                raise ValueError(f"{name} has {len(getattr(self, name))} numbers, not {length}")
        if min(self.tone_spread) < 1 / _LARGEST:
            raise ValueError(f"tone_spread is at least {1 / _LARGEST}")
        return self

    def score(self, features: Features) -> Any:
        """Return the log odds that a reply with these features is better than an average one; one a row where features are tables."""
        tones, fit = met(features, np.array(self.tone_mean), np.array(self.tone_spread))
        parts = ((self.near, features.near), (self.tones, tones), (self.fit, fit), (self.sense, features.sense))
        return sum(values @ np.array(weights) for weights, values in parts) - self.centre


def met(features: Features, mean: Vector, spread: Vector) -> tuple[Vector, Vector]:
    """Return the standardised tones of a reply, and how far they are what the person asked for and not what they refused."""
    tones = np.clip((features.tones - mean) / spread, -_CLIP, _CLIP)
    many = np.sqrt(np.maximum(1.0, np.abs(features.wishes).sum(axis=-1)))
    asked = (np.maximum(features.wishes, 0) * tones).sum(axis=-1) / many
    refused = (np.minimum(features.wishes, 0) * tones).sum(axis=-1) / many
    return tones, np.stack([asked + refused, asked, refused], axis=-1)


class Measured(Part):
    """A share of pairs put in the right order on users that the head had not seen, with its 95 % interval clustered by user.

    `of` says on which of them: all, those whose texts were read when the word lists were drawn up, or the others; the latter two are
    there where there are users of the former kind.
    """

    name: str
    of: Literal["all", "read", "others"] = "all"
    mean: float | None
    low: float | None
    high: float | None
    n: int
    users: int


class Dataset(Part):
    """A file that a head was trained on."""

    name: str
    sha256: str
    licence: str
    pairs: int
    users: int


class HeadCard(Part):
    """What a head is: training data, how it was fitted, and what it got right on users it had not seen."""

    datasets: tuple[Dataset, ...]
    languages: tuple[str, ...]
    pairs: int
    swaps: int
    users: int
    folds: int
    penalty: dict[str, float]
    components: int
    length: str
    measured: tuple[Measured, ...]
    left_out: dict[str, int] = Field(default_factory=dict)


class Head(Part):
    """A trained head. `outputs` holds, by dimension or `total`, the weights of the whole and then those of each fold."""

    format: Literal["peregrm-head"] = "peregrm-head"
    version: Literal[2] = VERSION
    features: str
    embedding: str
    card: HeadCard
    outputs: dict[str, tuple[Weights, ...]]
    seen: dict[str, int]

    @model_validator(mode="after")
    def _whole_and_folds(self) -> Head:
        if sorted(self.outputs) not in _OUTPUTS:
            raise ValueError(
                f"the outputs are {TOTAL}, or {', '.join(_OUTPUTS[1])}, and not {', '.join(self.outputs) or 'none'}"
            )
        if any(len(each) != self.card.folds + 1 for each in self.outputs.values()):
            raise ValueError("every output has the weights of the whole and one set a fold")
        if any(not 0 <= fold < self.card.folds for fold in self.seen.values()):
            raise ValueError("a user was left out by a fold that is not there")
        return self

    def fold_for(self, case: Case) -> int | None:
        """Return the fold that did not see the user of a case; None where the whole head never saw them either."""
        by_query = [key_of("text", case.query), key_of("user", case.user_id)]
        for key in (*by_query, *content_keys(_texts_of(case))):
            if key in self.seen:
                return self.seen[key]
        return None

    def weights_for(self, fold: int | None) -> dict[str, Weights]:
        """Return the weights of each output: of one fold, or of the whole."""
        place = 0 if fold is None else fold + 1
        return {name: each[place] for name, each in self.outputs.items()}

    def measured(self, name: str) -> Measured | None:
        """Return one figure of the card, on all users, if it is there."""
        return next((one for one in self.card.measured if (one.name, one.of) == (name, "all")), None)


def key_of(kind: Literal["user", "text"], text: str) -> str:
    """Return the short hash by which a user or something they said is known to a head."""
    return hashlib.sha256(f"{kind}:{' '.join(text.lower().split())}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


def content_keys(texts: Iterable[str]) -> list[str]:
    """Return the keys of texts and of those of their sentences that are long enough to be nobody else's."""
    parts = [part for text in texts for part in (text, *sentences_of(text))]
    return [key_of("text", part) for part in dict.fromkeys(parts) if len(part.split()) >= _FEWEST_WORDS]


def _texts_of(case: Case) -> list[str]:
    memories = [text for memory in case.memories for text in (memory.value, *(e.quote for e in memory.evidence))]
    return [case.query, *memories]


def load_head(judge: str, embedding: str) -> Head:
    """Read the head that `head:PATH` or the name of a judge means; `embedding` is the fingerprint of what will make its features.

    Raises `InputError` where the file cannot be read, is no head, has changed since it was named, or is one of an earlier format, of other
    features or of another embedding model.
    """
    path = head_path(judge)
    try:
        document = json.loads(head_bytes(judge).decode("utf-8"))
        if isinstance(document, dict) and document.get("version", VERSION) != VERSION:
            raise InputError(
                f"{path}: a head of format {document['version']!r}, and this version reads format {VERSION}: train it again with "
                "`peregrm train judge-head`"
            )
        head = Head.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{path}: no head of this version: {summarise_validation(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no head: {error}") from None
    if head.features != feature_stamp():
        raise InputError(
            f"{path}: trained with the features {head.features}, and these are {feature_stamp()}: train it again with "
            "`peregrm train judge-head`"
        )
    if head.embedding != embedding:
        raise InputError(f"{path}: trained with another embedding model ({head.embedding}, here {embedding})")
    return head
