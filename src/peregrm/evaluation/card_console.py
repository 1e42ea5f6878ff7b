"""A judge card at the terminal: the findings with their figures, and the sentence that stands beside the judge's scores."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from peregrm.evaluation.console import print_text
from peregrm.evaluation.page.card_page import VERDICT_WORDS
from peregrm.evaluation.report import format_estimate
from peregrm.evaluation.validity.card import PARTS, Finding, JudgeCard, PartName, Table, card_verdict

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_card"]


def print_card(console: Console, card: JudgeCard, measured: Collection[PartName]) -> None:
    """Print the findings of the parts that were just `measured`, and the sentence of the whole card.

    Tables are printed where one part alone was measured; otherwise they are too much for a terminal and stand in the card's files.
    """
    for finding in card.findings:
        if finding.part in measured:
            _print_finding(console, finding)
            for table in finding.tables if len(measured) == 1 else ():
                if _width(table) <= console.width:
                    _print_table(console, table)
                else:
                    print_text(console, f"{table.title or 'a table'}: too wide for this terminal, it stands in card.md")
    print_text(console, f"\nJudge card of {card.judge}, reward {card.reward}: {card_verdict(card)}.")


def _print_finding(console: Console, finding: Finding) -> None:
    print_text(console, f"\n{PARTS[finding.part].upper()}: {VERDICT_WORDS[finding.verdict]}")
    for line in finding.words:
        print_text(console, line)
    if finding.figures:
        rows = [
            (
                figure.name,
                format_estimate(figure.estimate),
                "" if figure.reference is None else f"{figure.against} {figure.reference:.3g}",
                str(figure.estimate.n),
                str(figure.estimate.users),
            )
            for figure in finding.figures
        ]
        _print_table(
            console, Table(title="", columns=("figure", "estimate [95 %]", "against", "n", "users"), rows=tuple(rows))
        )
    if finding.asked:
        print_text(console, f"{finding.scored} of {finding.asked} judgements could be used.")


def _width(table: Table) -> int:
    """Return the columns of a terminal that a table takes when the first of its own may be folded to 20 characters."""
    cells = zip(table.columns, *table.rows, strict=True)
    first, *others = [max(map(len, column)) for column in cells]
    return min(first, 20) + sum(others) + len(others)


def _print_table(console: Console, table: Table) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=SIMPLE_HEAD, padding=0, pad_edge=False, title=table.title or None, title_justify="left")
    for place, name in enumerate(table.columns):
        grid.add_column(Text(name), justify="right" if place else "left", overflow="fold", no_wrap="95 %" in name)
    for cells in table.rows:
        grid.add_row(*map(Text, cells))
    console.print(grid)
    if table.note:
        print_text(console, table.note)
