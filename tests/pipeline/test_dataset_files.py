"""Which cases and criteria a folder or a file of cases gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from peregrm.errors import ArtifactError, InputError
from peregrm.pipeline.reply_files import read_dataset
from peregrm.records import Case, Criteria, Criterion
from peregrm.store import write_records


def rubric(case: Case, *names: str) -> Criteria:
    texts = ["It is plain.", "It is short.", "It says what to do.", "It is kind."]
    items = tuple(Criterion(text=text, weight=25) for text in texts)
    return Criteria(case_id=case.id, method="hand", items=tuple((name, items) for name in names))


def test_a_folder_or_a_file_of_cases(cases: dict[str, Case], tmp_path: Path) -> None:
    first, *rest = cases.values()
    write_records(tmp_path / "cases.jsonl", [*rest, first])
    assert list(read_dataset(tmp_path).cases) == [case.id for case in (*rest, first)]
    assert read_dataset(tmp_path).criteria == {}
    (tmp_path / "cases.jsonl").rename(tmp_path / "some.jsonl")
    looked_at = [case.model_copy(update={"flags": ()}) for case in (*rest, first)]
    assert read_dataset(tmp_path / "some.jsonl").cases == {case.id: case for case in looked_at}
    write_records(tmp_path / "criteria.jsonl", [rubric(first, "resonation")])
    assert set(read_dataset(tmp_path / "some.jsonl").criteria) == {first.id}


def test_criteria_of_other_cases_are_left_out(cases: dict[str, Case], tmp_path: Path) -> None:
    first, second, *_ = cases.values()
    write_records(tmp_path / "cases.jsonl", [first])
    write_records(tmp_path / "criteria.jsonl", [rubric(second, "resonation"), rubric(first, "resonation")])
    assert set(read_dataset(tmp_path).criteria) == {first.id}


def test_datasets_that_cannot_be_used(cases: dict[str, Case], tmp_path: Path) -> None:
    first, *_ = cases.values()
    with pytest.raises(InputError, match=r"cases\.jsonl: no such file"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no such file"):
        read_dataset(tmp_path / "nowhere")
    write_records(tmp_path / "cases.jsonl", [first, first])
    with pytest.raises(ArtifactError, match=r"cases\.jsonl:2: the same record"):
        read_dataset(tmp_path)
    write_records(tmp_path / "cases.jsonl", [first])
    write_records(tmp_path / "criteria.jsonl", [rubric(first, "resonation"), rubric(first, "expression")])
    with pytest.raises(ArtifactError, match=rf"two for {first.id}"):
        read_dataset(tmp_path)
    (tmp_path / "criteria.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactError, match=r"criteria\.jsonl:1"):
        read_dataset(tmp_path)
