"""A user who is forgotten is in no file any more, and nobody else lost anything."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from peregrm.cli import main
from peregrm.errors import ArtifactError, InputError
from peregrm.privacy import forgetting
from peregrm.privacy.forgetting import forget
from peregrm.privacy.identifiers import hash_user_id, open_salt
from peregrm.records import History
from peregrm.store import Workspace


def state(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def calls(folder: Path) -> dict[str, str]:
    with closing(sqlite3.connect(folder / "calls.sqlite")) as database:
        return {row[0]: row[1] + row[2] for row in database.execute("SELECT key, request, completion FROM calls")}


def holds(folder: Path, text: str) -> list[str]:
    """Name the files with `text` in their bytes, as it is or as JSON writes it: a search of the test's own."""
    needles = [text.encode(), json.dumps(text)[1:-1].encode(), json.dumps(json.dumps(text)[1:-1])[1:-1].encode()]
    return [p.name for p in folder.rglob("*") if p.is_file() and any(needle in p.read_bytes() for needle in needles)]


@pytest.mark.parametrize("user", ["ada-77", "bo-88", "cy-99"])
def test_nothing_of_the_user_is_left_and_nothing_else_is_gone(
    build: Any, said: dict[str, list[str]], user: str
) -> None:
    before = {path.name: path.read_text().splitlines() for path in build.out.glob("*.jsonl")}
    asked = calls(build.out)
    assert all(holds(build.out, text) for text in said[user] if len(text) > 9)

    result = forget(build.out, user)

    for text in said[user]:
        if len(text) > 9:
            assert holds(build.out, text) == []
    assert holds(build.out, user) == []
    assert not list(build.out.glob("calls.sqlite-*"))
    gone = {name: set(rows) - set((build.out / name).read_text().splitlines()) for name, rows in before.items()}
    assert {name: len(rows) for name, rows in gone.items() if rows} == result.records
    assert {
        "histories.jsonl",
        "memories.jsonl",
        "personas.jsonl",
        "queries.jsonl",
        "cases.jsonl",
    } <= result.records.keys()
    assert {"replies.jsonl", "criteria.jsonl", "judgements.jsonl", "rewards.jsonl"} <= result.records.keys()
    left = {row["user_id"] for row in lines(build.out / "cases.jsonl")}
    assert left == set(said) - {user}
    assert len(asked) - len(calls(build.out)) == result.rows["calls.sqlite"] > 10
    assert result.searched > 15
    assert result.phrases > 50
    assert any("talk.jsonl is outside the folder" in note for note in result.notes)


def test_the_rest_of_the_run_goes_on_as_if_the_user_had_never_been_there(build: Any) -> None:
    rest = {p.name: p.read_text() for p in build.out.glob("*.jsonl")}
    forget(build.out, "bo-88")
    workspace = Workspace(build.out)
    assert not any(workspace.is_edited(path.name) for path in build.out.glob("*.jsonl"))
    asked, kept = build.calls(), {p.name: p.read_bytes() for p in build.out.glob("*.jsonl")}
    assert kept["cases.jsonl"] != rest["cases.jsonl"].encode()
    source = Path(build.command[1]).with_name("rest.jsonl")
    with pytest.raises(SystemExit) as ended:
        main([build.command[0], str(source), *build.command[2:]])
    assert not ended.value.code
    assert build.calls() == asked, "a call of another user was lost"
    after = {p.name: p.read_bytes() for p in build.out.glob("*.jsonl")}
    assert {n for n in kept if n != "histories.jsonl" and kept[n] != after[n]} == set()
    assert (build.out / "report.md").exists()


def test_a_dry_run_says_the_same_and_changes_nothing(build: Any) -> None:
    before = state(build.out)
    said = forget(build.out, "bo-88", dry_run=True)
    assert state(build.out) == before
    done = forget(build.out, "bo-88")
    assert (said.records, said.rows, said.files) == (done.records, done.rows, done.files)
    assert said.searched == 0


@pytest.mark.parametrize("stop", range(14))
def test_stopped_anywhere_it_is_begun_again(build: Any, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Whatever step a kill falls on, the user can still be found or is gone, and a second try ends in the same bytes."""
    whole = build.out.with_name("whole")
    shutil.copytree(build.out, whole)
    forget(whole, "ada-77")
    steps = 0

    def stopping(function: Any) -> Any:
        def step(*args: Any, **named: Any) -> Any:
            nonlocal steps
            if steps == stop:
                raise KeyboardInterrupt
            steps += 1
            return function(*args, **named)

        return step

    with monkeypatch.context() as patched:
        for name in ("write_lines", "purge_database"):
            patched.setattr(forgetting, name, stopping(getattr(forgetting, name)))
        try:
            forget(build.out, "ada-77")
        except KeyboardInterrupt:
            forget_again = True
        else:
            forget_again = False
    assert forget_again or stop >= 10, "there are a dozen steps to stop at"
    if forget_again:
        forget(build.out, "ada-77")
    assert {n: h for n, h in state(build.out).items() if n != "calls.sqlite"} == {
        n: h for n, h in state(whole).items() if n != "calls.sqlite"
    }
    assert calls(build.out) == calls(whole)


def test_words_in_a_file_that_cannot_be_cleaned_stop_it_before_anything_changes(
    build: Any, said: dict[str, list[str]]
) -> None:
    (build.out / "notes.bin").write_bytes(b"\x00\x01" + said["bo-88"][0].encode() + b"\x00")
    before = state(build.out)
    with pytest.raises(ArtifactError, match=r"cannot clean: notes\.bin\. Nothing was changed"):
        forget(build.out, "bo-88")
    assert state(build.out) == before
    (build.out / "notes.bin").unlink()
    forget(build.out, "bo-88")


def test_what_is_left_after_cleaning_is_a_loud_failure(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "purge_database", lambda *args, **named: 0)
    with pytest.raises(ArtifactError, match=r"is not forgotten; still there: calls\.sqlite"):
        forget(build.out, "bo-88")
    assert "bo-88" in {row["user_id"] for row in lines(build.out / "histories.jsonl")}, "it can be begun again"
    monkeypatch.undo()
    forget(build.out, "bo-88")


def test_rows_without_an_owner_tables_archives_and_leftovers(build: Any, said: dict[str, list[str]]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    rows = lines(build.out / "cases.jsonl")
    table = pyarrow.table({"user_id": [r["user_id"] for r in rows], "query": [r["query"] for r in rows]})
    parquet.write_table(table, build.out / "mine.parquet")
    chats = [{"messages": [{"role": "user", "content": text}]} for texts in said.values() for text in texts]
    packed = "".join(json.dumps(chat) + "\n" for chat in chats)
    (build.out / "sft.jsonl.gz").write_bytes(gzip.compress(packed.encode()))
    (build.out / ".cases.jsonl.123.tmp").write_text(said["bo-88"][0])
    (build.out / "chains.html").write_text(f"<p>{said['bo-88'][0]}</p>")
    result = forget(build.out, "bo-88")
    assert set(parquet.read_table(build.out / "mine.parquet")["user_id"].to_pylist()) == {"ada-77", "cy-99"}
    assert result.rows["mine.parquet"] == sum(r["user_id"] == "bo-88" for r in rows) > 0
    assert sum(n for name, n in result.rows.items() if name.startswith("cases.parquet/")) == result.rows["mine.parquet"]
    left = gzip.decompress((build.out / "sft.jsonl.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in left] == [
        c for c in chats if c["messages"][0]["content"] not in said["bo-88"][:2]
    ]
    assert not (build.out / ".cases.jsonl.123.tmp").exists()
    assert not (build.out / "chains.html").exists()
    assert "chains.html" in result.files
    notes = "\n".join(result.notes)
    assert "(`peregrm export DIR`): README.md" in notes
    assert "(`peregrm show DIR --html FILE`): chains.html" in notes
    assert "exported or copied to other folders" in notes


def test_a_file_that_was_edited_by_hand_still_counts_as_edited(build: Any) -> None:
    path = build.out / "replies.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[::-1]) + "\n")
    forget(build.out, "bo-88")
    assert Workspace(build.out).is_edited("replies.jsonl")
    assert not Workspace(build.out).is_edited("cases.jsonl")


def test_the_hashed_id_and_the_original_name_the_same_user(tmp_path: Path) -> None:
    salt = open_salt(tmp_path)
    for given in ("carol@example.com", hash_user_id("carol@example.com", salt)):
        histories = []
        for user in ("carol@example.com", "dan@example.com"):
            turns = ({"role": "user", "text": f"I am {user[:3]} and this is my own long story."},)
            sessions = ({"session_id": "s1", "turns": turns},)
            histories.append(
                History.model_validate({"user_id": hash_user_id(user, salt), "language": "en", "sessions": sessions})
            )
        Workspace(tmp_path).write("histories.jsonl", histories)
        result = forget(tmp_path, given)
        assert result.records == {"histories.jsonl": 1}
        assert [row["user_id"] for row in lines(tmp_path / "histories.jsonl")] == [histories[1].user_id]


def test_nobody_there_is_one_clear_line(build: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing here is of the user 'eve'"):
        forget(build.out, "eve")
    with pytest.raises(InputError, match="no such folder"):
        forget(tmp_path / "nowhere", "eve")


def test_the_command_says_what_it_did(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["forget", "cy-99", str(build.out), "--dry-run", "--json"])
    assert not ended.value.code
    planned = json.loads(capsys.readouterr().out)
    assert planned["dry_run"] is True
    with pytest.raises(SystemExit) as ended:
        main(["forget", "cy-99", str(build.out)])
    assert not ended.value.code
    said = capsys.readouterr()
    assert f"histories.jsonl: {planned['records']['histories.jsonl']} records removed" in said.out
    assert f"calls.sqlite: {planned['rows']['calls.sqlite']} rows removed" in said.out
    assert "none found" in said.out
    assert "is outside the folder" in said.err
    with pytest.raises(SystemExit) as ended:
        main(["forget", "cy-99", str(build.out)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1
