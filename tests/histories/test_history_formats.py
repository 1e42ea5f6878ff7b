"""What every format reads, and random histories written in each format and read back."""

import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peregrm.errors import SettingsError
from peregrm.histories import detect_format, read_histories, readers, register

TURNS = [{"role": "user", "text": "My sister moved to Oslo."}, {"role": "assistant", "text": "How is she?"}]


def write(path: Path, *values, raw: str | None = None) -> Path:
    text = raw if raw is not None else "".join(json.dumps(value) + "\n" for value in values)
    data = text.encode("utf-8", "surrogatepass")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_peregrm(tmp_path):
    value = {
        "user_id": 7,
        "language": "English",
        "sessions": [{"session_id": "s", "date": "2025-03-01", "turns": [{**TURNS[0], "time": "9:00"}, TURNS[1]]}],
    }
    (history,) = read_histories(write(tmp_path / "a.jsonl", value))
    assert (history.user_id, history.language, history.notes) == ("7", "en", {})
    assert history.source.endswith("a.jsonl")
    assert history.sessions[0].date == "2025-03-01"
    assert history.sessions[0].turns[0].time == "9:00"
    assert [turn.role for turn in history.sessions[0].turns] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("time", "read"),
    [
        (1_718_000_000, "2024-06-10T06:13:20+00:00"),
        (1_718_000_000.5, "2024-06-10T06:13:20.500000+00:00"),
        ("1718000000.0", "2024-06-10T06:13:20+00:00"),
        (1_718_000_000_000, "2024-06-10T06:13:20+00:00"),
        ("2024-06-10", "2024-06-10"),
        ("20240610", "20240610"),
        ("20240610081500", "20240610081500"),
        ("2026030410", "2026030410"),
        ("2603041015", "2603041015"),
        ("202603041015", "202603041015"),
        ("9:00", "9:00"),
        (3, "3"),
        (1e300, "1e+300"),
        ("٣", "٣"),
    ],
)
def test_a_unix_time_of_a_turn_becomes_a_date_and_others_stay(tmp_path, time, read):
    turns = [{**TURNS[0], "time": time}, TURNS[1]]
    value = {"user_id": "u", "sessions": [{"session_id": "s", "turns": turns}]}
    (history,) = read_histories(write(tmp_path / "a.jsonl", value))
    assert history.sessions[0].turns[0].time == read


def test_record_bare_and_in_an_envelope(tmp_path):
    item = {
        "type": "implied",
        "label": "personal_background/family",
        "value": "Has a sister in Oslo",
        "evidence": {"session_id": "s", "utterance_index": 0, "text": "my  SISTER moved"},
        "confidence": 0.8,
        "time_scope": "long_term",
    }
    record = {"sessions": [{"session_id": "s", "turns": TURNS}], "memory_items": [item], "intents_ranked": ["advice"]}
    bare = {"user_id": "u", **record, "intents_ranked": [{"intent": "advice"}]}
    envelope = {"session_id": "e", "language": "Chinese", "record": record}
    path = write(tmp_path / "a.jsonl", bare, envelope, {**record, "memory_items": None})
    assert detect_format(path) == "record"
    second, third, first = read_histories(path)
    assert [history.user_id for history in (first, second, third)] == ["u", "e", "s"]
    assert first.intents == second.intents == ("advice",)
    assert second.language == "en"
    (memory,) = first.memories
    assert (memory.type, memory.label, memory.method) == ("indirect", "Social_Relationships/Family", "source")
    assert (memory.confidence, memory.time_scope, memory.status) == (0.8, "long_term", "kept")
    assert memory.evidence[0].quote == "My sister moved"
    assert third.memories == ()


def test_personaemp(tmp_path):
    value = {
        "source_file": "f",
        "original_sid": "sess_1",
        "session_id": "english_0",
        "persona": {},
        "queries": [],
        "conversation": TURNS,
        "extracted_memory": [
            {
                "label": "Social_Relationships/Family",
                "label_suggestion": "",
                "value": "Has a sister",
                "evidence": {"session_id": "sess_1", "utterance_index": 0, "text": "My sister"},
            },
            {"label": "UNMAPPED", "value": "Calm", "evidence": ""},
        ],
    }
    path = write(tmp_path / "English.json", raw=json.dumps([value], indent=4))
    assert detect_format(path) == "personaemp"
    (history,) = read_histories(path)
    assert history.user_id == "english_0"
    assert history.sessions[0].session_id == "sess_1"
    assert history.memories[0].evidence[0].session_id == "sess_1"
    assert history.memories[1].evidence == ()
    assert history.notes == {"memory_type_unknown": 2}
    sessions = {**value, "conversation": [{"session_id": "sess_1", "turns": TURNS}]}
    (again,) = read_histories(write(tmp_path / "b.json", sessions))
    assert again.id == history.id


def test_openai_joins_rows_of_a_user_and_names_rows_without_one_by_content(tmp_path):
    def row(text, **more):
        return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}], **more}

    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "this"}]
    called = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "done"},
    ]
    path = write(
        tmp_path / "log.jsonl",
        row("b", user="x", date="2025-02-02"),
        row("a", user="x", date="2025-01-01"),
        row("c"),
        {"messages": called, "user": "y"},
        row("d", user="x"),
    )
    assert detect_format(path) == "openai"
    anonymous, x, y = read_histories(path)
    assert [session.turns[0].text for session in x.sessions] == ["b", "a", "d"], (
        "one has no date: the order of the file"
    )
    assert x.notes == {}
    assert anonymous.user_id.startswith("user-")
    assert anonymous.sessions[0].session_id.startswith("session-")
    moved = write(tmp_path / "other.jsonl", row("e"), row("c"))
    assert anonymous.user_id in {history.user_id for history in read_histories(moved)}
    assert [(turn.role, turn.text) for turn in y.sessions[0].turns] == [
        ("system", "be kind"), ("user", "see\nthis"), ("assistant", "done")
    ]  # fmt: skip
    assert y.notes == {"empty_turn": 1, "non_text_part": 1, "role_renamed": 1, "tool_turn": 1}


def test_records_of_one_user_in_a_list_are_joined_even_when_apart(tmp_path):
    def row(user, text):
        return {"messages": [{"role": "user", "content": text}], "user": user}

    path = write(tmp_path / "log.json", raw=json.dumps([row("x", "a"), row("y", "b"), row("x", "c")]))
    x, y = read_histories(path)
    assert [session.turns[0].text for session in x.sessions] == ["a", "c"]
    assert y.user_id == "y"


def test_memorybank(tmp_path):
    day = [{"query": "I play badminton with the others", "response": "Nice"}]
    value = {
        " Ivy ": {"history": {"2023-04-28": day, "2023-04-27": day}, "meta_information": {}},
        "Jo": {"history": {"2023-04-27": day}},
    }
    path = write(tmp_path / "bank.json", raw=json.dumps(value, indent=1))
    assert detect_format(path) == "memorybank"
    ivy, jo = read_histories(path)
    assert [session.date for session in ivy.sessions] == ["2023-04-27", "2023-04-28"]
    assert (ivy.user_id, jo.user_id, ivy.notes) == ("Ivy", "Jo", {"sessions_sorted": 1})


def test_a_directory_is_read_by_name_and_each_file_by_its_own_format(tmp_path):
    write(tmp_path / "b.json", {"user_id": "b", "sessions": [{"turns": TURNS}]})
    write(tmp_path / "a.jsonl.gz", {"messages": [{"role": "user", "content": "hi"}]})
    write(tmp_path / "notes.txt", raw="not read")
    write(tmp_path / "._b.json", raw="\x00not read")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "c.json", raw="not read")
    assert [history.sessions[0].turns[0].text for history in read_histories(tmp_path)] == [TURNS[0]["text"], "hi"]
    assert detect_format(tmp_path) == "openai"


def test_a_plugin_format(tmp_path, monkeypatch):
    from peregrm.histories import registry
    from peregrm.histories.base import Draft
    from peregrm.histories.turns import parse_session

    class Pairs:
        name = "pairs"
        description = "a list of two texts a line"

        def sniff(self, value):
            return isinstance(value, list) and len(value) == 2

        def records(self, row):
            yield row

        def parse(self, row):
            turns = [{"role": "user", "text": row.value[0]}, {"role": "assistant", "text": row.value[1]}]
            session = parse_session(turns, "s", None, row.where, row.notes)
            return Draft(user_id=f"{row.name}-{row.number}", where=row.where, sessions=[session])

    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    register(Pairs())
    assert "pairs" in [reader.name for reader in readers()]
    (history,) = read_histories(write(tmp_path / "p.jsonl", ["hello", "hi"]))
    assert history.user_id == "p-1"
    with pytest.raises(SettingsError, match="already a history format 'pairs'"):
        register(Pairs())


# Random histories, written in each format and read back.

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        [
            "",
            "  \n",
            "😀👩‍👩‍👧",
            "שלום עולם",
            "\u202eabc\u202c",
            "他说：“好”",
            "x" * 5000,
            "\u2028",
            "\x00",
            "\ufeff",
            '"}\n{"',
        ]
    ),
)
TURN_LISTS = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXTS), max_size=5)
USERS = st.lists(
    st.tuples(st.sampled_from(["ana", "bo", "李", "😀"]), st.lists(TURN_LISTS, min_size=1, max_size=3)),
    min_size=1,
    max_size=3,
    unique_by=lambda user: user[0],
)


def day(number: int) -> str:
    return str(date(2025, 1, 1) + timedelta(days=number))


def as_peregrm(users):
    return [
        {
            "user_id": name,
            "sessions": [
                {"session_id": "same", "date": day(n), "turns": [{"role": r, "text": t} for r, t in turns]}
                for n, turns in enumerate(sessions)
            ],
        }
        for name, sessions in users
    ]


def as_record(users):
    return [{**value, "memory_items": []} for value in as_peregrm(users)]


def as_personaemp(users):
    return [
        {"session_id": value["user_id"], "persona": {}, "conversation": value["sessions"]}
        for value in as_peregrm(users)
    ]


def as_openai(users):
    return [
        {"user": name, "messages": [{"role": r, "content": t} for r, t in turns]}
        for name, sessions in users
        for turns in sessions
    ]


def as_memorybank(users):
    def exchanges(turns):
        return [{"query": t if r == "user" else "", "response": t if r == "assistant" else ""} for r, t in turns]

    return [
        {name: {"history": {day(n): exchanges(turns) for n, turns in enumerate(sessions)}}} for name, sessions in users
    ]


def as_wildchat(users):
    return [
        {
            "hashed_ip": name,
            "timestamp": f"{day(n)}T00:00:00+00:00",
            "conversation": [{"role": r, "content": t or None} for r, t in turns],
        }
        for name, sessions in users
        for n, turns in enumerate(sessions)
    ]


def as_sharegpt(users):
    senders = {"user": "human", "assistant": "gpt"}
    return [
        {"user": name, "id": str(n), "conversations": [{"from": senders[r], "value": t} for r, t in turns]}
        for name, sessions in users
        for n, turns in enumerate(sessions)
    ]


def as_alpsbench(users):
    return [
        {"session_id": name, "dialogue": [{"role": r, "text": t} for r, t in turns], "task1": {}}
        for name, sessions in users
        for turns in sessions
    ]


WRITERS = {
    "peregrm": as_peregrm,
    "record": as_record,
    "personaemp": as_personaemp,
    "openai": as_openai,
    "memorybank": as_memorybank,
    "wildchat": as_wildchat,
    "sharegpt": as_sharegpt,
    "alpsbench": as_alpsbench,
}


NUMBERED = {"memorybank", "sharegpt"}  # their sessions have ids of their own, so that none is a copy of another


def content(users, name):
    """What must come back: the turns that hold something, of sessions and users that hold some, without copies."""
    kept = {user: [[t for t in turns if t[1].strip()] for turns in sessions] for user, sessions in users}
    if name not in NUMBERED:
        kept = {user: [s for n, s in enumerate(sessions) if s not in sessions[:n]] for user, sessions in kept.items()}
    return {
        name: [turns for turns in sessions if turns]
        for name, sessions in kept.items()
        if any(role == "user" for turns in sessions for role, _ in turns)
    }


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json", ".json.gz"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(users=USERS, escaped=st.booleans())
def test_random_histories_come_back(tmp_path, name, ending, users, escaped):
    values = WRITERS[name](users)
    if ending.startswith(".jsonl"):
        text = "\n".join(json.dumps(value, ensure_ascii=escaped) for value in values)
    else:
        text = json.dumps(values, ensure_ascii=escaped, indent=1)
    path = write(tmp_path / f"f{ending}", raw=text)
    expected = content(users, name)
    skipped = []
    if not expected:
        return
    read = list(read_histories(path, format=name, on_bad="skip", on_skip=skipped.append))
    assert {h.user_id: [[(t.role, t.text) for t in s.turns] for s in h.sessions] for h in read} == expected
    assert len(read) == len(expected)
    assert len(skipped) == len(users) - len(expected)
    for history in read:
        ids = [session.session_id for session in history.sessions]
        assert len(ids) == len(set(ids))
        assert type(history).model_validate_json(history.model_dump_json()).id == history.id
