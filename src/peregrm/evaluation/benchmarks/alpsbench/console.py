"""The table of task 1 at the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peregrm.evaluation.benchmarks.alpsbench.result import BLIND, MethodRow, Task1Result
from peregrm.evaluation.benchmarks.common import print_table
from peregrm.evaluation.console import print_text
from peregrm.evaluation.report import format_value
from peregrm.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_task1"]

_HEAD = ("", "method", "n", "score [95 %]", "F1", "P", "R", "quality", "items", "recomputed", "published")


def print_task1(console: Console, result: Task1Result) -> None:
    """Print the methods, their scores by language, and what the columns mean."""
    title = "AlpsBench task 1: memory extraction, 0 to 100"
    print_table(console, title, _HEAD, [_cells(row) for row in result.rows], names=2)
    languages = [name for name, _ in result.rows[0].languages]
    head = ("method", *(f"{name} ({count})" for name, count in zip(languages, _counts(result), strict=True)))
    body = [(row.method, *(_interval(estimate) for _, estimate in row.languages)) for row in result.rows]
    print_table(console, "The same by language (packets)", head, body)
    for line in (_basis(result), _agreement(result), *_failures(result), *_floor(result)):
        print_text(console, line)


def _cells(row: MethodRow) -> tuple[str, ...]:
    parts = (row.f1, row.precision, row.recall, row.quality)
    published = "—" if row.published is None else f"{row.published:.1f} ({row.published_rank})"
    return (
        "—" if row.rank is None else str(row.rank),
        row.method,
        f"{row.score.n}/{row.score.asked}",
        _interval(row.score),
        *(format_value(part.mean, 2) for part in parts),
        format_value(row.items, 1),
        format_value(row.as_published.mean, 1),
        published,
    )


def _interval(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "—"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.1f}"
    return f"{estimate.mean:.1f} [{estimate.low:.0f}, {estimate.high:.0f}]"


def _counts(result: Task1Result) -> list[int]:
    return [estimate.asked for _, estimate in result.rows[0].languages]


def _basis(result: Task1Result) -> str:
    empty = (
        f"{result.without_reference} packets hold nothing to be found: there an answer without memories is worth 100, any other 0. "
        if result.without_reference
        else ""
    )
    return (
        f"{result.packets} packets of {result.users} users; {result.references} references, and {result.rejected_references} that "
        f"annotators marked as wrong. {empty}Intervals: 95 %, clustered by user. "
        "n: packets with an answer, of all. items: memories an answer holds."
    )


def _agreement(result: Task1Result) -> str:
    known = result.agreement
    if not known.models:
        return "None of these models has a published score."
    return (
        "recomputed: every reference counts and a failed call found nothing. It meets the published scores (rank behind them) of "
        f"{known.models} models with a mean difference of {format_value(known.mean_difference, 1)}, Spearman "
        f"{format_value(known.spearman, 2)}, Kendall {format_value(known.kendall, 2)}; {known.inside} of {known.with_interval} stand "
        "within our intervals. The published scores are of all packets."
    )


def _failures(result: Task1Result) -> list[str]:
    lost = [f"{row.method} {n} ({kind})" for row in result.rows for kind, n in row.failures]
    return [f"Without an answer, and so without a score: {', '.join(lost)}."] if lost else []


def _floor(result: Task1Result) -> list[str]:
    """Say what reading nothing is worth, and who is not above it."""
    floor = next((row for row in result.rows if row.method == BLIND), None)
    if floor is None or floor.score.mean is None:
        return []
    below = [row.method for row in result.rows if row.score.mean is not None and row.score.mean < floor.score.mean]
    return [
        f"{BLIND} reads nothing and gives everybody the same memory: {floor.score.mean:.1f} is what the formula pays for that"
        + (f", more than {', '.join(below)} get." if below else ".")
    ]
