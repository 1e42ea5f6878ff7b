"""Trait stability: whether two parts of one history show the same person, and whether it matters to the choice of a reply.

What is shown is shown by figures of its own, each judged by one rule. A figure *holds* where its interval lies above what chance gives
and its value reaches what is useful; it *fails* where the interval lies below what is useful and does not lie above chance; it holds *in
part* where it is above chance and below useful; else there are too few users to tell. The verdict is `good` where all figures that could
be measured hold, `bad` where one fails, `unknown` where none can be told, else `doubtful`. What a model or judge was asked for and gave for
less than half decides nothing. What counts:

- traits: how often the own other half is nearer than a stranger's, by text (chance 0.5, useful `USEFUL_NEARER`);
- Big Five: the correlation of facet scores between halves (chance 0, useful `USEFUL_ICC`, what Koo & Li (2016), Journal of Chiropractic
  Medicine 15(2), call moderate);
- choice: the share of what choosing by one half's persona is worth that is left under the other's (chance 0, useful `USEFUL_KEPT`);
  in part at best where a stranger's half leads to the same choice as often, for then the judge sees no person.

Halves of turns of one conversation share its topic, which is no trait; where users have halves of sessions the verdict rests on those, and
what halves of turns show holds in part at best.
Early against late is shown and not judged: people change, and that is no fault. Left out on purpose: a total over sources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import LEAST_COVERAGE, Figure, Finding, Table, Verdict
from peregrm.evaluation.validity.stability_measures import (
    ChoiceRow,
    Choices,
    GapRow,
    Recognition,
    Retest,
    ScoreRow,
    TraitRow,
    choices,
    recognition,
    retest,
    slope,
)

__all__ = ["SESSIONS", "TURNS", "USEFUL_ICC", "USEFUL_KEPT", "USEFUL_NEARER", "StabilityRows", "judged", "stability"]

SESSIONS = "odd/even sessions"
TURNS = "odd/even turns"
_HALVES = (SESSIONS, TURNS)

USEFUL_NEARER = 0.7
"""Below this a half tells its user from a stranger less than seven times in ten: too seldom to build a persona on."""
USEFUL_ICC = 0.5
USEFUL_KEPT = 0.5
"""Below this more than half of what choosing by a persona is worth is lost when the persona comes from the other half."""

_LEAST_USERS = 10
"""Below this no figure counts: the interval of four users who happen to be alike is narrow."""

R = TypeVar("R")


@dataclass(frozen=True)
class StabilityRows:
    """Everything that was measured. `notes` are sentences about what could not be, and why."""

    traits: Sequence[TraitRow] = ()
    scores: Sequence[ScoreRow] = ()
    choices: Sequence[ChoiceRow] = ()
    gaps: Sequence[GapRow] = ()
    data: Sequence[str] = ()
    notes: Sequence[str] = ()
    asked: int = 0
    scored: int = 0


@dataclass
class _Parts:
    """A finding in the making."""

    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def judge(self, name: str, estimate: Estimate, chance: float, useful: float, *, by_model: bool = True) -> None:
        """Let a figure count, and say what it says; `by_model` are those that rest on answers of a model, which can fail."""
        if by_model and estimate.coverage is not None and estimate.coverage < LEAST_COVERAGE:
            self.verdicts.append("unknown")
            self.words.append(f"{name}, cannot be told: there is an answer for {estimate.n} of {estimate.asked} only.")
            return
        verdict = judged(estimate, chance, useful)
        if verdict == "good" and TURNS in name:
            verdict = "doubtful"
            self.words.append(
                "Halves of turns of one conversation share its topic, which is no trait: they show less than halves of sessions."
            )
        self.verdicts.append(verdict)
        if estimate.mean is not None:
            self.words.append(_SAID[verdict].format(name=name, value=_range(estimate), chance=f"{chance:g}"))


_SAID: dict[Verdict, str] = {
    "good": "{name} holds: {value} against {chance} by chance.",
    "doubtful": "{name} holds in part: {value} against {chance} by chance.",
    "bad": "{name} FAILS: {value}, where chance gives {chance}.",
    "unknown": "{name} cannot be told from this few users: {value} ({chance} by chance).",
}


def judged(estimate: Estimate, chance: float, useful: float) -> Verdict:
    """Return what an estimate shows by the rule of this module; of fewer than ten users it shows nothing."""
    low, high = estimate.low, estimate.high
    if estimate.mean is None or estimate.users < _LEAST_USERS:
        return "unknown"
    if low is None or high is None:  # many users, and no spread among them
        low = high = estimate.mean
    if low > chance:
        return "good" if estimate.mean >= useful else "doubtful"
    return "bad" if high < useful else "unknown"


def stability(rows: StabilityRows, *, seed: int) -> Finding:
    """Return the finding; it is `unknown`, and says so, where nothing was measured."""
    parts = _Parts()
    _add_traits(rows.traits, parts, seed)
    _add_scores(rows.scores, parts, seed)
    _add_choices(rows.choices, parts, seed)
    _add_gaps(rows.gaps, parts)
    words = [*parts.words, *rows.notes] if parts.words else ["No trait stability was measured.", *rows.notes]
    return Finding(
        part="stability",
        verdict=_verdict(parts.verdicts),
        words=tuple(words),
        figures=tuple(parts.figures),
        tables=tuple(parts.tables),
        data=tuple(rows.data),
        asked=rows.asked,
        scored=rows.scored,
    )


def _verdict(verdicts: Sequence[Verdict]) -> Verdict:
    if "bad" in verdicts:
        return "bad"
    known = set(verdicts)
    return known.pop() if len(known) == 1 else "doubtful" if known else "unknown"


def _add_traits(rows: Sequence[TraitRow], parts: _Parts, seed: int) -> None:
    found = [recognition(group, seed=seed) for group in _grouped(rows, lambda row: (row.source, row.split, row.by))]
    counted = _counted((one.source, one.split) for one in found if one.by == "text")
    for one in found:
        name = f"Traits, {one.source}, {one.split}"
        if one.by == "text":
            parts.figures.append(
                Figure(
                    name=f"{name}: own other part nearer than a stranger's",
                    estimate=one.nearer,
                    reference=0.5,
                    against="chance",
                )
            )
            parts.figures.append(
                Figure(
                    name=f"{name}: own other part nearest of all",
                    estimate=one.nearest,
                    reference=one.chance,
                    against="chance",
                )
            )
        if (one.source, one.split) in counted and one.by == "text":
            parts.judge(
                f"{name}: the own other half is nearer than a stranger's, which",
                one.nearer,
                0.5,
                USEFUL_NEARER,
                by_model=False,
            )
    if found:
        parts.tables.append(_trait_table(found))


def _counted(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the halves the verdict rests on: of each source those of sessions, else those of turns."""
    splits: dict[str, set[str]] = defaultdict(set)
    for source, split in pairs:
        splits[source].add(split)
    chosen = {source: next((split for split in _HALVES if split in there), None) for source, there in splits.items()}
    return {(source, split) for source, split in chosen.items() if split is not None}


def _trait_table(found: Sequence[Recognition]) -> Table:
    return Table(
        title="Agreement of traits between parts of a history",
        columns=(
            "source",
            "parts",
            "by",
            "users",
            "own",
            "strangers",
            "difference",
            "nearer",
            "nearest",
            "chance of nearest",
        ),
        rows=tuple(
            (
                one.source,
                one.split,
                one.by,
                str(one.nearer.users),
                _range(one.own),
                _range(one.others),
                _range(one.lift),
                _range(one.nearer),
                _range(one.nearest),
                _number(one.chance),
            )
            for one in found
        ),
        note="Agreement is the matched likeness of traits over their mean number (text) or the shared names (label), 0 to 1. Quoted "
        "traits keep the user's own words, so a part of this is manner of writing. Strangers write the same language.",
    )


def _add_scores(rows: Sequence[ScoreRow], parts: _Parts, seed: int) -> None:
    by_domain: list[Retest] = []
    groups = _grouped(rows, lambda row: (row.source, row.split))
    counted = _counted((group[0].source, group[0].split) for group in groups)
    for group in groups:
        every = retest(group, what="all facets", seed=seed)
        by_domain += [every]
        by_domain += [retest(some, what=some[0].domain, seed=seed) for some in _grouped(group, lambda row: row.domain)]
        name = f"Big Five, {every.source}, {every.split}"
        parts.figures.append(
            Figure(name=f"{name}: ICC(1,1)", estimate=every.icc, reference=0.0, against="no agreement")
        )
        parts.figures.append(
            Figure(name=f"{name}: rank correlation", estimate=every.rank, reference=0.0, against="no agreement")
        )
        if (every.source, every.split) in counted:
            parts.judge(f"{name}: the test-retest correlation", every.icc, 0.0, USEFUL_ICC)
            if every.icc.mean is None and every.icc.n >= LEAST_COVERAGE * every.icc.asked:
                parts.verdicts[-1] = "bad"
                parts.words.append(f"{name}: all users got the same scores, so the scores tell nobody from anybody.")
    if by_domain:
        parts.tables.append(_retest_table(by_domain))


def _retest_table(found: Sequence[Retest]) -> Table:
    return Table(
        title="Test-retest of Big Five scores",
        columns=("source", "parts", "scores", "users", "pairs", "ICC(1,1)", "Spearman", "whole history"),
        rows=tuple(
            (
                one.source,
                one.split,
                one.what,
                str(one.icc.users),
                f"{one.icc.n} of {one.icc.asked}",
                _range(one.icc),
                _range(one.rank),
                _number(_stepped_up(one.icc.mean)),
            )
            for one in found
        ),
        note="Each facet's own mean is taken off. `whole history` is what the ICC of halves comes to for twice the text "
        "(Spearman-Brown). No interval below ten users.",
    )


def _stepped_up(icc: float | None) -> float | None:
    return None if icc is None or icc <= 0 else 2 * icc / (1 + icc)


def _add_choices(rows: Sequence[ChoiceRow], parts: _Parts, seed: int) -> None:
    groups = _grouped(rows, lambda row: row.split)
    counted = _counted(("choice", group[0].split) for group in groups)
    table: list[tuple[str, ...]] = []
    for group in groups:
        split, found = group[0].split, choices(group, seed=seed)
        name = f"Choice of reply, {split}"
        parts.figures += [
            Figure(name=f"{name}: same choice", estimate=found.agreement, reference=found.chance, against="chance"),
            Figure(name=f"{name}: worth that is kept", estimate=found.kept, reference=0.0, against="a random reply"),
            Figure(
                name=f"{name}: own half minus a stranger's",
                estimate=found.personal,
                reference=0.0,
                against="no person seen",
            ),
        ]
        table.append(_choice_cells(split, found))
        if ("choice", split) in counted and any(value is not None for row in group for value in row.first):
            parts.judge(
                f"{name}: the share of its worth that is kept under the other half", found.kept, 0.0, USEFUL_KEPT
            )
            said = _impersonal(found)
            if said is not None:
                parts.words.append(said)
                parts.verdicts[-1] = "doubtful" if parts.verdicts[-1] == "good" else parts.verdicts[-1]
    if table:
        parts.tables.append(
            Table(
                title="Replies chosen by one part, scored under the other",
                columns=(
                    "parts",
                    "cases",
                    "same choice",
                    "chance",
                    "regret",
                    "worth kept",
                    "same under a stranger's",
                    "own - stranger",
                ),
                rows=tuple(table),
                note="Regret is in points of the reward.",
            )
        )


def _impersonal(found: Choices) -> str | None:
    """Say where a choice is stable because it does not hang on the user at all."""
    if found.personal.users < _LEAST_USERS or judged(found.personal, 0.0, 0.0) == "good":
        return None
    return (
        f"The same reply is chosen under a stranger's half about as often ({_range(found.by_stranger)}) as under the own other half "
        f"({_range(found.agreement)}): that a choice is stable then says nothing about the traits."
    )


def _choice_cells(split: str, found: Choices) -> tuple[str, ...]:
    return (
        split,
        f"{found.agreement.n} of {found.agreement.asked}",
        _range(found.agreement),
        _number(found.chance),
        _range(found.regret),
        _range(found.kept),
        _range(found.by_stranger),
        _range(found.personal),
    )


_BINS = (0.0, 2.0, 4.0, 8.0, float("inf"))
"""Months between two sessions, as the table of drift groups them."""


def _add_gaps(rows: Sequence[GapRow], parts: _Parts) -> None:
    change = slope(rows)
    if change.mean is None:
        return
    parts.figures.append(Figure(name="Drift of traits a month", estimate=change, reference=0.0, against="no drift"))
    cells = []
    for start, end in pairwise(_BINS):
        some = [row for row in rows if start <= row.months < end]
        if some:
            mean = sum(row.agreement for row in some) / len(some)
            cells.append((f"{start:g} to {end:g}", str(len(some)), str(len({row.user for row in some})), _number(mean)))
    parts.tables.append(
        Table(
            title="Agreement of sessions by the months between them",
            columns=("months", "pairs", "users", "agreement"),
            rows=tuple(cells),
        )
    )
    if change.low is None or change.high is None:
        return
    if change.low <= 0 <= change.high:
        parts.words.append(f"No drift is seen: agreement changes by {_range(change, 4)} a month.")
    else:
        parts.words.append(f"What sessions show drifts: agreement changes by {_range(change, 4)} a month.")


def _grouped(rows: Sequence[R], key: Callable[[R], object]) -> list[list[R]]:
    """Return rows in groups of one key, in the order in which keys first come."""
    groups: dict[object, list[R]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return list(groups.values())


def _number(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _range(estimate: Estimate, places: int = 2) -> str:
    if estimate.mean is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.{places}f} (n {estimate.n})"
    return f"{estimate.mean:.{places}f} [{estimate.low:.{places}f}, {estimate.high:.{places}f}]"
