"""AlpsBench task 3: the memory itself, and the published score with what its chance is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench import read_retrievals, run_task3
from peregrm.evaluation.benchmarks.alpsbench.retrieval import id_floor
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import NoProgress
from peregrm.models.scripted import ScriptedModel

CANDIDATES = [("m1", "Likes tea"), ("m2", "Has a dog named Rex"), ("m2", "Plays the cello"), ("m3", "Lives in Leeds")]


def write(folder: Path, **changed: Any) -> Path:
    task = {
        "query": "What should I call out in the park?",
        "candidate_memories": [{"memory_id": i, "value": v, "label": "UNMAPPED"} for i, v in CANDIDATES],
        "task3_selected_memory_id": "m2",
        "task3_selected_memory": {"memory_id": "m2", "value": "Has a dog  named Rex"},
        **changed,
    }
    path = folder / "packets.jsonl"
    dialogue = [{"role": "user", "text": "hello"}]
    path.write_text(json.dumps({"session_id": "s1", "dialogue": dialogue, "task3": task}), encoding="utf-8")
    return path


async def run(path: Path, *answers: str, reasons: bool = True) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(answers)
    return await run_task3(path, model, Manner(reasons=reasons), NoProgress()), model


@pytest.mark.parametrize(("number", "accuracy"), [(2, 1.0), (3, 0.0), (4, 0.0)])
async def test_the_choice_and_its_chance(tmp_path: Path, number: int, accuracy: float) -> None:
    outcome, model = await run(write(tmp_path), json.dumps({"reason": "a name to call", "memory": number}))
    (metric,) = outcome.result.metrics
    assert (metric.name, metric.estimate.mean, metric.chance) == ("accuracy", accuracy, 0.25)
    assert "2. (UNMAPPED) Has a dog named Rex\n" in model.requests[0].messages[-1].content
    assert "m2" not in model.requests[0].messages[-1].content


@pytest.mark.parametrize(
    ("ids", "floor"),
    [(("m2", "m1", "m2", "m3"), 0.5), (("m1", "m2", "m1", "m1"), 1.0), (("m1", "m1", "m2", "m2"), 0.25)],
)
def test_what_ids_give_away(tmp_path: Path, ids: tuple[str, ...], floor: float) -> None:
    renamed = [{"memory_id": i, "value": v} for i, (_, v) in zip(ids, CANDIDATES, strict=True)]
    (packet,) = read_retrievals(write(tmp_path, candidate_memories=renamed))
    assert id_floor(packet) == floor


@pytest.mark.parametrize("said", ["2", '{"reason": "x", "memory": 5}', '{"reason": "x", "memory": 0}', '{"memory": 2}'])
async def test_no_choice_is_no_score(tmp_path: Path, said: str) -> None:
    outcome, _ = await run(write(tmp_path), said, said)
    assert outcome.result.metrics[0].estimate.mean is None
    assert len(outcome.result.failures) == 1


async def test_without_reasons_a_number_is_enough(tmp_path: Path) -> None:
    outcome, _ = await run(write(tmp_path), '{"memory": 2}', reasons=False)
    assert outcome.result.metrics[0].estimate.mean == 1.0


def test_a_wanted_memory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not among its candidates"):
        read_retrievals(write(tmp_path, task3_selected_memory={"value": "Has a cat"}))
