"""The report at the terminal: the figures, and a few cases in full."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peregrm.dimensions import combined_name
from peregrm.errors import ArtifactError
from peregrm.evaluation.report import CaseView, format_estimate, format_value, judge_note
from peregrm.evaluation.statistics import Estimate, measures_given
from peregrm.evaluation.summary import Summary
from peregrm.models.ledger import Ledger
from peregrm.records import Usage
from peregrm.reward.pool import Agreement

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["print_agreement", "print_cases", "print_ledger", "print_summary", "print_text", "print_usage"]

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_ORIGINS = {"gold": "hand-written", "generated": "generated"}


def print_summary(console: Console, summary: Summary) -> None:
    """Print every figure of a summary, and under them what is known of the judge's worth."""
    _say(
        console,
        f"{summary.users} users, {summary.generated_cases} generated cases, {summary.gold_cases} hand-written cases"
        f"{f', {summary.flagged_cases} of all these flagged' if summary.flagged_cases else ''}; "
        f"model {summary.model}, judge {summary.judge}, {summary.samples} sample(s) a reply. "
        "Intervals: 95 %, clustered by user.",
        soft_wrap=True,
    )
    for origin, title in _ORIGINS.items():
        rows = [row for row in summary.policies if row.origin == origin]
        if rows:
            body = [(f"{n}. {row.policy}", row.measures) for n, row in enumerate(rows, start=1)]
            _print_measures(console, f"Policies on {title} cases", body)
        rows = [row for row in summary.flagged if row.origin == origin]
        if rows:
            said = f"Flagged {title} cases, in no other table: judged by safe guidance alone"
            _print_measures(console, said, [(row.policy, row.measures) for row in rows])
    comparisons = [(f"{_ORIGINS[c.origin]} cases", c.measures) for c in summary.comparisons]
    if comparisons:
        _print_measures(console, "Personalized minus generic: the model's own replies", comparisons, signed=True)
    _print_order(console, summary)
    for title, counts in (("Left out", summary.counts), ("Failures", summary.failures)):
        if counts:
            parts = ", ".join(f"{c.stage}/{c.kind} {c.n}" for c in counts)
            _say(console, f"{title}: {parts}", soft_wrap=True)
    _say(console, f"\n{judge_note(summary.judge, summary.standing)}\n", "bold", soft_wrap=True)


def print_text(console: Console, text: str) -> None:
    """Print text as it is, wrapped by the terminal."""
    _say(console, text, soft_wrap=True)


def _say(console: Console, text: str, style: str = "", *, soft_wrap: bool = False) -> None:
    """Print text as it is: nothing in it is markup, an emoji's name or a control code of the terminal."""
    console.print(_text(text), style=style or None, highlight=False, soft_wrap=soft_wrap)


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(_CONTROL.sub("\ufffd", text.expandtabs(4)))


def _print_measures(
    console: Console, title: str, rows: Sequence[tuple[str, Sequence[tuple[str, Estimate]]]], *, signed: bool = False
) -> None:
    """Print two narrow tables: what counts first, then the dimensions behind it; measures nothing was scored on are left out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = [name for name, _ in rows[0][1]]
    there = measures_given([measures for _, measures in rows])
    headline = [name for name in ("total", "empathy", "bystander") if name in there]
    for part, with_n in ((headline, True), ([name for name in there if name not in headline], False)):
        if not part:
            continue
        table = Table(
            title=title if with_n else None,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=0,
            pad_edge=False,
        )
        table.add_column("", overflow="fold")
        for name in part:
            shown = combined_name(names) if name == "empathy" else name
            table.add_column(shown, justify="right", no_wrap=True, min_width=12)
        for name in ("n", "users", "cover") if with_n else ():
            table.add_column(name, justify="right", no_wrap=True)
        for label, measures in rows:
            estimates = dict(measures)
            cells = [_short(estimates[name], signed=signed) for name in part]
            total = estimates["total"]
            counts = [str(total.n), str(total.users), format_value(total.coverage, 2)] if with_n else []
            table.add_row(_text(label), *cells, *counts)
        console.print(table)


def _short(estimate: Estimate, *, signed: bool) -> str:
    """Print the mean and half the width of its interval, which is symmetric."""
    if estimate.mean is None:
        return "—"
    mean = f"{estimate.mean:+.3f}" if signed else f"{estimate.mean:.3f}"
    return f"{mean} ±  —  " if estimate.high is None else f"{mean} ±{estimate.high - estimate.mean:.3f}"


def _print_order(console: Console, summary: Summary) -> None:
    if not summary.known_order:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = "Does the judge find the known order? (0.5 is chance)"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in ("pair", "accuracy", "n", "users"):
        table.add_column(name, no_wrap=name != "pair", overflow="fold")
    for check in summary.known_order:
        accuracy = check.accuracy
        pair = f"{check.better} over {check.worse}"
        table.add_row(_text(pair), _text(format_estimate(accuracy)), str(accuracy.n), str(accuracy.users))
    console.print(table)


def print_cases(console: Console, views: Sequence[CaseView]) -> None:
    """Print cases in full: query, criteria, every reply with its scores and the judge's reasons."""
    for view in views:
        case = view.case
        console.rule(_text(f"{case.user_id} · {case.category} · {_ORIGINS[case.origin]} · {case.id}"))
        _say(console, case.situation, "dim")
        _say(console, f"{case.query}\n", "bold")
        if case.flags:
            _say(console, f"flagged: {', '.join(case.flags)}; judged by safe guidance alone")
        if view.criteria.failure:
            _say(console, f"No criteria: {view.criteria.failure.reason}")
        for name, items in view.criteria.items:
            _say(console, f"{name}: " + "; ".join(f"{i.text} ({i.weight} %)" for i in items))
        for reply, reward, analysis in view.replies:
            named = [*reward.scores, ("bystander", reward.bystander)]
            scores = ", ".join(f"{name} {format_value(score)}" for name, score in named if score is not None)
            head = f"{reply.policy}: total {format_value(reward.total)}"
            _say(console, f"\n{head} ({scores})" if scores else f"\n{head}", "bold")
            _say(console, reply.failure.reason if reply.failure else reply.text or "(empty)")
            if reward.failure:
                _say(console, f"unscored: {reward.failure.reason}")
            for name, words in analysis:
                _say(console, f"{name}: {words}", "dim")


def print_ledger(console: Console, summary: Summary, ledger: Path) -> None:
    """Print what the results rest on and what this process spent on them."""
    used = summary.usage
    line = f"Behind these figures: {used.calls} model calls, {used.input_tokens} input and {used.output_tokens} output tokens."
    if used.unmetered:
        line += f" The endpoint reported no tokens for {used.unmetered} of the calls; theirs are not counted."
    if ledger.exists():
        try:
            spent = json.loads(ledger.read_text(encoding="utf-8"))
            fresh = sum(row["fresh_calls"] for row in spent["calls"])
            cached = sum(row["calls_from_cache"] for row in spent["calls"])
            cost = "unknown (no price, or no tokens reported)" if spent["cost"] is None else f"{spent['cost']:.4f}"
        except (ValueError, KeyError, TypeError):
            raise ArtifactError(f"{ledger}: damaged; delete it, it only tells what the last command spent") from None
        line += (
            f" Last command: {spent['seconds']} s, {fresh} calls made, {cached} answered from the cache, cost {cost}."
        )
    _say(console, line, soft_wrap=True)


def print_usage(console: Console, used: Usage, ledger: Ledger, seconds: float) -> None:
    """Print what the results rest on and what this process spent on them, from its own ledger."""
    rows = ledger.summary()
    fresh, cached = sum(row.fresh_calls for row in rows), sum(row.cached_calls for row in rows)
    cost = ledger.total_cost()
    _say(
        console,
        f"Behind these figures: {used.calls} model calls, {used.input_tokens} input and {used.output_tokens} output tokens. "
        f"This command: {seconds:.1f} s, {fresh} calls made, {cached} answered from the cache, "
        f"cost {'unknown (no price, or no tokens reported)' if cost is None else f'{cost:.4f}'}.",
        soft_wrap=True,
    )


def print_agreement(console: Console, pairs: Sequence[Agreement]) -> None:
    """Print how far every two judges agree; nothing where there was one."""
    if not pairs:
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="Agreement between judges", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name in ("judges", "n", "rank correlation", "same order", "pairs"):
        table.add_column(name, overflow="fold")
    for pair in pairs:
        table.add_row(
            _text(f"{pair.one} and {pair.other}"),
            str(pair.n),
            format_value(pair.rank),
            format_value(pair.pairs),
            str(pair.comparable),
        )
    console.print(table)
