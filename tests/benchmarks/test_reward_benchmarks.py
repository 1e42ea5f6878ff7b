"""The benchmarks of the reward run, count right, and say which goals they reach; how fast anything was is not looked at."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from peregrm.reward.criteria import check_criteria

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(script: str, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run a benchmark and return its JSON and what it printed; goals of time may be missed."""
    out = folder / "figures.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments, "--json", str(out)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return json.loads(out.read_text(encoding="utf-8")), done.stdout


@pytest.fixture(scope="module")
def mock_judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_mock_judge", BENCHMARKS / "mock_judge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_cost_of_two_groups_is_counted_call_for_call(tmp_path: Path) -> None:
    figures, printed = run("reward_cost.py", tmp_path, "--groups", "2", "--latency", "0")
    calls = {cost["variant"]: (cost["calls"], cost["samples"], cost["coverage"]) for cost in figures["costs"]}
    assert calls == {
        "paper K=4": (208, 208, 1.0),
        "shared K=1": (34, 34, 1.0),
        "shared K=4": (34, 2 + 4 * 32, 1.0),
        "listwise K=1": (6, 6, 1.0),
    }
    goals = {goal["name"]: goal for goal in figures["goals"]}
    assert goals["calls a group"]["value"] == 17
    assert goals["input tokens, share of paper's"]["met"]
    for cost in figures["costs"]:
        assert 0 < cost["cached_least"] <= cost["cached_most"] < 1
    assert figures["seed"] == 0
    assert "calls a group: 17" in printed


def test_the_speed_benchmark_makes_the_same_calls_all_four_ways(tmp_path: Path) -> None:
    figures, printed = run("reward_speed.py", tmp_path, "--groups", "2", "--rounds", "1")
    laps = {lap["way"]: (lap["calls"], lap["coverage"]) for lap in figures["laps"]}
    assert laps == dict.fromkeys(["package", "stripped", "score", "score, cache"], (34, 1.0))
    assert [goal["least"] for goal in figures["goals"]] == [300, 300, 0.8]
    assert "processor ms a call" in printed


def test_the_gold_benchmark_scores_every_mode_and_states_n(tmp_path: Path, mock_judge: ModuleType) -> None:
    with mock_judge.serving() as address:
        judge = f"mock@{address}/v1"
        figures, printed = run("reward_gold.py", tmp_path, "--cases", "2", "--judge", judge)
    calls = {mode["mode"]: (mode["calls"], mode["coverage"]) for mode in figures["modes"]}
    assert calls == {"shared": (2 * 9, 1.0), "paper": (2 * 16, 1.0), "listwise": (2 * 3, 1.0)}
    for mode in figures["modes"]:
        n = {name: (e["n"], e["asked"], e["users"]) for name, e in mode["accuracy"].items()}
        assert n["all pairs"] == (12, 12, 2)
        assert n["adjacent pairs"] == (6, 6, 2)
        assert n["personalized over generic"] == (2, 2, 2)
        assert len(n) == 2 + 6
    assert "| 12 of 12 | 2 |" in printed


def test_answers_follow_from_the_request_and_choices_from_the_seed(mock_judge: ModuleType) -> None:
    schema = {"type": "object", "properties": {"s1": {"type": "integer", "minimum": 1, "maximum": 5}}}
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "judge", "schema": schema}},
        "seed": 3,
    }
    answers = [mock_judge.answer(body, choice) for choice in range(12)]
    assert answers == [mock_judge.answer({**body, "seed": 3 + choice}) for choice in range(12)]
    assert {json.loads(answer)["s1"] for answer in answers} <= {1, 2, 3, 4, 5}
    assert len(set(answers)) > 1


def test_written_criteria_are_fit_to_judge_by(mock_judge: ModuleType) -> None:
    item = {"type": "object", "properties": {"criterion": {"type": "string", "maxLength": 160}}}
    dimension = {"type": "array", "items": item, "minItems": 4, "maxItems": 6}
    schema = {"type": "object", "properties": dict.fromkeys(("resonation", "expression", "reception"), dimension)}
    for seed in range(50):
        body = {
            "messages": [],
            "response_format": {"json_schema": {"name": "criteria", "schema": schema}},
            "seed": seed,
        }
        document = json.loads(mock_judge.answer(body))
        written = [(name, [one["criterion"] for one in items]) for name, items in document.items()]
        assert check_criteria(written) is None
        assert {len(items) for _, items in written} == {5}


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("a short one", 3), ("understanding", 2), ('{"s1": 4}', 7), ("不要这样", 4), ("a\nb", 3), ("12", 2)],
)
def test_tokens_by_the_rule(mock_judge: ModuleType, text: str, count: int) -> None:
    assert len(mock_judge.pieces(text)) == count


def test_only_whole_blocks_from_the_start_are_found_in_the_prefix_cache(mock_judge: ModuleType) -> None:
    first, other = ["a"] * 40, [*["a"] * 20, *["b"] * 20]
    known = set(mock_judge._block_hashes(first))
    assert len(known) == 2
    assert mock_judge._hit(mock_judge._block_hashes(first), known) == 32
    assert mock_judge._hit(mock_judge._block_hashes(other), known) == 16
    assert mock_judge._hit(mock_judge._block_hashes(["c", *first]), known) == 0
