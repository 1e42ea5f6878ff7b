"""What human agreement comes to on the judge card: one sentence a file, the figures behind it, and the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peregrm.evaluation.page.wording import format_p
from peregrm.evaluation.report import format_estimate, format_value
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import Figure, Finding, Table, Verdict
from peregrm.evaluation.validity.human import CHANCE, Baseline, PairAgreement, RatingAgreement
from peregrm.evaluation.validity.ratings.files import OWN
from peregrm.evaluation.validity.ratings.rows import JudgedFile

__all__ = ["combine", "data_words", "human_finding"]

_MOST_SOURCES = 20
_NOTHING = "There were no pairs, ratings or ranked replies to hold the judge against."


def human_finding(
    judged: Sequence[JudgedFile], pairs: Sequence[PairAgreement], ratings: Sequence[RatingAgreement]
) -> Finding:
    """Return the finding; `pairs` and `ratings` are those of the files `judged`.

    Replies of known order, which nobody rated, can speak against a judge but not for its agreement with people.
    """
    decisive = [one for one in ratings if one.scale.headline]
    rated = [one for one in pairs if one.name != OWN or one.verdict != "good"]
    verdict = combine([*(one.verdict for one in rated), *(one.verdict for one in decisive)])
    order: list[Verdict] = ["bad", "doubtful", "good", "unknown"]
    said = [*((one.verdict, _pair_words(one)) for one in pairs), *((one.verdict, _rank_words(one)) for one in decisive)]
    said.sort(key=lambda pair: order.index(pair[0]))
    return Finding(
        part="human",
        verdict=verdict,
        words=tuple(words for _, words in said) + tuple(_warnings(pairs)) + tuple(_gaps_in(judged)) or (_NOTHING,),
        figures=tuple(_figures(pairs, ratings)),
        tables=tuple(_tables(pairs, ratings)),
        data=tuple(map(data_words, judged)),
        asked=sum(one.asked for one in judged),
        scored=sum(one.scored for one in judged),
    )


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return one verdict over several sets of data: those too small to tell do not count."""
    known = {verdict for verdict in verdicts if verdict != "unknown"}
    if not known:
        return "unknown"
    return next(iter(known)) if len(known) == 1 else "doubtful"


def data_words(judged: JudgedFile) -> str:
    """Say what was used of a file."""
    file = judged.file
    users = {one.pair.user for one in judged.pairs} | {one.rated.user for one in judged.rated}
    counts = [f"{len(judged.pairs)} of {len(file.pairs)} pairs"] if file.pairs else []
    counts += [f"{len(judged.rated)} of {len(file.rated)} ratings"] if file.rated else []
    left = [f"{count} times left out: {reason}" for reason, count in file.left_out]
    return "; ".join(
        [f"{file.name} ({file.format}): {', '.join(counts)}", f"{len(users)} clusters: {file.clusters}", *left]
    )


def _pair_words(one: PairAgreement) -> str:
    rules = ", ".join(
        f"{rule.name} {_share(rule.accuracy)}{' (holds the answers by construction)' if rule.certain else ''}"
        for rule in one.baselines
    )
    missing = f"; no sources are named, so there is no {' or '.join(one.missing)}" if one.missing else ""
    lead = "TOO FEW PAIRS: " if one.verdict == "unknown" else ""
    said = f"{lead}{one.name}: the judge {one.reason}: {format_estimate(one.accuracy)} of {one.accuracy.n} pairs ({rules}{missing})."
    return f"{said} Nobody rated them, so this shows no agreement with people." if one.name == OWN else said


def _rank_words(one: RatingAgreement) -> str:
    lead = "TOO FEW RATINGS: " if one.verdict == "unknown" else ""
    found = f"rank correlation {format_estimate(one.rank)}, n {one.rank.n}, length alone {_share(one.length)}"
    return f"{lead}{one.name}, {one.scale.name}: the judge {one.reason} ({found})."


def _share(estimate: Estimate) -> str:
    return format_value(estimate.mean, 2)


def _warnings(pairs: Sequence[PairAgreement]) -> Iterator[str]:
    for one in pairs:
        low, high = one.lean.low, one.lean.high
        if low is not None and high is not None and (low > 0 or high < 0):
            sides = f"right on {_share(one.longer)} of pairs where it is longer, on {_share(one.shorter)} where it is shorter"
            yield f"{one.name}: the judge leans to the {'longer' if low > 0 else 'shorter'} reply: the better reply is found {sides}."
        if one.accuracy.n and one.ties > one.accuracy.n / 2:
            yield f"{one.name}: {one.ties} of {one.accuracy.n} pairs are ties: the judge mostly sees no difference."


def _gaps_in(judged: Sequence[JudgedFile]) -> Iterator[str]:
    asked, scored = sum(one.asked for one in judged), sum(one.scored for one in judged)
    if scored < asked:
        yield f"{asked - scored} of {asked} replies could not be scored; pairs with them are left out, not counted as wrong."
    for one in judged:
        if "no row names a user" in one.file.clusters or "name no user" in one.file.clusters:
            yield f"{one.file.name} does not name its users; its clusters are {one.file.clusters}."


def _figures(pairs: Sequence[PairAgreement], ratings: Sequence[RatingAgreement]) -> Iterator[Figure]:
    for one in pairs:
        yield Figure(name=f"{one.name}: accuracy", estimate=one.accuracy, reference=CHANCE, against="chance")
        for rule in one.baselines:
            name = f"{one.name}: accuracy minus {rule.name}"
            yield Figure(name=name, estimate=rule.difference, reference=0.0, against=rule.name)
        name = f"{one.name}: accuracy where the better reply is shorter"
        yield Figure(name=name, estimate=one.shorter, reference=CHANCE, against="chance")
        name = f"{one.name}: accuracy, longer minus shorter"
        yield Figure(name=name, estimate=one.lean, reference=0.0, against="no lean to length")
        if one.gap_rank.asked:
            name = f"{one.name}: rank correlation with the human gap"
            yield Figure(name=name, estimate=one.gap_rank, reference=0.0, against="no relation")
    for row in ratings:
        name = f"{row.name}: rank correlation with {row.scale.name}"
        yield Figure(name=name, estimate=row.rank, reference=0.0, against="no relation")


def _tables(pairs: Sequence[PairAgreement], ratings: Sequence[RatingAgreement]) -> Iterator[Table]:
    if pairs:
        yield Table(
            title="Pairs: judge and baselines",
            columns=("file", "who", "accuracy [95 %]", "judge minus it [95 %]", "p", "pairs", "ties"),
            rows=tuple(row for one in pairs for row in _rule_rows(one)),
            note="0.5 is chance; ties count half. Intervals and p are clustered by user; p is two-sided.",
        )
    if parts := [row for one in pairs for row in _part_rows(one)]:
        yield Table(
            title="Pairs: accuracy by part",
            columns=("file", "pairs", "accuracy [95 %]", "n", "users"),
            rows=tuple(parts),
            note="The better reply longer or shorter by characters; gaps in the unit of the file; the judge's other scores last.",
        )
    if sources := [row for one in pairs for row in _source_rows(one)]:
        yield Table(
            title="Pairs: accuracy by source of a reply",
            columns=("file", "source", "when people prefer it [95 %]", "n", "when they do not [95 %]", "n"),
            rows=tuple(sources),
            note="Far apart, the judge leans to the source (left higher) or against it (right higher).",
        )
    if ratings:
        yield Table(
            title="Ratings: rank correlation with the levels",
            columns=("file", "scale", "judge [95 %]", "length alone [95 %]", "n", "users"),
            rows=tuple(
                (
                    one.name,
                    f"{one.scale.name}, {one.scale.low:g} to {one.scale.high:g}",
                    format_estimate(one.rank),
                    format_estimate(one.length),
                    str(one.rank.n),
                    str(one.rank.users),
                )
                for one in ratings
            ),
            note="Spearman's; several scales of one file are shown, the verdict rests on the overall one.",
        )


def _rule_rows(one: PairAgreement) -> Iterator[tuple[str, ...]]:
    count = f"{one.accuracy.n}/{one.pairs}"
    yield (one.name, "judge", format_estimate(one.accuracy), "", "", count, str(one.ties))
    for rule in one.baselines:
        yield (
            one.name,
            rule.name,
            format_estimate(rule.accuracy),
            _difference(rule),
            format_p(rule.p),
            str(rule.accuracy.n),
            "",
        )


def _difference(rule: Baseline) -> str:
    return "(holds the answers)" if rule.certain else format_estimate(rule.difference)


def _part_rows(one: PairAgreement) -> Iterator[tuple[str, ...]]:
    named = [("better is longer", one.longer), ("better is shorter", one.shorter)]
    named += [(f"gap {label}", estimate) for label, estimate in one.gaps]
    named += [(f"by {measure} alone", estimate) for measure, estimate in one.measures]
    for label, estimate in named:
        yield (one.name, label, format_estimate(estimate), str(estimate.n), str(estimate.users))


def _source_rows(one: PairAgreement) -> Iterator[tuple[str, ...]]:
    for row in one.sources[:_MOST_SOURCES]:
        won, lost = format_estimate(row.won), format_estimate(row.lost)
        yield (one.name, row.source, won, str(row.won.n), lost, str(row.lost.n))
