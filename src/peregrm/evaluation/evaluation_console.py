"""An evaluation at the terminal: who is where, which differences hold, how far judges agree, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peregrm.evaluation.console import print_text
from peregrm.evaluation.evaluation import Evaluation, PolicyScore
from peregrm.evaluation.inference.paired import Difference
from peregrm.evaluation.page.wording import counted, format_p
from peregrm.evaluation.report import format_estimate, format_value, judge_note

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_evaluation"]

_ALPHA = 0.05
_WIDE = 110
"""Columns of a terminal from which on an interval stands beside its mean, else below it."""
_SUMS = ("total", "empathy", "bystander")


def print_evaluation(console: Console, evaluation: Evaluation) -> None:
    """Print the figures of an evaluation: per judge a table of policies and the differences of their totals."""
    more = evaluation.flagged_cases
    flagged = (
        f" {more} more {'is' if more == 1 else 'are'} flagged and {'stands' if more == 1 else 'stand'} apart."
        if more
        else ""
    )
    print_text(
        console,
        f"\n{counted(evaluation.cases, 'case')} of {counted(evaluation.users, 'user')}, {counted(evaluation.samples, 'sample')} a reply; "
        f"95 % intervals clustered by user.{flagged}",
    )
    standings = {one.judge: one for one in evaluation.standings}
    for judge in evaluation.judges:
        _print_scores(console, judge.judge, evaluation)
        print_text(console, judge_note(judge.judge, standings.get(judge.judge)))
        _print_differences(console, judge.judge, evaluation)
    for alpha in evaluation.alphas:
        if alpha.measure == "total":
            print_text(
                console,
                f"Krippendorff's alpha of the judges' totals: {format_estimate(alpha.alpha)} (n = {alpha.alpha.n})",
            )
    for facts in evaluation.policies:
        absent = [f"{counted(len(facts.missing), 'case')} without a reply"] if facts.missing else []
        absent += [f"{len(facts.failed)} failed"] if facts.failed else []
        absent += [f"{facts.empty} empty"] if facts.empty else []
        if absent:
            print_text(console, f"{facts.policy}: {', '.join(absent)}")


def _print_scores(console: Console, judge: str, evaluation: Evaluation) -> None:
    """Print two tables, so that each fits a narrow terminal: what is summed up, and the dimensions."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    rows = sorted((score for score in evaluation.scores if score.judge == judge), key=_best_first)
    given = evaluation.given(judge)
    sums = [name for name in _SUMS if name in given]
    dimensions = [name for name in evaluation.measures[: -len(_SUMS) - 1] if name in given]
    parts = ((f"Policies, judged by {judge}", sums, True), ("By dimension", dimensions, False))
    break_ = " " if console.width >= _WIDE else "\n"
    for title, names, with_n in parts:
        if not names:
            continue
        table = Table(title=escape(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column("policy", overflow="fold", min_width=12)
        for name in (*names, *(("n", "cover") if with_n else ())):
            table.add_column(escape(name), justify="right", no_wrap=True)
        for row in rows:
            found = dict(row.measures)
            total = found["total"]
            counts = [str(total.n), format_value(total.coverage, 2)] if with_n else []
            table.add_row(
                escape(row.policy),
                *(escape(format_estimate(found[name]).replace(" ", break_, 1)) for name in names),
                *counts,
            )
        console.print(table)


def _best_first(row: PolicyScore) -> tuple[float, str]:
    mean = dict(row.measures)["total"].mean
    return (float("inf") if mean is None else -mean, row.policy)


def _print_differences(console: Console, judge: str, evaluation: Evaluation) -> None:
    """Print how the best policy differs from every other; the report has all pairs."""
    best = min((score for score in evaluation.scores if score.judge == judge), key=_best_first).policy
    found = [d for d in evaluation.differences if d.judge == judge and d.measure == "total" and best in (d.a, d.b)]
    for one in found:
        print_text(console, _sentence(one))


def _sentence(one: Difference) -> str:
    if one.p_holm is None:
        cases = counted(one.difference.n, "case")
        return (
            f"{one.a} minus {one.b}: {format_estimate(one.difference, signed=True)} on {cases}; no test below two users"
        )
    verdict = "differ" if one.p_holm < _ALPHA else "no difference shown"
    seen = ""
    if one.detectable is not None:
        seen = f"; a difference of {one.detectable:.3f} would have p < {_ALPHA}, uncorrected, in 4 of 5 such studies"
    return (
        f"{one.a} minus {one.b}: {format_estimate(one.difference, signed=True)}, p {format_p(one.p_holm, sign='= ')} (Holm): {verdict}; "
        f"won {one.won}, tied {one.tied}, lost {one.lost} of {one.difference.n}{seen}"
    )
