"""Read the files of EQ-Bench 3: scenarios, notes, prompts and criteria. Its prompts are data here and never part of this package.

`scenario_prompts.txt` holds scenarios under `######## ID | category | title` and their user turns under `####### PromptN`
(once only `####### N`: the published reader loses that scenario, and the recorded comparisons have none of it);
`scenario_notes.txt` what a judge is told about some of them, under `# ID`. Two things stand in no file and are said here: scenarios 201
to 209 are drafts of messages, and the judge sees at most so many characters of each section of a reply. Names in braces are filled in one
pass: what is filled in is never interpreted, and spells neither a special token nor a marker of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import data_file
from peregrm.prompts import defuse
from peregrm.records import Part

__all__ = ["EQBench", "Judging", "Kind", "Scenario", "fill", "read_eqbench"]

Kind = Literal["role-play", "drafting", "analysis"]

_ANALYSIS = "analytical"
_DRAFTS = range(201, 210)
_SCENARIO = re.compile(r"^########(?!#)[ \t]*([^|\n]+?)[ \t]*(?:\|([^|\n]*))?(?:\|([^\n]*))?$", re.MULTILINE)
_TURN = re.compile(r"^#######(?!#)[ \t]*(?:Prompt)?[ \t]*\d+[ \t]*$", re.MULTILINE)
_NOTE = re.compile(r"^#(?!#)[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"\{([A-Za-z_]+)\}")
_MARKER = re.compile(r"\[(/?[A-Z][A-Z0-9 ]+)\]")
_RATED = re.compile(r'"(\w+)"\s*:\s*"winner & disparity rating"')
_IDENTIFIER = re.compile(r"^[a-z][a-z0-9_]*$")


class Scenario(Part):
    """One scenario: what the user says turn by turn, and what the judge is told (empty where the benchmark says nothing)."""

    scenario_id: str
    category: str
    title: str
    kind: Kind
    turns: tuple[str, ...]
    notes: str = ""


class Judging(NamedTuple):
    """How one sort of scenario is judged: the prompts, the rubric's criteria, and what two respondents are compared on."""

    rubric: str
    criteria: tuple[str, ...]
    pairwise: str
    compared: tuple[str, ...]


class EQBench(NamedTuple):
    """The benchmark. `masters` frame a user turn by kind; `analysis` and `acted` say how the two sorts of scenario are judged."""

    scenarios: tuple[Scenario, ...]
    masters: Mapping[Kind, str]
    debrief: str
    acted: Judging
    analysis: Judging
    files: tuple[Path, ...]

    def judging(self, scenario: Scenario) -> Judging:
        """Return how this scenario is judged."""
        return self.analysis if scenario.kind == "analysis" else self.acted


def read_eqbench(folder: Path) -> EQBench:
    """Read the folder.

    Raises `InputError`, naming the file, where one is missing, is not UTF-8, or does not hold what it should.
    """
    used: list[Path] = []

    def text(name: str) -> str:
        path = data_file(folder, name)
        used.append(path)
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8") from None

    scenarios = _scenarios(text("scenario_prompts.txt"), _notes(text("scenario_notes.txt")), folder)
    masters: dict[Kind, str] = {
        "role-play": text("scenario_master_prompt.txt"),
        "drafting": text("scenario_master_prompt_message_drafting.txt"),
        "analysis": text("scenario_master_prompt_analysis.txt"),
    }
    return EQBench(
        scenarios=scenarios,
        masters=masters,
        debrief=text("debrief_prompt.txt").strip(),
        acted=_judging(
            text("rubric_scoring_prompt.txt"),
            text("rubric_scoring_criteria.txt"),
            text("pairwise_prompt_eqbench3.txt"),
            folder,
        ),
        analysis=_judging(
            text("rubric_scoring_prompt_analysis.txt"),
            text("rubric_scoring_criteria_analysis.txt"),
            text("pairwise_prompt_eqbench3_analysis.txt"),
            folder,
        ),
        files=tuple(used),
    )


def _scenarios(text: str, notes: Mapping[str, str], folder: Path) -> tuple[Scenario, ...]:
    where = folder / "scenario_prompts.txt"
    heads = list(_SCENARIO.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)] if heads else []
    found: dict[str, Scenario] = {}
    for head, end in zip(heads, ends, strict=True):
        scenario_id, category, title = (part.strip() for part in (head[1], head[2] or "", head[3] or ""))
        turns = tuple(filter(None, (turn.strip() for turn in _TURN.split(text[head.end() : end])[1:])))
        if not turns:
            raise InputError(f"{where}: scenario {scenario_id} has no prompt")
        if scenario_id in found:
            raise InputError(f"{where}: scenario {scenario_id} stands there twice")
        found[scenario_id] = Scenario(
            scenario_id=scenario_id,
            category=category,
            title=title,
            kind=_kind(scenario_id, category),
            turns=turns,
            notes=notes.get(scenario_id, ""),
        )
    if not found:
        raise InputError(f"{where}: holds no scenario (`######## ID | category | title`)")
    return tuple(found.values())


def _kind(scenario_id: str, category: str) -> Kind:
    if category.lower().startswith(_ANALYSIS):
        return "analysis"
    return "drafting" if scenario_id.isdecimal() and int(scenario_id) in _DRAFTS else "role-play"


def _notes(text: str) -> dict[str, str]:
    parts = _NOTE.split(text)
    return {scenario_id: note.strip() for scenario_id, note in zip(parts[1::2], parts[2::2], strict=True)}


def _judging(rubric: str, criteria: str, pairwise: str, folder: Path) -> Judging:
    names = tuple(line.strip() for line in criteria.splitlines() if line.strip() and not line.startswith("#"))
    compared = tuple(dict.fromkeys(_RATED.findall(pairwise)))
    odd = [name for name in names if not _IDENTIFIER.match(name)]
    if not names or odd or len(set(names)) != len(names):
        raise InputError(
            f"{folder}: a file of rubric criteria should hold one name a line, each once: {odd[:1] or names}"
        )
    if not compared:
        raise InputError(f"{folder}: a pairwise prompt names nothing to compare")
    return Judging(rubric.strip(), names, pairwise.strip(), compared)


def fill(template: str, values: Mapping[str, str], what: str) -> str:
    """Fill the names in braces, each with its value, in one pass.

    `what` names the prompt in the `InputError` that is raised where it does not ask for exactly these values.
    """
    asked = set(_NAME.findall(template))
    if asked != values.keys():
        raise InputError(f"the {what} prompt asks for {sorted(asked)}, not for {sorted(values)}")
    markers = {marker.upper() for marker in _MARKER.findall(template)}

    def harmless(found: re.Match[str]) -> str:
        return f"[\u200b{found[1]}]" if found[1].upper() in markers else found[0]

    marker = re.compile(_MARKER.pattern, re.IGNORECASE)
    return _NAME.sub(lambda found: marker.sub(harmless, defuse(values[found[1]])), template)
