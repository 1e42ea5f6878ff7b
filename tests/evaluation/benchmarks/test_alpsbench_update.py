"""AlpsBench task 2: changes applied by code, and scores that tell what was left alone from what was brought up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark_parts import means
from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench import read_updates, run_task2, score_update
from peregrm.evaluation.benchmarks.alpsbench.dialogue import last_turns
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import NoProgress
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Session, Turn

Raw = dict[str, Any]


def memory(name: str, value: str, **rest: Any) -> Raw:
    usual = {"memory_id": name, "type": "direct", "label": "Personal_Background/Identity", "value": value}
    return {**usual, "confidence": 0.9, "time_scope": "long_term", "emotion": None, "preference_attitude": None, **rest}


AGE, CAT = memory("m1", "32 years old"), memory("m2", "Has a cat [ERROR: unclear]", label="Possessions/Pet")
NOW, NEW = (
    memory("m1_updated", "34 years old"),
    memory("m_new", "Works in Leeds", label="Personal_Background/Occupation"),
)


def packet(name: str = "s1", task: Raw | None = None, **changed: Any) -> Raw:
    usual = {
        "new_dialogue": [{"role": "user", "text": "I am 34, and I work in Leeds now."}],
        "memory_pool_before_update": [AGE, CAT],
        "task2_selected_memory_id": "m1",
        "golden_answer": [CAT, NOW, NEW],
    }
    dialogue = [{"role": "user", "text": "I am 32."}, {"role": "assistant", "text": "Noted."}]
    return {"session_id": name, "dialogue": dialogue, "task2": {**usual, **(task or {})}, **changed}


def write(folder: Path, *packets: Raw) -> Path:
    path = folder / "packets.jsonl"
    path.write_text("\n".join(map(json.dumps, packets or (packet(),))), encoding="utf-8")
    return path


def answer(changed: list[tuple[int, str]], added: list[str]) -> str:
    return json.dumps(
        {
            "changed": [{"note": note, "value": value, "confidence": 90} for note, value in changed],
            "added": [
                {
                    "label": NEW["label"],
                    "type": "direct",
                    "value": value,
                    "confidence": 90,
                    "time_scope": "long_term",
                }
                for value in added
            ],
        }
    )


async def run(path: Path, *answers: str, context: int = 8192) -> Any:
    model = ScriptedModel(answers)
    outcome = await run_task2(path, model, Manner(), NoProgress(), context=context)
    return outcome, model


async def test_the_right_changes_are_a_perfect_list(tmp_path: Path) -> None:
    outcome, _ = await run(write(tmp_path), answer([(1, "34 years old")], ["Works in Leeds"]))
    assert means(outcome) == pytest.approx({"score": 100.0, "exact_f1": 1.0, "kept": 1.0, "changed": 1.0, "stale": 0.0})


async def test_doing_nothing_is_the_chance_beside_it(tmp_path: Path) -> None:
    outcome, _ = await run(write(tmp_path), answer([], []))
    got = means(outcome)
    assert (got["exact_f1"], got["kept"], got["changed"], got["stale"]) == (pytest.approx(0.4), 1.0, 0.0, 1.0)
    assert got["score"] is not None
    assert 0 < got["score"] < 100
    assert {metric.name: metric.chance for metric in outcome.result.metrics} == pytest.approx(got)


async def test_what_is_changed_wrongly_is_no_longer_kept(tmp_path: Path) -> None:
    outcome, _ = await run(write(tmp_path), answer([(2, "Has a dog")], []))
    got = means(outcome)
    assert (got["kept"], got["stale"]) == (0.0, 1.0)
    assert got["changed"] is not None
    assert 0 < got["changed"] < 0.5  # the closest new text is about something else


async def test_the_model_reads_numbered_notes_without_marks(tmp_path: Path) -> None:
    outcome, model = await run(write(tmp_path), answer([], []))
    text = model.requests[0].messages[-1].content
    assert "1. (Personal_Background/Identity) 32 years old\n2. (Possessions/Pet) Has a cat\n" in text
    assert "ERROR" not in text
    assert "34 years old" not in text
    assert text.index("I am 32.") < text.index("I am 34")
    assert dict(outcome.items[0].details)["dialogue before"] == "whole"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("nothing", "unparsable"),
        (answer([(3, "x")], []), "check"),
        (answer([(1, "x"), (1, "y")], []), "check"),
        (answer([(0, "x")], []), "invalid"),
    ],
)
async def test_an_unusable_answer_is_no_score(tmp_path: Path, said: str, kind: str) -> None:
    outcome, _ = await run(write(tmp_path), said, said)
    assert outcome.result.failures == (("alpsbench_update", kind, 1),)
    assert set(means(outcome).values()) == {None}


async def test_a_pool_of_one_has_nothing_to_keep(tmp_path: Path) -> None:
    task = {"memory_pool_before_update": [AGE], "golden_answer": [NOW, NEW]}
    outcome, _ = await run(write(tmp_path, packet(task=task)), answer([(1, "34 years old")], []))
    assert "kept" not in means(outcome)
    assert means(outcome)["exact_f1"] == pytest.approx(2 / 3)


async def test_a_long_dialogue_is_shown_by_its_end(tmp_path: Path) -> None:
    long = [{"role": "user", "text": f"turn {n} " + "words " * 300} for n in range(30)]
    outcome, model = await run(write(tmp_path, packet(dialogue=long)), answer([], []), context=4096)
    text = model.requests[0].messages[-1].content
    assert "turn 29" in text
    assert "turn 0 " not in text
    assert dict(outcome.items[0].details)["dialogue before"] == "its last turns"


def test_the_end_of_a_single_turn_that_does_not_fit() -> None:
    session = Session(session_id="s", turns=(Turn(role="user", text="a" * 3000 + " the end"),))
    shown = last_turns(session, 100)
    assert not shown.whole
    assert shown.text.endswith(" the end")
    assert len(shown.text) < 400
    assert last_turns(session, 2000).whole


def test_order_does_not_matter(tmp_path: Path) -> None:
    (read,) = read_updates(write(tmp_path))
    assert score_update(read, read.reference) == score_update(read, read.reference[::-1])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"task2_selected_memory_id": "m9"}, "names no one memory of the pool"),
        ({"new_dialogue": []}, "new_dialogue is empty"),
        ({"golden_answer": None}, "golden_answer must be a list"),
    ],
)
def test_bad_packets_are_named(tmp_path: Path, task: Raw, message: str) -> None:
    with pytest.raises(InputError, match="packet s1") as caught:
        read_updates(write(tmp_path, packet(task=task)))
    assert message in str(caught.value)


def test_packets_without_the_task_are_passed_over(tmp_path: Path) -> None:
    without = packet("s2", available_tasks={"task2": False})
    assert [each.packet_id for each in read_updates(write(tmp_path, without, packet()))] == ["s1"]
    with pytest.raises(InputError, match="no packet with task 2"):
        read_updates(write(tmp_path, without))
