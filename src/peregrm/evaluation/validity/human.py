"""Human agreement: how often a judge prefers the reply that people preferred, and whether that is more than two simple rules do.

Accuracy is over pairs: a tie of the judge counts half and is counted; a pair that could not be scored is not covered, and neither right nor
wrong. Two baselines are computed from the same file. *Longer-wins* prefers the reply with more characters. *Source-prior* knows who
wrote the replies and prefers the source that won the larger share of its pairs among all *other* users of the file; a source it has not
seen is a tie. Judge and baseline are compared on the same pairs, by the interval of the difference, clustered by user, and by a
permutation over users. Where the order of ranked replies to own cases is that of their policies, the source-prior holds the answers by
construction: nothing can beat it, and it is not held against a judge. For rated replies there is the rank correlation of score and
level, that of length and level beside it.

Verdict, for each file, by intervals: a judge is *bad* whose accuracy lies below chance, or below a baseline, or includes chance with an
upper end under `NEAR_CHANCE`; *good* if above chance and above both baselines; *doubtful* if above chance alone, or if it is wrong on
most pairs whose better reply is the shorter; else *unknown*: too few pairs. Less than half of the pairs or ratings scored is *unknown*
in any case. A correlation has its rule in `_verdict_of_rank`. Over files:
good if good on all that decide, bad if bad on all, else doubtful. Intervals are not corrected for the number of files. Left out on
purpose: one accuracy over all files, whose pairs mean different things.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from peregrm.evaluation.inference.agreement import spearman
from peregrm.evaluation.inference.intervals import bootstrap_statistic
from peregrm.evaluation.inference.paired import Paired, p_value
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.evaluation.validity.card import LEAST_COVERAGE, Verdict
from peregrm.evaluation.validity.ratings.rows import HumanFile, JudgedFile, JudgedPair, JudgedRating, Pair, Scale
from peregrm.records import Part

__all__ = [
    "CHANCE",
    "LONGER",
    "NEAR_CHANCE",
    "NO_RANK",
    "PRIOR",
    "Baseline",
    "PairAgreement",
    "RatingAgreement",
    "SourceRow",
    "longer_wins",
    "pair_agreement",
    "rank_correlation",
    "rating_agreement",
    "source_prior",
]

CHANCE = 0.5
NEAR_CHANCE = 0.6
"""An interval that includes chance and ends below this shows a judge of no use: people and strong judges agree in about 0.8 of pairs."""

NO_RANK = 0.2
"""The same for a rank correlation: experts reach 0.48 to 0.76 with each other on scales of empathy."""

LONGER, PRIOR = "longer-wins", "source-prior"
_FEWEST = 5
"""Users below which values that do not differ decide nothing."""
_GAPS = 6
"""With up to so many different gaps each is shown for itself, else thirds of the pairs."""
_SHARE = (0.0, 1.0)
_UNCOVERED: tuple[Verdict, str] = ("unknown", "scored less than half of what it was asked for")

Predict = Callable[[Pair], float]
"""How right a rule is on a pair: 1, 0 or, for no prediction, 0.5."""


class Baseline(Part):
    """A rule on the pairs that the judge scored. `difference` is judge minus rule, `p` its two-sided permutation p over users.

    `certain` rules hold the answers by construction and cannot be beaten: the source-prior on replies whose known order is that of their
    policies.
    """

    name: str
    accuracy: Estimate
    difference: Estimate
    p: float | None
    certain: bool

    @property
    def beaten(self) -> bool:
        """Whether the whole interval of the difference lies above 0."""
        return _bounds(self.difference)[0] > 0

    @property
    def ahead(self) -> bool:
        """Whether the whole interval of the difference lies below 0."""
        return not self.certain and _bounds(self.difference)[1] < 0


class SourceRow(Part):
    """The judge's accuracy on pairs that a source's reply won, and on pairs that it lost: far apart, the judge leans on the source."""

    source: str
    won: Estimate
    lost: Estimate


class PairAgreement(Part):
    """One file of pairs. `missing` names baselines that the file has no data for.

    `shorter` and `longer` are the accuracies where the better reply is the shorter and the longer one, `lean` the latter minus the
    former; 0 is a judge that does not look at length, where pairs are equally hard. `gap_rank` is Spearman's correlation of the human
    gap with the judge's difference (better minus worse). `measures` are the accuracies of the judge's other scores.
    """

    name: str
    clusters: str
    pairs: int
    ties: int
    accuracy: Estimate
    baselines: tuple[Baseline, ...]
    missing: tuple[str, ...]
    shorter: Estimate
    longer: Estimate
    lean: Estimate
    gap_rank: Estimate
    gaps: tuple[tuple[str, Estimate], ...]
    sources: tuple[SourceRow, ...]
    measures: tuple[tuple[str, Estimate], ...]
    verdict: Verdict
    reason: str


class RatingAgreement(Part):
    """One scale of one file of ratings: Spearman's correlation of the levels with the judge's score, and with the reply's length."""

    name: str
    clusters: str
    scale: Scale
    rank: Estimate
    length: Estimate
    verdict: Verdict
    reason: str


def longer_wins(pair: Pair) -> float:
    """Return how right the rule is that the reply with more characters is the better one."""
    a, b = len(pair.a.strip()), len(pair.b.strip())
    return 0.5 if a == b else float((a > b) == (pair.better == "a"))


def source_prior(pairs: Sequence[Pair]) -> Predict | None:
    """Return the rule that prefers the source which won more of its pairs with other users; None where no pair names two sources."""
    won: dict[tuple[str, str], int] = defaultdict(int)
    met: dict[tuple[str, str], int] = defaultdict(int)
    for pair in pairs:
        if pair.a_source is None or pair.b_source is None:
            continue
        for side, source in (("a", pair.a_source), ("b", pair.b_source)):
            for user in (pair.user, ""):  # the empty name stands for all users
                met[user, source] += 1
                won[user, source] += side == pair.better
    if not met:
        return None

    def share(source: str | None, user: str) -> float | None:
        if source is None:
            return None
        others = met["", source] - met[user, source]
        return (won["", source] - won[user, source]) / others if others else None

    def right(pair: Pair) -> float:
        a, b = share(pair.a_source, pair.user), share(pair.b_source, pair.user)
        return 0.5 if a is None or b is None or a == b else float((a > b) == (pair.better == "a"))

    return right


def pair_agreement(judged: JudgedFile, *, seed: int) -> PairAgreement:
    """Return what the pairs of a file say about a judge. The source-prior is learned from all pairs of the file, judged or not."""
    pairs = judged.pairs
    prior = source_prior(judged.file.pairs)
    rules: dict[str, Predict] = {LONGER: longer_wins, **({} if prior is None else {PRIOR: prior})}
    accuracy = _accuracy(pairs)
    certain = prior is not None and all(pair.case_id is not None and prior(pair) == 1 for pair in judged.file.pairs)
    baselines = tuple(
        _baseline(name, rule, pairs, seed, certain=certain and name == PRIOR) for name, rule in rules.items()
    )
    shorter = _accuracy([one for one in pairs if longer_wins(one.pair) == 0])
    verdict, reason = _UNCOVERED if _is_uncovered(accuracy) else _verdict(accuracy, baselines, shorter)
    return PairAgreement(
        name=judged.file.name,
        clusters=judged.file.clusters,
        pairs=len(pairs),
        ties=sum(one.right() == 0.5 for one in pairs),
        accuracy=accuracy,
        baselines=baselines,
        missing=() if prior is not None else (PRIOR,),
        shorter=shorter,
        longer=_accuracy([one for one in pairs if longer_wins(one.pair) == 1]),
        lean=_lean(pairs, seed),
        gap_rank=_gap_rank(pairs, seed),
        gaps=tuple(_by_gap(pairs)),
        sources=tuple(_by_source(pairs)),
        measures=tuple((name, _accuracy(pairs, name)) for name in _measures(pairs)),
        verdict=verdict,
        reason=reason,
    )


def _accuracy(pairs: Sequence[JudgedPair], measure: str = "total") -> Estimate:
    return clustered_mean([(one.pair.user, one.right(measure)) for one in pairs], bounds=_SHARE)


def _baseline(name: str, rule: Predict, pairs: Sequence[JudgedPair], seed: int, *, certain: bool) -> Baseline:
    scored = [Paired(one.pair.user, one.right(), rule(one.pair)) for one in pairs]
    there = [one for one in scored if one.a is not None and one.b is not None]
    gaps = [(one.user, None if one.a is None or one.b is None else one.a - one.b) for one in scored]
    return Baseline(
        name=name,
        accuracy=clustered_mean([(one.user, one.b) for one in there], bounds=_SHARE),
        difference=clustered_mean(gaps, bounds=(-1.0, 1.0)),
        p=p_value(there, seed=seed),
        certain=certain,
    )


def _lean(pairs: Sequence[JudgedPair], seed: int) -> Estimate:
    """Return the accuracy where the better reply is longer minus that where it is shorter, drawn over users."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 4)
    asked = n = 0
    for one in pairs:
        right, longer = one.right(), longer_wins(one.pair)
        asked += longer != 0.5
        if right is None or longer == 0.5:
            continue
        place = 0 if longer == 1 else 2
        sums[one.pair.user][place] += right
        sums[one.pair.user][place + 1] += 1
        n += 1
    table = np.array([sums[user] for user in sorted(sums)]).reshape(-1, 4)

    def statistic(drawn: Any) -> float | None:
        right, of, wrong, of_wrong = map(float, drawn @ table)
        return None if not of or not of_wrong else right / of - wrong / of_wrong

    return bootstrap_statistic(len(table), statistic, seed=seed, asked=asked, n=n)


def _gap_rank(pairs: Sequence[JudgedPair], seed: int) -> Estimate:
    by_user: dict[str, list[tuple[float, float]]] = defaultdict(list)
    known = [one for one in pairs if one.pair.gap is not None]
    for one in known:
        gap, difference = one.pair.gap, one.difference()
        if gap is not None and difference is not None:
            by_user[one.pair.user].append((gap, difference))
    return rank_correlation(by_user, seed=seed, asked=len(known))


def rank_correlation(by_user: dict[str, list[tuple[float, float]]], *, seed: int, asked: int) -> Estimate:
    """Return Spearman's correlation, or an estimate without a value where one side has one value only."""
    values = [pair for own in by_user.values() for pair in own]
    if len({x for x, _ in values}) < 2 or len({y for _, y in values}) < 2:
        return Estimate(mean=None, low=None, high=None, n=len(values), users=len(by_user), asked=asked)
    return spearman(by_user, seed=seed, asked=asked)


def _by_gap(pairs: Sequence[JudgedPair]) -> Iterable[tuple[str, Estimate]]:
    gaps = np.array([one.pair.gap for one in pairs if one.pair.gap is not None], dtype=float)
    if not len(gaps):
        return
    values = np.unique(gaps)
    starts = values if len(values) <= _GAPS else np.unique(np.quantile(gaps, [0, 1 / 3, 2 / 3], method="lower"))
    for start, end in zip(starts, [*starts[1:], np.inf], strict=True):
        inside = [one for one in pairs if one.pair.gap is not None and start <= one.pair.gap < end]
        most = max(one.pair.gap or 0.0 for one in inside)
        yield f"{start:g}" if start == most else f"{start:g} to {most:g}", _accuracy(inside)


def _by_source(pairs: Sequence[JudgedPair]) -> Iterable[SourceRow]:
    won: dict[str, list[JudgedPair]] = defaultdict(list)
    lost: dict[str, list[JudgedPair]] = defaultdict(list)
    for one in pairs:
        if one.pair.a_source is not None and one.pair.b_source is not None:
            sources = (one.pair.a_source, one.pair.b_source)
            better, worse = sources if one.pair.better == "a" else sources[::-1]
            won[better].append(one)
            lost[worse].append(one)
    for source in sorted({*won, *lost}, key=lambda s: (-len(won[s]) - len(lost[s]), s)):
        yield SourceRow(source=source, won=_accuracy(won[source]), lost=_accuracy(lost[source]))


def _measures(pairs: Sequence[JudgedPair]) -> list[str]:
    names = dict.fromkeys(name for one in pairs for scores in (one.a, one.b) for name in scores)
    return [name for name in names if name != "total" and any(one.right(name) is not None for one in pairs)]


class _Bounds(NamedTuple):
    low: float
    high: float


def _bounds(estimate: Estimate) -> _Bounds:
    """Return the interval; that of values which do not differ is their value, given users enough, and without one it is everything."""
    if estimate.low is not None and estimate.high is not None:
        return _Bounds(estimate.low, estimate.high)
    if estimate.mean is not None and estimate.interval == "t" and estimate.users >= _FEWEST:
        return _Bounds(estimate.mean, estimate.mean)
    return _Bounds(-np.inf, np.inf)


def _is_uncovered(estimate: Estimate) -> bool:
    return estimate.coverage is not None and estimate.coverage < LEAST_COVERAGE


def _verdict(accuracy: Estimate, baselines: Sequence[Baseline], shorter: Estimate) -> tuple[Verdict, str]:
    low, high = _bounds(accuracy)
    if low <= CHANCE and high < NEAR_CHANCE:
        return "bad", "prefers the worse reply more often than chance" if high < CHANCE else "is no better than chance"
    ahead = [rule.name for rule in baselines if rule.ahead]
    if ahead:
        return "bad", f"is {'above chance but ' if low > CHANCE else ''}worse than {' and '.join(ahead)}"
    if low <= CHANCE:
        return "unknown", "cannot be told from chance"
    level = [rule.name for rule in baselines if not rule.certain and not rule.beaten]
    if level:
        return "doubtful", f"is above chance but does not beat {' and '.join(level)}"
    if _bounds(shorter).high < CHANCE:
        return "doubtful", "is above chance but wrong on most pairs whose better reply is the shorter"
    rules = [rule.name for rule in baselines if not rule.certain]
    return "good", f"is above chance and beats {' and '.join(rules)}" if rules else "is above chance"


def rating_agreement(judged: JudgedFile, *, seed: int) -> list[RatingAgreement]:
    """Return what the ratings of a file say about a judge, one row a scale."""
    scales: dict[str, list[JudgedRating]] = defaultdict(list)
    for one in judged.rated:
        scales[one.rated.scale.name].append(one)
    return [_rating_row(judged.file, rows, seed) for rows in scales.values()]


def _rating_row(file: HumanFile, rows: Sequence[JudgedRating], seed: int) -> RatingAgreement:
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    lengths: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for rated, judged in rows:
        score = judged.get("total")
        if score is not None:
            scores[rated.user].append((rated.level, score))
            lengths[rated.user].append((rated.level, float(len(rated.reply.strip()))))
    rank = rank_correlation(scores, seed=seed, asked=len(rows))
    length = rank_correlation(lengths, seed=seed, asked=len(rows))
    same = len({score for own in scores.values() for _, score in own}) == 1
    verdict, reason = _UNCOVERED if _is_uncovered(rank) else _verdict_of_rank(rank, length, same=same)
    return RatingAgreement(
        name=file.name,
        clusters=file.clusters,
        scale=rows[0].rated.scale,
        rank=rank,
        length=length,
        verdict=verdict,
        reason=reason,
    )


def _verdict_of_rank(rank: Estimate, length: Estimate, *, same: bool) -> tuple[Verdict, str]:
    """Good above 0 and not below length; bad below 0, or around 0 and under `NO_RANK`; doubtful where length does as well; else unknown."""
    if same and rank.users >= _FEWEST:
        return "bad", "gives every reply the same score"
    if rank.mean is None or rank.low is None or rank.high is None:
        return "unknown", "has too few different scores or users for a correlation"
    if rank.high < 0:
        return "bad", "scores replies lower that people rate higher"
    if rank.low <= 0:
        near = rank.high < NO_RANK
        return ("bad", "does not follow the levels") if near else ("unknown", "cannot be told from no relation")
    if length.mean is not None and length.mean >= rank.mean:
        return "doubtful", "follows the levels no better than the length of the reply does"
    return "good", "follows the levels, and better than the length of the reply does"
