"""A folder like EQ-Bench 3's, written for the tests: three scenarios, short prompts, and a table of recorded comparisons."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

FILES = {
    "scenario_prompts.txt": """######## 1   | Neighbours  | Lost Parcel
####### Prompt1
Your neighbour opened your parcel by mistake.
####### Prompt2
He says you are making a fuss.
# a line that is no heading
######## 205 | Friends | Declined Wedding
####### 1
Write to a friend whose wedding you cannot attend.
######## 410 | Analytical Interpretation | Lost Parcel
####### Prompt1
# Scenario act 1
A opened the parcel of B.
""",
    "scenario_notes.txt": "# 1\nThe parcel is worth little.\n# 9\nAbout nothing here.\n",
    "scenario_master_prompt.txt": "{scenario_prompt}\n\n# My thoughts\n\n# Their thoughts\n\n# My answer\n",
    "scenario_master_prompt_message_drafting.txt": "{scenario_prompt}\n\n# Perspective\n\n# Options\n\n# Draft\n",
    "scenario_master_prompt_analysis.txt": "[TRANSCRIPT]\n{scenario_prompt}\n[/TRANSCRIPT]\nAnalyse it.",
    "debrief_prompt.txt": "Step out of the role and look back.\n",
    "rubric_scoring_prompt.txt": "Score this.\n{transcript}\n--\n{debrief}\n[END]\nShape: {output_format}",
    "rubric_scoring_criteria.txt": "depth_of_insight\nwarmth\npragmatic_ei\n",
    "rubric_scoring_prompt_analysis.txt": "Score the analysis.\n{transcript}\nShape: {output_format}",
    "rubric_scoring_criteria_analysis.txt": "correctness\n",
    "pairwise_prompt_eqbench3.txt": """[RESPONDENT A0493]
{conversation_history_A}
{debrief_A}
[/RESPONDENT A0493]
[RESPONDENT A0488]
{conversation_history_B}
{debrief_B}
[/RESPONDENT A0488]
Notes: {scenario_notes}
{
  "chain_of_thought_reasoning": "why",
  "depth_of_insight": "winner & disparity rating",
  "overall_eq": "winner & disparity rating",
}""",
    "pairwise_prompt_eqbench3_analysis.txt": """{transcript_being_analysed}
[FIRST]
{response_A}
[SECOND]
{response_B}
Notes: {scenario_notes}
{
  "chain_of_thought_reasoning": "why",
  "correctness": "winner & disparity rating"
}""",
}


@pytest.fixture
def eq_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "eqbench3"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def write_elo(eq_folder: Path) -> Callable[..., Path]:
    """Write a table of recorded comparisons; each is (test, other, scenario, test shown first, verdict on overall_eq)."""

    def write(
        comparisons: Sequence[tuple[str, str, str, bool, str]], ratings: dict[str, float], **more: object
    ) -> Path:
        recorded: list[object] = [
            {
                "scenario_id": scenario,
                "pair": {"test_model": test, "neighbor_model": other, "iteration_index": "1"},
                "order": "A0493:test / A0488:other" if first else "A0493:other / A0488:test",
                "judge_response": {"chain_of_thought_reasoning": "A0488+++ at first sight", "overall_eq": verdict},
            }
            for test, other, scenario, first, verdict in comparisons
        ]
        recorded += [{"error": "no answer"}] * int(str(more.get("errors", 0)))
        document = {
            "__metadata__": {"global_pairwise_comparisons": recorded},
            **{name: {"elo": rating, "elo_norm": rating} for name, rating in ratings.items()},
        }
        path = eq_folder / "elo_results_test.json.gz"
        path.write_bytes(gzip.compress(json.dumps(document).encode()))
        return eq_folder

    return write
