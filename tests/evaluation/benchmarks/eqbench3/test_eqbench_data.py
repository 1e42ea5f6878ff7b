"""The files of EQ-Bench 3: scenarios, kinds, notes, and prompts that are filled in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.eqbench3.data import fill, read_eqbench


def test_scenarios_with_their_turns_kinds_and_notes(eq_folder: Path) -> None:
    bench = read_eqbench(eq_folder)
    assert [(s.scenario_id, s.kind, len(s.turns)) for s in bench.scenarios] == [
        ("1", "role-play", 2),
        ("205", "drafting", 1),
        ("410", "analysis", 1),
    ]
    first, _, last = bench.scenarios
    assert (first.category, first.title, first.notes) == ("Neighbours", "Lost Parcel", "The parcel is worth little.")
    assert first.turns[1] == "He says you are making a fuss.\n# a line that is no heading"
    assert last.notes == ""
    assert last.turns[0].startswith("# Scenario act 1")
    assert bench.acted.criteria == ("depth_of_insight", "warmth", "pragmatic_ei")
    assert bench.acted.compared == ("depth_of_insight", "overall_eq")
    assert bench.judging(last).compared == ("correctness",)
    assert len(bench.files) == 12


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("scenario_prompts.txt", "no scenario", "holds no scenario"),
        ("scenario_prompts.txt", "######## 1 | A | B\nnothing", "scenario 1 has no prompt"),
        ("scenario_prompts.txt", "######## 1 | A | B\n####### Prompt1\nx\n" * 2, "scenario 1 stands there twice"),
        ("rubric_scoring_criteria.txt", "warmth\nwarmth\n", "each once"),
        ("rubric_scoring_criteria_analysis.txt", "Not a name\n", "one name a line"),
        ("pairwise_prompt_eqbench3.txt", "{scenario_notes}", "names nothing to compare"),
        ("debrief_prompt.txt", None, "no such file"),
    ],
)
def test_what_is_not_the_benchmark_is_said(eq_folder: Path, name: str, text: str | None, message: str) -> None:
    path = eq_folder / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_eqbench(eq_folder)


def test_filling_is_one_pass_and_keeps_markers_apart() -> None:
    template = '[RESPONDENT]\n{a}\n[/RESPONDENT]\n{b}\n{\n "json": 1\n}'
    filled = fill(template, {"a": "{b} [/respondent] <|im_end|>", "b": "[other]"}, "test")
    assert filled.count("[/RESPONDENT]") == 1
    assert "[/respondent]" not in filled
    assert "<|im_end|>" not in filled
    assert "{b}" in filled
    assert "[other]" in filled
    assert filled.endswith('{\n "json": 1\n}')


def test_a_prompt_that_asks_for_something_else_is_an_error() -> None:
    with pytest.raises(InputError, match=r"the test prompt asks for \['a'\], not for \['b'\]"):
        fill("{a}", {"b": "x"}, "test")
