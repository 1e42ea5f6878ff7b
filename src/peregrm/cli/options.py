"""The flags that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "DEFAULT_OUT",
    "BudgetOpt",
    "CasesOpt",
    "ConfigOpt",
    "CriteriaOpt",
    "DatasetArg",
    "DimensionsOpt",
    "DirArg",
    "DryOpt",
    "EngineOpt",
    "FlatteryOpt",
    "FormatOpt",
    "GoldOpt",
    "HistoriesArg",
    "IdsOpt",
    "InspectorsOpt",
    "JsonOpt",
    "JudgeOpt",
    "JudgeTemperatureOpt",
    "LengthLimitOpt",
    "LengthOpt",
    "MemoriesOpt",
    "MemoryAtOpt",
    "ModelOpt",
    "OutOpt",
    "ParrotOpt",
    "PersonaOpt",
    "QuestionnaireOpt",
    "SafetyOpt",
    "SamplesOpt",
    "SelectOpt",
    "ShowOpt",
    "SkipOpt",
    "UserOpt",
    "UsersOpt",
]

HistoriesArg = Annotated[
    Path | None,
    typer.Argument(help="File or folder of chat histories, in any format of docs/formats.md. Default: the sample."),
]
OutOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run: artifacts, call cache, report.")]
DirArg = Annotated[Path, typer.Argument(help="Folder of a run.")]
DatasetArg = Annotated[Path, typer.Argument(help="Folder of a run or build, or a file of cases.")]
FormatOpt = Annotated[str, typer.Option("--format", help="Format of the histories; `auto` detects it and says so.")]
UserOpt = Annotated[
    str | None, typer.Option("--user", help="Whose export it is, where a format does not name its user.")
]
IdsOpt = Annotated[
    bool | None,
    typer.Option(
        "--keep-ids/--hash-ids",
        help="Keep the users' ids, or name them by a keyed hash. Default: hash, but for hand-written cases.",
    ),
]
UsersOpt = Annotated[int | None, typer.Option("--users", min=1, help="Only the first N users, by id.")]
ModelOpt = Annotated[
    str | None,
    typer.Option("--model", help="embedded, gguf:PATH, NAME@BASE_URL, or a name of the settings file."),
]
JudgeOpt = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="The judge: named like --model, or head, head:PATH or local:DIR. Default: the model; head where no model is named.",
    ),
]
MemoriesOpt = Annotated[
    str | None,
    typer.Option("--memories", help="extractive (no model) or model. Default: extractive with the embedded model."),
]
PersonaOpt = Annotated[
    str | None,
    typer.Option(
        "--persona", help="memory (default), bigfive (facets a model rates by memories) or questionnaire (own answers)."
    ),
]
QuestionnaireOpt = Annotated[
    Path | None,
    typer.Option("--questionnaire", help="The users' answers to the TIPI or BFI-10 (.csv, .json, .toml)."),
]
SelectOpt = Annotated[
    str | None, typer.Option("--select", help="Histories to build on: intents, labels, intents,labels or none.")
]
InspectorsOpt = Annotated[
    int | None, typer.Option("--inspectors", min=1, max=2, help="2: the judge inspects queries too; both must agree.")
]
SafetyOpt = Annotated[
    str | None,
    typer.Option(
        "--safety",
        help="rules, or both: the model looks for signs of danger too. Default: both where it finds memories.",
    ),
]
CriteriaOpt = Annotated[
    str | None,
    typer.Option(
        "--criteria",
        help="composed (no model) or model. Default: model, but composed with the embedded judge and with a head.",
    ),
]
CasesOpt = Annotated[
    int | None, typer.Option("--cases", min=0, max=6, help="Situations asked for per user (0: hand-written only).")
]
SamplesOpt = Annotated[int | None, typer.Option("--samples", min=1, help="K, the judge's trials a reply.")]
JudgeTemperatureOpt = Annotated[
    float | None,
    typer.Option(
        "--judge-temperature", min=0, max=2, help="Temperature of several trials; one is drawn at 0. Default: 0.7."
    ),
]
BudgetOpt = Annotated[
    float | None,
    typer.Option("--failure-budget", min=0, max=1, help="Stop when more than this share of answers fails."),
]
GoldOpt = Annotated[Path | None, typer.Option("--gold", help="Hand-written cases with recorded replies (JSONL).")]
EngineOpt = Annotated[
    str, typer.Option("--engine", help="What runs the stages: local (this process) or ray (a Ray cluster).")
]
SkipOpt = Annotated[bool, typer.Option("--skip-bad", help="Skip records that cannot be used instead of stopping.")]
ConfigOpt = Annotated[Path | None, typer.Option("--config", help="Settings file. Default: peregrm.toml, if there.")]
DryOpt = Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and cost at most; ask no model.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ShowOpt = Annotated[int, typer.Option("--show", min=0, help="How many cases to print in full.")]
DimensionsOpt = Annotated[
    str, typer.Option("--dimensions", help="empathy, politeness, humour, or a TOML file that defines others.")
]
MemoryAtOpt = Annotated[
    str | None,
    typer.Option(
        "--memory-at",
        help="Where the store amem or memoryos (folder of your checkout) or letta (URL of your server) is.",
    ),
]
LengthLimitOpt = Annotated[
    int | None, typer.Option("--length-limit", min=1, help="Tokens of a reply that cost nothing. Default: 768.")
]
LengthOpt = Annotated[
    float, typer.Option("--length-penalty", min=0, max=1000, help="Taken off the total for every token over the limit.")
]
ParrotOpt = Annotated[
    float,
    typer.Option(
        "--parroting-penalty", min=0, max=1000, help="Taken off, times the share of the reply that recites memories."
    ),
]
FlatteryOpt = Annotated[
    float,
    typer.Option(
        "--sycophancy-penalty", min=0, max=1000, help="Taken off, times the share of its sentences that flatter."
    ),
]


DEFAULT_OUT = Path("peregrm-run")
