"""Parquet, Arrow and Hugging Face datasets on disk: the same histories as from JSONL."""

import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from peregrm.errors import DependencyError, InputError
from peregrm.histories import detect_format, detect_formats, read_histories
from peregrm.histories.tables import table_kind

arrow = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")
parquet = pytest.importorskip("pyarrow.parquet")

WHEN = datetime(2024, 5, 1, 10, tzinfo=UTC)


def rows(count=3):
    turns = [
        {"role": "user", "content": "I miss my sister", "timestamp": None},
        {"role": "assistant", "content": None, "timestamp": WHEN},
        {"role": "assistant", "content": "Tell me. 你好", "timestamp": WHEN},
    ]
    return [
        {
            "conversation_hash": f"c{number}",
            "hashed_ip": f"u{number % 2}",
            "timestamp": WHEN,
            "conversation": turns,
            "language": "English",
            "toxic": number == 0,
            "openai_moderation": [{"flagged": False}],
        }
        for number in range(count)
    ]


def as_jsonl(path, values):
    path.write_text("".join(json.dumps(value, default=lambda time: time.isoformat()) + "\n" for value in values))
    return path


def as_parquet(path, values, **options):
    parquet.write_table(arrow.Table.from_pylist(values), path, **options)
    return path


def as_stream(path, values):
    table = arrow.Table.from_pylist(values)
    with ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def as_file(path, values):
    table = arrow.Table.from_pylist(values)
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


def without_source(histories):
    return [history.model_copy(update={"source": ""}).model_dump_json() for history in histories]


@pytest.mark.parametrize("write", [as_parquet, as_stream, as_file])
def test_a_table_gives_what_the_lines_give(tmp_path, write):
    expected = without_source(read_histories(as_jsonl(tmp_path / "a.jsonl", rows(200))))
    path = write(tmp_path / "table", rows(200))
    assert detect_format(path) == "wildchat"
    assert without_source(read_histories(path)) == expected
    assert len(expected) == 2


def test_every_row_format_is_read_from_parquet(tmp_path):
    said = [{"role": "user", "content": "hi"}]
    values = {
        "peregrm": {"user_id": "x", "sessions": [{"session_id": "s", "turns": [{"role": "user", "text": "hi"}]}]},
        "openai": {"messages": said, "user": "x"},
        "sharegpt": {"conversations": [{"from": "human", "value": "hi"}], "user": "x"},
        "alpsbench": {"session_id": "x", "dialogue": [{"role": "user", "text": "hi"}], "task1": {"ground_truth_memories": None}},
        "wildchat": {"conversation": said, "hashed_ip": "x"},
    }  # fmt: skip
    for name, value in values.items():
        path = as_parquet(tmp_path / f"{name}.parquet", [value])
        assert detect_format(path) == name
        (history,) = read_histories(path)
        assert (history.user_id, history.sessions[0].turns[0].text) == ("x", "hi")
    assert set(detect_formats(tmp_path)) == set(values)
    (joined,) = read_histories(tmp_path)
    assert {session.session_id.split("-")[0] for session in joined.sessions} == {"s", "x", "session"}
    assert joined.notes["duplicate_session"] == 2, "three have the same turns and neither id nor date"


def test_a_column_of_lists_is_a_list_of_turns(tmp_path):
    columns = {"conversations": {"from": ["human", "gpt"], "value": ["hi", "ho"]}, "user": "x"}
    (history,) = read_histories(as_parquet(tmp_path / "a.parquet", [columns]))
    assert [turn.text for turn in history.sessions[0].turns] == ["hi", "ho"]
    uneven = {"conversations": {"from": ["human"], "value": ["hi", "ho"]}, "user": "x"}
    with pytest.raises(InputError, match=r"record 1: conversations must be a list, not an object"):
        list(read_histories(as_parquet(tmp_path / "b.parquet", [uneven]), format="sharegpt"))


def test_values_that_json_has_not_become_what_it_has(tmp_path):
    value = {"messages": [{"role": "user", "content": "hi"}], "date": date(2024, 5, 1), "a": b"x", "b": Decimal("1.5")}
    (history,) = read_histories(as_parquet(tmp_path / "a.parquet", [value]))
    assert history.sessions[0].date == "2024-05-01"


def test_bad_rows_say_their_number(tmp_path):
    path = as_parquet(tmp_path / "a.parquet", [*rows(2), {"conversation": [{"role": "narrator", "content": "x"}]}])
    with pytest.raises(InputError, match=r"a\.parquet: record 3: .*unknown role 'narrator'"):
        list(read_histories(path))
    assert len(list(read_histories(path, on_bad="skip"))) == 2


def test_damaged_tables(tmp_path):
    whole = as_parquet(tmp_path / "a.parquet", rows(500), row_group_size=10).read_bytes()
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"cut\.parquet: damaged Parquet data: ") as caught:
        list(read_histories(cut))
    assert "\n" not in str(caught.value)
    stream = as_stream(tmp_path / "a.arrow", rows(9)).read_bytes()
    short = tmp_path / "short.arrow"
    short.write_bytes(stream[: len(stream) // 2])
    with pytest.raises(InputError, match=r"short\.arrow: damaged Arrow data after record \d+: "):
        list(read_histories(short))
    empty = as_parquet(tmp_path / "empty.parquet", rows(1)[:0] or [])
    assert list(read_histories([empty, tmp_path / "a.arrow"])) == list(read_histories(tmp_path / "a.arrow"))


def dataset(folder, values, shards=2, **state):
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{shards:05}.arrow" for n in range(shards)]
    for n, name in enumerate(names):
        as_stream(folder / name, values[n::shards])
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], **state}))
    return folder


def test_a_dataset_on_disk_and_one_with_splits(tmp_path):
    expected = without_source(read_histories(as_jsonl(tmp_path / "a.jsonl", rows(6))))
    folder = dataset(tmp_path / "one", rows(6))
    as_stream(folder / "cache-123.arrow", rows(1))
    assert detect_format(folder) == "wildchat"
    assert without_source(read_histories(folder)) == expected
    splits = tmp_path / "splits"
    dataset(splits / "train", rows(4))
    dataset(splits / "test", rows(6)[4:], shards=1)
    (splits / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert without_source(read_histories(splits)) == expected


def test_a_dataset_in_the_cache_has_no_state(tmp_path):
    as_stream(tmp_path / "wild_chat-train.arrow", rows(3))
    (tmp_path / "dataset_info.json").write_text("{}")
    assert len(list(read_histories(tmp_path))) == 2


def test_datasets_that_cannot_be_read(tmp_path):
    chosen = dataset(tmp_path / "a", rows(2), _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(InputError, match="saved with a list of chosen rows"):
        read_histories(chosen)
    (chosen / "state.json").write_text('{"_data_files": [{"filename": "none.arrow"}]}')
    with pytest.raises(InputError, match=r"state\.json: names the data file 'none\.arrow', which is not there"):
        read_histories(chosen)
    (chosen / "state.json").write_text("[")
    with pytest.raises(InputError, match=r"state\.json: cannot be read as JSON"):
        read_histories(chosen)
    (chosen / "state.json").write_text("[]")
    with pytest.raises(InputError, match=r"state\.json: must be an object"):
        read_histories(chosen)
    (tmp_path / "dataset_dict.json").write_text('{"splits": "train"}')
    with pytest.raises(InputError, match=r"dataset_dict\.json: names no splits"):
        read_histories(tmp_path)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = as_parquet(tmp_path / "a.parquet", rows(1))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError, match=r"need pyarrow, which is not installed: pip install -e"):
        list(read_histories(path, on_bad="skip"))


def test_the_kind_of_a_table_is_in_its_first_bytes():
    assert [table_kind(head) for head in (b"PAR1xxxx", b"ARROW1\0\0", b"\xff\xff\xff\xff\x10", b'{"a"', b"")] == [
        "parquet", "arrow file", "arrow stream", None, None
    ]  # fmt: skip
