"""The table of the retrieval benchmark at the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peregrm.evaluation.benchmarks.common import format_interval, print_table
from peregrm.evaluation.console import print_text
from peregrm.evaluation.report import format_value

if TYPE_CHECKING:
    from rich.console import Console

    from peregrm.evaluation.benchmarks.memory_retrieval.result import RetrievalResult, StoreRow
    from peregrm.evaluation.benchmarks.memory_retrieval.tune import Tuned
    from peregrm.evaluation.statistics import Estimate

__all__ = ["print_retrieval", "print_tuned"]

_RANKS = ("store", "recall at 1", "at 5", "at 10", "MRR")
_SILENCE = ("store", "own", "any", "others", "withheld")
_COSTS = ("store", "CPU ms a note", "CPU ms a search", "bytes a note")


def print_retrieval(console: Console, result: RetrievalResult) -> None:
    """Print the stores and what the columns mean."""
    print_table(console, "Where the right memory stands", _RANKS, [_ranks(row) for row in result.rows])
    print_text(
        console,
        f"{result.queries} queries, {result.candidates:.0f} different candidates each, one of them right. A memory that is not found has "
        "no rank. Intervals: 95 %, clustered by the user who asks.",
    )
    print_table(console, "Whether anything is found", _SILENCE, [_silence(row) for row in result.rows])
    print_text(
        console,
        "own: share of queries whose right memory is among the first five found in the user's own few memories. The others are shares "
        "of queries for which anything was found: any, among the candidates; others, among the memories of another user "
        f"({result.pairs} pairs), none of them relevant; withheld, among the candidates without the right one.",
    )
    print_table(console, "What it takes", _COSTS, [_costs(row) for row in result.rows])
    for row in result.rows:
        if row.gain_at_5 is not None and row.gain_mrr is not None:
            print_text(
                console,
                f"{result.reference} over {row.store}: recall at 5 {_signed(row.gain_at_5)}, MRR {_signed(row.gain_mrr)}.",
            )
        if row.failures:
            lost = ", ".join(f"{kind} {count}" for kind, count in row.failures.items())
            print_text(console, f"{row.store}: failures while adding: {lost}.")


def print_tuned(console: Console, tuned: Tuned) -> None:
    """Print constants of the default store that were found anew, beside those it has."""
    from peregrm.memory.default import GATE, LEXICAL_WEIGHT

    print_text(
        console,
        f"Tuned on {tuned.queries} queries of {tuned.users} users: a point of BM25 is worth {tuned.lexical_weight:.4f} "
        f"(the store has {LEXICAL_WEIGHT}); the gate is {tuned.gate_first:.3f} + {tuned.gate_growth:.4f} ln n (the store has "
        f"{GATE.first} + {GATE.growth} ln n), and no point is more than {tuned.off_line:.3f} off that line.",
    )


def _ranks(row: StoreRow) -> tuple[str, ...]:
    return (row.store, *map(_share, (row.recall_at_1, row.recall_at_5, row.recall_at_10, row.mrr)))


def _silence(row: StoreRow) -> tuple[str, ...]:
    return (
        row.store,
        *map(_share, (row.own, row.answered, row.others, row.withheld)),
    )


def _costs(row: StoreRow) -> tuple[str, ...]:
    return (
        row.store,
        format_value(row.add_ms, 1),
        format_value(row.search_ms, 1),
        "—" if row.bytes_a_note is None else f"{row.bytes_a_note:.0f}",
    )


def _share(estimate: Estimate) -> str:
    return format_interval(estimate, 2) if estimate.low is not None else format_value(estimate.mean, 2)


def _signed(estimate: Estimate) -> str:
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return "the same" if estimate.mean == 0 else format_value(estimate.mean)
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
