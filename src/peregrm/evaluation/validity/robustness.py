"""Robustness of the gain: whether the order of policies holds when the persona or the dataset is made in another way.

The same replies are scored under several constructions of the same cases; the first is the base that the others are held against. A
pair of policies is *firm* in a construction where the difference is significant there (paired permutation over users, Holm over the
pairs). Of each firm pair of the base, under every other construction:

- it *holds* where the better one is significantly better there too (p < `ALPHA`, uncorrected: whether it is still seen);
- it is *reversed* where the worse one is firmly better there: the order hangs on how the data were made;
- it is *lost* where it does not hold and the difference is significantly smaller than in the base (Holm over all such comparisons);
- else it is *undecided*: too few users to tell. Not significant here and significant there is by itself no difference.

The verdict is `unknown` where less than half of the scores are there, `bad` where a pair is reversed, `unknown` where there is no firm
pair or no other construction, `good` where none is lost
and at least `HELD` of the comparisons hold, else `doubtful`. Left out on purpose: replies written anew for each construction, which
would mix what a judge is told with what a policy is told.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from peregrm.evaluation.inference.intervals import bootstrap_mean, bootstrap_statistic
from peregrm.evaluation.inference.paired import ALPHA, Difference, Paired, compare_paired, holm
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import LEAST_COVERAGE, Figure, Finding, Table, Verdict
from peregrm.records import Part

__all__ = ["HELD", "Fate", "Order", "RobustnessRows", "ScoredRow", "orders", "robustness"]

HELD = 0.8
"""The power that studies are planned for: of differences that are there, as many are seen again."""

_MOST_POLICIES = 12
"""More policies are not compared pair by pair: their names are the reader's to choose from."""

Fate = Literal["holds", "reversed", "lost", "undecided"]


class ScoredRow(Part):
    """One reply under one construction, `score` on the reward's scale or None; `better` is higher."""

    construction: str
    user: str
    case_id: str
    policy: str
    score: float | None


@dataclass(frozen=True)
class RobustnessRows:
    """Everything that was scored. `notes` are sentences about constructions that could not be made, and why."""

    rows: Sequence[ScoredRow]
    data: Sequence[str] = ()
    notes: Sequence[str] = ()


class PairFate(NamedTuple):
    """What becomes of one firm pair of the base, `better` over `worse`, under another construction; `change` is there minus base."""

    better: str
    worse: str
    construction: str
    base: Difference
    there: Difference
    change: Estimate
    fate: Fate


@dataclass(frozen=True)
class Order:
    """The policies under one construction: mean score of each, Kendall's tau with the base, and how often the base's best is best.

    `top_stays` is the share of bootstrap draws of users, 0 to 1; None below ten users or where there is nothing to draw.
    """

    construction: str
    means: dict[str, Estimate]
    tau: Estimate
    top_stays: float | None
    coverage: float
    differences: list[Difference] = field(default_factory=list)


Scores = dict[str, dict[tuple[str, str], dict[str, float | None]]]
"""By construction, then user and case, then policy."""


def _table(rows: Iterable[ScoredRow]) -> Scores:
    table: Scores = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        table[row.construction][row.user, row.case_id][row.policy] = row.score
    return table


def orders(rows: Sequence[ScoredRow], *, seed: int) -> tuple[list[Order], list[PairFate]]:
    """Return the order of policies under every construction, the first being the base, and what becomes of its firm pairs.

    Means are over the cases that every policy was scored on under all constructions, so that the policies and the constructions answer
    the same questions. Raises `ValueError` where a case's reply is not asked about under every construction.
    """
    table = _table(rows)
    names = list(table)
    policies = sorted({row.policy for row in rows})
    cases = sorted({place for by_case in table.values() for place in by_case})
    if any(set(table[name][place]) != set(table[names[0]][place]) for name in names for place in cases):
        raise ValueError("the constructions do not hold the same replies to the same cases")
    wide = _Wide(names, policies, cases, table)
    found = [_order(wide, name, policies, seed) for name in names]
    return found, _fates(wide, found, seed)


@dataclass(frozen=True)
class _Wide:
    names: list[str]
    policies: list[str]
    cases: list[tuple[str, str]]
    table: Scores

    def gaps(self, name: str, a: str, b: str) -> list[Paired]:
        return [Paired(u, self.table[name][u, c].get(a), self.table[name][u, c].get(b)) for u, c in self.cases]

    def whole(self) -> list[tuple[str, str]]:
        """Return the cases that have a score of every policy under every construction."""
        return [
            place
            for place in self.cases
            if all(self.table[name][place].get(policy) is not None for name in self.names for policy in self.policies)
        ]

    def sums(self, name: str) -> tuple[Any, Any]:
        """Return users x policies sums over whole cases, and the users' numbers of them; users are in the order of their names."""
        whole = self.whole()
        users = sorted({user for user, _ in whole})
        sums, counts = np.zeros((len(users), len(self.policies))), np.zeros(len(users))
        for user, case in whole:
            place = users.index(user)
            counts[place] += 1
            sums[place] += [self.table[name][user, case][policy] or 0.0 for policy in self.policies]
        return sums, counts


def _order(wide: _Wide, name: str, policies: Sequence[str], seed: int) -> Order:
    mine, _ = wide.sums(name)
    base, counts = wide.sums(wide.names[0])
    whole = wide.whole()
    means = {
        policy: bootstrap_mean([(u, wide.table[name][u, c][policy]) for u, c in whole], seed=seed)
        for policy in policies
    }

    def tau(drawn: Any) -> float | None:
        return _tau(drawn @ mine, drawn @ base)

    asked = [score for by_policy in wide.table[name].values() for score in by_policy.values()]
    differences = (
        [
            compare_paired(wide.gaps(name, a, b), judge=name, measure="total", a=a, b=b, seed=seed)
            for a, b in combinations(policies, 2)
        ]
        if len(policies) <= _MOST_POLICIES
        else []
    )
    return Order(
        construction=name,
        means=means,
        tau=bootstrap_statistic(len(counts), tau, seed=seed, asked=len(wide.cases), n=len(whole)),
        top_stays=_top_stays(base, mine, seed),
        coverage=sum(score is not None for score in asked) / len(asked) if asked else 0.0,
        differences=holm(differences),
    )


def _tau(mine: Any, base: Any) -> float | None:
    """Return Kendall's tau-b; None where one side has one value only. By hand, because scipy's checks take most of a bootstrap's time."""
    one, other = (np.sign(np.subtract.outer(side, side)) for side in (mine, base))
    pairs = float((one**2).sum() * (other**2).sum())
    return float((one * other).sum()) / math.sqrt(pairs) if pairs > 0 else None


def _top_stays(base: Any, mine: Any, seed: int, draws: int = 1000) -> float | None:
    if len(base) < 10 or np.ptp(base.sum(axis=0)) == 0:
        return None
    top = int(base.sum(axis=0).argmax())
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(base), np.full(len(base), 1 / len(base)), size=draws) @ mine
    best = drawn.max(axis=1, keepdims=True)
    return float(np.mean((drawn[:, top] == best[:, 0]) / (drawn == best).sum(axis=1)))


def _fates(wide: _Wide, found: Sequence[Order], seed: int) -> list[PairFate]:
    base, others = found[0], found[1:]
    firm = [one for one in base.differences if _is_firm(one)]
    compared: list[tuple[Difference, Difference, Difference]] = []
    for order in others:
        here = {(one.a, one.b): one for one in order.differences}
        for one in firm:
            pairs = _changes(wide, base.construction, order.construction, one)
            change = compare_paired(pairs, judge="change", measure="total", a="there", b="base", seed=seed)
            compared.append((one, here[one.a, one.b], change))
    corrected = holm([change for _, _, change in compared])
    fates = []
    for (one, there, _), change in zip(compared, corrected, strict=True):
        better, worse = (one.a, one.b) if _mean(one) > 0 else (one.b, one.a)
        fate = _fate(one, there, change)
        fates.append(PairFate(better, worse, there.judge, one, there, change.difference, fate))
    return fates


def _changes(wide: _Wide, base: str, name: str, one: Difference) -> list[Paired]:
    """Return the pair's difference there and in the base, case by case, the better one of the base first."""
    sign = 1 if _mean(one) > 0 else -1

    def gap(pair: Paired) -> float | None:
        return None if pair.a is None or pair.b is None else sign * (pair.a - pair.b)

    both = zip(wide.gaps(name, one.a, one.b), wide.gaps(base, one.a, one.b), strict=True)
    return [Paired(there.user, gap(there), gap(before)) for there, before in both]


def _is_firm(one: Difference) -> bool:
    return one.p_holm is not None and one.p_holm < ALPHA and _mean(one) != 0


def _mean(one: Difference) -> float:
    return one.difference.mean or 0.0


def _fate(base: Difference, there: Difference, change: Difference) -> Fate:
    same_way = _mean(base) * _mean(there) > 0
    if same_way and there.p is not None and there.p < ALPHA:
        return "holds"
    if not same_way and _is_firm(there):
        return "reversed"
    smaller = change.p_holm is not None and change.p_holm < ALPHA and _mean(change) < 0
    return "lost" if smaller else "undecided"


def robustness(given: RobustnessRows, *, seed: int) -> Finding:
    """Return the finding; it is `unknown`, and says why, where nothing was scored or there is but one construction."""
    asked, scored = len(given.rows), sum(row.score is not None for row in given.rows)
    found, fates = orders(given.rows, seed=seed) if given.rows else ([], [])
    few = bool(asked) and scored / asked < LEAST_COVERAGE
    lead = [f"TOO LITTLE DATA: {scored} of {asked} replies could be scored, less than half."] if few else []
    words = [*lead, *_words(found, fates), *given.notes]
    return Finding(
        part="robustness",
        verdict="unknown" if few else _verdict(fates),
        words=tuple(words),
        figures=tuple(_figures(found)),
        tables=tuple(_tables(found, fates)) if found else (),
        data=tuple(given.data),
        asked=asked,
        scored=scored,
    )


def _verdict(fates: Sequence[PairFate]) -> Verdict:
    if any(one.fate == "reversed" for one in fates):
        return "bad"
    if not fates:
        return "unknown"
    held = sum(one.fate == "holds" for one in fates) / len(fates)
    return "good" if held >= HELD and all(one.fate != "lost" for one in fates) else "doubtful"


def _words(found: Sequence[Order], fates: Sequence[PairFate]) -> list[str]:
    if len(found) < 2:
        return ["The policies were scored under no more than one construction: nothing can be said of robustness."]
    base = found[0]
    if not any(_is_firm(one) for one in base.differences):
        said = f"Under {base.construction} no policy is shown to be better than another, so there is no order that could hold."
        firm = [order.construction for order in found[1:] if any(_is_firm(one) for one in order.differences)]
        return [said, *([f"Under {', '.join(firm)} there is one."] if firm else [])]
    held = sum(one.fate == "holds" for one in fates)
    turned, lost = [], []
    for one in fates:
        before, there = _signed(one, one.base), _signed(one, one.there)
        if one.fate == "reversed":
            turned.append(
                f"ORDER REVERSED: {one.better} is better than {one.worse} under {base.construction} ({before}) and worse under "
                f"{one.construction} ({there})."
            )
        elif one.fate == "lost":
            lost.append(f"{one.better} over {one.worse} is lost under {one.construction}: {there}, {before} before.")
    said = f"{held} of {len(fates)} firm differences of {base.construction} are seen under the other constructions too."
    return [*turned, said, *lost]


def _signed(one: PairFate, difference: Difference) -> str:
    """Return a difference as better minus worse of the base."""
    estimate = difference.difference
    if one.better == difference.a:
        return _range(estimate)
    low, high = estimate.low, estimate.high
    turned = {"mean": -_mean(difference), "low": None if high is None else -high, "high": None if low is None else -low}
    return _range(estimate.model_copy(update=turned))


def _figures(found: Sequence[Order]) -> list[Figure]:
    figures = []
    for order in found[1:]:
        tau = Figure(
            name=f"Order under {order.construction}: Kendall's tau",
            estimate=order.tau,
            reference=0.0,
            against="no common order",
        )
        figures.append(tau)
    return figures


def _tables(found: Sequence[Order], fates: Sequence[PairFate]) -> list[Table]:
    base = found[0]
    ranked = sorted(base.means, key=lambda policy: -(base.means[policy].mean or -math.inf))
    tables = [
        Table(
            title="Mean score of each policy under each construction",
            columns=("construction", *ranked, "tau with the first", "best stays best", "scored"),
            rows=tuple(
                (
                    order.construction,
                    *(_range(order.means[policy]) for policy in ranked),
                    "-" if order is base else _range(order.tau),
                    "-" if order.top_stays is None else f"{order.top_stays:.2f}",
                    f"{order.coverage:.0%}",
                )
                for order in found
            ),
            note="Over the cases on which every policy has a score everywhere. `best stays best` is the share of draws of users in "
            f"which the best of {base.construction} is best.",
        )
    ]
    if fates:
        tables.append(
            Table(
                title=f"What becomes of the firm differences of {base.construction}",
                columns=("construction", "better", "worse", "before", "there", "change", "fate"),
                rows=tuple(
                    (
                        one.construction,
                        one.better,
                        one.worse,
                        _signed(one, one.base),
                        _signed(one, one.there),
                        _range(one.change),
                        one.fate,
                    )
                    for one in fates
                ),
            )
        )
    return tables


def _range(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
