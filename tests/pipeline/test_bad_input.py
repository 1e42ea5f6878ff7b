"""Whatever is wrong with what the user gave: one clear line, a failing exit code, and nothing lost that was there before."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from peregrm.records import Case, Criteria, History, Judgement, Memory, Persona, Reply, Reward
from peregrm.store import Workspace

RECORDS = {
    "histories": History,
    "memories": Memory,
    "personas": Persona,
    "cases": Case,
    "criteria": Criteria,
    "replies": Reply,
    "judgements": Judgement,
    "rewards": Reward,
}
GOOD = (
    '{"user_id": "u", "sessions": [{"turns": [{"role": "user", "text": "I like tea and my brother likes noise."}]}]}\n'
)


def turns(*texts: str, role: str = "user", user: str = "v") -> str:
    said = [{"role": role, "text": text} for text in texts]
    return json.dumps({"user_id": user, "sessions": [{"session_id": "s1", "turns": said}]}) + "\n"


BAD_FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "unknown format": ("a.json", b'{"foo": 1}', ("a.json: no known history format", "peregrm", "the keys foo")),
    "not JSON": ("a.json", b"hello, I am a text", ("a.json:1: invalid JSON",)),
    "broken second line": ("a.jsonl", GOOD.encode() + b'{"user_id": \n', ("a.jsonl:2: invalid JSON",)),
    "empty file": ("a.json", b"", ("a.json: is empty",)),
    "empty list": ("a.json", b"[]", ("a.json: holds an empty list",)),
    "no session": ("a.jsonl", b'{"user_id": "v", "sessions": []}\n', ("a.jsonl:1:", "'v' has no turns")),
    "only assistant turns": ("a.jsonl", turns("Hello!", role="assistant").encode(), ("a.jsonl:1:", "none of the user")),
    "second user silent": (
        "a.jsonl",
        (GOOD + turns("Hello!", role="assistant")).encode(),
        ("a.jsonl:2:", "none of the user"),
    ),
    "missing field": (
        "a.jsonl",
        (GOOD + '{"user_id": "v", "sessions": [{"turns": [{"role": "user"}]}]}\n').encode(),
        ("a.jsonl:2: missing field sessions[0].turns[0].text",),
    ),
    "1 MB in one turn": (
        "a.jsonl",
        (GOOD + turns("word " * 210_000)).encode(),
        ("a.jsonl:2:", "turn 0 has 1,050,000 characters", "200,000"),
    ),
    "invalid UTF-8": (
        "a.jsonl",
        GOOD.encode() + turns("caf#").encode().replace(b"#", b"\xe9"),
        ("a.jsonl:2: invalid UTF-8",),
    ),
    "UTF-16": ("a.json", GOOD.encode("utf-16"), ("a.json: is UTF-16",)),
    "truncated gzip": ("a.jsonl.gz", b"\x1f\x8b\x08\x00\x00", ("a.jsonl.gz: truncated or damaged gzip",)),
    "binary": ("a.json", b"\x89PNG\r\n\0\0\0\0", ("a.json: is a binary file",)),
}


@pytest.mark.parametrize("case", BAD_FILES, ids=str)
def test_bad_file_is_one_line_that_names_it(case: str, tmp_path: Path, here: Callable) -> None:
    name, content, parts = BAD_FILES[case]
    path = tmp_path / name
    path.write_bytes(content)
    ended = here("run", path, "--model", "m@http://127.0.0.1:9/v1", "--memories", "model", "-o", tmp_path / "out")
    ended.failed_with_one_line(str(tmp_path), *parts)
    assert ended.stdout == ""


def test_paths_that_cannot_be_read(tmp_path: Path, here: Callable) -> None:
    options = ("--model", "m@http://127.0.0.1:9/v1", "-o", tmp_path / "out")
    here("run", tmp_path / "nobody.json", *options).failed_with_one_line("nobody.json: no such file or directory")
    (tmp_path / "link.json").symlink_to(tmp_path / "gone.json")
    here("run", tmp_path / "link.json", *options).failed_with_one_line("link.json: no such file or directory")
    (tmp_path / "folder.json").mkdir()
    here("run", tmp_path / "folder.json", *options).failed_with_one_line("folder.json: holds no .json")
    if os.geteuid() != 0:
        locked = tmp_path / "locked.json"
        locked.write_text(GOOD)
        locked.chmod(0)
        here("run", locked, *options).failed_with_one_line("locked.json: cannot be read")


def test_bad_records_can_be_skipped_and_are_named(
    tmp_path: Path, here: Callable, server: Any, make_history: Callable
) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(make_history() + turns("Hello!", role="assistant") + "{broken\n")
    ended = here("build", path, "--skip-bad", "--model", server.spec, "--cases", "0", "-o", tmp_path / "out")
    assert ended.code == 0, ended.stderr
    assert sorted(line.split(": ")[1] for line in ended.stderr.splitlines() if line.startswith("skipped: ")) == [
        f"{path}:2",
        f"{path}:3",
    ]
    assert len(Workspace(tmp_path / "out").read("histories.jsonl", History)) == 1


def test_one_user_in_two_files_is_one_history(tmp_path: Path, here: Callable, make_history: Callable) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(make_history())
    other = make_history(turns=["I sold the piano and I miss it already."])
    (folder / "b.jsonl").write_text(other.replace('"s1"', '"another"'))
    out = tmp_path / "out"
    assert here("build", folder, "--cases", "0", "--memories", "extractive", "-o", out).code == 0
    (history,) = Workspace(out).read("histories.jsonl", History)
    assert {session.session_id for session in history.sessions} == {"s1", "another"}


def test_folder_of_two_formats_is_read(tmp_path: Path, here: Callable, server: Any, make_history: Callable) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(make_history())
    (folder / "b.jsonl").write_text(
        '{"user": "jo", "messages": [{"role": "user", "content": "My sister is moving away."}]}\n'
    )
    ended = here("build", folder, "--model", server.spec, "--memories", "model", "--cases", "0", "--keep-ids",
                 "-o", tmp_path / "out")  # fmt: skip
    assert ended.code == 0, ended.stderr
    assert {h.user_id for h in Workspace(tmp_path / "out").read("histories.jsonl", History)} == {"ada", "jo"}


ENDPOINTS = {
    "html": (200, "text/html", b"<!doctype html><html><body>It works!\n</body></html>", "web page"),
    "broken JSON": (200, "application/json", b'{"choices": [{', "not valid JSON"),
    "no choices": (200, "application/json", b'{"choices": []}', "no choices"),
    "a list": (200, "application/json", b"[1, 2]", "not an object"),
    "nothing": (200, "application/json", b"", "empty"),
    "not text": (200, "application/json", b"\xff\xfe\xe9\n", "not valid JSON"),
    "wrong key": (401, "application/json", b'{"error": {"message": "bad\\nkey"}}', "401"),
    "forbidden": (403, "text/plain", b"no\nentry", "403"),
    "no such model": (404, "application/json", b'{"error": {"message": "no such model"}}', "404"),
    "rejected": (400, "application/json", b'{"error": {"message": "temperature\\nis wrong"}}', "400"),
}


@pytest.mark.parametrize("case", ENDPOINTS, ids=str)
def test_bad_endpoint_is_one_line_with_its_url(
    case: str, tmp_path: Path, here: Callable, small: Any, always: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, kind, body, says = ENDPOINTS[case]
    monkeypatch.setenv("PEREGRM_API_KEY", "sk-not-to-be-shown")
    server = always(status, kind, body)
    out = tmp_path / "out"
    ended = here("run", small.histories, "--model", f"m@{server.url}", "--memories", "model", "-o", out)
    ended.failed_with_one_line(server.url, says)
    assert set(server.asked) == {"Bearer sk-not-to-be-shown"}
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"sk-not-to-be-shown" not in written
    assert "sk-not-to-be-shown" not in ended.stderr
    assert len(Workspace(out).read("histories.jsonl", History)) == 1, "what was computed before is there"


def test_nobody_at_the_address(tmp_path: Path, here: Callable, small: Any) -> None:
    settings = tmp_path / "dead.toml"
    settings.write_text('[models.dead]\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\nretries = 0\n')
    out = tmp_path / "out"
    ended = here("run", small.histories, "--config", settings, "--model", "dead", "--memories", "model", "-o", out)
    ended.failed_with_one_line("http://127.0.0.1:9/v1", "connection refused")


def test_finished_run_survives_a_broken_endpoint(
    finished: Any, here: Callable, always: Callable, artifacts: Callable
) -> None:
    out = finished.out
    before = artifacts(out)
    broken = always(200, "text/html", b"<html>")
    here("score", out, "--judge", f"m@{broken.url}").failed_with_one_line(broken.url)
    after = artifacts(out)
    assert {name for name in before if name.endswith("l") and before[name] != after[name]} == set()
    for name, record_type in RECORDS.items():
        assert Workspace(out).read(f"{name}.jsonl", record_type)
    with closing(sqlite3.connect(out / "calls.sqlite")) as database, database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("spec", ["nope", "m@", "@http://127.0.0.1:9/v1", "m@127.0.0.1:9", "gguf:/no/such/file.gguf"])
def test_model_that_means_nothing_is_refused_before_anything_is_written(
    spec: str, tmp_path: Path, here: Callable, small: Any
) -> None:
    out = tmp_path / "out"
    here("run", small.histories, "--model", spec, "--memories", "model", "-o", out).failed_with_one_line()
    assert not list(out.glob("*.jsonl"))


@pytest.mark.parametrize("where", ["file", "below a file", "nowhere to be made"])
def test_output_folder_that_cannot_be_written(where: str, tmp_path: Path, here: Callable, small: Any) -> None:
    (tmp_path / "file").write_text("mine")
    out = {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "out",
        "nowhere to be made": Path("/proc/out"),
    }[where]
    ended = here("run", small.histories, "--model", "m@http://127.0.0.1:9/v1", "--memories", "model", "-o", out)
    ended.failed_with_one_line(str(out))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("content", [b"these are my notes", b"another program's"])
def test_foreign_call_cache_is_left_alone(content: bytes, tmp_path: Path, here: Callable, small: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    cache = out / "calls.sqlite"
    if content.startswith(b"another"):
        with closing(sqlite3.connect(cache)) as database, database:
            database.execute("CREATE TABLE things (name TEXT)")
        database.close()
    else:
        cache.write_bytes(content)
    before = cache.read_bytes()
    ended = here("run", small.histories, "--model", "m@http://127.0.0.1:9/v1", "--memories", "model", "-o", out)
    ended.failed_with_one_line("calls.sqlite")
    assert cache.read_bytes() == before


def test_missing_gold_file_is_named_before_a_model_is_asked(
    tmp_path: Path, here: Callable, small: Any, server: Any
) -> None:
    before = len(server.starts())
    options = ("--model", server.spec, "--memories", "model", "-o", tmp_path / "out")
    here("run", small.histories, "--gold", tmp_path / "none.jsonl", *options).failed_with_one_line("none.jsonl")
    assert len(server.starts()) == before


@pytest.mark.parametrize("name", ["run.json", "manifest.json", "usage.json", "ledger.json"])
@pytest.mark.parametrize("damage", ["{", "[]", "directory"])
def test_damaged_side_file_is_one_line_or_no_matter(name: str, damage: str, finished: Any, here: Callable) -> None:
    (finished.out / name).unlink()
    if damage == "directory":
        (finished.out / name).mkdir()
    else:
        (finished.out / name).write_text(damage)
    for command in (["report", finished.out, "--show", "0"], ["score", finished.out]):
        ended = here(*command)
        if ended.code:
            ended.failed_with_one_line(name)


@pytest.mark.parametrize("name", ["README.md", "memories.jsonl", "histories.jsonl", "flags.jsonl"])
def test_a_file_that_is_of_no_run_is_not_replaced(name: str, tmp_path: Path, here: Callable, small: Any) -> None:
    """As in `-o .` beside the histories themselves, or in a project with its own README."""
    (tmp_path / name).write_text(small.histories.read_text())
    source = tmp_path / "histories.jsonl" if name == "histories.jsonl" else small.histories
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    ended = here("build", source, "--memories", "extractive", "--cases", "0", "-o", tmp_path)
    ended.failed_with_one_line(str(tmp_path), "--out")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_the_folder_of_the_histories_is_no_place_for_a_run(tmp_path: Path, here: Callable, small: Any) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    small.histories.rename(folder / "ada.jsonl")
    ended = here("build", folder, "--memories", "extractive", "--cases", "0", "-o", folder)
    ended.failed_with_one_line(str(folder), "histories", "--out")
    assert [path.name for path in folder.iterdir()] == ["ada.jsonl"]


def test_histories_that_give_no_case_are_said_to(
    tmp_path: Path, here: Callable, server: Any, make_history: Callable
) -> None:
    histories = tmp_path / "short.jsonl"
    histories.write_text(make_history(turns=["What is the capital of France?"]))
    ended = here("build", histories, "--model", server.spec, "--memories", "extractive", "-o", tmp_path / "out")
    assert ended.code == 0, ended.stderr
    assert "No case came of these histories. Left out on the way: situations/not_deep 1." in ended.stderr
    assert "Of 1 personas 1 are not deep enough" in ended.stderr
    assert "too small" not in ended.stderr
    for command in ("criteria", "reply", "score", "report", "evaluate"):
        here(command, tmp_path / "out").failed_with_one_line("there are no cases")
    here("reply", tmp_path / "out", "-o", tmp_path / "mine.jsonl", "--model", server.spec).failed_with_one_line(
        "no cases"
    )
    assert not (tmp_path / "mine.jsonl").exists()
    (tmp_path / "out" / "cases.jsonl").write_bytes(b"\xff\n")
    for command in ("criteria", "reply", "score", "report", "evaluate"):
        here(command, tmp_path / "out").failed_with_one_line("cases.jsonl: cannot be read")


def test_what_would_bring_cases_is_said(tmp_path: Path, here: Callable, server: Any, make_history: Callable) -> None:
    histories = tmp_path / "short.jsonl"
    histories.write_text(make_history(turns=["What is the capital of France?"]))
    none = here(
        "build", histories, "--model", server.spec, "--memories", "extractive", "--cases", "0", "-o", tmp_path / "0"
    )
    assert "No case came of these histories: --cases 0 asks for none" in none.stderr
    small = here("build", histories, "-o", tmp_path / "embedded")
    assert "The embedded model is too small to write situations: --model NAME@URL names another." in small.stderr


def test_a_language_without_rules_is_said(tmp_path: Path, here: Callable, make_history: Callable) -> None:
    histories = tmp_path / "de.jsonl"
    german = "Ich wohne in Hamburg und arbeite als Lehrerin an einer kleinen Schule. Meine Schwester ist auch hier."
    histories.write_text(make_history(turns=[german]).replace('"language": "en", ', ""))
    ended = here("build", histories, "--cases", "0", "-o", tmp_path / "out")
    assert ended.code == 0, ended.stderr
    assert "none of 1 of 1 histories: the extractive method knows English and Chinese" in ended.stderr
    assert "(de 1)" in ended.stderr
    assert "Left out on the way: memories/language 1." in ended.stderr
    (drop,) = [json.loads(line) for line in (tmp_path / "out" / "memories.dropped.jsonl").read_text().splitlines()]
    assert (drop["kind"], drop["failed"]) == ("language", False)
    assert drop["reason"] == "the extractive method knows English and Chinese; the language of this history is de"
