from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.cli import main
from peregrm.dataset.output.table import COLUMNS, WITHHELD
from peregrm.dataset.safety import Flag
from peregrm.errors import SettingsError
from peregrm.pipeline.flagging import read_flags
from peregrm.pipeline.job import RunConfig
from peregrm.pipeline.publish import ExportOptions, load_options, publish, save_options
from peregrm.records import Case, Inspection
from peregrm.records.case import SecondOpinion
from peregrm.store import Workspace, write_records

parquet = pytest.importorskip("pyarrow.parquet")
yaml = pytest.importorskip("yaml")


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "cases.parquet").iterdir()} | {
        "card": (root / "README.md").read_bytes()
    }


def header(root: Path) -> dict[str, Any]:
    return yaml.safe_load((root / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_rows_hold_what_the_cases_hold(build: Any) -> None:
    publish(build.workspace, None)
    table = parquet.read_table(build.workspace.path("cases.parquet"))
    assert table.schema.names == [column.name for column in COLUMNS]
    rows = {row["case_id"]: row for row in table.to_pylist()}
    assert rows.keys() == {case.id for case in build.cases}
    for case in build.cases:
        row = rows[case.id]
        assert (row["query"], row["situation"], row["persona_profile"]) == (
            case.query,
            case.situation,
            case.persona.profile,
        )
        assert [one["value"] for one in row["memories"]] == [memory.value for memory in case.memories]
        assert row["memories"][0]["evidence"] == [
            {"session_id": e.session_id, "turn": e.turn, "quote": e.quote} for e in case.memories[0].evidence
        ]
        assert row["persona_traits"][0]["memory_ids"] == list(case.persona.traits[0].memory_ids)
        assert row["flags"] == []


def test_files_are_named_in_the_card_and_hold_one_split_each(build: Any) -> None:
    counts = publish(build.workspace, None)
    root = build.workspace.root
    (config,) = header(root)["configs"]
    assert [one["split"] for one in config["data_files"]] == list(counts) == ["train", "validation", "test"]
    users: dict[str, set[str]] = {}
    for one in config["data_files"]:
        table = parquet.read_table(root / one["path"])
        assert set(table["split"].to_pylist()) == {one["split"]}
        assert table.num_rows == counts[one["split"]]
        users[one["split"]] = set(table["user_id"].to_pylist())
    assert len(set.union(*users.values())) == sum(map(len, users.values())) == 5


def test_same_input_same_bytes(make_build: Callable, tmp_path: Path) -> None:
    one, two = make_build(tmp_path / "one"), make_build(tmp_path / "two")
    for build in (one, two):
        publish(build.workspace, None)
    assert files(one.workspace.root) == files(two.workspace.root)
    before = files(one.workspace.root)
    publish(Workspace(one.workspace.root), None)
    assert files(one.workspace.root) == before


def test_flagged_cases_stay_out_of_train(build: Any) -> None:
    flags = {case.id: ["self_harm", "abuse"] for case in build.cases}
    counts = publish(build.workspace, None, flags=flags)
    assert "train" not in counts
    assert counts[WITHHELD] > 0
    root = build.workspace.root
    assert [config["config_name"] for config in header(root)["configs"]] == ["default", WITHHELD]
    rows = parquet.read_table(root / "cases.parquet").to_pylist()
    assert all(row["flags"] == ["abuse", "self_harm"] for row in rows)
    counts = publish(build.workspace, None, options=ExportOptions(withhold=False), flags=flags)
    assert WITHHELD not in counts
    assert not (root / "cases.parquet" / "withheld-00000-of-00001.parquet").exists()
    assert "because that was asked for" in (root / "README.md").read_text(encoding="utf-8")


def test_flags_on_file_are_read(build: Any) -> None:
    first, other = build.cases[0], build.cases[2]

    def flag(subject: str, kind: str) -> Flag:
        return Flag.model_validate(
            {"subject": subject, "where": "query", "kind": kind, "quote": "x", "by": "rule", "confidence": "high"}
        )

    own = [flag(first.id, "abuse"), flag(other.persona.history_id, "minor"), flag(other.persona.history_id, "abuse")]
    build.workspace.write("flags.jsonl", own)
    found = read_flags(build.workspace, build.cases)
    assert found[first.id] == ("abuse",)
    assert found[other.id] == ("minor",)
    publish(build.workspace, None)
    rows = parquet.read_table(build.workspace.path("cases.parquet")).to_pylist()
    assert {row["case_id"]: tuple(row["flags"]) for row in rows if row["flags"]} == found


def test_hostile_texts_do_not_break_the_card(build: Any) -> None:
    options = ExportOptions(title='x: "y"\n- [a](b) <script> \u2028 \x85', licence="a: {b}")
    publish(build.workspace, None, options=options)
    found = header(build.workspace.root)
    assert found["license"] == "a: {b}"
    assert found["pretty_name"].startswith('x: "y"')
    assert found["language"] == ["en", "zh"]
    body = (build.workspace.root / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "/home/x" not in body
    assert "\n\n\n" not in body


def test_the_card_says_what_was_counted(build: Any) -> None:
    publish(build.workspace, None)
    body = (build.workspace.root / "README.md").read_text(encoding="utf-8")
    for line in (
        "| memories, all | 15 | 5 |",
        "| situations | near copy | 5 |  |",
        "`empty_turn` 10",
        "| queries: inspection | category | 15 | 10 | 5 |",
        "method of the queries: test (15)",
        "None was stated.",
    ):
        assert line in body, line
    leaks = next(line for line in body.splitlines() if line.startswith("| generated, in cases"))
    assert "50.0%" in leaks
    assert "- prompts: none" in body


def told(**changes: Any) -> RunConfig:
    said = {"histories": "/x/logs", "model": "m", "judge": "j", "memories": "model", "criteria": "model", "cases": 3}
    rest = {"reasons": "yes", "samples": 1, "quorum": 0.5, "bystander_weight": 0.5, "seed": 0, "max_new_tokens": 9}
    return RunConfig.model_validate({**said, **rest, "temperature": 0.0, **changes})


@pytest.mark.parametrize(
    ("changes", "prompts"),
    [
        ({}, "memories supersession persona situations query inspect"),
        ({"persona": "bigfive"}, "memories supersession persona_bigfive situations query inspect"),
        ({"persona": "questionnaire"}, "memories supersession situations query inspect"),
        ({"memories": "extractive", "select": "intents"}, "situations query inspect"),
        (
            {"select": "intents,labels", "safety": "both"},
            "intents memories supersession persona situations query inspect safety",
        ),
    ],
)
def test_the_card_names_the_prompts_that_were_asked(build: Any, changes: dict[str, Any], prompts: str) -> None:
    publish(build.workspace, told(**changes))
    body = (build.workspace.root / "README.md").read_text(encoding="utf-8")
    line = next(line for line in body.splitlines() if line.startswith("- prompts: "))
    assert line.split("`")[1::2] == prompts.split()
    assert "- judge:" not in body


def test_the_card_names_the_second_inspector(build: Any) -> None:
    workspace = build.workspace
    opinion = SecondOpinion(judge="other", emotional_support=True, consistent=True, role_aware=False)
    first, *rest = workspace.read("inspections.jsonl", Inspection)
    twice = [first.model_copy(update={"second": opinion, "disagreed": ("role_aware",)})]
    twice += [one.model_copy(update={"second": opinion}) for one in rest]
    write_records(workspace.path("inspections.jsonl"), twice)
    publish(workspace, told(inspectors=2))
    body = (workspace.root / "README.md").read_text(encoding="utf-8")
    assert "- judge: `j`" in body
    assert f"by two judges, who disagreed on 1 of {len(twice)}" in body


def test_an_edited_card_is_kept(build: Any) -> None:
    publish(build.workspace, None)
    path = build.workspace.path("README.md")
    path.write_text("mine")
    said: list[str] = []
    publish(Workspace(build.workspace.root), None, say=said.append)
    assert path.read_text() == "mine"
    assert "edited by hand" in said[0]


def test_without_pyarrow_the_card_is_written_and_that_is_said(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(build.workspace, None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said: list[str] = []
    publish(build.workspace, None, say=said.append)
    assert "pip install -e '.[data]'" in said[0]
    assert not list(build.workspace.path("cases.parquet").iterdir())
    assert "not written" in build.workspace.path("README.md").read_text(encoding="utf-8")


def test_options_are_kept_and_checked(tmp_path: Path) -> None:
    assert load_options(tmp_path) == ExportOptions()
    save_options(tmp_path, ExportOptions(licence="mit", shares=(0.5, 0.25, 0.25)))
    assert load_options(tmp_path).shares == (0.5, 0.25, 0.25)
    (tmp_path / "export.json").write_text('{"seed": -1}')
    with pytest.raises(SettingsError, match="seed"):
        load_options(tmp_path)


def test_cases_alone_are_enough(build: Any, tmp_path: Path) -> None:
    write_records(tmp_path / "in" / "cases.jsonl", build.cases)
    assert sum(publish(Workspace(tmp_path / "in"), None).values()) == len(build.cases)
    assert "what was filtered on the way to them is not known" in (tmp_path / "in" / "README.md").read_text(
        encoding="utf-8"
    )


def test_no_cases_is_a_card_too(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.write("cases.jsonl", [])
    assert publish(workspace, None) == {}
    assert "configs" not in header(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return (ended.value.code if isinstance(ended.value.code, int) else 0), said.out, said.err

    return call


def test_export_keeps_what_it_was_told(build: Any, run: Callable, tmp_path: Path) -> None:
    root = build.workspace.root
    code, out, err = run(
        "export", root, "--license", "cc-by-4.0", "--splits", "60,20,20", "--split-seed", "3", "--json"
    )
    assert code == 0, err
    assert '"train"' in out
    assert header(root)["license"] == "cc-by-4.0"
    assert load_options(root) == ExportOptions(licence="cc-by-4.0", shares=(0.6, 0.2, 0.2), seed=3)
    assert run("export", root, "--flagged-in-train", "-o", tmp_path / "public")[0] == 0
    assert {path.name for path in (tmp_path / "public").iterdir()} == {"cases.parquet", "README.md", "manifest.json"}
    assert load_options(root) == ExportOptions(licence="cc-by-4.0", shares=(0.6, 0.2, 0.2), seed=3, withhold=False)


def test_paper_files_by_command_there_and_back(build: Any, run: Callable, tmp_path: Path) -> None:
    code, _, err = run("export", build.workspace.root, "--as", "paper", "-o", tmp_path / "paper")
    assert code == 0, err
    for language in ("en", "zh"):
        code, _, err = run("import", tmp_path / "paper" / f"final_{language}.json", "-o", tmp_path / language)
        assert code == 0, err
    back = [case for language in ("en", "zh") for case in Workspace(tmp_path / language).read("cases.jsonl", Case)]
    assert {case.id for case in back} == {case.id for case in build.cases}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as", "paper"], "--out"),
        (["--as", "csv"], "--as"),
        (["--splits", "80,20"], "three shares"),
        (["--splits", "80,ten,10"], "three percentages"),
        (["--splits", "80,10,5"], "sum to 0.95"),
    ],
)
def test_wrong_flags_are_one_line(build: Any, run: Callable, arguments: list[str], said: str) -> None:
    code, _, err = run("export", build.workspace.root, *arguments)
    assert code == 1
    assert said in err
    assert "Traceback" not in err
    assert not build.workspace.path("export.json").exists()


def test_wrong_predictions_flag_and_missing_folder(run: Callable, tmp_path: Path) -> None:
    code, _, err = run("import", tmp_path / "x.json", "-o", tmp_path / "o", "--predictions", "x.json")
    assert (code, "POLICY=FILE" in err) == (1, True)
    for command in ("export", "show"):
        code, _, err = run(command, tmp_path / "nothing")
        assert (code, "nothing" in err, "Traceback" in err) == (1, True, False)


def test_show_in_the_terminal(build: Any, run: Callable, tmp_path: Path) -> None:
    root = build.workspace.root
    code, out, _ = run("show", root)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["user", *(f"user-{n}" for n in range(5))]
    code, out, _ = run("show", root, build.cases[0].id[5:12], "--turns")
    assert code == 0
    assert "my brother" in out
    assert "\u202e" not in out
    assert run("show", root, "--html", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    shutil.rmtree(root)
