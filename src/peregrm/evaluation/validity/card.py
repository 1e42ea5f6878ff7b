"""The judge card: what was measured about one judge, part by part, and the one sentence that stands beside its scores.

A part that was not measured is not on the card's list of findings and is named as missing by the verdict: silence is never praise. Each
part is measured by a module of its own, which turns its result into a `Finding`; this module knows nothing of how. Left out on purpose:
one number for a judge. A judge that tells good from bad may be blind to the person, and a mean over both would hide it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part, Usage

__all__ = ["PARTS", "Figure", "Finding", "JudgeCard", "PartName", "Table", "Verdict", "card_verdict"]

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


class Figure(Part):
    """One measured number: its name as the card prints it, its estimate with n and interval, and what to hold it against.

    `reference` is the value that means nothing was found (chance, a baseline, no shift), named by `against`; None where there is none.
    """

    name: str
    estimate: Estimate
    reference: float | None = None
    against: str = ""


class Table(Part):
    """Rows that the card prints as they are; numbers in them are formatted by whoever made the table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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
    data: tuple[str, ...] = ()
    asked: int = 0
    scored: int = 0


class JudgeCard(Part):
    """All findings about one judge, asked by one reward.

    `judge` is the judge's own name as judgements carry it, `reward` the reward's method (`shared`, `paper`, ...), `criteria` how
    criteria were made. `findings` are in the order of `PARTS`.
    """

    version: int = 1
    judge: str
    reward: str
    criteria: str
    seed: int
    findings: tuple[Finding, ...]
    usage: Usage = Usage()

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
