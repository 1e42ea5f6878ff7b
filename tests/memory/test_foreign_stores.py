"""Systems of others behind the interface: small stand-ins for a checkout of A-MEM, one of MemoryOS, and a Letta server."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from checkout_parts import amem_at, memoryos_at
from letta_parts import FakeLetta, serving_letta
from peregrm.errors import (
    ArtifactError,
    DependencyError,
    ModelAuthError,
    ModelProtocolError,
    ModelUnavailable,
    SettingsError,
)
from peregrm.memory import MemoryStore, Note, open_store
from peregrm.memory.embedding import Embeds
from peregrm.memory.factory import Options, check_place, open_fitting
from peregrm.memory.foreign import exchanges, folder_name
from peregrm.memory.letta import LettaStore
from peregrm.memory.memoryos import MemoryOsStore
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry

MakeNote = Callable[..., Note]


@pytest.fixture
def amem_checkout(tmp_path: Path) -> Path:
    return amem_at(tmp_path)


@pytest.fixture
def memoryos_checkout(tmp_path: Path) -> Path:
    return memoryos_at(tmp_path)


def turns(*texts: str, user: str = "ada") -> list[Note]:
    roles = ("user", "assistant")
    return [
        Note(user_id=user, text=text, kind="turn", role=roles[n % 2], session_id="s", turn=n)  # type: ignore[arg-type]
        for n, text in enumerate(texts)
    ]


TALK = turns("my brother Tom lives in Lyon", "how nice", "peanuts make me ill", "noted")


def test_an_exchange_begins_with_the_user() -> None:
    assistant = Note(user_id="ada", text="hello", kind="turn", role="assistant")
    assert [list(one) for one in exchanges([assistant, *TALK])] == [TALK[:2], TALK[2:]]
    assert len({folder_name(user) for user in ("ada", " ada", "../ada", "ADA", "\ud800")}) == 5


# A-MEM


async def test_amem_serves_each_user_by_an_instance_of_their_own(
    amem_checkout: Path, words: Embeds, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(lambda request: '{"context": "about ' + request.messages[0].content[9:14] + '"}')
    before = set(sys.modules)
    store = open_store("amem", model=model, embedder=words, at=str(amem_checkout))
    await store.add("ada", TALK)
    other = turns("my brother Bob lives in Rome", user="ben")
    await store.add("ben", other)
    assert [one.note for one in await store.search("ada", "where does my brother live", limit=1)] == TALK[:1]
    assert [one.note for one in await store.search("ben", "where does my brother live", limit=9)] == other
    exported = await store.export("ada")
    assert exported[:4] == TALK
    assert (exported[4].text, exported[4].label, exported[4].sources) == ("about my br", "context", (TALK[0].id,))
    new = await store.update("ada", TALK[2].id, "nuts of any kind make me ill")
    await store.delete("ada", TALK[1].id)
    left = [note for note in await store.export("ada") if note.kind == "turn"]
    assert [note.id for note in left] == [TALK[0].id, new, TALK[3].id]
    assert [one.note.id for one in await store.search("ada", "nuts of any kind", limit=1)] == [new]
    with pytest.raises(ArtifactError):
        await store.delete("ada", TALK[1].id)
    await store.delete_all("ada")
    assert (await store.export("ada"), len(await store.export("ben"))) == ([], 2)
    await store.aclose()
    assert {name for name in sys.modules if name.startswith("_peregrm_checkout")} <= before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("entry", "kind"), [("General words", "unparsable"), (ModelUnavailable("nobody answers"), "unavailable")]
)
async def test_amem_tells_what_it_passes_over(
    amem_checkout: Path, words: Embeds, entry: ScriptEntry, kind: str
) -> None:
    store = open_store("amem", model=ScriptedModel(lambda _: entry), embedder=words, at=str(amem_checkout))
    added = await store.add("ada", TALK[:1])
    assert (added.ids, [failure.kind for failure in added.failures]) == ((TALK[0].id,), [kind])
    assert await store.export("ada") == TALK[:1]
    await store.aclose()


async def test_a_fatal_error_comes_through_foreign_code(amem_checkout: Path, words: Embeds) -> None:
    model = ScriptedModel(lambda _: ModelAuthError("no key"))
    store = open_store("amem", model=model, embedder=words, at=str(amem_checkout))
    with pytest.raises(ModelAuthError):
        await store.add("ada", TALK)
    assert len(model.requests) == 1
    await store.aclose()


async def test_a_checkout_that_cannot_be_used_is_told(amem_checkout: Path, words: Embeds, tmp_path: Path) -> None:
    model = ScriptedModel([])
    with pytest.raises(SettingsError, match="checkout of A-MEM"):
        open_store("amem", model=model, embedder=words)
    with pytest.raises(SettingsError, match="not a checkout of MemoryOS"):
        open_store("memoryos", model=model, embedder=words, at=str(tmp_path))
    with pytest.raises(SettingsError, match="memory only"):
        open_store("amem", tmp_path / "x", model=model, embedder=words, at=str(amem_checkout))
    with pytest.raises(SettingsError, match="checkout of A-MEM: name it with --memory-at"):
        open_fitting("amem", Options(model=model, embedder=words))
    file = amem_checkout / "agentic_memory" / "memory_system.py"
    for text, error, what in (
        (
            "try:\n    from .chroma import x\nexcept ImportError:\n    import chroma_of_old\n",
            DependencyError,
            r"\.chroma",
        ),
        ("class AgenticMemorySystem: ...", SettingsError, "ChromaRetriever"),
    ):
        file.write_text(text)
        importlib.invalidate_caches()
        store = open_store("amem", model=model, embedder=words, at=str(amem_checkout))
        with pytest.raises(error, match=what):
            await store.add("ada", TALK)
        await store.aclose()


async def test_a_store_is_given_what_it_is_made_from(amem_checkout: Path, words: Embeds, tmp_path: Path) -> None:
    model, file = ScriptedModel([]), tmp_path / "notes"
    for name, at in (("amem", str(amem_checkout)), ("letta", "http://127.0.0.1:9"), ("bm25", None)):
        store = open_fitting(name, Options(file, model, words, at))
        assert store.name == name
        await store.aclose()
    with pytest.raises(SettingsError, match="memory only"):
        open_store("amem", file, model=model, embedder=words, at=str(amem_checkout))


@pytest.mark.parametrize(
    ("names", "at", "message"),
    [
        (["letta"], None, "letta needs the URL of a Letta server.*--memory-at"),
        (
            ["bm25", "memoryos"],
            None,
            "memoryos needs the folder of your checkout of MemoryOS: name it with --memory-at",
        ),
        (["amem", "memoryos"], "here", "amem and memoryos want one each"),
        (["bm25", "mem0"], "here", r"a store of others is \(amem, memoryos, letta\); none was asked for"),
    ],
)
def test_a_place_goes_with_one_store_that_has_one(names: list[str], at: str | None, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_place(names, at)
    check_place(["amem", "bm25"], "here")
    check_place(["bm25"], None)


# MemoryOS


async def test_memoryos_takes_exchanges_and_forgets_users_whole(
    memoryos_checkout: Path, words: Embeds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(lambda _: "a profile of the user")
    path = tmp_path / "kept"
    store = open_store("memoryos", path, model=model, embedder=words, at=str(memoryos_checkout))
    assert (store.capabilities.takes, store.capabilities.delete, store.capabilities.update) == (("turn",), False, False)
    await store.add("../ada", [note.model_copy(update={"user_id": "../ada"}) for note in TALK])
    added = await store.add("ada", TALK)
    assert added.ids == tuple(note.id for note in TALK)
    assert (await store.add("ada", TALK[:2])).ids == added.ids[:2]
    found = [one.note for one in await store.search("ada", "what about peanuts", limit=5)]
    assert [note.text for note in found] == [
        "knows my brother Tom lives in Lyon",
        "peanuts make me ill",
        "a profile of the user",
        "my brother Tom lives in Lyon",
    ]
    assert found[1] == TALK[2]
    for refused in (store.delete("ada", TALK[0].id), store.update("ada", TALK[0].id, "x")):
        with pytest.raises(SettingsError):
            await refused
    with pytest.raises(SettingsError):
        await store.add("ada", [Note(user_id="ada", text="a fact")])
    await store.aclose()

    store = open_store("memoryos", path, model=model, embedder=words, at=str(memoryos_checkout))
    assert (await store.export("ada"))[:4] == TALK
    await store.delete_all("ada")
    assert await store.export("ada") == []
    await store.aclose()
    held = "".join(file.read_text() for file in path.rglob("*.json*"))
    assert (held.count("Lyon"), folder_name("../ada") in {child.name for child in path.iterdir()}) == (2, True)
    assert capsys.readouterr().out == ""


async def test_memoryos_invents_nothing_from_a_failed_call(memoryos_checkout: Path, words: Embeds) -> None:
    model = ScriptedModel(lambda _: ModelUnavailable("nobody answers"))
    store = MemoryOsStore(model, memoryos_checkout, embedder=words)
    added = await store.add("ada", TALK)
    assert [failure.kind for failure in added.failures] == ["unavailable"] * 2
    assert [note.label for note in (await store.export("ada"))[4:]] == ["knowledge"]
    await store.aclose()
    with pytest.raises(SettingsError, match="closed"):
        await store.export("ada")


# Letta


@pytest.fixture
async def letta() -> AsyncIterator[tuple[FakeLetta, MemoryStore]]:
    async with serving_letta() as (fake, url):
        store = open_store("letta", at=url)
        yield fake, store
        await store.aclose()
        await store.aclose()


async def test_letta_keeps_notes_whole_in_an_agent_a_user(letta: tuple[FakeLetta, MemoryStore], note: MakeNote) -> None:
    fake, store = letta
    assert (await store.search("ada", "Tom", limit=3), fake.agents) == ([], {})
    fact = note("has a brother", label="Social_Relationships/Family", supersedes=("not-1",))
    assert (await store.add("ada", [*TALK, fact, fact])).ids == tuple(n.id for n in (*TALK, fact))
    await store.add("ada", TALK[:1])
    other = note("brother Tom of ben", user="ben")
    await store.add("ben", [other])
    assert await store.export("ada") == [*TALK, fact]
    found = await store.search("ada", "brother Tom", limit=2)
    assert ([one.note for one in found], [one.score for one in found]) == ([TALK[0], fact], [1.0, 0.5])
    new = await store.update("ada", TALK[2].id, "nuts make me ill")
    await store.delete("ada", TALK[0].id)
    assert [n.id for n in await store.export("ada")] == [TALK[1].id, TALK[3].id, fact.id, new]
    with pytest.raises(ArtifactError):
        await store.delete("ada", TALK[0].id)
    await store.delete_all("ada")
    assert (await store.export("ada"), await store.export("ben")) == ([], [other])
    assert {row["model"] for row in fake.agents.values()} == {"letta/letta-free"}


async def test_passing_stores_meet_nobody_and_leave_nothing(note: MakeNote) -> None:
    async with serving_letta() as (fake, url):
        lasting, passing, other = (open_store("letta", at=url, passing=kind) for kind in (False, True, True))
        assert (lasting.capabilities.keeps, passing.capabilities.keeps) == (True, False)
        for n, store in enumerate((lasting, passing, other)):
            await store.add("ada", [note(f"note {n}")])
        for n, store in enumerate((lasting, passing, other)):
            assert [one.text for one in await store.export("ada")] == [f"note {n}"]
        for store in (passing, passing, lasting):
            await store.aclose()
        assert len(fake.agents) == 2
        fake.answer = web.Response(status=500)
        await other.aclose()


async def test_letta_lists_more_than_a_page(letta: tuple[FakeLetta, MemoryStore], note: MakeNote) -> None:
    _, store = letta
    notes = [note(f"fact {n}") for n in range(205)]
    await store.add("ada", notes)
    assert await store.export("ada") == notes


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.Response(status=401), ModelAuthError),
        (web.Response(status=500, text="<html>"), ModelProtocolError),
        (web.Response(text="<html>"), ModelProtocolError),
        (web.json_response({"agents": []}), ModelProtocolError),
    ],
)
async def test_letta_says_what_is_wrong(
    letta: tuple[FakeLetta, MemoryStore], answer: web.Response, error: type[Exception]
) -> None:
    fake, store = letta
    fake.answer = answer
    with pytest.raises(error, match="Letta server"):
        await store.add("ada", TALK)


async def test_no_letta_server_is_told() -> None:
    for url in ("127.0.0.1:8283", "http://user:pass@host", "ftp://host"):
        with pytest.raises(SettingsError, match="URL of a Letta server"):
            LettaStore(url)
    with pytest.raises(SettingsError, match="URL of a Letta server"):
        open_store("letta")
    store = LettaStore("http://127.0.0.1:9")
    with pytest.raises(ModelUnavailable, match="does not answer"):
        await store.add("ada", TALK)
    await store.aclose()


# mem0


@pytest.mark.skipif(importlib.util.find_spec("mem0") is not None, reason="mem0 is installed")
def test_mem0_says_what_to_install() -> None:
    with pytest.raises(DependencyError, match=r"-e .\.\[mem0\]"):
        open_store("mem0", model=ScriptedModel([]))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mem0") is None, reason="mem0 is not installed")
async def test_mem0_keeps_facts_with_their_sources(tmp_path: Path) -> None:
    def play(request: Request) -> ScriptEntry:
        new = request.messages[1].content.rpartition("## New Messages")[2]
        facts: Sequence[str] = ("has a brother Tom in Lyon",) if "Tom" in new else ()
        if "peanuts" in new:
            return "no facts today"
        rows = [f'{{"id": "{n}", "text": "{fact}", "attributed_to": "user"}}' for n, fact in enumerate(facts)]
        return f'{{"memory": [{", ".join(rows)}]}}'

    store = open_store("mem0", tmp_path, model=ScriptedModel(play))
    added = await store.add(" ada", [note.model_copy(update={"user_id": " ada"}) for note in TALK])
    assert [failure.kind for failure in added.failures] == ["unparsable"]
    (fact,) = await store.export(" ada")
    assert (added.ids, fact.kind, len(fact.sources)) == ((fact.id,), "derived", 2)
    assert [one.note for one in await store.search(" ada", "my brother", limit=3)] == [fact]
    assert await store.search("ada", "my brother", limit=3) == []
    new = await store.update(" ada", fact.id, "has a brother Tom in Nice")
    await store.aclose()
    store = open_store("mem0", tmp_path, model=ScriptedModel(play))
    assert [one.id for one in await store.export(" ada")] == [new]
    await store.delete(" ada", new)
    assert await store.export(" ada") == []
    await store.delete_all(" ada")
    await store.aclose()
    assert not any(b"brother" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
