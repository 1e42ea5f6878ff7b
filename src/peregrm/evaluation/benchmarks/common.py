"""What the adapters of benchmarks share: reading their files, the records of an item and of a result, and tables at the terminal.

An adapter reads the files of its benchmark, asks models about items, and returns one `ItemScore` an item; everything after that, means
with intervals, slices, counts of failures, is arithmetic and stands here. A value that is not there is None and lowers the coverage; it
is never a guess. Items are put in the order of their ids, so that a result depends neither on the order of a file nor on how often a run
was stopped. Left out on purpose: opening models and writing files, which the command does.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from peregrm.errors import InputError
from peregrm.evaluation.console import print_text
from peregrm.evaluation.report import format_value
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.histories.base import Row
from peregrm.histories.files import read_rows
from peregrm.prompts import prompt_hash
from peregrm.records import Failure, Part

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "About",
    "BenchmarkResult",
    "ItemScore",
    "Metric",
    "Outcome",
    "Scale",
    "benchmark_result",
    "choose",
    "data_file",
    "file_hash",
    "format_interval",
    "print_result",
    "print_table",
    "read_once",
]

T = TypeVar("T")


class ItemScore(Part):
    """One item of a benchmark with its scores.

    `cluster` names what is not independent of what: items of one cluster share it (an item's own id where there is nothing). `slices`
    are (kind, value) pairs, ("language", "en"), that results are also given by. `scores` are by name; None says that this item should
    have that score and has not, a name that is missing that it does not apply. `chance` is what guessing would score, by the same names,
    where that is known. `asked` counts the answers asked of models, `failures` those of them that could not be used. `details` are (name,
    text) pairs for people: answers, reasons.
    """

    item_id: str
    cluster: str
    slices: tuple[tuple[str, str], ...] = ()
    scores: tuple[tuple[str, float | None], ...]
    chance: tuple[tuple[str, float], ...] = ()
    asked: int = Field(default=0, ge=0)
    failures: tuple[Failure, ...] = ()
    details: tuple[tuple[str, str], ...] = ()


class Scale(NamedTuple):
    """A score that items have: its name, the least and greatest value, what to say of it, and whether printed slices show it."""

    name: str
    bounds: tuple[float, float] = (-math.inf, math.inf)
    note: str = ""
    headline: bool = False


class Metric(Part):
    """The mean of a score over items with its interval, that of chance beside it where known. `note` says how to read it.

    Where slices are printed they show the `headline` metrics, or else the first; a file has them all.
    """

    name: str
    estimate: Estimate
    chance: float | None = None
    note: str = ""
    headline: bool = False


class BenchmarkResult(Part):
    """What a benchmark found. Everything in it depends on data, models, settings and seed alone.

    `models` are (role, name), `data` (file, hash) and `prompts` (name, hash) pairs. `available` items are in the data, `items` of them
    were asked. `slices` are (kind, value, metrics). `asked` and `failures`, counted by stage and kind, are answers of models.
    """

    benchmark: str
    task: str
    models: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str], ...]
    prompts: tuple[tuple[str, str], ...] = ()
    seed: int
    available: int
    items: int
    clusters: int
    metrics: tuple[Metric, ...]
    slices: tuple[tuple[str, str, tuple[Metric, ...]], ...] = ()
    asked: int
    failures: tuple[tuple[str, str, int], ...] = ()
    notes: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What an adapter hands back: the result, its items, and further records by the name of the JSONL file they belong in."""

    result: BenchmarkResult
    items: tuple[ItemScore, ...]
    files: Mapping[str, Sequence[BaseModel]] = {}


class About(NamedTuple):
    """What a result says of itself; for the fields see `BenchmarkResult`. `data` are the files that were read, `prompts` names."""

    benchmark: str
    task: str
    models: Mapping[str, str]
    data: Sequence[Path]
    available: int
    prompts: Sequence[str] = ()
    seed: int = 0


def benchmark_result(
    about: About,
    items: Iterable[ItemScore],
    scales: Sequence[Scale],
    *,
    notes: Sequence[str] = (),
    files: Mapping[str, Sequence[BaseModel]] | None = None,
) -> Outcome:
    """Return the result over items: every scale's mean, overall and in every slice.

    Args:
        about: What it is the result of.
        items: Their order does not matter.
        scales: The scores to report, in their order; one that no item has is left out.
        notes: What a reader must know.
        files: Further records to write, by file name.

    Raises:
        InputError: There is no item, or two have one id.
    """
    benchmark = about.benchmark
    ordered = sorted(items, key=lambda item: item.item_id)
    if not ordered:
        raise InputError(f"{benchmark}: there is no item")
    twice = [item_id for item_id, n in Counter(item.item_id for item in ordered).items() if n > 1]
    if twice:
        raise InputError(f"{benchmark}: item {min(twice)} stands there twice")
    groups: dict[tuple[str, str], list[ItemScore]] = defaultdict(list)
    for item in ordered:
        for part in item.slices:
            groups[part].append(item)
    lost = Counter((failure.stage, failure.kind) for item in ordered for failure in item.failures)
    result = BenchmarkResult(
        benchmark=benchmark,
        task=about.task,
        models=tuple(about.models.items()),
        data=tuple((path.name, file_hash(path)) for path in about.data),
        prompts=tuple((name, prompt_hash(name)) for name in about.prompts),
        seed=about.seed,
        available=about.available,
        items=len(ordered),
        clusters=len({item.cluster for item in ordered}),
        metrics=_metrics(ordered, scales),
        slices=tuple((kind, value, _metrics(group, scales)) for (kind, value), group in sorted(groups.items())),
        asked=sum(item.asked for item in ordered),
        failures=tuple((stage, kind, n) for (stage, kind), n in sorted(lost.items())),
        notes=tuple(notes),
    )
    return Outcome(result, tuple(ordered), files or {})


def _metrics(items: Sequence[ItemScore], scales: Sequence[Scale]) -> tuple[Metric, ...]:
    metrics = []
    for scale in scales:
        values = [(item.cluster, value) for item in items for name, value in item.scores if name == scale.name]
        if values:
            estimate = clustered_mean(values, bounds=scale.bounds)
            guesses = [value for item in items for name, value in item.chance if name == scale.name]
            chance = math.fsum(guesses) / len(guesses) if guesses else None
            metrics.append(
                Metric(name=scale.name, estimate=estimate, chance=chance, note=scale.note, headline=scale.headline)
            )
    return tuple(metrics)


def choose(
    items: Sequence[T], limit: int | None, seed: int, key: Callable[[T], str], group: Callable[[T], str] = lambda _: ""
) -> list[T]:
    """Return at most `limit` items (None: all), spread over their groups, drawn by the seed and each item's key alone.

    The choice depends neither on the order of the items nor, within a group, on what others there are: a larger limit only adds.
    """
    by_group: dict[str, list[T]] = defaultdict(list)
    for item in sorted(items, key=lambda item: (_draw(seed, key(item)), key(item))):
        by_group[group(item)].append(item)
    turns = [(place, name, item) for name, members in by_group.items() for place, item in enumerate(members)]
    turns.sort(key=lambda turn: turn[:2])
    return sorted((item for _, _, item in turns[:limit]), key=key)


def _draw(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()


def data_file(folder: Path, name: str) -> Path:
    """Return the file `name` of a benchmark's folder; raise `InputError`, naming it, where it is not there."""
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: no such file; --data is the folder that holds it")
    return path


def read_once(sources: Iterable[tuple[Path, Callable[[Row], T]]], key: Callable[[T], str], what: str) -> list[T]:
    """Return what each reader makes of the rows of its file, in their order. `what` is what messages call one of them.

    Raises `InputError`, naming file and line, for a row that cannot be read and for one whose `key` stood there before.
    """
    found: dict[str, T] = {}
    for path, read in sources:
        for row in read_rows(path):
            if isinstance(row, InputError):
                raise row
            one = read(row)
            if key(one) in found:
                raise InputError(f"{row.where}: {what} {key(one)} stands there twice")
            found[key(one)] = one
    return list(found.values())


def file_hash(path: Path) -> str:
    """Return 12 hex digits of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def print_result(console: Console, result: BenchmarkResult) -> None:
    """Print a result: who was asked, all metrics, the slices, failures and notes."""
    title = f"{result.benchmark} · {result.task}" if result.task else result.benchmark
    head = ("score", "mean [95 %]", "chance", "n", "cover")
    print_table(console, title, head, [(metric.name, *_cells(metric)) for metric in result.metrics])
    kinds: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for kind, value, metrics in result.slices:
        shown = [metric for metric in metrics if metric.headline] or metrics[:1]
        kinds[kind] += [(value, metric.name, *_cells(metric)) for metric in shown]
    for kind, rows in kinds.items():
        print_table(console, f"By {kind}", (kind, *head), rows, names=2)
    who = ", ".join(f"{role} {name}" for role, name in result.models)
    chosen = f"{result.items} of {result.available} items in {result.clusters} clusters; seed {result.seed}; {who}."
    print_text(console, f"{chosen} Intervals: 95 %, clustered. cover: scores that are there, of all asked for.")
    if result.failures:
        lost = ", ".join(f"{stage}/{kind} {n}" for stage, kind, n in result.failures)
        print_text(console, f"Without a usable answer, of {result.asked} asked for: {lost}.")
    for line in dict.fromkeys([*(metric.note for metric in result.metrics), *result.notes]):
        if line:
            print_text(console, line)


def _cells(metric: Metric) -> tuple[str, ...]:
    estimate = metric.estimate
    return (
        format_interval(estimate),
        format_value(metric.chance, 3),
        f"{estimate.n}/{estimate.asked}",
        format_value(estimate.coverage, 2),
    )


def format_interval(estimate: Estimate, digits: int = 3) -> str:
    """Print a mean with its interval in brackets; a dash stands where there is none."""
    if estimate.mean is None:
        return "—"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.{digits}f} [—]"
    return f"{estimate.mean:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def print_table(
    console: Console, title: str, head: Sequence[str], body: Sequence[Sequence[str]], names: int = 1
) -> None:
    """Print a plain table; its first `names` columns stand left, the others right. Nothing in a cell is markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < names else "right", overflow="fold")
    for cells in body:
        table.add_row(*map(Text, cells))
    console.print(table)
