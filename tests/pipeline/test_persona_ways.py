"""Three ways to a persona feed the same stages, and what was asked for is checked before any model is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.dataset.questionnaire import SELF_REPORT
from peregrm.dataset.safety.flags import DANGERS
from peregrm.dataset.traits import BigFive
from peregrm.models.base import Request
from peregrm.models.ledger import Ledger
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.build import BUILD_STAGES
from peregrm.pipeline.job import Job, RunConfig, run_stages
from peregrm.pipeline.session import load_config
from peregrm.records import Case, Drop, Memory, Persona, Query
from peregrm.settings import RunSettings, Settings
from peregrm.store import Workspace

HEADER = "user_id,questionnaire,1,2,3,4,5,6,7,8,9,10\n"
ADA = "ada,tipi,7,2,6,1,4,1,6,3,7,4\n"
SITUATION = "The user stands in the hallway with a phone that will not stop buzzing and dinner going cold."


def with_memory(line: str) -> str:
    """Give a history of a line a memory of its own, so that none is asked for."""
    item = {
        "type": "direct",
        "label": "Social_Relationships/Family",
        "value": "has a brother, Tom",
        "evidence": {"utterance_index": 0, "text": "My brother Tom"},
    }
    return json.dumps({**json.loads(line), "memory_items": [item]}) + "\n"


@pytest.fixture
def histories(tmp_path: Path, make_history: Callable) -> Path:
    path = tmp_path / "histories.jsonl"
    path.write_text(with_memory(make_history()))
    return path


def answered(request: Request) -> str:
    """Answer each stage with something that passes its rules."""
    facets = [
        {"facet": name, "memories": [1], "text": f"laughs things off and says little ({name})", "rating": 5, "confidence": 60}
        for name in ("trust", "energy", "anxiety")
    ]  # fmt: skip
    gate = {"holds": True, "reason": "it does"}
    document = {
        "persona": {"profile": "A nurse.", "traits": [{"text": "Laughs it off.", "memories": [1]}], "topics": [],
                    "gate_reason": "family", "is_deep": True},
        "bigfive": {"facets": facets, "topics": [], "gate_reason": "family", "is_deep": True},
        "situations": {"situations": [
            {"category": "high_eq", "topic": "the evening", "memories": [1], "traits": [1],
             "text": SITUATION}
        ]},
        "query": {"query": "what do i even write back to him now?"},
        "inspection": {"emotional_support": gate, "consistent": gate, "role_aware": gate},
        "safety": {kind: {"quote": "", "present": False} for kind in DANGERS},
    }[request.schema_name]  # fmt: skip
    return json.dumps(document)


async def build(
    folder: Path, histories: Path, way: str, questionnaire: Path | None = None
) -> tuple[Workspace, ScriptedModel]:
    settings = RunSettings(cases=1)
    kept = set(RunConfig.model_fields) & set(RunSettings.model_fields)
    config = RunConfig.model_validate({
        **{name: getattr(settings, name) for name in kept},
        "histories": str(histories),
        "model": "scripted",
        "judge": "scripted",
        "memories": "model",
        "persona": way,
        "questionnaire": None if questionnaire is None else str(questionnaire),
        "criteria": "composed",
        "reasons": "no",
        "safety": "both",
    })  # fmt: skip
    model, workspace = ScriptedModel(answered), Workspace(folder)
    job = Job(workspace, config, Settings(run=settings), model, model, Ledger())
    await run_stages(job, BUILD_STAGES)
    return workspace, model


@pytest.mark.parametrize("way", ["memory", "bigfive", "questionnaire"])
async def test_each_way_gives_a_persona_whose_traits_cite_kept_memories_and_a_case(
    way: str, tmp_path: Path, histories: Path
) -> None:
    answers = tmp_path / "tipi.csv"
    answers.write_text(HEADER + ADA)
    workspace, model = await build(tmp_path / "out", histories, way, answers if way == "questionnaire" else None)
    (persona,) = workspace.read("personas.jsonl", Persona)
    memories = workspace.read("memories.jsonl", Memory)
    kept = {memory.id for memory in memories if memory.status == "kept"}
    assert persona.is_deep, persona.gate_reason
    assert persona.method == {"memory": "model"}.get(way, way)
    assert all(kept.issuperset(trait.memory_ids) for trait in persona.traits)
    (case,) = workspace.read("cases.jsonl", Case)
    assert case.persona == persona
    assert {memory.id for memory in case.memories} == kept
    assert sum(memory.method == SELF_REPORT for memory in memories) == (5 if way == "questionnaire" else 0)
    asked = [request.schema_name for request in model.requests if request.purpose == "persona"]
    assert asked == {"memory": ["persona"], "bigfive": ["bigfive"], "questionnaire": []}[way]
    if way == "memory":
        assert not workspace.path("bigfive.jsonl").exists()
    else:
        (scores,) = workspace.read("bigfive.jsonl", BigFive)
        assert (scores.history_id, scores.instrument) == (
            persona.history_id,
            {"bigfive": "memories"}.get(way, "tipi"),
        )
    assert len(workspace.read("queries.jsonl", Query)) == 1


async def test_scores_of_another_way_do_not_stay_behind_and_answers_feed_no_inference(
    tmp_path: Path, histories: Path
) -> None:
    answers = tmp_path / "tipi.csv"
    answers.write_text(HEADER + ADA)
    workspace, _ = await build(tmp_path / "out", histories, "questionnaire", answers)
    reports = workspace.path("memories.jsonl").read_text()
    workspace, model = await build(tmp_path / "out", histories, "memory")
    assert workspace.read("bigfive.jsonl", BigFive) == []
    assert "TIPI" in reports
    assert "TIPI" not in "".join(message.content for request in model.requests for message in request.messages)


def test_a_user_without_answers_is_dropped_and_strangers_are_told(
    tmp_path: Path, here: Callable, histories: Path, server: Any, make_history: Callable
) -> None:
    histories.write_text(with_memory(make_history()) + with_memory(make_history("bea")))
    answers = tmp_path / "tipi.csv"
    answers.write_text(HEADER + ADA + ADA.replace("ada", "carl"))
    out = tmp_path / "out"
    methods = ["--model", server.spec, "--memories", "model", "--cases", "1", "--keep-ids"]
    ended = here("build", histories, "-o", out, *methods, "--questionnaire", answers)
    assert ended.code == 0, ended.stderr
    assert "answers of 1 users who have no history here are not used" in ended.stderr
    workspace = Workspace(out)
    assert [persona.user_id for persona in workspace.read("personas.jsonl", Persona)] == ["ada"]
    (drop,) = workspace.read("personas.dropped.jsonl", Drop)
    assert (drop.kind, drop.failed) == ("no_answers", False)
    config = load_config(out)
    assert (config.persona, config.questionnaire) == ("questionnaire", str(answers))
    before = workspace.path("personas.jsonl").read_bytes()
    assert here("persona", out).code == 0
    assert workspace.path("personas.jsonl").read_bytes() == before


def test_a_stage_may_be_run_another_way(tmp_path: Path, here: Callable, histories: Path, server: Any) -> None:
    out = tmp_path / "out"
    methods = ["--model", server.spec, "--memories", "model", "--cases", "0", "--keep-ids"]
    assert here("build", histories, "-o", out, *methods).code == 0
    assert load_config(out).persona == "memory"
    ended = here("persona", out, "--persona", "bigfive")
    assert ended.code == 0, ended.stderr
    assert [p.method for p in Workspace(out).read("personas.jsonl", Persona)] == ["bigfive"]
    answers = tmp_path / "tipi.csv"
    answers.write_text(HEADER + ADA)
    here("persona", out, "--questionnaire", answers).failed_with_one_line("run the stage `memories` again")
    assert here("memories", out, "--questionnaire", answers).code == 0
    ended = here("persona", out)
    assert ended.code == 0, ended.stderr
    assert [p.method for p in Workspace(out).read("personas.jsonl", Persona)] == [SELF_REPORT]
    assert here("persona", out, "--persona", "memory").code == 0
    assert load_config(out).questionnaire is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--persona", "bigfive", "--model", "embedded"], ["--persona bigfive needs a model", "--model"]),
        (["--persona", "questionnaire"], ["--persona questionnaire needs the users' answers: --questionnaire FILE"]),
        (["--persona", "bigfive", "--questionnaire", "x.csv"], ["--questionnaire goes with --persona questionnaire"]),
        (["--persona", "horoscope"], ["--persona", "'memory', 'bigfive' or 'questionnaire'"]),
        (["--questionnaire", "none.csv", "--model", "embedded"], ["none.csv: cannot be read"]),
        (["--safety", "both", "--model", "embedded"], ["--safety both needs a model", "--model"]),
        (["--safety", "none"], ["--safety", "'auto', 'rules' or 'both'"]),
    ],
)
def test_what_makes_no_sense_is_said_at_once(
    tmp_path: Path, here: Callable, histories: Path, flags: list[str], said: list[str]
) -> None:
    here("build", histories, "-o", tmp_path / "out", *flags).failed_with_one_line(*said)
    assert not (tmp_path / "out" / "memories.jsonl").exists()


def test_the_plan_knows_the_way(tmp_path: Path, here: Callable, histories: Path) -> None:
    answers = tmp_path / "tipi.csv"
    answers.write_text(HEADER + ADA)
    planned = {}
    for way, more in {
        "memory": ["--memories", "extractive"],
        "bigfive": ["--memories", "extractive", "--model", "m@http://127.0.0.1:9/v1"],
        "questionnaire": ["--memories", "model", "--questionnaire", str(answers)],
    }.items():
        ended = here("build", histories, "-o", tmp_path / "out", "--persona", way, *more, "--dry-run", "--json")
        assert ended.code == 0, ended.stderr
        planned[way] = {row["purpose"]: row["calls"] for row in json.loads(ended.stdout)}.get("persona", 0)
    assert planned == {"memory": 0, "bigfive": 1, "questionnaire": 0}
