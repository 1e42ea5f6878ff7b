"""What calibration comes to on the judge card, and the points of each set, from a judge's scores and people's levels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from peregrm.evaluation.report import format_estimate, format_value
from peregrm.evaluation.validity.calibration import Bin, Calibration, Point, calibrate, sureness
from peregrm.evaluation.validity.card import Diagram, Figure, Finding, Table, Verdict
from peregrm.evaluation.validity.human_words import combine, data_words
from peregrm.evaluation.validity.ratings.files import OWN
from peregrm.evaluation.validity.ratings.rows import JudgedFile, JudgedPair, JudgedRating, Scores

__all__ = ["calibration_finding", "calibrations", "pair_points", "rating_points"]

_LEAST, _POINTS = 0.2, 5.0
"""Empathy is a mean of 1 to 5, divided by 5."""

_OWN = f"{OWN}, pairs"
_NOTHING = "There were no pairs, ratings or ranked replies to calibrate the judge on."


def calibrations(judged: Sequence[JudgedFile], *, seed: int) -> list[Calibration]:
    """Return one calibration for the pairs of each file, and one for each overall scale of its ratings."""
    found: list[Calibration] = []
    for one in judged:
        if one.pairs:
            points = pair_points(one.pairs)
            name = f"{one.file.name}, pairs"
            found.append(calibrate(points, name=name, pairs=True, asked=len(one.pairs), seed=seed))
        scales: dict[str, list[JudgedRating]] = defaultdict(list)
        for row in one.rated:
            if row.rated.scale.headline:
                scales[row.rated.scale.name].append(row)
        for scale, rows in scales.items():
            name = f"{one.file.name}, {scale}"
            found.append(calibrate(rating_points(rows), name=name, pairs=False, asked=len(rows), seed=seed))
    return found


def rating_points(rows: Sequence[JudgedRating]) -> list[Point]:
    """Return the rows that were scored. Empathy is what is calibrated; a reward without it has a total, and no scale to claim."""
    points: list[Point] = []
    for rated, scores in rows:
        score = _number(scores)
        if score is not None:
            claim = None if scores.get("empathy") is None else (score - _LEAST) / (1 - _LEAST)
            level = (rated.level - rated.scale.low) / (rated.scale.high - rated.scale.low)
            points.append(Point(rated.user, score, claim, level))
    return points


def pair_points(pairs: Sequence[JudgedPair]) -> list[Point]:
    """Return the pairs that were scored, by the same number as `rating_points`."""
    points: list[Point] = []
    for one in pairs:
        measure = "empathy" if one.a.get("empathy") is not None else "total"
        difference, right = one.difference(measure), one.right(measure)
        if difference is not None and right is not None:
            distance = abs(difference) * _POINTS
            points.append(Point(one.pair.user, distance, float(sureness(distance)), right))
    return points


def _number(scores: Scores) -> float | None:
    empathy = scores.get("empathy")
    return scores.get("total") if empathy is None else empathy


def calibration_finding(judged: Sequence[JudgedFile], found: Sequence[Calibration]) -> Finding:
    """Return the finding; `found` is what `calibrations` made of the files `judged`.

    Replies of known order, which nobody rated, can speak against a judge but not for what its numbers mean to people.
    """
    rated = [one for one in found if one.name != _OWN or one.verdict != "good"]
    order: list[Verdict] = ["bad", "doubtful", "good", "unknown"]
    ordered = sorted(found, key=lambda one: order.index(one.verdict))
    return Finding(
        part="calibration",
        verdict=combine([one.verdict for one in rated]),
        words=tuple(map(_words, ordered)) or (_NOTHING,),
        figures=tuple(figure for one in found for figure in _figures(one)),
        tables=tuple(table for table in (_errors(found), _bins(found)) if table.rows),
        diagrams=tuple(_diagrams(found)),
        data=tuple(map(data_words, judged)),
        asked=sum(one.asked for one in judged),
        scored=sum(one.scored for one in judged),
    )


def _words(one: Calibration) -> str:
    lead = "TOO LITTLE DATA: " if one.verdict == "unknown" else ""
    before = "has no scale to be read on" if one.error.mean is None else format_estimate(one.error)
    after = ", ".join(f"{format_estimate(each.error)} after {each.method}" for each in one.after)
    share = max((each.explained for each in one.after), key=lambda e: -1.0 if e.mean is None else e.mean)
    said = (
        f"{lead}{one.name}: the judge {one.reason} (calibration error as it stands {before}, {after}; "
        f"calibrated it explains {format_estimate(share)} of the squared error, on users it was not fitted on; n {share.n})."
    )
    return f"{said} Nobody rated them, so this shows nothing of people's levels." if one.name == _OWN else said


def _figures(one: Calibration) -> Iterator[Figure]:
    if one.error.mean is not None:
        name = f"{one.name}: calibration error"
        yield Figure(name=name, estimate=one.error, reference=0.0, against="perfect calibration")
    for each in one.after:
        name = f"{one.name}: calibration error after {each.method}, on users not fitted"
        yield Figure(name=name, estimate=each.error, reference=0.0, against="perfect calibration")
        name = f"{one.name}: squared error explained after {each.method}, on users not fitted"
        yield Figure(name=name, estimate=each.explained, reference=0.0, against="knowing nothing")


def _errors(found: Sequence[Calibration]) -> Table:
    rows: list[tuple[str, ...]] = []
    for one in found:
        rows.append((one.name, "none", format_estimate(one.error), "", str(one.error.n), str(one.error.users)))
        rows += [
            (one.name, each.method, format_estimate(each.error), format_estimate(each.explained), str(each.error.n), "")
            for each in one.after
        ]
    return Table(
        title="Calibration error before and after calibration",
        columns=("data", "calibration", "error [95 %]", "explained [95 %]", "n", "users"),
        rows=tuple(rows),
        note="Errors on a scale of 0 to 1, less what noise adds. Calibration is fitted on one half of the users and tested on the other.",
    )


def _by_method(one: Calibration) -> tuple[tuple[str, tuple[Bin, ...]], ...]:
    return ("none", one.bins), *((after.method, after.bins) for after in one.after)


def _bins(found: Sequence[Calibration]) -> Table:
    return Table(
        title="Reliability diagrams in numbers",
        columns=("data", "calibration", "scores from", "to", "mean score", "mean level [95 %]", "n"),
        rows=tuple(
            (one.name, method, *_bin_cells(each)) for one in found for method, bins in _by_method(one) for each in bins
        ),
        note="All on 0 to 1. For pairs the score is how sure the judge is, the level how often it is right. Calibrated: the diagonal.",
    )


def _diagrams(found: Sequence[Calibration]) -> Iterator[Diagram]:
    for one in found:
        for method, bins in _by_method(one):
            if bins:
                points = tuple((each.score, each.level) for each in bins)
                yield Diagram(data=one.name, calibration=method, points=points)


def _bin_cells(one: Bin) -> tuple[str, ...]:
    ends = (format_value(one.low), format_value(one.high), format_value(one.score))
    return (*ends, format_estimate(one.level), str(one.level.n))
