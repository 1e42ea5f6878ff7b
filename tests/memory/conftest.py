"""What tests of memory stores share: an embedder that needs no weights, and how to open every store.

A store that asks a language model is opened with a model of its own tests: add it to `OPENERS`, and the contract is tested on it too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from peregrm.memory import MemoryStore, Note, open_store
from peregrm.memory.embedding import Vectors
from peregrm.models.scripted import ScriptedModel


class WordEmbedder:
    """Texts are near each other by the words they share."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        found = np.full((len(texts), 64), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                found[row, zlib.crc32(word.encode()) % 64] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


Opener = Callable[[Path | None], MemoryStore]


def _open(name: str, path: Path | None) -> MemoryStore:
    return open_store(name, path, embedder=WordEmbedder())


def _open_driven(name: str, path: Path | None) -> MemoryStore:
    """Open a store whose model has nothing to add to the notes."""
    return open_store(name, path, model=ScriptedModel(lambda request: '{"edits": []}'), embedder=WordEmbedder())


OPENERS: dict[str, Opener] = {
    **{name: partial(_open, name) for name in ("default", "recent", "whole", "bm25", "minilm")},
    **{name: partial(_open_driven, name) for name in ("two_tier", "levels")},
}


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture(params=list(OPENERS))
def opener(request: pytest.FixtureRequest) -> Opener:
    return OPENERS[request.param]


@pytest.fixture
async def store(opener: Opener, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    opened = opener(tmp_path / "memory.sqlite")
    yield opened
    await opened.aclose()


@pytest.fixture
def note() -> Callable[..., Note]:
    def make(text: str, user: str = "ada", **rest: object) -> Note:
        return Note.model_validate({"user_id": user, "text": text, **rest})

    return make
