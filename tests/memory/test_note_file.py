"""The file of notes: what is no such file, what is damaged, and who else cleans it."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from peregrm.errors import ArtifactError
from peregrm.memory import Note
from peregrm.memory.file import NoteFile
from peregrm.privacy.forgetting import forget
from peregrm.records import History, Session, Turn


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE notes (text)")
        database.commit()
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="no memory of this version"):
        NoteFile(path)
    assert path.read_bytes() == before


def test_a_file_that_another_process_is_making_is_waited_for(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        ready = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        ready.start()
        file = NoteFile(path)
        ready.join()
    file.add("ada", [(Note(user_id="ada", text="likes tea"), None)])
    file.close()


def test_a_place_where_no_file_can_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ArtifactError, match="taken"):
        NoteFile(tmp_path / "taken" / "memory.sqlite")


def test_what_is_no_database_is_said(path: Path) -> None:
    path.write_text("these are my notes, and there are many of them " * 100)
    with pytest.raises(ArtifactError, match=r"memory\.sqlite"):
        NoteFile(path)


def test_a_damaged_note_is_said_and_no_other_user_suffers(path: Path) -> None:
    file = NoteFile(path)
    for user in ("ada", "bo"):
        file.add(user, [(Note(user_id=user, text="likes tea"), None)])
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE notes SET note = '{\"text\": 1' WHERE user = 'ada'")
        database.commit()
    with pytest.raises(ArtifactError, match="damaged"):
        file.rows("ada")
    assert [row.note.text for row in file.rows("bo")] == ["likes tea"]
    file.close()


def test_nothing_of_a_failed_change_is_kept(path: Path) -> None:
    file = NoteFile(path)

    def broken() -> object:
        yield Note(user_id="ada", text="likes tea"), None
        raise RuntimeError

    with pytest.raises(RuntimeError):
        file.add("ada", broken())  # type: ignore[arg-type]
    assert file.rows("ada") == []
    file.add("ada", [(Note(user_id="ada", text="likes rum"), b"12")])
    assert [row.vectors for row in file.rows("ada")] == [b"12"]
    file.close()


def test_vectors_go_with_the_text_they_are_of(path: Path) -> None:
    file = NoteFile(path)
    note = Note(user_id="ada", text="likes tea")
    file.add("ada", [(note, b"old")])
    new = file.replace("ada", note.id, "likes rum")
    assert [(row.former, row.vectors) for row in file.rows("ada")] == [((note.id,), None)]
    file.keep_vectors("ada", {new: b"new", note.id: b"gone"})
    assert [row.vectors for row in file.rows("ada")] == [b"new"]
    file.close()


def test_forgetting_a_user_of_a_run_reaches_its_memory(tmp_path: Path) -> None:
    turns = {"ada": "My quokka Zelda bit the postman", "bo": "My tortoise has a cold"}
    histories = [
        History(
            user_id=user, language="en", sessions=(Session(session_id=user, turns=(Turn(role="user", text=text),)),)
        )
        for user, text in turns.items()
    ]
    (tmp_path / "histories.jsonl").write_text("".join(each.model_dump_json() + "\n" for each in histories))
    file = NoteFile(tmp_path / "memory.sqlite")
    for user, text in turns.items():
        file.add(user, [(Note(user_id=user, text=text, kind="turn"), b"vector")])
    file.close()
    done = forget(tmp_path, "ada")
    assert done.rows == {"memory.sqlite": 1}
    held = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert b"quokka" not in held
    assert json.dumps(turns["bo"]).encode()[1:-1] in held
    file = NoteFile(tmp_path / "memory.sqlite")
    assert [row.note.text for row in file.rows("bo")] == [turns["bo"]]
    assert file.rows("ada") == []
    file.close()
