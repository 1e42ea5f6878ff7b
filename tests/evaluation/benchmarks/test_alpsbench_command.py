"""`peregrm benchmark`: names, tables, JSON, plans, and the budget of failures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from peregrm.cli import app, main
from peregrm.evaluation.benchmarks.alpsbench.console import print_task1
from peregrm.evaluation.benchmarks.alpsbench.packets import read_packets
from peregrm.evaluation.benchmarks.alpsbench.result import task1_result
from peregrm.models.scripted import ScriptedModel

MakePackets = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


class NoEmbedder:
    """Stands where no embedding package is needed: the sentences of these tests are labelled by rules."""

    def embed(self, texts: list[str]) -> Any:
        import numpy as np

        return np.tile(np.eye(1, 8), (len(texts), 1))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("peregrm.models.embeddings.Embedder", NoEmbedder)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["benchmark", *map(str, arguments)])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def use_model(monkeypatch: pytest.MonkeyPatch, model: ScriptedModel) -> None:
    monkeypatch.setattr("peregrm.models.registry.open_model", lambda *_, **__: model)


def test_the_command_is_there() -> None:
    assert "benchmark" in typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_an_unknown_name_is_said(run: Run, packets_file: MakePackets) -> None:
    code, _, said = run("eqbench", "--data", packets_file())
    assert code == 2
    assert "No such command 'eqbench'" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", 5), "there is no task 5; there is: 1, 2, 3, 4"),
        (("--task", 2, "--method", "extractive"), "task 2 is done by a model"),
        (("--task", 3, "--judge", "embedded"), "task 3 has no judge"),
        (("--method", "magic"), "unknown method 'magic'; there is: extractive, model"),
        (("--method", "extractive", "--model", "embedded"), "asks no model"),
        (("--model", "nowhere"), "model 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    run: Run, packets_file: MakePackets, arguments: tuple[object, ...], message: str
) -> None:
    code, out, said = run("alpsbench", "--data", packets_file(), *arguments)
    assert (code, out) == (1, "")
    assert message in said


def test_the_table_and_the_file(run: Run, packets_file: MakePackets, tmp_path: Path) -> None:
    code, out, said = run("alpsbench", "--data", packets_file(), "--out", tmp_path / "r")
    assert code == 0
    for name in ("extractive", "gpt-5.2", "qwen3-max", "blind"):
        assert name in out
    assert "2 packets of 2 users; 2 references, and 2 that annotators marked as wrong" in out
    stored = json.loads((tmp_path / "r" / "result.json").read_text("utf-8"))
    assert {row["method"] for row in stored["rows"]} == {"extractive", "gpt-5.2", "qwen3-max", "blind"}
    assert not list(tmp_path.rglob("*.sqlite"))
    assert "Result:" in said


def test_json_is_the_result_and_nothing_else(run: Run, packets_file: MakePackets) -> None:
    code, out, _ = run("alpsbench", "--data", packets_file(), "--json")
    assert code == 0
    assert json.loads(out)["benchmark"] == "alpsbench"


def test_a_model_joins_the_table(run: Run, packets_file: MakePackets, monkeypatch: pytest.MonkeyPatch) -> None:
    use_model(monkeypatch, ScriptedModel(['{"memories": []}'] * 2))
    arguments = ("--model", "small@http://127.0.0.1:9/v1", "--json")
    code, out, _ = run("alpsbench", "--data", packets_file(), *arguments)
    assert code == 0
    methods = {row["method"]: row["kind"] for row in json.loads(out)["rows"]}
    assert methods["small@http://127.0.0.1:9/v1"] == methods["extractive"] == "own"


def test_a_model_that_never_answers_is_an_error_after_the_result(
    run: Run, packets_file: MakePackets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_model(monkeypatch, ScriptedModel(lambda request: "no"))
    many = [json.loads(line) for line in packets_file().read_text("utf-8").splitlines()]
    file = packets_file(*({**many[0], "session_id": f"s{n}"} for n in range(6)))
    arguments = ("--method", "model", "--model", "small@http://127.0.0.1:9/v1", "-o", tmp_path / "r")
    code, _, said = run("alpsbench", "--data", file, *arguments)
    assert code == 1
    assert "6 of 6 model answers could not be used" in said
    assert (tmp_path / "r" / "result.json").exists()


def test_fewer_packets_and_a_folder_by_default(run: Run, packets_file: MakePackets, tmp_path: Path) -> None:
    code, out, _ = run("alpsbench", "--data", packets_file(), "--limit", 1, "--json")
    assert code == 0
    assert json.loads(out)["packets"] == 1
    assert json.loads((tmp_path / "peregrm-alpsbench-task1" / "result.json").read_text("utf-8")) == json.loads(out)


def test_a_plan_asks_no_model(run: Run, packets_file: MakePackets) -> None:
    arguments = ("--model", "small@http://127.0.0.1:9/v1", "--dry-run", "--json")
    code, out, _ = run("alpsbench", "--data", packets_file(), *arguments)
    assert code == 0
    (row,) = json.loads(out)
    assert (row["purpose"], row["calls"]) == ("memories", 2)
    assert run("alpsbench", "--data", packets_file(), "--dry-run")[0] == 0


def test_markup_in_the_name_of_a_model_is_printed_as_it_is(packets_file: MakePackets) -> None:
    packets = read_packets(packets_file())
    odd = [packet.model_copy(update={"answers": {"[red]m[/red]": packet.answers["gpt-5.2"]}}) for packet in packets]
    out = io.StringIO()
    print_task1(Console(width=200, file=out), task1_result(odd, {}))
    assert "[red]m[/red]" in out.getvalue()
    assert "None of these models has a published score" in out.getvalue()
