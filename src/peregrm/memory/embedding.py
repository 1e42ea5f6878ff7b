"""The vectors of notes and queries, and how near they are.

A note has one vector for its text, one for the text under its label, and one for every further stretch of a long text, because the
model reads no more than about a thousand characters. Left out on purpose: other embedding models; whoever has one hands over an
`Embeds` and a file of its own, since vectors of two models must not meet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peregrm.memory.base import Note

__all__ = [
    "Embeds",
    "Vectors",
    "default_embedder",
    "nearness",
    "pack",
    "query_vectors",
    "stretches",
    "unpack",
    "vectors_of",
]

Vectors = npt.NDArray[np.float32]

_STRETCH = 1000
_MOST_STRETCHES = 16
_BREAK = re.compile(r"(?<=[.!?。！？\n])\s*")


class Embeds(Protocol):
    """Whatever turns texts into unit vectors, one a row."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text."""
        ...


@cache
def default_embedder() -> Embeds:
    """Return the offline MiniLM embeddings, loaded once a process. Raises `DependencyError` where they are not installed."""
    from peregrm.models.embeddings import Embedder

    return Embedder()


def stretches(text: str) -> list[str]:
    """Return the beginning of a text in at most 16 stretches of at most 1,000 characters, cut after sentences where there are some."""
    found: list[str] = []
    current = ""
    beginning = (
        text[: _STRETCH * _MOST_STRETCHES].encode("utf-8", "replace").decode("utf-8")
    )  # half a surrogate pair is no text
    for sentence in _BREAK.split(beginning):
        if len(current) + len(sentence) >= _STRETCH and current:
            found.append(current)
            current = ""
        rest = f"{current} {sentence}".strip()
        while len(rest) > _STRETCH:
            found.append(rest[:_STRETCH])
            rest = rest[_STRETCH:]
        current = rest
    if current or not found:
        found.append(current)
    return found[:_MOST_STRETCHES]


def vectors_of(note: Note, embedder: Embeds) -> Vectors:
    """Return the vectors of a note, that of its text alone first."""
    parts = stretches(note.text)
    return embedder.embed([parts[0], *_labelled(note, parts[0]), *parts[1:]])


def query_vectors(query: str, embedder: Embeds) -> Vectors:
    """Return one vector for each stretch of a query."""
    return embedder.embed(stretches(query))


def nearness(query: Vectors, note: Vectors) -> float:
    """Return the greatest cosine of any vector of the query with any of the note, -1 to 1."""
    return float((query @ note.T).max())


def pack(vectors: Vectors) -> bytes:
    """Return vectors as bytes that hold their number and their length."""
    return np.array(vectors.shape, dtype="<u4").tobytes() + vectors.astype("<f4").tobytes()


def unpack(data: bytes) -> Vectors:
    """Return what was packed. Raises `ValueError` for other bytes."""
    rows, columns = np.frombuffer(data[:8], dtype="<u4")
    return np.frombuffer(data[8:], dtype="<f4").reshape(int(rows), int(columns))


def _labelled(note: Note, text: str) -> list[str]:
    """Return the text under its label in words; nothing where the label says nothing."""
    if note.label is None or note.label == "UNMAPPED":
        return []
    return [f"{note.label.replace('_', ' ').replace('/', ': ')}. {text}"]
