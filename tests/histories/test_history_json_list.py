"""Lists of JSON read element by element: the same values and errors as reading the whole, whatever the size of a piece."""

import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import InputError
from peregrm.histories import json_list, read_histories
from peregrm.histories.json_list import Undecodable, list_elements

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def elements(data: bytes, longest: int = 10_000):
    return [value for value, _ in list_elements(io.BytesIO(data), "f", longest=longest)]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(json_list, "_PIECE", 3)


@given(
    values=st.lists(JSON, max_size=4), indent=st.sampled_from([None, 0, 2]), escaped=st.booleans(), bom=st.booleans()
)
def test_the_same_values_as_reading_the_whole(values, indent, escaped, bom):
    text = json.dumps(values, indent=indent, ensure_ascii=escaped)
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode("utf-8", "surrogatepass" if escaped else "strict")
    usual = json_list._PIECE
    try:
        for size in (1, 2, 5, usual):
            json_list._PIECE = size
            assert elements(data) == values
            found = [text for _, text in list_elements(io.BytesIO(data), "f", longest=10_000)]
            assert [json.loads(each) for each in found] == values
    finally:
        json_list._PIECE = usual


@given(values=st.lists(JSON, min_size=1, max_size=3), cut=st.integers(1, 20))
def test_a_list_cut_short_is_an_error_with_its_place(values, cut):
    data = json.dumps(values).encode()[:-cut]
    if not data:
        return
    with pytest.raises(InputError, match=r"^f:1: invalid JSON: .* \(column \d+\)$"):
        elements(data)


BROKEN = {
    "comma at the end": (b'[1,\n 2,]', ":2: invalid JSON: Expecting value (column 4)"),
    "no comma": (b"[1\n 2]", ":2: invalid JSON: Expecting ',' delimiter (column 2)"),
    "more after it": (b"[1]\n\n x", ":3: invalid JSON: Extra data (column 2)"),
    "a bad word": (b'[{"a": 1},\n {"b": nope' + b" " * 40 + b"}]", ":2: invalid JSON: Expecting value (column 8)"),
    "not closed": (b'[{"a": "b', ":1: invalid JSON: Unterminated string starting at (column 8)"),
    "nested": (b"[" * 100_000, ":1: invalid JSON: nested too deeply (column 2)"),
    "a bare control character": (b'["a\tb' + b" " * 40 + b'"]', ":1: invalid JSON: Invalid control character at (column 4)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_lists(case):
    data, message = BROKEN[case]
    with pytest.raises(InputError) as caught:
        elements(data)
    assert str(caught.value) == f"f{message}"


@pytest.mark.parametrize("case", sorted(BROKEN.keys() - {"nested"}))
def test_broken_lists_in_small_pieces(case, small_pieces):
    with pytest.raises(InputError, match=f"^f{BROKEN[case][1].split(':')[0]}:"):
        elements(BROKEN[case][0])


def test_bytes_that_are_no_utf8_have_a_place(small_pieces):
    data = '["é",\n "好'.encode() + b'\xff"]'
    with pytest.raises(Undecodable) as caught:
        elements(data)
    assert (caught.value.line, caught.value.byte) == (2, data.index(b"\xff"))


def test_a_cut_character_at_the_end_is_no_utf8():
    with pytest.raises(Undecodable):
        elements('["好'.encode()[:-1])


def test_an_element_may_not_be_longer_than_allowed(small_pieces):
    with pytest.raises(InputError, match=r"f:1: a record has more than 100 characters"):
        elements(b'["' + b"x" * 1000 + b'"]', longest=100)


def test_what_came_before_the_damage_in_a_list_is_kept_and_the_place_is_said(tmp_path):
    good = {"user_id": "ana", "sessions": [{"turns": [{"role": "user", "text": "hi"}]}]}
    (tmp_path / "a.json").write_text("[" + json.dumps(good) + ",\n {]")
    (tmp_path / "b.json").write_text(json.dumps([{**good, "user_id": "bo"}]))
    skipped = []
    read = list(read_histories(tmp_path, on_bad="skip", on_skip=skipped.append))
    assert [history.user_id for history in read] == ["ana", "bo"]
    assert [str(each) for each in skipped] == [
        f"{tmp_path}/a.json:2: invalid JSON: Expecting property name enclosed in double quotes (column 3)"
    ]


def test_a_list_behind_many_blank_lines_is_a_list(tmp_path):
    path = tmp_path / "a.json"
    good = [{"user_id": str(n), "sessions": [{"turns": [{"role": "user", "text": "hi"}]}]} for n in range(2)]
    path.write_text("\n" * 100_000 + json.dumps(good))
    assert len(list(read_histories(path))) == 2


def test_a_list_is_not_held_in_memory(tmp_path):
    path = tmp_path / "a.json.gz"
    value = {"sessions": [{"turns": [{"role": "user", "text": "tea " * 20_000}]}]}
    with gzip.open(path, "wt", compresslevel=1) as out:
        out.write("[" + ",".join(json.dumps({"user_id": str(n), **value}) for n in range(300)) + "]")  # 24 MB
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_histories(path)) == 300
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
