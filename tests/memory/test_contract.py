"""What every memory store promises, whatever it ranks by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.errors import ArtifactError, SettingsError
from peregrm.memory import MemoryStore, Note, open_store, store_names
from peregrm.records import Evidence

MakeNote = Callable[..., Note]
Opener = Callable[[Path | None], MemoryStore]

SISTER = "Her sister Ruth lives in Leeds"
ASKED = "should I visit my sister Ruth in Leeds?"


def texts(found: list[object]) -> list[str]:
    return [each.note.text for each in found]  # type: ignore[attr-defined]


async def test_what_was_added_is_found_and_exported_with_its_evidence(store: MemoryStore, note: MakeNote) -> None:
    told = note(
        SISTER,
        label="Social_Relationships/Family",
        evidence=(Evidence(session_id="s", turn=3, quote="my sister up in Leeds"),),
        time="2024-05-01",
    )
    added = await store.add("ada", [told])
    assert added.ids == (told.id,)
    assert added.failures == ()
    assert await store.export("ada") == [told]
    found = await store.search("ada", ASKED, limit=3)
    assert [each.note for each in found] == [told]


async def test_equal_notes_are_kept_once(store: MemoryStore, note: MakeNote) -> None:
    first, again = note(SISTER), note(SISTER)
    assert (await store.add("ada", [first, again])).ids == (first.id,)
    assert (await store.add("ada", [again])).ids == (first.id,)
    assert len(await store.export("ada")) == 1


async def test_another_users_note_is_refused_and_nothing_is_kept(store: MemoryStore, note: MakeNote) -> None:
    with pytest.raises(SettingsError):
        await store.add("ada", [note("likes tea"), note("likes rum", user="bo")])
    assert await store.export("ada") == []
    assert await store.export("bo") == []


async def test_a_kind_it_is_not_made_from_is_refused(store: MemoryStore, note: MakeNote) -> None:
    with pytest.raises(SettingsError, match="derived"):
        await store.add("ada", [note("a summary", kind="derived")])


async def test_an_unknown_user_has_nothing(store: MemoryStore) -> None:
    assert await store.search("nobody", "anything at all", limit=5) == []
    assert await store.export("nobody") == []
    await store.delete_all("nobody")


async def test_at_most_the_limit_and_the_best_first(store: MemoryStore, note: MakeNote) -> None:
    await store.add("ada", [note(f"{SISTER}, part {number}") for number in range(6)])
    for limit in (0, 1, 4, 50):
        found = await store.search("ada", ASKED, limit=limit)
        assert len(found) <= limit
        assert [-each.score for each in found] == sorted(-each.score for each in found)
    assert await store.search("ada", ASKED, limit=4) == await store.search("ada", ASKED, limit=4)


async def test_an_updated_note_says_the_new_text_alone(store: MemoryStore, note: MakeNote) -> None:
    old = note(SISTER, evidence=(Evidence(session_id="s", turn=0, quote="sister"),))
    await store.add("ada", [old])
    new = await store.update("ada", old.id, "Her sister Ruth moved to York")
    kept = await store.export("ada")
    assert [each.id for each in kept] == [new]
    assert new != old.id
    assert kept[0].text == "Her sister Ruth moved to York"
    assert kept[0].evidence == old.evidence
    assert texts(await store.search("ada", "has my sister Ruth moved to York?", limit=3)) == [kept[0].text]  # type: ignore[arg-type]


async def test_updating_into_a_note_that_is_there_leaves_one(store: MemoryStore, note: MakeNote) -> None:
    one, other = note("likes tea"), note("likes coffee")
    await store.add("ada", [one, other])
    assert await store.update("ada", other.id, "likes tea") == one.id
    assert [each.text for each in await store.export("ada")] == ["likes tea"]


async def test_a_deleted_note_is_gone_and_the_others_stay(store: MemoryStore, note: MakeNote) -> None:
    one, other = note(SISTER), note("has a dog called Rex")
    await store.add("ada", [one, other])
    await store.delete("ada", one.id)
    assert await store.export("ada") == [other]
    assert SISTER not in texts(await store.search("ada", ASKED, limit=5))  # type: ignore[arg-type]


async def test_no_one_changes_a_note_of_somebody_else(store: MemoryStore, note: MakeNote) -> None:
    mine = note(SISTER)
    await store.add("ada", [mine])
    for user, note_id in (("bo", mine.id), ("ada", "not-0000000000000000")):
        with pytest.raises(ArtifactError):
            await store.delete(user, note_id)
        with pytest.raises(ArtifactError):
            await store.update(user, note_id, "other")
    assert await store.export("ada") == [mine]


async def test_delete_all_is_of_one_user(store: MemoryStore, note: MakeNote) -> None:
    await store.add("ada", [note(SISTER)])
    await store.add("bo", [note(SISTER, user="bo")])
    await store.delete_all("ada")
    assert await store.export("ada") == []
    assert await store.search("ada", ASKED, limit=5) == []
    assert len(await store.search("bo", ASKED, limit=5)) == 1


async def test_a_superseded_note_is_kept_and_not_found(store: MemoryStore, note: MakeNote) -> None:
    old = note("Her sister Ruth lives in Leeds")
    new = note("Her sister Ruth lives in York now, no longer in Leeds", supersedes=(old.id,))
    await store.add("ada", [old, new])
    assert [each.note for each in await store.search("ada", ASKED, limit=5)] == [new]
    assert await store.export("ada") == [old, new]
    await store.delete("ada", new.id)
    assert [each.note for each in await store.search("ada", ASKED, limit=5)] == [old]


async def test_a_superseded_note_stays_so_when_its_text_is_changed(store: MemoryStore, note: MakeNote) -> None:
    old = note("Her sister Ruth lives in Leeds")
    new = note("Her sister Ruth lives in York now", supersedes=(old.id,))
    await store.add("ada", [old, new])
    await store.update("ada", old.id, "Her sister Ruth lives in Leeds, by the river")
    assert [each.note for each in await store.search("ada", ASKED, limit=5)] == [new]


@pytest.mark.parametrize("query", ["", "   \n", "?!", "\u0000", "🙂", "a" * 50_000])
async def test_any_query_is_answered(store: MemoryStore, note: MakeNote, query: str) -> None:
    await store.add("ada", [note(SISTER)])
    assert len(await store.search("ada", query, limit=2)) <= 1


@pytest.mark.parametrize(
    "text", ["", "姐姐住在利兹", "🧑‍🚀 \u202e\u0000 quoted \" ' \\ ; DROP TABLE notes; --", "so much " * 30_000]
)
async def test_any_text_comes_back_as_it_was(store: MemoryStore, note: MakeNote, text: str) -> None:
    user = f"ада ' OR 1=1 {text[:5]}"
    told = note(text, user=user)
    await store.add(user, [told])
    await store.search(user, text[:200], limit=5)
    assert await store.export(user) == [told]


async def test_calls_about_one_user_take_effect_in_order(store: MemoryStore, note: MakeNote) -> None:
    notes = [note(f"fact number {number}") for number in range(20)]
    await asyncio.gather(*(store.add("ada", [each]) for each in notes))
    assert await store.export("ada") == notes


async def test_kept_notes_outlive_the_store(opener: Opener, note: MakeNote, tmp_path: Path) -> None:
    store = opener(tmp_path / "deep" / "memory.sqlite")
    await store.add("ada", [note(SISTER)])
    keeps = store.capabilities.keeps
    await store.aclose()
    await store.aclose()
    if not keeps:
        pytest.skip("keeps nothing")
    again = opener(tmp_path / "deep" / "memory.sqlite")
    assert texts(await again.search("ada", ASKED, limit=5)) == [SISTER]  # type: ignore[arg-type]
    await again.aclose()


async def test_a_closed_store_says_so(opener: Opener, note: MakeNote) -> None:
    store = opener(None)
    await store.aclose()
    for late in (store.add("ada", [note("likes tea")]), store.search("ada", "tea", limit=1), store.export("ada")):
        with pytest.raises(SettingsError, match="is closed"):
            await late


async def test_no_byte_of_a_forgotten_user_stays_in_any_file(opener: Opener, note: MakeNote, tmp_path: Path) -> None:
    store = opener(tmp_path / "memory.sqlite")
    secret = ["zanzibar", "quokka", "姐姐住在利兹"]
    await store.add(
        "ada-7f3", [note(f"{word} {number} " * 40, user="ada-7f3") for word in secret for number in range(8)]
    )
    await store.add("bo", [note(f"likes tea number {number}", user="bo") for number in range(30)])
    await store.search("ada-7f3", "where is the quokka", limit=3)
    await store.delete_all("ada-7f3")

    def held() -> list[str]:
        data = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        return [word for word in [*secret, "ada-7f3"] if word.encode() in data or word.encode("unicode_escape") in data]

    assert held() == []
    assert len(await store.export("bo")) == 30
    await store.aclose()
    assert held() == []


@settings(max_examples=15)
@given(texts=st.lists(st.text(max_size=40), max_size=5), query=st.text(max_size=40), limit=st.integers(0, 4))
@pytest.mark.parametrize("name", [name for name in store_names() if name in {"default", "recent", "whole", "bm25"}])
def test_a_search_finds_only_notes_of_the_user_and_each_once(
    name: str, texts: list[str], query: str, limit: int
) -> None:
    import numpy as np

    class Anything:
        def embed(self, texts: list[str]) -> object:
            return np.array([[1.0, 0.0] if len(text) % 2 else [0.6, 0.8] for text in texts], dtype=np.float32)

    async def work() -> None:
        async with aclosing(open_store(name, embedder=Anything())) as store:
            mine = [Note(user_id="ada", text=text) for text in texts]
            await store.add("ada", mine)
            await store.add("bo", [Note(user_id="bo", text=query)])
            found = await store.search("ada", query, limit=limit)
            assert len(found) <= limit
            assert len({each.note.id for each in found}) == len(found)
            assert {each.note.id for each in found} <= {each.id for each in mine}

    asyncio.run(work())
