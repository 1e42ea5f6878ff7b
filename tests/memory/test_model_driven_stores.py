"""The three stores that a model drives: what it answers, what it fails at, and what is left when notes change or go."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from peregrm.errors import ArtifactError, ModelAuthError, ModelUnavailable, SettingsError
from peregrm.memory.base import Note
from peregrm.memory.block import MOST_LINES, Line, edit_block
from peregrm.memory.embedding import Vectors
from peregrm.memory.factory import open_store
from peregrm.memory.held import HeldStore
from peregrm.memory.levels import QUEUE
from peregrm.memory.written import LONGEST_SHOWN, unfounded
from peregrm.models.base import Completion, Model, Request
from peregrm.models.embedded import EmbeddedModel
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.text import tokens

NAMES = ["two_tier", "linked", "levels"]


class WordVectors:
    """An embedder without a model: every word is a direction."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), 256), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for token in [*tokens(text), "all texts share this one"]:
                row[zlib.crc32(token[:4].encode()) % 256] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def said(text: str, turn: int = 0, user: str = "ada", **fields: object) -> Note:
    usual = {"kind": "turn", "session_id": "s1", "turn": turn}
    return Note.model_validate({"user_id": user, "text": text, **usual, **fields})


def opened(name: str, model: Model, path: Path | None = None) -> HeldStore:
    store = open_store(name, path, model=model, embedder=WordVectors())
    assert isinstance(store, HeldStore)
    return store


def shown_part(request: Request, tag: str) -> str:
    """Return what stands in the fence `tag` of a request."""
    found = re.search(rf"<({tag}-\w+)>\n(.*?)\n</\1>", request.messages[1].content, re.DOTALL)
    return found[2] if found else ""


def answers(
    edits: Callable[[str, str], list[dict[str, object]]] = lambda lines, notes: [],
    links: Callable[[str, str], dict[str, object]] = lambda note, older: {"links": [], "updates": []},
    topic: Callable[[str], int] = lambda topics: 0,
) -> ScriptedModel:
    """Return a model that answers whatever the stores ask: keywords and summaries in the words of the notes."""

    def play(request: Request) -> ScriptEntry:
        if request.schema_name == "edits":
            answer: object = {"edits": edits(shown_part(request, "lines"), shown_part(request, "notes"))}
        elif request.schema_name == "memory_note":
            words = tokens(shown_part(request, "note").removeprefix("person: "))
            answer = {"keywords": words[-1:], "tags": ["life"], "context": " ".join(words[:6])}
        elif request.schema_name == "memory_links":
            answer = links(shown_part(request, "note"), shown_part(request, "older"))
        else:
            stretch = shown_part(request, "part").splitlines()
            summary = " / ".join(line.partition(": ")[2] for line in stretch)
            answer = {"topic": topic(shown_part(request, "topics")), "title": "a talk", "summary": summary[:600]}
        return json.dumps(answer)

    return ScriptedModel(play)


def append_first(lines: str, notes: str) -> list[dict[str, object]]:
    """Append the words of the first note of the person."""
    for line in notes.splitlines():
        number, _, text = line.partition(". ")
        if text.startswith("person: "):
            return [{"op": "append", "line": 0, "text": text.removeprefix("person: ")[:200], "notes": [int(number)]}]
    return []


def words(count: int, about: str) -> list[Note]:
    return [said(f"{about} number{chr(97 + turn) * 3} came up", turn) for turn in range(count)]


# What all three share


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("I would rather not answer that.", "unparsable"),
        ('{"edits": 3}', "invalid"),
        (Completion(text='{"edits": [', finish_reason="length"), "truncated"),
        (ModelUnavailable("nobody answers"), "unavailable"),
    ],
)
async def test_a_failed_call_is_told_and_nothing_is_invented(name: str, entry: ScriptEntry, kind: str) -> None:
    store = opened(name, ScriptedModel(lambda request: entry))
    notes = words(QUEUE + 2, "the garden")
    added = await store.add("ada", notes)
    assert added.ids == tuple(note.id for note in notes)
    assert {failure.kind for failure in added.failures} == {kind}
    assert {failure.stage for failure in added.failures} == {f"memory_{name}"}
    assert await store.export("ada") == notes
    assert (await store.search("ada", "garden numberccc", limit=1))[0].note == notes[2]
    await store.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_a_fatal_error_leaves_no_note_half_done(name: str) -> None:
    broken = [True]
    good = answers(edits=append_first)

    def play(request: Request) -> ScriptEntry:
        return ModelAuthError("no key") if broken[0] else good._play(request)

    store = opened(name, ScriptedModel(play))
    notes = words(QUEUE + 1, "the garden")
    with pytest.raises(ModelAuthError):
        await store.add("ada", notes)
    kept = await store.export("ada")
    assert len(kept) < len(notes)
    broken[0] = False
    added = await store.add("ada", notes)
    assert (added.ids, added.failures) == (tuple(note.id for note in notes), ())
    raw = [note for note in await store.export("ada") if note.kind == "turn"]
    assert raw == notes
    await store.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_users_at_once_get_their_own_notes_only(name: str) -> None:
    store = opened(name, answers(edits=append_first, links=lambda note, older: {"links": [1], "updates": []}))
    users = [f"user {n}" for n in range(12)]

    async def live(user: str) -> None:
        for turn in range(QUEUE + 2):
            await store.add(user, [said(f"secret of {user} on turn {'x' * turn}", turn, user)])

    await asyncio.gather(*(live(user) for user in users))
    for user in users:
        for found in await store.search(user, "secret of user 3", limit=30):
            assert found.note.user_id == user
            assert found.note.kind == "derived" or f"secret of {user} on" in found.note.text
    await store.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_what_was_made_survives_and_goes_with_its_note(name: str, tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    model = answers(edits=append_first, links=lambda note, older: {"links": [1], "updates": []})
    store = opened(name, model, path)
    notes = [said("peanuts make me ill", 0), *words(2 * QUEUE, "walks with peanuts")[1:]]
    await store.add("ada", notes)
    await store.search("ada", "peanuts", limit=3)
    before = await store.export("ada")
    found = await store.search("ada", "peanuts ill", limit=9)
    await store.aclose()
    await store.aclose()

    again = opened(name, model, path)
    assert await again.export("ada") == before
    assert [one.note for one in await again.search("ada", "peanuts ill", limit=9)] == [one.note for one in found]
    assert any(note.kind == "derived" and notes[0].id in note.sources for note in before)
    await again.delete("ada", notes[0].id)
    after = await again.export("ada")
    assert not any(notes[0].id in note.sources for note in after)
    assert not any("make me ill" in note.text for note in after)
    new = await again.update("ada", notes[1].id, "walks are over")
    after = await again.export("ada")
    assert after[0].text == "walks are over"
    assert after[0].id == new
    assert not any(notes[1].id in note.sources for note in after)
    with pytest.raises(ArtifactError):
        await again.delete("ada", notes[0].id)
    with pytest.raises(ArtifactError):
        await again.update("ada", "not-here", "x")
    await again.delete_all("ada")
    assert await again.export("ada") == []
    await again.aclose()
    assert b"walks" not in path.read_bytes()
    assert b"peanuts" not in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
async def test_no_other_kind_of_store_opens_the_file(name: str, tmp_path: Path) -> None:
    store = opened(name, answers(), tmp_path / "memory.sqlite")
    for other in {*NAMES, "default"} - {name}:
        with pytest.raises(ArtifactError, match="choose another file"):
            open_store(
                other,
                tmp_path / "memory.sqlite",
                model=None if other == "default" else answers(),
                embedder=WordVectors(),
            )
    await store.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_superseded_notes_and_what_rests_on_them_are_not_found(name: str) -> None:
    store = opened(name, answers(edits=append_first))
    old = said("I live in Lyon")
    await store.add("ada", [old, *words(QUEUE + 1, "small things")[1:]])
    await store.add("ada", [said("I live in Nice now", 40, supersedes=(old.id,))])
    found = await store.search("ada", "where do I live, Lyon?", limit=40)
    assert "I live in Nice now" in [one.note.text for one in found]
    assert not any("Lyon" in one.note.text or old.id in one.note.sources for one in found)
    assert old in await store.export("ada")
    await store.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_no_note_makes_a_prompt_longer_than_its_bound(name: str) -> None:
    model = answers(edits=append_first)
    store = opened(name, model)
    await store.add("ada", [said(f"{'long words ' * 5000} {n}", n) for n in range(QUEUE + 2)])
    longest = max(sum(len(m.content) for m in request.messages) for request in model.requests)
    assert longest < 4000 + 10 * (LONGEST_SHOWN + 40)
    await store.aclose()


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_not_taken_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="language model"):
        open_store(name)
    store = opened(name, answers())
    with pytest.raises(SettingsError):
        await store.add("ada", [said("x", user="ben")])
    with pytest.raises(SettingsError):
        await store.add("ada", [said("x", kind="derived")])
    with pytest.raises(ValueError, match="limit"):
        await store.search("ada", "x", limit=-1)
    assert await store.search("ada", "x", limit=3) == []
    await store.aclose()
    with pytest.raises(SettingsError, match="closed"):
        await store.search("ada", "x", limit=3)


# Blocks


LINES = (Line(text="works nights as a nurse", sources=("not-1",)), Line(text="likes satay", sources=("not-2",)))
NEWS = [said("I quit the night shifts", 1), said("ok then", 2, role="assistant"), said("my brother Tom is 41", 3)]


def edit(op: str, line: int = 0, text: str = "", notes: Sequence[int] = (1,)) -> dict[str, object]:
    return {"op": op, "line": line, "text": text, "notes": list(notes)}


async def edited(*edits: dict[str, object], lines: tuple[Line, ...] = LINES) -> tuple[tuple[Line, ...], str | None]:
    model = ScriptedModel([json.dumps({"edits": edits})] * 2)
    lines, failure = await edit_block(model, lines, NEWS, purpose="test")
    return lines, failure.reason if failure else None


async def test_a_block_is_edited_line_by_line() -> None:
    lines, failure = await edited(
        edit("replace", 1, "quit night shifts as a nurse"),
        edit("remove", 2, notes=[3]),
        edit("append", text="brother  Tom,\n41", notes=[3, 3]),
    )
    assert failure is None
    assert [line.text for line in lines] == ["quit night shifts as a nurse", "brother Tom, 41"]
    assert [line.sources for line in lines] == [("not-1", NEWS[0].id), (NEWS[2].id,)]
    assert (await edited(edit("append", text="Works nights as a NURSE, shifts"), edit("append", text="likes shifts")))[
        1
    ] is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (edit("append", text="has a dog called Rex"), "too few words"),
        (edit("append", text="quit 3 night shifts"), "holds 3"),
        (edit("append", text="ok then", notes=[2]), "not what the person says"),
        (edit("append", text="quit", notes=[4]), "there are no notes"),
        (edit("replace", 3, "quit night shifts"), "there is no line 3"),
        (edit("append", text="  "), "empty"),
    ],
)
async def test_one_unusable_change_leaves_the_block_as_it_was(wrong: dict[str, object], reason: str) -> None:
    lines, failure = await edited(edit("remove", 2), wrong)
    assert lines == LINES
    assert failure is not None
    assert reason in failure


async def test_a_full_block_takes_no_more() -> None:
    full = tuple(Line(text=f"night {n}", sources=("not-1",)) for n in range(MOST_LINES))
    lines, failure = await edited(edit("append", text="quit night shifts"), lines=full)
    assert (lines, "has room for" in (failure or "")) == (full, True)
    lines, failure = await edited(edit("append", text="quit night shifts"), edit("remove", 1), lines=full)
    assert (len(lines), failure) == (MOST_LINES, None)


@pytest.mark.parametrize(
    ("text", "grounds", "may"),
    [
        ("allergic to peanuts", "a peanut allergy", True),
        ("对花生过敏", "我对花生过敏", True),
        ("喜欢猫", "我对花生过敏", False),
        ("it seems that nothing of any clear theme is told here, peanuts", "a peanut allergy", False),
        ("41", "he is 41", True),
        ("41", "he is 14", False),
        ("of the", "on the house", False),
    ],
)
def test_what_may_rest_on_what(text: str, grounds: str, may: bool) -> None:
    assert (unfounded(text, [grounds]) is None) == may


# Two tiers


async def test_the_core_comes_first_and_takes_half_at_most() -> None:
    store = opened("two_tier", answers(edits=append_first))
    for start in range(0, 30, 10):
        await store.add("ada", [said(f"{'abc'[start // 10] * 4} matters", start), *words(8, "little")[1:]])
    found = await store.search("ada", "bbbb matters", limit=4)
    assert [one.note.kind for one in found] == ["derived", "derived", "turn", "turn"]
    assert (found[0].note.text, found[2].note.text) == ("bbbb matters", "bbbb matters")
    assert found[0].note.sources == (found[2].note.id,)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert [one.note.kind for one in await store.search("ada", "bbbb matters", limit=1)] == ["turn"]
    await store.aclose()


# Linked notes


async def test_a_link_brings_up_what_the_words_do_not() -> None:
    def link_tom(note: str, older: str) -> dict[str, object]:
        number = next((line[0] for line in older.splitlines() if "plaster" in line), None)
        if number is None or "Tom" not in note:
            return {"links": [], "updates": []}
        update = {"note": int(number), "context": "a leg in plaster, Tom's"}
        return {"links": [int(number)], "updates": [update]}

    store = opened("linked", answers(links=link_tom))
    leg, tom, other = (
        said("a leg in plaster", 0),
        said("my brother Tom fell on the slope", 1),
        said("weather and rain", 2),
    )
    await store.add("ada", [leg, other, tom])
    found = await store.search("ada", "brother fell slope", limit=2)
    assert [one.note for one in found] == [tom, leg]
    assert found[1].score == pytest.approx(0.8 * found[0].score)
    derived = [note for note in await store.export("ada") if note.kind == "derived"]
    (context,) = [note for note in derived if note.label == "context" and note.sources[0] == leg.id]
    assert (context.text, context.sources) == ("a leg in plaster, Tom's", (leg.id, tom.id))
    assert [note.sources for note in derived if note.label == "link"] == [(leg.id, tom.id)]
    await store.delete("ada", tom.id)
    derived = [note for note in await store.export("ada") if note.kind == "derived"]
    assert not any("Tom" in note.text or tom.id in note.sources for note in derived)
    await store.aclose()


@pytest.mark.parametrize(
    "bad",
    [
        {"links": [9], "updates": []},
        {"links": [], "updates": [{"note": 1, "context": "rain"}]},
        {"links": [1], "updates": [{"note": 1, "context": "a dog called Rex"}]},
    ],
)
async def test_a_linking_that_makes_no_sense_leaves_the_note_without_links(bad: dict[str, object]) -> None:
    store = opened("linked", answers(links=lambda note, older: bad))
    added = await store.add("ada", [said("rain on Sunday", 0), said("the slope was icy", 1)])
    assert [failure.kind for failure in added.failures] == ["check"]
    labels = [note.label for note in await store.export("ada") if note.kind == "derived"]
    assert labels == ["keywords", "tags", "context"] * 2
    await store.aclose()


# Levels


async def test_a_full_queue_moves_to_segments_and_hot_ones_to_the_profile() -> None:
    model = answers(edits=append_first, topic=lambda topics: 1 if topics else 0)
    store = opened("levels", model)
    notes = words(26, "my job")
    await store.add("ada", notes[:QUEUE])
    assert model.requests == []
    await store.add("ada", notes[QUEUE : QUEUE + 1])
    assert [request.schema_name for request in model.requests] == ["segment"]
    (summary,) = [note for note in await store.export("ada") if note.kind == "derived"]
    assert (summary.label, summary.sources) == ("segment", tuple(note.id for note in notes[:5]))
    await store.add("ada", notes[QUEUE + 1 :])
    derived = [note for note in await store.export("ada") if note.kind == "derived"]
    (summary,) = [note for note in derived if note.label == "segment"]
    assert summary.sources == tuple(note.id for note in notes[:20])
    profile = [note for note in derived if note.label == "profile"]
    assert profile
    assert profile[0].sources == (notes[0].id,)
    found = {one.note.label or one.note.kind for one in await store.search("ada", "my job", limit=40)}
    assert found == {"segment", "profile", "turn"}
    await store.aclose()


async def test_searches_warm_a_segment() -> None:
    async def edits_after(searches: int) -> int:
        model = answers(edits=append_first)
        store = opened("levels", model)
        await store.add("ada", words(QUEUE + 1, "my job"))
        for _ in range(searches):
            await store.search("ada", "job numberaaa", limit=2)
        await store.add("ada", [said(f"other matter {'z' * n}", 50 + n) for n in range(5)])
        await store.aclose()
        return sum(request.schema_name == "edits" for request in model.requests)

    assert await edits_after(0) == 0
    assert await edits_after(3) == 1


async def test_far_queries_find_nothing_in_levels() -> None:
    store = opened("levels", answers())
    await store.add("ada", [said("peanuts " * 9 + "ill")])
    assert await store.search("ada", "astronomy telescopes mirrors galaxies comets orbits moons", limit=5) == []
    await store.aclose()


# A real model


@pytest.mark.slow
@pytest.mark.parametrize(("name", "turns"), [("two_tier", 3), ("linked", 2), ("levels", QUEUE + 1)])
async def test_a_real_model_that_can_little_does_no_harm(
    name: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("block", "linked", "levels"):  # it would ramble up to the limit
        monkeypatch.setattr(f"peregrm.memory.{module}._ANSWER_TOKENS", 60)
    talk = [
        "my brother Tom lives in Lyon",
        "peanuts make me ill",
        "I work nights as a nurse",
        "please do not give me tips",
    ]
    notes = [said(f"{talk[turn % 4]}, since {turn} years", turn) for turn in range(turns)]
    model = EmbeddedModel(threads=1, slots=1)
    store = open_store(name, model=model)
    added = await store.add("ada", notes)
    assert added.ids == tuple(note.id for note in notes)
    assert (await store.search("ada", "who is my brother?", limit=3))[-1].note.text
    raw = {note.id for note in notes}
    exported = await store.export("ada")
    assert exported[:turns] == notes
    assert all(note.sources and raw.issuperset(note.sources) for note in exported[turns:])
    await store.aclose()
    await model.aclose()
