"""Artifacts: replaced whole or not at all, read strictly, joined by id."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import ArtifactError, InputError
from peregrm.records import Evidence, Memory, Query
from peregrm.store import Workspace, held_alone, index_by_id, join, read_one, read_records, replace_text, write_records

NAME = "queries.jsonl"


def query(text: str) -> Query:
    return Query(user_id="ada", situation_id="sit-1", text=text, method="test")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriting:
    def test_writes_one_line_a_record_in_order(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / NAME
        records = [query("b"), query("a")]
        assert write_records(path, records) == 2
        lines = path.read_bytes().decode().split("\n")
        assert [json.loads(line)["text"] for line in lines[:-1]] == ["b", "a"]
        assert lines[-1] == ""
        assert read_records(path, Query) == records

    def test_no_records_make_an_empty_file(self, tmp_path: Path) -> None:
        assert write_records(tmp_path / NAME, []) == 0
        assert (tmp_path / NAME).read_bytes() == b""
        assert read_records(tmp_path / NAME, Query) == []

    def test_the_same_records_give_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_records(tmp_path / name, [query("x"), query("é\u2028中")])
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()

    def test_a_crash_while_records_are_made_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / NAME
        write_records(path, [query("old")])
        before = path.read_bytes()

        def broken() -> Iterator[Query]:
            yield query("new")
            raise RuntimeError("killed")

        with pytest.raises(RuntimeError, match="killed"):
            write_records(path, broken())
        assert path.read_bytes() == before
        assert names(tmp_path) == [NAME]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    @pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
    def test_a_crash_while_writing_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
    ) -> None:
        path = tmp_path / NAME
        replace_text(path, "old\n")

        def fail(*_: object) -> None:
            raise error

        if step == "fsync":
            monkeypatch.setattr(os, "fsync", fail)
        else:
            monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(type(error)):
            replace_text(path, "new\n")
        assert path.read_text(encoding="utf-8") == "old\n"
        assert names(tmp_path) == [NAME]

    def test_a_full_disk_names_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left") as caught:
            replace_text(tmp_path / NAME, "new")
        assert caught.value.filename == str(tmp_path / NAME)

    def test_text_that_cannot_be_encoded_leaves_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "report.txt"
        replace_text(path, "old")
        with pytest.raises(UnicodeEncodeError):
            replace_text(path, "new \ud83d")
        assert path.read_text(encoding="utf-8") == "old"
        assert names(tmp_path) == ["report.txt"]

    def test_a_new_file_has_the_usual_permissions(self, tmp_path: Path) -> None:
        replace_text(tmp_path / "ours", "text")
        (tmp_path / "usual").write_text("text", encoding="utf-8")
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


class TestHolding:
    def test_a_folder_is_held_by_one_and_let_go_whatever_happens(self, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "run"
        with held_alone(folder), pytest.raises(ArtifactError, match="another command"), held_alone(folder):
            pass
        with pytest.raises(KeyboardInterrupt), held_alone(folder):
            raise KeyboardInterrupt
        with held_alone(folder), held_alone(tmp_path / "other"):
            assert names(folder) == []


class TestReading:
    @given(st.lists(st.text(), unique=True, max_size=6))
    def test_any_text_survives(self, tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
        path = tmp_path_factory.mktemp("any") / NAME
        records = [query(text) for text in texts]
        write_records(path, records)
        again = read_records(path, Query)
        assert again == records
        assert [record.id for record in again] == [record.id for record in records]

    def test_a_byte_order_mark_of_an_editor_does_no_harm(self, tmp_path: Path) -> None:
        (tmp_path / NAME).write_text(query("a").model_dump_json(), encoding="utf-8-sig")
        assert read_records(tmp_path / NAME, Query) == [query("a")]

    def test_blank_lines_do_not_count(self, tmp_path: Path) -> None:
        (tmp_path / NAME).write_text(f"\n{query('a').model_dump_json()}\n  \n", encoding="utf-8")
        assert read_records(tmp_path / NAME, Query) == [query("a")]

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=str(tmp_path / NAME)):
            read_records(tmp_path / NAME, Query)

    def test_what_is_no_text_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=str(tmp_path)):
            read_records(tmp_path, Query)
        (tmp_path / NAME).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match=NAME):
            read_records(tmp_path / NAME, Query)

    @pytest.mark.parametrize(
        "damaged",
        [
            '{"user_id":"ada","situation_id":"si',
            "not json",
            "[]",
            "null",
            '"text"',
            '{"user_id":"ada"}',
            '{"user_id":"ada","situation_id":"s","text":5,"method":"m"}',
            '{"user_id":"ada","situation_id":"s","text":"t","method":"m","texts":"misspelt"}',
        ],
    )
    def test_a_damaged_line_is_named(self, tmp_path: Path, damaged: str) -> None:
        path = tmp_path / NAME
        path.write_text(f"{query('a').model_dump_json()}\n\n{damaged}\n", encoding="utf-8")
        with pytest.raises(ArtifactError) as caught:
            read_records(path, Query)
        message = str(caught.value)
        assert message.startswith(f"{path}:3: ")
        assert "\n" not in message

    def test_the_damaged_field_and_the_number_of_problems_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "memories.jsonl"
        memory = Memory(
            user_id="ada",
            label="Preferences/Food",
            type="direct",
            value="tea",
            evidence=(Evidence(session_id="s", turn=0, quote="tea"),),
            method="test",
        )
        broken = json.loads(memory.model_dump_json())
        broken["evidence"][0]["turn"] = -1
        path.write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(ArtifactError, match=rf"{path}:1: evidence\.0\.turn: "):
            read_records(path, Memory)
        broken["confidence"] = 2
        path.write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(ArtifactError, match=r"and 1 more"):
            read_records(path, Memory)

    def test_a_duplicate_line_is_named_with_the_first(self, tmp_path: Path) -> None:
        path = tmp_path / NAME
        write_records(path, [query("a"), query("b")])
        lines = path.read_text(encoding="utf-8")
        same_with_another_stored_id = json.dumps({**json.loads(query("a").model_dump_json()), "id": "qry-other"})
        path.write_text(lines + same_with_another_stored_id + "\n", encoding="utf-8")
        with pytest.raises(ArtifactError) as caught:
            read_records(path, Query)
        assert str(caught.value).startswith(f"{path}:3: ")
        assert "line 1" in str(caught.value)
        assert query("a").id in str(caught.value)

    @pytest.mark.parametrize(("damaged", "said"), [(b"{}", "user_id"), (b"{", "json"), (b"\xff", "not UTF-8")])
    def test_a_damaged_file_of_one_object_is_named(self, tmp_path: Path, damaged: bytes, said: str) -> None:
        path = tmp_path / "one.json"
        path.write_bytes(query("a").model_dump_json().encode())
        assert read_one(path, Query) == query("a")
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=f"one.json: damaged: .*{said}"):
            read_one(path, Query)


KEYS = st.lists(st.text("abcdef", min_size=1, max_size=2), unique=True, max_size=8)


class TestJoin:
    @given(KEYS.flatmap(lambda keys: st.tuples(st.just(keys), st.permutations(keys))))
    def test_follows_the_keys_whatever_the_order_of_the_values(self, both: tuple[list[str], list[str]]) -> None:
        keys, shuffled = both
        assert join(keys, {key: key.upper() for key in shuffled}, "things") == [key.upper() for key in keys]

    @given(KEYS, KEYS)
    def test_names_what_is_missing_and_what_has_no_parent(self, keys: list[str], present: list[str]) -> None:
        values = dict.fromkeys(present, 1)
        missing, extra = set(keys) - set(present), set(present) - set(keys)
        if not missing and not extra:
            assert join(keys, values, "things") == [1] * len(keys)
            return
        with pytest.raises(ArtifactError) as caught:
            join(keys, values, "things")
        message = str(caught.value)
        assert message.startswith("things: ")
        for word, ids in (("missing ", missing), ("without a parent ", extra)):
            assert (word in message) == bool(ids)
            if ids:
                said = message.partition(word)[2].partition(";")[0]
                named = said.partition(" and ")[0].split(", ")
                assert set(named) <= ids
                assert len(named) == min(5, len(ids))
                assert (f"and {len(ids) - 5} more" in said) == (len(ids) > 5)

    @given(KEYS.filter(bool), st.data())
    def test_names_keys_asked_for_twice(self, keys: list[str], data: st.DataObject) -> None:
        twice = data.draw(st.sampled_from(keys))
        with pytest.raises(ArtifactError) as caught:
            join([*keys, twice], dict.fromkeys(keys, 1), "things")
        assert str(caught.value) == f"things: asked for twice: {twice}"

    def test_index_by_id(self) -> None:
        records = [query("a"), query("b")]
        assert index_by_id(records, "queries") == {record.id: record for record in records}
        with pytest.raises(ArtifactError, match=f"queries: {records[0].id} occurs twice"):
            index_by_id([*records, query("a")], "queries")


class TestWorkspace:
    def test_remembers_what_it_wrote(self, tmp_path: Path) -> None:
        root = tmp_path / "run"
        workspace = Workspace(root)
        assert not workspace.is_edited(NAME)
        workspace.write(NAME, [query("a")])
        workspace.write_text("report.md", "# Report\n")
        for again in (workspace, Workspace(root)):
            assert not again.is_edited(NAME)
            assert not again.is_edited("report.md")
            assert again.read(NAME, Query) == [query("a")]

    def test_sees_a_file_edited_by_hand(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path)
        workspace.write(NAME, [query("a")])
        workspace.write("other.jsonl", [query("a")])
        path = workspace.path(NAME)
        path.write_text(path.read_text(encoding="utf-8").replace('"a"', '"b"'), encoding="utf-8")
        for again in (workspace, Workspace(tmp_path)):
            assert again.is_edited(NAME)
            assert not again.is_edited("other.jsonl")
            assert again.read(NAME, Query) == [query("b")]

    def test_touching_or_restoring_a_file_is_no_edit(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path)
        workspace.write(NAME, [query("a")])
        path = workspace.path(NAME)
        before = path.read_bytes()
        path.write_bytes(b"")
        assert workspace.is_edited(NAME)
        path.write_bytes(before)
        os.utime(path, (0, 0))
        assert not workspace.is_edited(NAME)

    def test_a_deleted_file_and_a_foreign_one_are_no_edits(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path)
        workspace.write(NAME, [query("a")])
        workspace.path(NAME).unlink()
        workspace.path("foreign.jsonl").write_text("", encoding="utf-8")
        assert not workspace.is_edited(NAME)
        assert not workspace.is_edited("foreign.jsonl")

    def test_writing_over_an_edit_makes_the_file_ours_again(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path)
        workspace.write(NAME, [query("a")])
        workspace.path(NAME).write_text("", encoding="utf-8")
        workspace.write(NAME, [query("c")])
        assert not workspace.is_edited(NAME)

    def test_the_manifest_does_not_depend_on_the_order_of_the_stages(self, tmp_path: Path) -> None:
        for folder, order in (("one", ["a", "b"]), ("two", ["b", "a"])):
            workspace = Workspace(tmp_path / folder)
            for name in order:
                workspace.write(name, [query(name)])
        assert (tmp_path / "one/manifest.json").read_bytes() == (tmp_path / "two/manifest.json").read_bytes()

    @pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"sha256": []}', '{"sha256": null}', "\udcff"])
    def test_a_damaged_manifest_is_an_error_that_names_it(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "manifest.json"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ArtifactError, match=str(path)):
            Workspace(tmp_path)
