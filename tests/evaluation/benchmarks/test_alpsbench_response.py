"""AlpsBench task 4: what the model is shown, the published proxy and its floor, and a judge for each ability."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark_parts import means
from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench import is_grounded, read_queries, run_task4
from peregrm.evaluation.benchmarks.alpsbench.response import ABILITIES, best_letter
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import NoProgress
from peregrm.models.scripted import ScriptedModel

MEMORY = "Has a dog named Rex"
SAID = json.dumps({"answer": "Walk Rex first.", "fact": "a dog  named REX"})


def write(folder: Path, *abilities: str, **changed: Any) -> Path:
    task = [
        {
            "ability": ability,
            "queries": [{"query_id": f"{ability}_1", "query": "How do I calm down?"}],
            "task4_selected_memory": {"memory_id": "m1", "value": MEMORY},
            **changed,
        }
        for ability in abilities or ("ability2",)
    ]
    dialogue = [{"role": "user", "text": "Rex ate my shoe."}, {"role": "assistant", "text": "Oh no."}]
    path = folder / "packets.jsonl"
    path.write_text(json.dumps({"session_id": "s1", "dialogue": dialogue, "task4": task}), encoding="utf-8")
    return path


def verdict(ability: str, points: int = 4, **more: Any) -> str:
    return json.dumps({"analysis": "fine", **dict.fromkeys(ABILITIES[ability][1], points), **more})


async def run(path: Path, answers: list[str], verdicts: list[str]) -> tuple[Any, ScriptedModel, ScriptedModel]:
    model, judge = ScriptedModel(answers, name="model"), ScriptedModel(verdicts, name="judge")
    outcome = await run_task4(path, (model, judge), Manner(), NoProgress(), context=8192)
    return outcome, model, judge


@pytest.mark.parametrize(
    ("fact", "memory", "grounded"),
    [("Rex", MEMORY, True), (f"user  {MEMORY.lower()}!", MEMORY, True), ("", MEMORY, False), ("a cat", MEMORY, False)],
)
def test_the_published_proxy(fact: str, memory: str, grounded: bool) -> None:
    assert is_grounded(fact, memory) is grounded


@pytest.mark.parametrize("ability", sorted(ABILITIES))
async def test_every_ability_has_its_dimensions(tmp_path: Path, ability: str) -> None:
    outcome, model, judge = await run(write(tmp_path, ability), [SAID], [verdict(ability)])
    got = means(outcome)
    assert got == {"grounding": 1.0, "judged": 4.0, **dict.fromkeys(ABILITIES[ability][1], 4.0)}
    assert outcome.result.slices[0][:2] == ("ability", ABILITIES[ability][0])
    shown = model.requests[0].messages[-1].content
    assert (MEMORY in shown) == (ability == "ability1")
    assert ("ate my shoe" in shown) == (ability != "ability1")
    rules = judge.requests[0].messages[0].content
    assert all(f"- {name}:" in rules for name in ABILITIES[ability][1])
    assert rules.count("\n- ") - 2 == len(ABILITIES[ability][1]) + 1  # two rules, one for the analysis
    assert judge.requests[0].messages[-1].content.rstrip().rsplit("\n", 2)[-2] == "Walk Rex first."


async def test_a_letter_is_the_floor_of_the_proxy(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert best_letter(read_queries(path)) == "a"
    outcome, _, _ = await run(path, [json.dumps({"answer": "Yes.", "fact": "no idea"})], [verdict("ability2")])
    assert (means(outcome)["grounding"], outcome.result.metrics[0].chance) == (0.0, 1.0)


async def test_an_answer_without_a_verdict_keeps_its_proxy(tmp_path: Path) -> None:
    outcome, _, _ = await run(write(tmp_path), [SAID], [verdict("ability2", 6)] * 2)
    got = means(outcome)
    assert got["grounding"] == 1.0
    assert got["judged"] is got["respect"] is None
    assert outcome.result.failures == (("alpsbench_judge", "invalid", 1),)
    assert outcome.result.asked == 2


async def test_no_answer_asks_no_judge(tmp_path: Path) -> None:
    outcome, _, judge = await run(write(tmp_path), ["no", "no"], [])
    assert set(means(outcome).values()) == {None}
    assert outcome.result.asked == 1
    assert judge.requests == []


def test_bad_packets_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task4\[0\].ability is 'ability9'"):
        read_queries(write(tmp_path, "ability9"))
    with pytest.raises(InputError, match="the memory is empty"):
        read_queries(write(tmp_path, task4_selected_memory={"value": " "}))
