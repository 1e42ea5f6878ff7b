"""Several rewards on the same replies: what each finds, and what it costs to find it.

Totals are on each method's own scale, so they compare replies and never methods. What compares methods is how well they find a known
order, how much of what was asked they could score, and their price. Pure but for the printing; nothing here calls a model. Left out on
purpose: agreement between methods, which `peregrm.reward.pool.agreement` gives for any rewards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from peregrm.dataset.gold import GoldCase
from peregrm.errors import ArtifactError
from peregrm.evaluation.console import print_text
from peregrm.evaluation.report import format_estimate, format_value
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.records import Case, Part, Reply, Usage
from peregrm.reward.base import Scored

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["MethodRun", "RewardRow", "RewardTable", "known_ranks", "print_reward_table", "reward_table"]


class MethodRun(NamedTuple):
    """What one method made of the replies.

    `seconds` is how long the calls took when they were made, one after another, also those that a cache answered since; for a method
    without calls the elapsed time. `usage` is what the scores rest on, `cost` the price in the currency of the settings, None where it
    is unknown.
    """

    scored: Sequence[Scored]
    seconds: float
    usage: Usage
    cost: float | None


class RewardRow(Part):
    """One method.

    `total` is the mean over replies, its coverage the share of replies that have a total; `trials` the mean share of a reply's trials that
    were scored, 0 to 1. `accuracy` is the mean over cases of the share of pairs of known order that the method put in that order (a tie
    counts half; 0.5 is chance); a case counts where at least one of its pairs is scored. `pairs_scored` of `pairs_known` pairs went in.
    Where no order is known all three are empty: None, 0 and 0. Intervals are clustered by user.
    """

    method: str
    judge: str
    replies: int
    total: Estimate
    trials: float | None
    accuracy: Estimate | None
    pairs_scored: int
    pairs_known: int
    usage: Usage
    cost: float | None
    seconds: float


class RewardTable(Part):
    """All methods in the order given; `model_dump(mode="json")` is the record of the comparison.

    `flagged` cases show signs of danger: replies to them are judged by safe guidance alone, or not at all, and are not compared here.
    """

    cases: int
    users: int
    rows: tuple[RewardRow, ...]
    flagged: int = 0


def known_ranks(pairs: Iterable[tuple[GoldCase, Case]]) -> dict[str, int]:
    """Return the rank of each recorded reply by its id, 1 for the best; `pairs` come from `peregrm.dataset.gold.gold_cases`."""
    return {
        Reply(case_id=case.id, policy=reply.policy, text=reply.text).id: reply.rank
        for gold, case in pairs
        for reply in gold.replies
    }


def reward_table(
    runs: Mapping[str, MethodRun], cases: Mapping[str, Case], ranks: Mapping[str, int] | None = None
) -> RewardTable:
    """Return one row a method.

    Args:
        runs: By method.
        cases: By id, all that replies answer.
        ranks: The known rank of a reply by its id, 1 for the best; equal ranks in one case mean no known order. Replies without
            a rank are left out of the accuracy.

    Raises:
        ArtifactError: Methods did not score the same replies, or a reply answers an unknown case.
    """
    replies = {name: Counter((s.reply.case_id, s.reply.id) for s in run.scored) for name, run in runs.items()}
    first = next(iter(replies), None)
    for name, own in replies.items():
        if own != replies[first or name]:
            _, odd = next(iter((own - replies[first or name]) + (replies[first or name] - own)))
            raise ArtifactError(f"{first} and {name} did not score the same replies: {odd}")
    there = {case_id for own in replies.values() for case_id, _ in own}
    if not there <= cases.keys():
        raise ArtifactError(f"replies answer {min(there - cases.keys())}, which is not among the cases")
    users = {case_id: cases[case_id].user_id for case_id in there if not cases[case_id].flags}
    rows = tuple(_row(name, run, users, ranks or {}) for name, run in runs.items())
    return RewardTable(cases=len(users), users=len(set(users.values())), rows=rows, flagged=len(there) - len(users))


def _row(method: str, run: MethodRun, users: Mapping[str, str], ranks: Mapping[str, int]) -> RewardRow:
    compared = [s for s in run.scored if s.reply.case_id in users]
    accuracy, scored, known = _accuracy(compared, users, ranks)
    trials = [s.coverage for s in compared]
    return RewardRow(
        method=method,
        judge=", ".join(dict.fromkeys(s.reward.judge for s in run.scored)),
        replies=len(compared),
        total=clustered_mean([(users[s.reply.case_id], s.total) for s in compared]),
        trials=sum(trials) / len(trials) if trials else None,
        accuracy=accuracy,
        pairs_scored=scored,
        pairs_known=known,
        usage=run.usage,
        cost=run.cost,
        seconds=run.seconds,
    )


def _accuracy(
    scored: Sequence[Scored], users: Mapping[str, str], ranks: Mapping[str, int]
) -> tuple[Estimate | None, int, int]:
    """Return the accuracy, how many pairs of known order were scored, and how many there are."""
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        if one.reply.id in ranks:
            groups[one.reply.case_id].append(one)
    by_case: list[tuple[str, float | None]] = []
    pairs_scored = pairs_known = 0
    for case_id, group in groups.items():
        orders = [_in_order(a, b, ranks) for a, b in combinations(group, 2) if ranks[a.reply.id] != ranks[b.reply.id]]
        if not orders:
            continue
        known = [order for order in orders if order is not None]
        pairs_scored, pairs_known = pairs_scored + len(known), pairs_known + len(orders)
        by_case.append((users[case_id], sum(known) / len(known) if known else None))
    return (clustered_mean(by_case, bounds=(0.0, 1.0)) if by_case else None), pairs_scored, pairs_known


def _in_order(a: Scored, b: Scored, ranks: Mapping[str, int]) -> float | None:
    better, worse = (a.total, b.total) if ranks[a.reply.id] < ranks[b.reply.id] else (b.total, a.total)
    if better is None or worse is None:
        return None
    return 0.5 if better == worse else float(better > worse)


def print_reward_table(console: Console, table: RewardTable) -> None:
    """Print a table of what the methods found and one of what they took."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    order = any(row.accuracy is not None for row in table.rows)
    found = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, title="What each reward finds", title_justify="left")
    taken = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, title="What it takes", title_justify="left")
    head = (
        "method",
        "replies",
        "cover",
        "trials",
        "mean total [95 %]",
        *(("known order [95 %]", "pairs", "cases") if order else ()),
    )
    for part, names in ((found, head), (taken, ("method", "calls", "input", "output", "cost", "seconds"))):
        for place, name in enumerate(names):
            part.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in table.rows:
        known = _known_order(row) if order else ()
        coverage = (format_value(row.total.coverage, 2), format_value(row.trials, 2))
        found.add_row(*map(Text, (row.method, str(row.replies), *coverage, format_estimate(row.total), *known)))
        counts = (_tokens(row.usage.input_tokens, row.usage), _tokens(row.usage.output_tokens, row.usage))
        cost = format_value(row.cost, 4)
        taken.add_row(*map(Text, (row.method, f"{row.usage.calls:,}", *counts, cost, f"{row.seconds:.1f}")))
    console.print(found)
    console.print(taken)
    judges = ", ".join(dict.fromkeys(row.judge for row in table.rows))
    note = (
        f"{table.cases} cases of {table.users} users; judge {judges}. Intervals: 95 %, clustered by user. "
        "Totals are on each method's own scale: they compare replies, not methods."
    )
    note += " Known order: 0.5 is chance; the mean is over cases." if order else ""
    note += f" Left out: {table.flagged} flagged cases, where safe guidance alone counts." if table.flagged else ""
    note += " Seconds: of all calls, as long as each took when it was made; side by side they take less."
    print_text(console, note)


def _known_order(row: RewardRow) -> tuple[str, str, str]:
    if row.accuracy is None:
        return "—", "—", "—"
    return format_estimate(row.accuracy), f"{row.pairs_scored}/{row.pairs_known}", str(row.accuracy.n)


def _tokens(count: int, usage: Usage) -> str:
    """Print a count of tokens: a dash where the endpoint reported none, at least so many where it left calls out."""
    if not usage.unmetered:
        return f"{count:,}"
    return "—" if usage.unmetered >= usage.calls else f"≥ {count:,}"
