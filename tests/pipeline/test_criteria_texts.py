"""Whatever a criterion says survives the file it is edited in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.dimensions import EMPATHY
from peregrm.errors import InputError
from peregrm.pipeline.criteria_files import criteria_text, read_edited, replace_criteria, write_editable
from peregrm.records import Case, Criteria, Criterion
from peregrm.reward.criteria import check_criteria
from peregrm.store import read_records

# Any text survives


def rubric(case: Case, texts: list[str]) -> Criteria:
    items = tuple(Criterion(text=text, weight=25) for text in texts)
    return Criteria(case_id=case.id, method="model", items=(("resonation", items),))


TEXTS = st.text(max_size=60) | st.sampled_from(
    ['"""', "'''", "\\", "\\u0041", '\\"', "\x7f", "\x00\x1f", "\r\n", "\t", "\x85\u2028", "# no comment", "]", "🙂", "{ weight = 1 }"]
)  # fmt: skip


@settings(max_examples=40)
@given(
    pieces=st.lists(st.lists(TEXTS, max_size=4).map("".join), min_size=4, max_size=4, unique=True),
    said=st.text(max_size=40),
)
def test_every_text_survives(
    pieces: list[str], said: str, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = [f"{text} thing {letter} is good" for text, letter in zip(pieces, "abcd", strict=True)]
    case = case.model_copy(update={"situation": said, "query": said})
    before = rubric(case, texts)
    path = tmp_path_factory.mktemp("any") / "edit.toml"
    assert write_editable(path, {case.id: case}, [before]) == 1
    rows = tomllib.loads(path.read_text(encoding="utf-8"))[case.id]["resonation"]
    assert [row["text"] for row in rows] == texts
    if check_criteria([("resonation", texts)]) is None:
        (after,) = read_edited(path, {case.id: case}, EMPATHY[:1])
        assert after.items == before.items
        assert replace_criteria(path.with_name("criteria.jsonl"), [before], [after]) == 0
        assert read_records(path.with_name("criteria.jsonl"), Criteria) == [before]
    else:
        with pytest.raises(InputError, match=case.id):
            read_edited(path, {case.id: case}, EMPATHY[:1])


def test_one_case_as_text(case: Case) -> None:
    words = criteria_text(case, rubric(case, ["It is plain.", "It is short.", "It is kind.", "It says what to do."]))
    assert "25 %  It is plain." in words
    assert case.query in words


def test_criteria_of_flagged_cases_are_not_for_editing(case: Case, tmp_path: Path) -> None:
    texts = ["It is plain to read.", "It is short and dry.", "It is kind to Tom.", "It says what to do."]
    flagged = case.model_copy(update={"flags": ("self_harm",)})
    assert write_editable(tmp_path / "flagged.toml", {case.id: flagged}, [rubric(case, texts)]) == 0
    assert write_editable(tmp_path / "open.toml", {case.id: case}, [rubric(case, texts)]) == 1
    with pytest.raises(InputError, match="safe guidance alone"):
        read_edited(tmp_path / "open.toml", {case.id: flagged}, EMPATHY[:1])
