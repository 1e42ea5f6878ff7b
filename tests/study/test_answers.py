"""The answers' file: durable, one answer a page, and nothing left of those who withdraw."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import ArtifactError
from peregrm.study.answers import DERIVED, OWN_ROUNDS, Answer, Answers, Full, new_code, tidy_code

RATED = {"understood": 5, "fits": 4, "satisfied": 3, "go_on": 7}


def answer(pid: str, number: int = 1, **fields: Any) -> Answer:
    return Answer(pid, "cases", number, "c-1", "r-1", "r-2", (RATED, RATED), "second", **fields)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_an_answer_is_kept_once_and_the_first_one_stands(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=3, cases=2).pid
        answers.open(pid, "cases", 1)
        assert answers.submit(answer(pid, comment="first"))
        assert not answers.submit(answer(pid, comment="second"))
    with Answers(tmp_path) as again:
        (kept,) = again.all_answers()
        assert (kept.comment, kept.ratings, kept.choice) == ("first", (RATED, RATED), "second")
        assert kept.seconds is not None
        assert 0 <= kept.seconds < 60
        assert again.answered(pid, "cases") == {1}


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        assert answers._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert answers._db.execute("PRAGMA secure_delete").fetchone() == (1,)


def test_many_threads_take_slots_of_their_own(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        threads = [
            threading.Thread(target=answers.join, args=(new_code(), "plan"), kwargs={"planned": 99, "cases": 1})
            for _ in range(20)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert [one.slot for one in answers.participants()] == list(range(20))


def test_the_slot_of_one_who_withdrew_is_taken_again(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        people = [answers.join(new_code(), "plan", planned=9, cases=1) for _ in range(3)]
        answers.withdraw(people[1].pid)
        assert answers.join(new_code(), "plan", planned=9, cases=1).slot == 1


def test_nobody_new_is_let_in_when_as_many_as_planned_have_finished(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=1, cases=2).pid
        answers.submit(answer(pid, 1))
        answers.join(new_code(), "plan", planned=1, cases=2)
        answers.submit(answer(pid, 2))
        with pytest.raises(Full):
            answers.join(new_code(), "plan", planned=1, cases=2)


def test_withdrawing_leaves_no_byte_behind(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    codes = [new_code() for _ in range(15)]
    people = [answers.join(code, "plan", planned=99, cases=9).pid for code in codes]
    for number, pid in enumerate(people):
        for place in range(1, 6):
            answers.open(pid, "cases", place)
            answers.submit(answer(pid, place, comment=f"comment of person {number:03} " + "x" * 300))
        answers.add_own(pid, f'{{"said": "own words of person {number:03} {"y" * 5000}"}}')
        answers.finish_own(pid, 1, [("r-9", "generic", f"reply to person {number:03}")])
    for name in DERIVED:
        (tmp_path / name).write_text("made from person 007")
    assert b"own words of person 007" in everything_in(tmp_path)
    answers.withdraw(people[7])
    left = everything_in(tmp_path)
    for trace in (b"person 007", people[7].encode(), codes[7].encode()):
        assert trace not in left
    assert b"comment of person 008" in left  # the others' answers are all there
    assert answers.find(codes[7]) is None
    assert len(answers.all_answers()) == 14 * 5
    with pytest.raises(KeyError):
        answers.submit(answer(people[7]))
    answers.close()


def test_what_a_reader_holds_up_is_cleaned_when_it_ends(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
        answers.submit(answer(pid, comment="private words"))
        reader = sqlite3.connect(answers.path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM answers").fetchall()
        answers._db.execute("PRAGMA busy_timeout = 50")
        answers.withdraw(pid)
        assert not answers.purge()
        reader.close()
        assert answers.purge()
        assert b"private words" not in everything_in(tmp_path)


def test_what_a_kill_left_in_the_log_is_cleaned_at_the_next_start(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
    answers.submit(answer(pid, comment="private words"))
    answers._db.execute("DELETE FROM answers")  # what stands on disk if the process dies right after the deletion
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tmp_path.glob("answers.sqlite*"):
        (copy / path.name).write_bytes(path.read_bytes())
    answers.close()
    assert b"private words" in everything_in(copy)
    with Answers(copy) as again:
        assert again.purge()
        assert b"private words" not in everything_in(copy)


def test_own_rounds_are_few_and_one_at_a_time(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
        for number in range(1, OWN_ROUNDS + 1):
            assert answers.add_own(pid, "{}") is not None
            assert answers.add_own(pid, "{}") is None
            answers.finish_own(pid, number, [("r-1", "generic", "yes")])
        assert answers.add_own(pid, "{}") is None
        assert {one.state for one in answers.own_rounds(pid)} == {"ready"}


def test_a_round_that_failed_may_be_tried_again(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
        for number in range(1, OWN_ROUNDS + 2):
            assert answers.add_own(pid, "{}") is not None
            answers.finish_own(pid, number, [], "it failed")


def test_nothing_is_written_for_one_who_has_withdrawn(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
        answers.withdraw(pid)
        with pytest.raises(KeyError):
            answers.add_own(pid, '{"secret": 1}')
        with pytest.raises(KeyError):
            answers.open(pid, "cases", 1)
        assert answers.own_rounds() == []
        assert not answers.was_opened(pid, "cases", 1)


def test_a_code_is_one_participant_however_often_it_joins(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        code = new_code()
        joined = {answers.join(code, "plan", planned=1, cases=1) for _ in range(4)}
        assert answers.participants() == list(joined)
        answers.submit(answer(answers.participants()[0].pid))
        assert {answers.join(code, "plan", planned=1, cases=1)} == joined, "the study is full for others only"


def test_when_a_page_was_opened_is_forgotten_with_its_answer(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
        answers.open(pid, "cases", 1)
        assert answers.was_opened(pid, "cases", 1)
        assert answers.submit(answer(pid))
        assert not answers.was_opened(pid, "cases", 1)
        assert answers._rows("SELECT * FROM opened") == []
        assert answers.all_answers()[0].seconds is not None
        assert not answers.submit(answer(pid))
        assert answers.all_answers()[0].seconds is not None


def test_a_purge_that_another_writer_holds_up_is_to_be_tried_again(tmp_path: Path) -> None:
    with Answers(tmp_path) as answers:
        pid = answers.join(new_code(), "plan", planned=9, cases=9).pid
        answers.withdraw(pid)
        answers._unpurged = True
        answers._db.execute("PRAGMA busy_timeout = 50")
        writer = sqlite3.connect(answers.path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        assert not answers.purge()
        writer.close()
        assert answers.purge()


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 9)
    with pytest.raises(ArtifactError, match=r"answers\.sqlite"):
        Answers(tmp_path)


@given(st.sampled_from([str.lower, lambda code: code.replace("-", " "), lambda code: f"  {code.replace('-', '')}\n"]))
def test_a_code_is_known_however_it_is_typed(typed: Any) -> None:
    code = new_code()
    assert len(code) == 24
    assert tidy_code(typed(code)) == code


@given(st.text(max_size=60))
def test_any_text_can_be_typed_as_a_code(text: str) -> None:
    assert tidy_code(tidy_code(text)) == tidy_code(text)
