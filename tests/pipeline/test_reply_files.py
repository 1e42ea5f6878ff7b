"""Replies as people have them, joined to their cases by id or by the words of the query, never by position; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import InputError
from peregrm.pipeline.reply_files import read_ranked_replies, read_replies
from peregrm.records import Case, Failure, Reply, Usage
from peregrm.store import write_records

TEXT = "Tell him the time, and eat without him."


@pytest.fixture
def read(tmp_path: Path, cases: dict[str, Case]) -> Callable[..., list[Reply]]:
    def call(*rows: object, name: str = "mine.jsonl", raw: bytes | None = None) -> list[Reply]:
        path = tmp_path / name
        path.write_bytes(raw if raw is not None else "".join(line_of(row) + "\n" for row in rows).encode())
        return read_replies(path, cases)

    return call


def line_of(row: object) -> str:
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)


def ids(cases: dict[str, Case]) -> list[str]:
    return list(cases)


def refused(read: Callable[..., list[Reply]], *rows: object, says: Sequence[str], raw: bytes | None = None) -> None:
    with pytest.raises(InputError) as caught:
        read(*rows, raw=raw)
    words = str(caught.value)
    assert "\n" not in words
    for part in says:
        assert part in words, words


# What is accepted


@pytest.mark.parametrize("key", ["text", "reply", "response", "output"])
@pytest.mark.parametrize("named", ["case_id", "query_id", "query", "query with space around"])
def test_every_way_to_name_the_case_and_the_text(key: str, named: str, read: Callable, cases: dict[str, Case]) -> None:
    case = next(iter(cases.values()))
    names = {
        "case_id": {"case_id": case.id},
        "query_id": {"query_id": "qry-1"},
        "query": {"query": case.query},
        "query with space around": {"query": f"  {case.query}\n"},
    }
    (reply,) = read({**names[named], key: TEXT})
    assert (reply.case_id, reply.policy, reply.text) == (case.id, "mine", TEXT)
    assert reply.failure is None
    (named_policy,) = read({**names[named], key: TEXT, "policy": "gpt-9 [v2]", "extra": {"kept": "out"}})
    assert named_policy.policy == "gpt-9 [v2]"


def test_one_user_of_two_with_the_same_words(read: Callable, cases: dict[str, Case]) -> None:
    row = {"query": "the piano is stuck on the stairs", "reply": TEXT}
    refused(read, row, says=["mine.jsonl:1", "2 cases", "case_id"])
    (reply,) = read({**row, "user_id": "bea"})
    assert cases[reply.case_id].user_id == "bea"
    refused(read, {**row, "user_id": "eve"}, says=["mine.jsonl:1", "no case"])


def test_records_as_they_were_written(read: Callable, cases: dict[str, Case], tmp_path: Path) -> None:
    """What peregrm wrote comes back as the same records, failures and thinking included."""
    one, two, three, _ = ids(cases)
    replies = [
        Reply(case_id=one, policy="a", text=TEXT, thinking="hm", usage=Usage(calls=1, input_tokens=5)),
        Reply(case_id=two, policy="a", text=""),
        Reply(case_id=three, policy="a", text="", failure=Failure(stage="replies", kind="timeout", reason="too slow")),
    ]
    write_records(tmp_path / "replies.jsonl", replies)
    again = read(raw=(tmp_path / "replies.jsonl").read_bytes())
    assert again == replies
    assert [reply.id for reply in again] == [reply.id for reply in replies]
    without_id = [json.dumps({k: v for k, v in r.model_dump().items() if k != "id"}) for r in replies]
    assert [reply.id for reply in read(*without_id)] == [reply.id for reply in replies]


def test_a_hand_written_case_with_its_replies(read: Callable, cases: dict[str, Case]) -> None:
    case = next(iter(cases.values()))
    row = {
        "id": "gold-0",
        "user_id": case.user_id,
        "language": "en",
        "category": case.category,
        "situation": case.situation,
        "query": case.query,
        "memory_ids": [],
        "replies": [
            {"policy": "good", "rank": 1, "text": "No. Say so."},
            {"policy": "bad", "rank": 2, "text": "I am so sorry."},
        ],
    }
    assert {(r.case_id, r.policy, r.text) for r in read(row)} == {
        (case.id, "good", "No. Say so."),
        (case.id, "bad", "I am so sorry."),
    }
    again = read({**row, "replies": []}, row)
    assert [reply.policy for reply in again] == ["bad", "good"]


@pytest.mark.parametrize("entry", ["No. Say so.", None, 3, ["No. Say so."]])
def test_a_reply_of_a_hand_written_case_that_is_no_object_is_not_passed_over(
    entry: object, read: Callable, cases: dict[str, Case]
) -> None:
    case = next(iter(cases.values()))
    good = {"policy": "good", "text": TEXT}
    refused(read, {"case_id": case.id, "replies": [good, entry]}, says=["mine.jsonl:1"])


# The policy's thinking


@pytest.mark.parametrize("policy", [{}, {"policy": "thinker"}], ids=["no policy", "policy"])
@pytest.mark.parametrize("key", ["text", "reply", "response", "output"])
@pytest.mark.parametrize(
    ("said", "thinking"),
    [
        (f"<think>They are cross.</think>{TEXT}", "They are cross."),
        (f"They are cross.</think>\n\n{TEXT}", "They are cross."),
        (f"<THINKING>\nThey are cross.\n</THINKING>\n{TEXT}\n", "They are cross."),
        (f"<think></think>{TEXT}", ""),
    ],
)
def test_thinking_is_taken_off(
    said: str, thinking: str, key: str, policy: dict[str, str], read: Callable, cases: dict[str, Case]
) -> None:
    (reply,) = read({"case_id": ids(cases)[0], key: said, **policy})
    assert (reply.text, reply.thinking, reply.failure) == (TEXT, thinking, None)


@pytest.mark.parametrize("policy", [{}, {"policy": "thinker"}], ids=["no policy", "policy"])
@pytest.mark.parametrize("key", ["text", "response"])
def test_thinking_that_never_ended_is_a_failure(
    key: str, policy: dict[str, str], read: Callable, cases: dict[str, Case]
) -> None:
    (reply,) = read({"case_id": ids(cases)[0], key: f"<think>They are cross. {TEXT}", **policy})
    assert reply.text == ""
    assert reply.failure is not None
    assert reply.failure.kind == "unclosed_thinking"


def test_a_record_id_of_somebody_elses_does_not_let_thinking_through(read: Callable, cases: dict[str, Case]) -> None:
    row = {"id": "17", "case_id": ids(cases)[0], "policy": "thinker", "text": f"<think>Hm.</think>{TEXT}"}
    (reply,) = read(row)
    assert reply.text == TEXT


def test_thinking_and_nothing_after_it_is_an_empty_reply(read: Callable, cases: dict[str, Case]) -> None:
    (reply,) = read({"case_id": ids(cases)[0], "output": "<think>Say nothing.</think>  \n"})
    assert (reply.text, reply.failure) == ("", None)


# Known ranks


def test_ranks_stand_beside_their_replies(cases: dict[str, Case], tmp_path: Path) -> None:
    one, two, *_ = ids(cases)
    gold = [{"policy": "good", "rank": 1, "text": "No."}, {"policy": "bad", "rank": 2, "text": "Yes."}]
    rows = [{"case_id": two, "text": TEXT}, {"case_id": two, "policy": "z", "rank": 3, "text": TEXT}]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"case_id": one, "replies": gold}])))
    found = read_ranked_replies(path, cases)
    assert [(reply.policy, rank) for reply, rank in found] == [("bad", 2), ("good", 1), ("mine", None), ("z", 3)]
    assert [reply for reply, _ in found] == read_replies(path, cases)


@pytest.mark.parametrize("rank", [0, -1, 1.0, 1.5, "1", True, [1]])
def test_ranks_are_whole_numbers_from_one(rank: object, read: Callable, cases: dict[str, Case]) -> None:
    refused(read, {"case_id": ids(cases)[0], "text": TEXT, "rank": rank}, says=["mine.jsonl:1", "rank"])


# How the file is written


def test_byte_order_mark_windows_lines_and_blank_lines(read: Callable, cases: dict[str, Case]) -> None:
    one, two, *_ = ids(cases)
    rows = [json.dumps({"case_id": one, "text": TEXT}), "", "   ", json.dumps({"case_id": two, "text": TEXT})]
    plain = read(*rows)
    assert len(plain) == 2
    assert read(raw="\r\n".join(rows).encode("utf-8-sig")) == plain
    assert read(raw="\n".join(rows).encode()) == plain


@pytest.mark.parametrize(
    "text",
    [
        "谢谢你！",
        "a\u2028b\u2029c\x85d\x0be",
        "🙂 with \u200d joiners",
        'tab\tand "quotes" and \\',
        "\u202eright to left",
    ],
)
@pytest.mark.parametrize("escaped", [False, True])
def test_any_characters_in_a_reply(text: str, escaped: bool, read: Callable, cases: dict[str, Case]) -> None:
    row = json.dumps({"case_id": ids(cases)[0], "reply": text}, ensure_ascii=escaped)
    (reply,) = read(row)
    assert reply.text == text


def test_chinese_words_of_a_query(read: Callable, cases: dict[str, Case]) -> None:
    (reply,) = read({"query": "我又值夜班了，怎么办？", "reply": "先睡一觉。"})
    assert reply.case_id == ids(cases)[2]


@pytest.mark.parametrize("raw", [b"", b"\n\n", "\ufeff".encode(), b"  \r\n "])
def test_a_file_without_replies_is_refused(raw: bytes, read: Callable) -> None:
    refused(read, raw=raw, says=["mine.jsonl", "no replies"])


def test_a_file_that_cannot_be_read(tmp_path: Path, cases: dict[str, Case], read: Callable) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        read_replies(tmp_path / "none.jsonl", cases)
    with pytest.raises(InputError, match="cannot be read"):
        read_replies(tmp_path, cases)
    refused(read, raw=b'{"text": "caf\xe9"}\n', says=["mine.jsonl", "cannot be read"])


# What is refused, with the line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ("3", "not an object"),
        ("null", "not an object"),
        ('"text"', "not an object"),
        ('{"text": "x"} {"text": "y"}', "not JSON"),
        ('{"text": ' + "9" * 5000 + "}", "mine.jsonl:2"),
        ("[" * 100_000, "mine.jsonl:2"),
        ('{"a":' * 100_000, "mine.jsonl:2"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_lines_that_are_no_objects(line: str, says: str, read: Callable, cases: dict[str, Case]) -> None:
    refused(read, {"case_id": ids(cases)[0], "text": TEXT}, line, says=["mine.jsonl:2", says])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": TEXT}, ["case_id, query_id or query"]),
        ({"case_id": None, "text": TEXT}, ["case_id, query_id or query"]),
        ({"case_id": "case-0", "text": TEXT}, ["case_id 'case-0' is not in the dataset"]),
        ({"case_id": "", "text": TEXT}, ["case_id '' is not in the dataset"]),
        ({"query_id": "qry-9", "text": TEXT}, ["query_id 'qry-9' is not in the dataset"]),
        ({"query": "never asked", "text": TEXT}, ["no case of the dataset"]),
        ({"query": "", "text": TEXT}, ["no case of the dataset"]),
        ({"case_id": "case\n0\x1b[2J", "text": TEXT}, ["is not in the dataset"]),
    ],
)
def test_rows_without_a_case(row: dict[str, Any], says: list[str], read: Callable) -> None:
    refused(read, row, says=["mine.jsonl:1", *says])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, ["none"]),
        ({"text": None}, ["none"]),
        ({"text": 3}, ["none"]),
        ({"text": ["a"]}, ["none"]),
        ({"text": "a", "response": "b"}, ["text, response"]),
        ({"reply": "a", "output": "a"}, ["reply, output"]),
        ({"text": "a", "policy": ""}, ["policy"]),
        ({"text": "a", "policy": 3}, ["policy"]),
        ({"text": None}, ["text: no text"]),
        ({"text": "a", "policy": None}, ["policy"]),
        ({"reply": "a", "policy": ["b"]}, ["policy"]),
        ({"text": "half an emoji \ud83d"}, ["surrogate"]),
        ({"reply": "half an emoji \ud83d"}, ["surrogate"]),
        ({"reply": "a", "policy": "half \udc00"}, ["surrogate"]),
        ({"text": "a", "policy": "b", "failure": "none"}, ["failure"]),
    ],
    ids=str,
)
def test_rows_without_one_text(row: dict[str, Any], says: list[str], read: Callable, cases: dict[str, Case]) -> None:
    refused(read, json.dumps({"case_id": ids(cases)[0], **row}), says=["mine.jsonl:1", *says])


def test_one_policy_answers_a_case_once(read: Callable, cases: dict[str, Case]) -> None:
    one, two, *_ = ids(cases)
    case = cases[one]
    rows = [{"case_id": one, "text": TEXT}, {"case_id": two, "text": TEXT}]
    assert len(read(*rows)) == 2
    refused(read, *rows, {"query": case.query, "reply": "again"}, says=["mine.jsonl:3", "'mine'", "line 1"])
    refused(read, *rows, rows[0], says=["mine.jsonl:3", "line 1"])
    gold = {"query": case.query, "replies": [{"policy": "a", "text": "x"}, {"policy": "a", "text": "y"}]}
    refused(read, gold, says=["mine.jsonl:1", "'a'"])
    assert len(read(*rows, {"case_id": one, "policy": "other", "text": TEXT})) == 3


def test_ids_that_contradict_each_other(read: Callable, cases: dict[str, Case]) -> None:
    """A row whose ids name two cases belongs to neither."""
    row = {"case_id": ids(cases)[1], "query_id": "qry-1", "text": TEXT}
    refused(read, row, says=["mine.jsonl:1", "query_id"])


def test_a_query_of_two_cases_names_neither(cases: dict[str, Case], tmp_path: Path) -> None:
    """As where two builds were put together: the same query, with other memories."""
    case = next(case for case in cases.values() if case.query_id == "qry-1")
    again = case.model_copy(update={"situation": "Another one."})
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"query_id": "qry-1", "text": TEXT}))
    with pytest.raises(InputError, match=r"mine\.jsonl:1: 2 cases .* query_id; name the case by case_id"):
        read_replies(path, {**cases, again.id: again})
    path.write_text(json.dumps({"query_id": "qry-1", "case_id": case.id, "text": TEXT}))
    assert [reply.case_id for reply in read_replies(path, {**cases, again.id: again})] == [case.id]


def test_an_id_and_the_words_of_another_case_contradict_each_other(read: Callable, cases: dict[str, Case]) -> None:
    """As where two columns were put side by side by position; words of no case are a prompt of the policy's own."""
    one, two, *_ = ids(cases)
    refused(read, {"case_id": one, "query": cases[two].query, "text": TEXT}, says=["mine.jsonl:1", one, two])
    assert len(read({"case_id": one, "query": "You are kind. " + cases[two].query, "text": TEXT})) == 1
    assert len(read({"case_id": one, "query": cases[one].query, "text": TEXT})) == 1


# Order


@given(data=st.data())
def test_the_result_does_not_depend_on_the_order_of_the_lines(
    data: st.DataObject, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = [(case_id, policy) for case_id in cases for policy in ("a", "b", "c")]
    chosen = data.draw(st.lists(st.sampled_from(keys), unique=True, min_size=1))
    rows = [json.dumps({"case_id": c, "policy": p, "reply": f"{p} says hello"}) for c, p in chosen]
    folder = tmp_path_factory.mktemp("order")
    read = []
    for order in (rows, data.draw(st.permutations(rows))):
        path = folder / "mine.jsonl"
        path.write_text("\n".join(order))
        read.append(read_replies(path, cases))
    assert read[0] == read[1]
    assert [r.case_id for r in read[0]] == sorted((r.case_id for r in read[0]), key=list(cases).index)


@given(text=st.text(), policy=st.text(min_size=1))
def test_any_text_is_a_reply_or_a_clear_refusal(
    text: str, policy: str, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "mine.jsonl"
    case_id = next(iter(cases))
    path.write_text(json.dumps({"case_id": case_id, "policy": policy, "response": text}))
    (reply,) = read_replies(path, cases)
    assert (reply.case_id, reply.policy) == (case_id, policy)
    assert reply.failure is not None or reply.text == text.strip() or "<" in text
