"""Criteria out of a run into a file to edit and back: nothing lost on the way, nothing taken that cannot be judged by."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.records import Case, Criteria, Criterion, Judgement, Reward
from peregrm.store import read_records, write_records

EDITED = "The reply names one thing to do tonight."


class Editing:
    """A finished run and the file its criteria are edited in."""

    def __init__(self, finished: Any, here: Callable, folder: Path) -> None:
        self.finished, self.here, self.path = finished, here, folder / "criteria to edit.toml"

    @property
    def stored(self) -> Path:
        return self.finished.out / "criteria.jsonl"

    def criteria(self) -> list[Criteria]:
        return read_records(self.stored, Criteria)

    def edit(self) -> str:
        self.path.unlink(missing_ok=True)
        ended = self.here("criteria", self.finished.out, "--edit", self.path)
        assert ended.code == 0, ended.stderr
        assert f"{self.path}: " in ended.stderr
        return self.path.read_text()

    def take(self) -> Any:
        return self.here("criteria", self.finished.out, "--take", self.path)

    def replace_first_text(self, text: str = EDITED) -> Criteria:
        """Edit the first criterion of the first case; return what that case had before."""
        before = self.criteria()[0]
        old = before.items[0][1][0].text
        content = self.edit()
        assert content.count(old) == 1
        self.path.write_text(content.replace(old, text))
        return before


@pytest.fixture
def editing(finished: Any, here: Callable, tmp_path: Path) -> Editing:
    return Editing(finished, here, tmp_path)


# There and back


def test_unchanged_is_no_change(editing: Editing, artifacts: Callable) -> None:
    before, asked = artifacts(editing.finished.out), len(editing.finished.server.starts())
    editing.edit()
    ended = editing.take()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith("0 sets")
    assert artifacts(editing.finished.out) == before
    again = editing.here("criteria", editing.finished.out)
    assert "edited by hand" not in again.stderr
    assert len(editing.finished.server.starts()) == asked


def test_the_file_says_what_it_is_about(editing: Editing) -> None:
    content = editing.edit()
    document = tomllib.loads(content)
    cases = editing.finished.read("cases", Case)
    assert set(document) == {case.id for case in cases}
    for case in cases:
        assert f"# query: {case.query}" in content
        assert f"# situation: {case.situation}" in content
    for criteria in editing.criteria():
        rows = document[criteria.case_id]
        assert list(rows) == [name for name, _ in criteria.items]
        for name, items in criteria.items:
            assert rows[name] == [{"weight": item.weight, "text": item.text} for item in items]


def test_an_edit_is_taken_kept_and_judged_by(editing: Editing) -> None:
    run = editing.finished
    before = editing.replace_first_text()
    others = editing.criteria()[1:]
    ended = editing.take()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith("1 set")
    first, *rest = editing.criteria()
    assert rest == others
    assert (first.case_id, first.method) == (before.case_id, "hand")
    assert first.items[0][1][0] == Criterion(text=EDITED, weight=before.items[0][1][0].weight)
    assert first.items[0][1][1:] == before.items[0][1][1:]
    assert first.items[1:] == before.items[1:]
    by_hand = editing.stored.read_bytes()

    asked = len(run.server.starts())
    kept = editing.here("criteria", run.out)
    assert kept.code == 0
    assert "criteria.jsonl was edited by hand: kept" in kept.stderr
    assert editing.stored.read_bytes() == by_hand
    assert len(run.server.starts()) == asked

    replies = [reward for reward in run.read("rewards", Reward) if reward.case_id == first.case_id]
    ended = editing.here("score", run.out)
    assert ended.code == 0, ended.stderr
    assert editing.stored.read_bytes() == by_hand
    assert len(run.server.starts()) - asked == 2 * len(replies), "the judge is asked again, the bystander is not"
    judged_by = {j.criteria_id for j in run.read("judgements", Judgement) if j.case_id == first.case_id}
    assert judged_by == {first.id}
    words = editing.here("explain", replies[0].reply_id, run.out).stdout
    assert f"Criteria {first.id} (hand)" in words
    assert EDITED in words


def test_edited_criteria_judge_replies_from_elsewhere_too(editing: Editing, tmp_path: Path) -> None:
    editing.replace_first_text()
    assert editing.take().code == 0
    first = editing.criteria()[0]
    (tmp_path / "mine.jsonl").write_text(f'{{"case_id": "{first.case_id}", "reply": "No."}}')
    ended = editing.here("score", editing.finished.out, tmp_path / "mine.jsonl", "-o", tmp_path / "scores.jsonl")
    assert ended.code == 0, ended.stderr
    assert read_records(tmp_path / "scores.parts" / "criteria.jsonl", Criteria) == [first]


def test_cases_that_were_deleted_from_the_file_stay_as_they_are(editing: Editing) -> None:
    before = editing.replace_first_text()
    content = editing.path.read_text()
    start = content.index(f"[{before.case_id}]")
    end = content.index("\n[", start)
    editing.path.write_text(content[start:end])
    others = editing.criteria()[1:]
    assert editing.take().stderr.startswith("1 set")
    assert editing.criteria()[1:] == others
    editing.path.write_text("")
    assert editing.take().stderr.startswith("0 sets")


def test_take_and_show_shows_what_was_taken(editing: Editing) -> None:
    editing.replace_first_text()
    out, shown = editing.finished.out, editing.path.with_name("again.toml")
    ended = editing.here("criteria", out, "--take", editing.path, "--show", "all", "--edit", shown)
    assert ended.code == 0, ended.stderr
    assert EDITED in ended.stdout
    assert EDITED in shown.read_text()


def test_byte_order_mark_and_windows_lines(editing: Editing) -> None:
    editing.replace_first_text()
    editing.path.write_bytes(editing.path.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
    ended = editing.take()
    assert ended.code == 0, ended.stderr
    assert editing.criteria()[0].items[0][1][0].text == EDITED


def test_criteria_that_failed_can_stay_so_or_be_written_by_hand(editing: Editing) -> None:
    first, second, *rest = editing.criteria()
    failed = Criteria.model_validate(
        {
            "case_id": first.case_id,
            "method": "model",
            "failure": {"stage": "criteria", "kind": "empty", "reason": "\n="},
        }
    )
    write_records(editing.stored, [failed, second, *rest])
    content = editing.edit()
    assert first.case_id in content
    ended = editing.take()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith("0 sets")
    assert editing.criteria()[0] == failed
    write_records(editing.stored, [first, second, *rest])
    editing.edit()
    write_records(editing.stored, [failed, second, *rest])
    assert editing.take().stderr.startswith("1 set")
    assert (editing.criteria()[0].items, editing.criteria()[0].method) == (first.items, "hand")


def test_a_case_that_has_no_criteria_yet_gets_those_of_the_file(editing: Editing) -> None:
    """What somebody wrote by hand is never dropped without a word."""
    editing.edit()
    first, *rest = editing.criteria()
    write_records(editing.stored, rest)
    ended = editing.take()
    assert ended.code == 0, ended.stderr
    assert ended.stderr.startswith("1 set")
    assert {c.case_id for c in editing.criteria()} == {c.case_id for c in (first, *rest)}


# What is refused


def broken(content: str, how: str) -> str:
    rows = re.findall(r"^    \{ weight = \d+, text = .*\n", content, re.MULTILINE)
    first, second = rows[0], rows[1]
    weight = int(first.split()[3].rstrip(","))
    changes: dict[str, Callable[[], str]] = {
        "weights sum to 99": lambda: content.replace(f"weight = {weight},", f"weight = {weight - 1},", 1),
        "weight 0": lambda: content.replace(f"weight = {weight},", "weight = 0,", 1),
        "weight of a word": lambda: content.replace(f"weight = {weight},", f'weight = "{weight}",', 1),
        "weight with a fraction": lambda: content.replace(f"weight = {weight},", f"weight = {weight}.0,", 1),
        "weight true": lambda: content.replace(f"weight = {weight},", "weight = true,", 1),
        "no weight": lambda: content.replace(f"weight = {weight}, ", "", 1),
        "three items": lambda: re.sub(r"= \[\n(?:    .*\n)+\]", f"= [\n{first_of(40)}{first_of(30)}{first_of(30)}]", content, count=1),
        "seven items": lambda: re.sub(
            r"= \[\n(?:    .*\n)+\]", "= [\n" + "".join(map(first_of, [10, 10, 10, 10, 20, 20, 20])) + "]", content, count=1
        ),
        "no items": lambda: re.sub(r"= \[\n(?:    .*\n)+\]", "= []", content, count=1),
        "call-back": lambda: content.replace(first, text_of(first, "The reply mentions a memory of the person."), 1),
        "duplicate": lambda: content.replace(second, text_of(second, words_of(first)), 1),
        "empty text": lambda: content.replace(first, text_of(first, "  "), 1),
        "no text": lambda: content.replace(first, f"    {{ weight = {weight} }},\n", 1),
        "extra key": lambda: content.replace(first, first.replace("{ weight", "{ note = 1, weight"), 1),
        "row is a text": lambda: content.replace(first, '    "The reply is plain.",\n', 1),
        "dimension is a text": lambda: re.sub(r"= \[\n(?:    .*\n)+\]", '= "plain"', content, count=1),
        "another dimension": lambda: content.replace("resonation = [", "wit = [", 1),
        "a dimension is missing": lambda: re.sub(r"^resonation = \[\n(?:    .*\n)+\]\n", "", content, count=1, flags=re.MULTILINE),
    }  # fmt: skip
    changed = changes[how]()
    assert changed != content
    return changed


def first_of(weight: int) -> str:
    first_of.count += 1  # type: ignore[attr-defined]
    return f'    {{ weight = {weight}, text = "The reply does thing number {"abcdefghij"[first_of.count % 10]} well." }},\n'  # type: ignore[attr-defined]


first_of.count = 0  # type: ignore[attr-defined]


def text_of(row: str, text: str) -> str:
    return row[: row.index("text = ")] + f'text = "{text}" }},\n'


def words_of(row: str) -> str:
    return row[row.index('text = "') + 8 : row.rindex('"')]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("weights sum to 99", "resonation sum to 99"),
        ("weight 0", "weight"),
        ("weight of a word", "weight"),
        ("weight with a fraction", "weight"),
        ("weight true", "weight"),
        ("no weight", "weight"),
        ("three items", "resonation: 3 criteria, allowed 4 to 6"),
        ("seven items", "resonation: 7 criteria, allowed 4 to 6"),
        ("no items", "resonation"),
        ("call-back", "mention of a memory"),
        ("duplicate", "occurs twice"),
        ("empty text", "not a sentence"),
        ("no text", "text"),
        ("extra key", "note"),
        ("row is a text", ""),
        ("dimension is a text", "list of criteria"),
        ("another dimension", "other dimensions"),
        ("a dimension is missing", "other dimensions"),
    ],
)
def test_edits_that_cannot_be_used_change_nothing(how: str, says: str, editing: Editing) -> None:
    before = editing.stored.read_bytes()
    first = editing.criteria()[0]
    content = editing.edit()
    start = content.index(f"[{first.case_id}]")
    editing.path.write_text(content[:start] + broken(content[start:], how))
    editing.take().failed_with_one_line(editing.path.name, first.case_id, says)
    assert editing.stored.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not TOML", "line 1"),
        ("[case-0000000000000000]\n", "case-0000000000000000"),
        ("title = 'x'\n", "title"),
        ('["two\\nlines\\u001b[2J"]\n', "no such case"),
        ("a = " + "[" * 100_000, "criteria to edit.toml"),
    ],
    ids=["no TOML", "unknown case", "stray key", "odd key", "nested"],
)
def test_files_that_are_not_what_was_written(content: str, says: str, editing: Editing) -> None:
    before = editing.stored.read_bytes()
    editing.path.write_text(content)
    ended = editing.take()
    ended.failed_with_one_line(editing.path.name, says)
    assert "\x1b" not in ended.stderr
    assert editing.stored.read_bytes() == before


def test_the_same_case_twice(editing: Editing) -> None:
    editing.path.write_text(editing.edit() + f"[{editing.criteria()[0].case_id}]\n")
    editing.take().failed_with_one_line(editing.path.name, editing.criteria()[0].case_id)


def test_files_that_cannot_be_read(editing: Editing, tmp_path: Path) -> None:
    editing.take().failed_with_one_line("no such file")
    editing.path.write_bytes(b'a = "caf\xe9"\n')
    editing.take().failed_with_one_line(editing.path.name, "cannot be read")
    editing.here("criteria", editing.finished.out, "--take", tmp_path).failed_with_one_line(str(tmp_path))
    editing.here("criteria", editing.finished.out, "--edit", tmp_path).failed_with_one_line(str(tmp_path))
    editing.here("criteria", tmp_path, "--edit", editing.path).failed_with_one_line("cases.jsonl: no such file")


def test_an_edited_file_is_not_written_over(editing: Editing) -> None:
    """The file holds somebody's work until it was taken."""
    editing.replace_first_text()
    edited = editing.path.read_text()
    editing.here("criteria", editing.finished.out, "--edit", editing.path).failed_with_one_line(editing.path.name)
    assert editing.path.read_text() == edited


# Shown


def test_show_one_or_all(editing: Editing) -> None:
    first, *rest = editing.criteria()
    one = editing.here("criteria", editing.finished.out, "--show", first.case_id)
    assert one.code == 0, one.stderr
    for part in (first.case_id, first.id, "(model)", *(item.text for _, items in first.items for item in items)):
        assert part in one.stdout
    assert not any(criteria.case_id in one.stdout for criteria in rest)
    everything = editing.here("criteria", editing.finished.out, "--show", "all").stdout
    assert all(criteria.id in everything for criteria in (first, *rest))
    editing.here("criteria", editing.finished.out, "--show", "nonsense").failed_with_one_line("nonsense")


def test_what_is_shown_is_text(editing: Editing) -> None:
    first, *rest = editing.criteria()
    (name, items), *others = first.items
    odd = items[0].model_copy(update={"text": "[red]It\x1b[2J is[/] :smile: plain.\x9b1m"})
    write_records(editing.stored, [first.model_copy(update={"items": ((name, (odd, *items[1:])), *others)}), *rest])
    ended = editing.here("criteria", editing.finished.out, "--show", "all")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", ended.stdout)
    assert "[red]It" in ended.stdout
    assert ":smile: plain." in ended.stdout


@pytest.mark.parametrize("flag", ["--dry-run", "--json"])
def test_a_flag_that_would_do_nothing_is_refused(flag: str, finished: Any, here: Callable, tmp_path: Path) -> None:
    edited = tmp_path / "edited.toml"
    assert here("criteria", finished.out, "--edit", edited).code == 0
    before = (finished.out / "criteria.jsonl").read_bytes()
    edited.write_text(edited.read_text().replace('text = "', 'text = "Mended: ', 1))
    ended = here("criteria", finished.out, "--take", edited, flag)
    assert ended.code == 2
    assert flag in ended.stderr
    assert (finished.out / "criteria.jsonl").read_bytes() == before
