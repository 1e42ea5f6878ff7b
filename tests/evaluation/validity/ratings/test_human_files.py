"""Readers of human judgements: every format by its content, rows that say nothing left out and counted, unreadable ones refused."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.files import own_pairs, read_human_file
from peregrm.evaluation.validity.ratings.rows import HumanFile, case_of, messages_of
from peregrm.records import Case, Message, Reply
from published_data import PUBLISHED, needs

PAIR = {"context": "my cat ran off", "a": "Oh no.", "b": "Cats do.", "better": "a"}
TALK = [
    {"speaker": "sys", "text": "Hi, how are you?"},
    {"speaker": "usr", "text": "Bad.", "feedback": "3"},
    {"speaker": "sys", "text": "What is it?"},
    {"speaker": "sys", "text": "Tell me."},
    {"speaker": "usr", "text": "My cat.", "feedback": "5"},
]


def read(folder: Path, *rows: Any, name: str = "given.jsonl") -> HumanFile:
    path = folder / name
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return read_human_file(path)


def test_pairs_take_users_as_names_or_objects_and_contexts_as_text_or_messages(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "be kind"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "my cat"},
        {"role": "human", "content": "ran off"},
    ]
    file = read(
        tmp_path,
        {**PAIR, "id": "one", "user": "ada", "gap": "2", "meta": {"better_source": "ann", "worse_source": "bot"}},
        {**PAIR, "user": {"id": 7}, "context": talk, "better": "b", "meta": {"better_source": "ann"}},
        {**PAIR, "user": {"persona": "a nurse"}, "b_source": "bot"},
        name="given.jsonl.gz",
    )
    one, two, three = file.pairs
    assert (one.id, one.source, one.user, one.gap, one.a_source, one.b_source) == (
        "one",
        "given",
        "ada",
        2.0,
        "ann",
        "bot",
    )
    assert (two.user, two.a_source, two.b_source, two.gap) == ("7", None, "ann", None)
    assert two.context == (
        Message(role="assistant", content="Hello."),
        Message(role="user", content="my cat\nran off"),
    )
    assert three.user.startswith("persona-")
    assert (three.a_source, three.b_source) == (None, "bot")
    assert file.clusters == "users"


def test_rows_without_a_user_are_clustered_by_context_and_that_is_said(tmp_path: Path) -> None:
    file = read(tmp_path, PAIR, {**PAIR, "b": "Other."}, {**PAIR, "context": "my dog", "user": {"emotion": "sad"}})
    users = [pair.user for pair in file.pairs]
    assert users[0] == users[1] != users[2]
    assert file.clusters == "contexts (no row names a user)"
    mixed = read(tmp_path, PAIR, {**PAIR, "b": "Other.", "user": "ada"})
    assert mixed.clusters == "users; 1 of 2 rows name no user: for those, pairs of the same context"


def test_pairs_that_say_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    silent = [{**PAIR, "better": better} for better in ("tie", None)] + [{**PAIR, "gap": 0}]
    ends = {**PAIR, "context": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    file = read(tmp_path, PAIR, *silent, ends, {**PAIR, "context": " "})
    assert len(file.pairs) == 1
    assert dict(file.left_out) == {"people saw no difference": 3, "the context does not end with the user": 2}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**PAIR, "better": "c"}, "better: neither a nor b"),
        ({**PAIR, "a": None}, "a: no text"),
        ({**PAIR, "gap": "much"}, "not a number"),
        ({**PAIR, "gap": float("nan")}, "not a number"),
        ({**PAIR, "context": 3}, "neither a text nor a list"),
        ({**PAIR, "context": [{"role": "dog", "content": "wuff"}]}, "needs a role"),
        (PAIR, "stands there twice"),
        ({"dialog": TALK}, "not one of the preference pairs"),
        ([1], "not an object"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_line(row: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, PAIR, row)
    assert "given.jsonl:2" in str(caught.value)


def test_files_that_hold_nothing_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known kind of human judgements"):
        read(tmp_path, {"question": "?"})
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path)
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(InputError, match="holds an empty list"):
        read_human_file(tmp_path / "none.json")


def test_feedback_rates_the_turns_of_the_supporter_before_it(tmp_path: Path) -> None:
    file = read(tmp_path, {"dialog": TALK}, {"dialog": TALK})
    (rated,) = file.rated
    assert rated.reply == "What is it?\nTell me."
    assert [message.content for message in rated.context] == ["Hi, how are you?", "Bad."]
    assert (rated.level, rated.scale.low, rated.scale.high) == (5, 1, 5)
    assert dict(file.left_out) == {"the dialogue stands there twice": 1, "the reply opens the conversation": 2}
    other = [
        {"speaker": t["speaker"], "content": t["text"], "annotation": {"feedback": t.get("feedback")}} for t in TALK
    ]
    again = read(tmp_path, {"dialog": other})
    assert [(one.reply, one.level, one.context) for one in again.rated] == [(rated.reply, rated.level, rated.context)]
    with pytest.raises(InputError, match="lies off the scale of 1 to 5"):
        read(tmp_path, {"dialog": [*TALK[:-1], {"speaker": "usr", "text": "x", "feedback": "6"}]})


def test_three_mechanisms_become_four_scales_of_which_the_sum_decides(tmp_path: Path) -> None:
    row = {"sp_id": "p1", "rp_id": "r1", "seeker_post": "help", "response_post": "here"}
    levels = {"emotional_reactions": 1, "interpretations": 0, "explorations": 2}
    file = read(tmp_path, {**row, **levels}, {**row, **levels, "rp_id": "r2", "explorations": None})
    assert [(one.scale.name, one.level, one.scale.headline) for one in file.rated] == [
        ("emotional reactions", 1, False),
        ("interpretations", 0, False),
        ("explorations", 2, False),
        ("sum of three mechanisms", 3, True),
    ]
    assert dict(file.left_out) == {"a post, a reply or a level is missing": 1}


def test_three_replies_become_ratings_and_pairs_clustered_by_their_raters(tmp_path: Path) -> None:
    row = {"part_no": "4", "dialog_id": "d1", "speaker_uttr": "I passed"}
    replies = {"response_human": "Great!", "response_bot": "Well done.", "response_kind": "I am glad."}
    file = read(tmp_path, {**row, **replies, "rating_human": "3", "rating_bot": "1", "rating_kind": "3"})
    assert {(one.reply_source, one.level, one.user) for one in file.rated} == {
        ("human", 3.0, "part-4"),
        ("bot", 1.0, "part-4"),
        ("kind", 3.0, "part-4"),
    }
    assert {(one.a_source, one.b_source, one.better, one.gap) for one in file.pairs} == {
        ("bot", "human", "b", 2.0),
        ("bot", "kind", "b", 2.0),
    }
    assert dict(file.left_out) == {"two replies of the same level are no pair": 1}


def test_ranked_replies_to_own_cases_are_pairs_with_the_case_they_answer(case: Case) -> None:
    replies = [Reply(case_id=case.id, policy=name, text=name) for name in ("best", "good", "same", "unranked")]
    ranks = {replies[0].id: 1, replies[1].id: 2, replies[2].id: 2}
    file = own_pairs({case.id: case}, replies, ranks)
    assert {(one.a, one.b, one.better, one.gap) for one in file.pairs} == {
        ("best", "good", "a", 1.0),
        ("best", "same", "a", 1.0),
    }
    assert {(one.case_id, one.user) for one in file.pairs} == {(case.id, "ada")}


def test_a_case_holds_what_was_said_and_nothing_else() -> None:
    context = messages_of(
        [
            {"role": "user", "content": "hello there, it is me"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "my cat ran off"},
        ],
        "here",
    )
    case = case_of("ada", context)
    assert (case.query, case.situation) == ("my cat ran off", "user: hello there, it is me\nassistant: Hi.")
    assert (case.memories, case.persona.profile, case.persona.traits, case.language) == ((), "", (), "en")
    assert case_of("ada", context[-1:]).situation == ""


@settings(max_examples=30)
@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.floats(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_no_context_crashes(value: Any) -> None:
    try:
        messages = messages_of(value, "here")
    except InputError:
        return
    assert all(message.content.strip() for message in messages)
    assert all(one.role != other.role for one, other in pairwise(messages))


@pytest.mark.parametrize(
    ("name", "pairs", "ratings", "clusters"),
    [
        pytest.param(name, *counts, marks=needs(PUBLISHED / f"{name}.jsonl.gz"))
        for name, *counts in [
            ("pairs/sage_first_turn_gap10", 1696, 0, 54),
            ("pairs/welivita_pu", 1596, 0, 741),
            ("human_ratings/epitome_reddit", 0, 4 * 2973, 2930),
            ("human_ratings/esconv_valid_feedback", 0, 1117, 195),
            ("human_ratings/welivita_pu_2000.dev", 1596, 2988, 198),
        ]
    ],
)
def test_real_files_are_read_whole(name: str, pairs: int, ratings: int, clusters: int) -> None:
    file = read_human_file(PUBLISHED / f"{name}.jsonl.gz")
    users = {one.user for one in (*file.pairs, *file.rated)}
    assert (len(file.pairs), len(file.rated), len(users)) == (pairs, ratings, clusters)
    assert len({one.id for one in file.rated}) == ratings
