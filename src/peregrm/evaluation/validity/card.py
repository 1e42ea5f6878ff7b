"""The judge card: what was measured about one judge, part by part, and the one sentence that stands beside its scores.

A part that was not measured is not on the card's list of findings and is named as missing by the verdict: silence is never praise. Each
part is measured by a module of its own, which turns its result into a `Finding`; this module knows nothing of how. Left out on purpose:
one number for a judge. A judge that tells good from bad may be blind to the person, and a mean over both would hide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part, Usage
from peregrm.reward.guards import Guards

__all__ = [
    "LEAST_COVERAGE",
    "PARTS",
    "Diagram",
    "Figure",
    "Finding",
    "JudgeCard",
    "PartName",
    "Table",
    "Verdict",
    "Way",
    "card_verdict",
]

PartName = Literal["human", "sensitivity", "reliability", "stability", "robustness", "attacks", "calibration"]

PARTS: dict[PartName, str] = {
    "human": "Human agreement",
    "sensitivity": "Personal sensitivity",
    "reliability": "Reliability",
    "stability": "Trait stability",
    "robustness": "Robustness of the gain",
    "attacks": "Attacks",
    "calibration": "Calibration",
}
"""The seven parts in the order of the card, with their titles."""

Verdict = Literal["good", "doubtful", "bad", "unknown"]
"""`good`: shown to hold; `bad`: shown not to; `doubtful`: holds in part; `unknown`: the data are too few to tell."""

LEAST_COVERAGE = 0.5
"""Failures may hang on what is judged: with less than half of the scores the rest stands for nothing, and a verdict is `unknown`."""

Count = Annotated[int, Field(ge=0)]


class Figure(Part):
    """One measured number: its name as the card prints it, its estimate with n and interval, and what to hold it against.

    `reference` is the value that means nothing was found (chance, a baseline, no shift), named by `against`; None where there is none.
    """

    name: str
    estimate: Estimate
    reference: float | None = None
    against: str = ""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        one = self.estimate
        if not all(isfinite(end) for end in (one.mean, one.low, one.high, self.reference) if end is not None):
            raise ValueError("a figure has a number that is not finite")
        if one.low is not None and one.high is not None and one.low > one.high:
            raise ValueError("an interval ends before it begins")
        return self


class Table(Part):
    """Rows that the card prints as they are; numbers in them are formatted by whoever made the table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


Share = Annotated[float, Field(ge=0, le=1)]


class Diagram(Part):
    """A reliability diagram: for every bin of scores their mean and that of the levels, both on 0 to 1, equal where a judge is calibrated.

    `data` names the rows, `calibration` how scores were calibrated before (`none`, or the method).
    """

    data: str
    calibration: str
    points: tuple[tuple[Share, Estimate], ...]


class Finding(Part):
    """What one part found out.

    `words` are sentences for a reader in a hurry, the most important first; `data` names what it was measured on (files, sample, users
    and their number). `asked` and `scored` count judgements, so that the share that failed is known; both are 0 where a part asks no
    judge.
    """

    part: PartName
    verdict: Verdict
    words: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    diagrams: tuple[Diagram, ...] = ()
    data: tuple[str, ...] = ()
    asked: Count = 0
    scored: Count = 0

    @model_validator(mode="after")
    def _scored_what_was_asked(self) -> Self:
        if self.scored > self.asked:
            raise ValueError("more was scored than asked for")
        return self


class Way(Part):
    """How a judge is asked: the same judge asked in another way gives other scores, and a card of one says nothing of the other.

    The defaults are those of a judge for which an option has no meaning. `dimensions` names the set that is judged, `criteria` how
    criteria are made; `temperature` is that of the trials, 0 where there is one. The other fields are those of `PereGRM`.
    """

    dimensions: str = "empathy"
    criteria: str = "none"
    samples: int = 1
    temperature: float = 0.0
    reasons: bool = False
    bystander_weight: float = 0.0
    guards: Guards = Guards()

    def differences(self, other: Way) -> list[str]:
        """Say in what `other` differs, option by option; nothing where the two are the same."""
        known, now = dict(self), dict(other)
        return [
            f"{name.replace('_', ' ')} {known[name]}, not {now[name]}" for name in known if known[name] != now[name]
        ]


class JudgeCard(Part):
    """All findings about one judge, asked by one reward.

    `judge` is the judge's own name as judgements carry it, `reward` the reward's method (`shared`, `paper`, ...), `way` the options it
    was asked by. `findings` are in the order of `PARTS`, each part once.
    """

    version: Literal[1] = 1
    judge: str
    reward: str
    way: Way
    seed: int
    findings: tuple[Finding, ...]
    usage: Usage = Usage()

    @model_validator(mode="after")
    def _each_part_once(self) -> Self:
        if len({finding.part for finding in self.findings}) < len(self.findings):
            raise ValueError("a part stands on the card twice")
        return self

    @property
    def criteria(self) -> str:
        """How criteria were made."""
        return self.way.criteria

    @property
    def missing(self) -> tuple[PartName, ...]:
        """The parts that were not measured."""
        found = {finding.part for finding in self.findings}
        return tuple(part for part in PARTS if part not in found)


def card_verdict(card: JudgeCard) -> str:
    """Return the sentence that stands beside the judge's scores: what it is good for, what not, what nobody measured."""
    groups: dict[Verdict, Sequence[str]] = {
        verdict: [PARTS[finding.part].lower() for finding in card.findings if finding.verdict == verdict]
        for verdict in ("good", "doubtful", "bad", "unknown")
    }
    said = [
        f"{word}: {', '.join(names)}"
        for word, names in (
            ("holds", groups["good"]),
            ("in part", groups["doubtful"]),
            ("FAILS", groups["bad"]),
            ("too little data", groups["unknown"]),
            ("not measured", [PARTS[part].lower() for part in card.missing]),
        )
        if names
    ]
    return "; ".join(said)
