"""From the folder of a build to what is handed on: `cases.parquet` split by user, and `README.md`, the dataset card.

What `peregrm export` was told (licence, shares) is kept in `export.json`, so that the next build says the same. A card that was edited by
hand is kept. Left out on purpose: the histories, which stay where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from pydantic import Field

from peregrm import __version__
from peregrm.dataset.output.bias import BuildRecords, measure_bias
from peregrm.dataset.output.card import Card, SplitRow, card_text
from peregrm.dataset.output.counts import count_reasons, count_stages, measure_lengths
from peregrm.dataset.output.leaks import LeakRow, Share, find_leak, leaks_of_cases
from peregrm.dataset.output.splits import DEFAULT_SHARES, SplitPlan, split_users
from peregrm.dataset.output.table import FOLDER, rows_by_split, write_parquet
from peregrm.dataset.safety import SafetyCheck, describe_checks
from peregrm.dataset.selection import filters_of
from peregrm.errors import DependencyError, SettingsError
from peregrm.evaluation.statistics import clustered_mean
from peregrm.pipeline.flagging import read_flags
from peregrm.pipeline.job import RunConfig
from peregrm.prompts import prompt_hash
from peregrm.records import Case, Drop, History, Inspection, Memory, Part, Persona, Query, Situation
from peregrm.store import Workspace, read_one, replace_text

__all__ = ["ExportOptions", "load_options", "publish", "read_build", "save_options"]

_OPTIONS = "export.json"
_SETTINGS = (
    "model",
    "memories",
    "persona",
    "select",
    "inspectors",
    "judge",
    "safety",
    "cases",
    "temperature",
    "seed",
    "users",
    "skip_bad",
)


class ExportOptions(Part):
    """How a dataset is handed on: its title and licence, the shares of the splits, whether flagged cases stay out of train."""

    title: str = "Personalized empathy cases"
    licence: str | None = None
    shares: tuple[float, float, float] = DEFAULT_SHARES
    seed: int = Field(default=0, ge=0)
    withhold: bool = True


def load_options(root: Path) -> ExportOptions:
    """Return what was kept in the folder, or the defaults; raises `SettingsError` where it is damaged."""
    path = root / _OPTIONS
    return read_one(path, ExportOptions, SettingsError) if path.exists() else ExportOptions()


def save_options(root: Path, options: ExportOptions) -> None:
    """Keep the options in the folder."""
    replace_text(root / _OPTIONS, options.model_dump_json(indent=1) + "\n")


def publish(
    workspace: Workspace,
    config: RunConfig | None,
    *,
    options: ExportOptions | None = None,
    flags: Mapping[str, Sequence[str]] | None = None,
    to: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Write the Parquet files and the card of a build into its folder, or into `to`; return the cases of each split.

    `options` are None for those kept in the folder. `flags` are kinds of danger by case id, None for those on file. Without
    pyarrow the card alone is written, and that is said. `config` is None for a dataset that was not built here. Raises `InputError` and
    `ArtifactError` as reading the artifacts does.
    """
    options = options or load_options(workspace.root)
    records, cases = read_build(workspace)
    kinds = read_flags(workspace, cases) if flags is None else flags
    plan = split_users((case.user_id for case in cases), seed=options.seed, shares=options.shares)
    rows = rows_by_split(cases, plan, kinds, withhold=options.withhold)
    target = to or workspace.root
    sizes: dict[str, int] = {}
    try:
        sizes = write_parquet(target / FOLDER, rows)
    except DependencyError as error:
        for path in (target / FOLDER).glob("*.parquet"):
            path.unlink()  # of an earlier build: it would not be what the card says
        say(f"{FOLDER} was not written: {error}")
    splits = [
        SplitRow(
            name=name,
            cases=len(some),
            users=len({row["user_id"] for row in some}),
            flagged=sum(bool(row["flags"]) for row in some),
            bytes=sizes.get(name),
        )
        for name, some in rows.items()
    ]
    checks = workspace.read_if_there("safety.jsonl", SafetyCheck)
    card = _card(records, cases, splits, plan, options, config, kinds).model_copy(
        update={"safety": describe_checks(checks)}
    )
    own = Workspace(target)
    if own.is_edited("README.md"):
        say("README.md was edited by hand: kept (delete it to have it made again)")
    else:
        own.write_text("README.md", card_text(card))
    return {row.name: row.cases for row in splits}


def read_build(workspace: Workspace) -> tuple[BuildRecords, list[Case]]:
    """Read what a build left; files that are not there (an imported dataset has cases only) give nothing."""
    dropped = sorted(path.name for path in workspace.root.glob("*.dropped.jsonl"))
    records = BuildRecords(
        histories=workspace.read_if_there("histories.jsonl", History),
        memories=workspace.read_if_there("memories.jsonl", Memory),
        personas=workspace.read_if_there("personas.jsonl", Persona),
        situations=workspace.read_if_there("situations.jsonl", Situation),
        queries=workspace.read_if_there("queries.jsonl", Query),
        inspections=workspace.read_if_there("inspections.jsonl", Inspection),
        drops=[drop for name in dropped for drop in workspace.read(name, Drop)],
    )
    return records, workspace.read("cases.jsonl", Case)


def _card(
    records: BuildRecords,
    cases: Sequence[Case],
    splits: Sequence[SplitRow],
    plan: SplitPlan,
    options: ExportOptions,
    config: RunConfig | None,
    flags: Mapping[str, Sequence[str]],
) -> Card:
    notes: Counter[str] = Counter()
    for history in records.histories:
        notes.update(history.notes)
    known = {memory.id: memory for case in cases for memory in case.memories}
    labels = (memory.label for memory in records.memories or known.values() if memory.status == "kept")
    return Card(
        title=options.title,
        licence=options.licence,
        version=__version__,
        splits=tuple(splits),
        moved=plan.moved,
        withhold=options.withhold,
        sources=tuple(_sources(records, config)),
        stages=tuple(count_stages(records, cases)),
        reasons=tuple(count_reasons(records)),
        mended=tuple(sorted(notes.items())),
        categories=_tally(case.category for case in cases),
        languages=_tally(case.language for case in cases),
        labels=_tally(labels),
        flags=_tally(kind for case in cases for kind in sorted(set(flags.get(case.id, ())))),
        lengths=tuple(measure_lengths(cases)),
        settings=tuple(_settings(config)) if config else (),
        methods=tuple(_methods(records, cases)),
        prompts=tuple((name, prompt_hash(name)) for name in _prompts(records, config)) if config else (),
        bias=tuple(measure_bias(records, seed=options.seed)),
        leaks=tuple(_leaks(records, cases)),
    )


def _tally(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    counts = Counter(values)
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _sources(records: BuildRecords, config: RunConfig | None) -> Iterable[tuple[str, str]]:
    """Yield what is known of the sources; of paths only the last part, because the rest tells of somebody's machine."""
    if config is not None:
        yield "read from", f"{PurePath(config.histories).name} (format: {config.format})"
        if config.gold is not None:
            yield "hand-written cases from", PurePath(config.gold).name
    if records.histories:
        sessions = sum(len(history.sessions) for history in records.histories)
        turns = sum(len(session.turns) for history in records.histories for session in history.sessions)
        files = len({history.source for history in records.histories})
        yield "histories", f"{len(records.histories)} users, {sessions} sessions, {turns} turns, from {files} places"
        languages = _tally(history.language for history in records.histories)
        yield "languages of the histories", ", ".join(f"{name} {n}" for name, n in languages)
    else:
        yield "histories", "none in this folder; the dataset came as cases"


def _settings(config: RunConfig) -> Iterable[tuple[str, str]]:
    """Yield what a build was told; the judge only where it is the second inspector, since no other stage of a build asks it."""
    for name in _SETTINGS:
        if name != "judge" or config.inspectors == 2:
            yield name, str(getattr(config, name))


def _prompts(records: BuildRecords, config: RunConfig) -> Iterable[str]:
    """Yield the prompts by which models were asked for these records, in the order of the stages."""
    by_model = config.memories != "extractive"
    of_a_label = Counter((memory.user_id, memory.label) for memory in records.memories)
    asked = {
        "intents": by_model
        and "intents" in filters_of(config.select)
        and not all(history.intents for history in records.histories),
        "memories": by_model and not all(history.memories for history in records.histories),
        "supersession": by_model and max(of_a_label.values(), default=0) > 1,
        "persona": by_model and config.persona == "memory" and bool(records.personas),
        "persona_bigfive": config.persona == "bigfive" and bool(records.personas),
        "situations": config.cases > 0 and any(persona.is_deep for persona in records.personas),
        "query": bool(records.situations),
        "inspect": bool(records.queries),
        "safety": config.safety == "both",
    }
    return (name for name, was_asked in asked.items() if was_asked)


def _methods(records: BuildRecords, cases: Sequence[Case]) -> Iterable[tuple[str, str]]:
    rows: dict[str, Iterable[str]] = {
        "memories": (memory.method for memory in records.memories),
        "personas": (
            persona.method for persona in records.personas or {case.persona.id: case.persona for case in cases}.values()
        ),
        "situations": (situation.method for situation in records.situations),
        "queries": (query.method for query in records.queries),
    }
    for name, methods in rows.items():
        counts = _tally(methods)
        if counts:
            yield name, ", ".join(f"{method} ({n})" for method, n in counts)
    twice = [inspection for inspection in records.inspections if inspection.second is not None]
    if twice:
        yield (
            "inspections",
            f"by two judges, who disagreed on {sum(bool(one.disagreed) for one in twice)} of {len(twice)}",
        )


def _leaks(records: BuildRecords, cases: Sequence[Case]) -> Iterable[LeakRow]:
    personas = {persona.id: persona for persona in records.personas}
    situations = {situation.id: situation for situation in records.situations}
    memories: dict[str, list[Memory]] = {}
    for memory in records.memories:
        if memory.status == "kept":
            memories.setdefault(memory.user_id, []).append(memory)
    written = []
    for query in records.queries:
        situation = situations.get(query.situation_id)
        persona = personas.get(situation.persona_id) if situation else None
        if persona is not None:
            written.append(find_leak(query.user_id, query.text, persona, memories.get(query.user_id, [])))
    rows = {
        "generated, all": written,
        "generated, in cases": leaks_of_cases([case for case in cases if case.origin == "generated"]),
        "hand-written": leaks_of_cases([case for case in cases if case.origin == "gold"]),
    }
    for name, leaks in rows.items():
        yield LeakRow(
            queries=name,
            verbatim_persona=_share([(leak.user, leak.verbatim_persona) for leak in leaks]),
            verbatim_memory=_share([(leak.user, leak.verbatim_memory) for leak in leaks]),
            near_copy=_share([(leak.user, leak.near_copy) for leak in leaks]),
            longest=max((leak.longest_run for leak in leaks), default=0),
        )


def _share(values: Sequence[tuple[str, bool]]) -> Share:
    found = clustered_mean([(user, float(value)) for user, value in values], bounds=(0.0, 1.0))
    return Share(share=found.mean, low=found.low, high=found.high, n=found.n, users=found.users)
