"""A judge card as one self-contained HTML page and as Markdown: no script, nothing fetched, made to be printed.

The verdicts stand first, then every part with its words, figures against what would mean nothing, tables and data. The wording stands in
`card.html.jinja` and `card.md.jinja`; everything from outside is escaped. The bytes depend on the card alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from peregrm.evaluation.page.charts import SHARES, Axis, Strip, Upright, axis_of, strip, uprights
from peregrm.evaluation.page.templates import rendered
from peregrm.evaluation.page.wording import counted, criteria_words
from peregrm.evaluation.report import format_estimate, format_value
from peregrm.evaluation.validity.card import PARTS, Diagram, Figure, Finding, JudgeCard, Verdict, card_verdict
from peregrm.markdown import plain

__all__ = ["VERDICT_WORDS", "card_markdown", "card_page"]

VERDICT_WORDS: dict[Verdict, str] = {
    "good": "holds",
    "doubtful": "in part",
    "bad": "fails",
    "unknown": "too little data",
}
"""What a verdict is called."""

QUESTIONS = {
    "human": "Does it order replies as people do, and better than their length or source alone?",
    "sensitivity": "Do its scores change when the same reply is meant for somebody else?",
    "reliability": "Does it say the same again: on a repeat, in another order, with other criteria, as other judges?",
    "stability": "Are the traits it is given the same in either half of a history, and over time?",
    "robustness": "Is the order of policies the same with other personas and another dataset?",
    "attacks": "Can a reply talk it into a score?",
    "calibration": "Does a score mean the level that people would give?",
}
"""What each part asks, for the reader."""


class _Row(NamedTuple):
    figure: Figure
    strip: Strip | None
    reference: float | None
    """Where the reference stands on the axis, in percent."""


class _Plot(NamedTuple):
    axis: Axis
    rows: tuple[_Row, ...]


class _Drawn(NamedTuple):
    """A reliability diagram; `points` stand from the left."""

    calibration: str
    points: tuple[Upright, ...]


class _Shown(NamedTuple):
    finding: Finding
    plots: tuple[_Plot, ...]
    diagrams: dict[str, list[_Drawn]]
    """By what they are about, in the order of the finding."""


def card_page(card: JudgeCard) -> str:
    """Return the card as HTML."""
    return rendered("card.html.jinja", _view(card), escape=True)


def card_markdown(card: JudgeCard) -> str:
    """Return the card as Markdown: the same without charts."""
    text = rendered("card.md.jinja", _view(card), escape=False)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _view(card: JudgeCard) -> dict[str, Any]:
    return {
        "title": f"Judge card: {card.judge.partition('@')[0]}",
        "card": card,
        "sentence": card_verdict(card),
        "parts": PARTS,
        "questions": QUESTIONS,
        "says": VERDICT_WORDS,
        "verdicts": {finding.part: finding.verdict for finding in card.findings},
        "shown": [_Shown(finding, _plots(finding.figures), _drawn(finding.diagrams)) for finding in card.findings],
        "shares": SHARES,
        "estimate": format_estimate,
        "value": format_value,
        "plain": plain,
        "counted": counted,
        "criteria_words": criteria_words,
    }


def _plots(figures: Sequence[Figure]) -> tuple[_Plot, ...]:
    """Return the figures as plots, in the order of the first of each; those that can be read on one axis share it."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault(_kind(figure), []).append(figure)
    return tuple(_plot(group) for group in groups.values())


def _drawn(diagrams: Sequence[Diagram]) -> dict[str, list[_Drawn]]:
    found: dict[str, list[_Drawn]] = {}
    for one in diagrams:
        found.setdefault(one.data, []).append(_Drawn(one.calibration, uprights(one.points, SHARES, SHARES)))
    return found


def _kind(figure: Figure) -> tuple[str, str]:
    """Return what a figure is measured in, as far as it can be told: differences from nought, shares, or whatever its name says."""
    if figure.reference == 0:
        return ("difference", figure.against)
    if all(0 <= end <= 1 for end in _ends(figure)):
        return ("share", "")
    return ("other", figure.name)


def _plot(figures: Sequence[Figure]) -> _Plot:
    axis = axis_of(end for figure in figures for end in _ends(figure))
    return _Plot(
        axis,
        tuple(
            _Row(
                figure,
                strip(axis, figure.estimate),
                None if figure.reference is None else axis.place(figure.reference),
            )
            for figure in figures
        ),
    )


def _ends(figure: Figure) -> list[float]:
    one = figure.estimate
    return [end for end in (one.low, one.mean, one.high, figure.reference) if end is not None]
