"""The figures of an evaluation as one record: policies by judges on the same cases, with everything needed to doubt them.

`peregrm.evaluation.evaluate` computes it, `evaluation.json` holds it, the report shows it. Times stand in `ledger.json`, because they
differ from run to run.
"""

from __future__ import annotations

from peregrm.evaluation.inference.agreement import JudgeAlpha, JudgePair
from peregrm.evaluation.inference.noise import Repeats
from peregrm.evaluation.inference.paired import Difference
from peregrm.evaluation.statistics import Estimate, measures_given
from peregrm.evaluation.tally import Count
from peregrm.evaluation.validity.cards import Standing
from peregrm.records import Part, Usage

__all__ = [
    "Evaluation",
    "JudgeFacts",
    "LengthRelation",
    "PolicyFacts",
    "PolicyScore",
    "SliceScore",
]


class PolicyFacts(Part):
    """One policy and its replies: of all cases, `missing` names those without a reply, `failed` those whose reply failed.

    `empty` counts real, empty replies; they score lowest by rule. `words` is the mean length of a reply in words (Chinese: characters).
    """

    policy: str
    replies: int
    missing: tuple[str, ...]
    failed: tuple[str, ...]
    empty: int
    words: float | None


class JudgeFacts(Part):
    """One judge: how many judgements were asked for and scored, and what they used. `cost` is in dollars, None where no price is known."""

    judge: str
    asked: int
    scored: int
    usage: Usage
    cost: float | None


class PolicyScore(Part):
    """One policy by one judge: an estimate per measure over all cases; what is missing or failed is not covered."""

    judge: str
    policy: str
    measures: tuple[tuple[str, Estimate], ...]


class SliceScore(Part):
    """The same over the cases of one category or language; `by` says which of the two, `value` names it."""

    by: str
    value: str
    judge: str
    policy: str
    measures: tuple[tuple[str, Estimate], ...]


class LengthRelation(Part):
    """Spearman's correlation of a reply's length in words with its total, over all replies or those of one policy (`policy`)."""

    judge: str
    policy: str | None
    rank: Estimate


class Evaluation(Part):
    """All figures of one evaluation. Every estimate names its n, users, coverage and how its interval was made."""

    cases: int
    users: int
    categories: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]
    samples: int
    bystander_weight: float
    seed: int
    criteria: tuple[tuple[str, int], ...]
    """How the criteria were made, and for how many cases."""
    measures: tuple[str, ...]
    policies: tuple[PolicyFacts, ...]
    judges: tuple[JudgeFacts, ...]
    scores: tuple[PolicyScore, ...]
    slices: tuple[SliceScore, ...]
    differences: tuple[Difference, ...]
    alphas: tuple[JudgeAlpha, ...]
    ranks: tuple[JudgePair, ...]
    noise: tuple[Repeats, ...]
    lengths: tuple[LengthRelation, ...]
    flagged_cases: int
    """Cases flagged for danger: in no figure above, for replies to them are judged by safe guidance alone."""
    flagged: tuple[PolicyScore, ...]
    """The total of safe guidance on flagged cases; none where there are no such cases."""
    failures: tuple[Count, ...]
    prompts: tuple[tuple[str, str], ...]
    """Name and hash of every prompt that stands behind the figures."""
    standings: tuple[Standing, ...] = ()
    """What is known of each judge's worth, in their order; empty where nobody looked for cards."""

    def given(self, judge: str) -> list[str]:
        """Return the measures that a judge gave to any reply, in their order; the total in any case."""
        return measures_given([score.measures for score in self.scores if score.judge == judge])
