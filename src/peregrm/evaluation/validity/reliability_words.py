"""How reliable a judge is, as the card says it: the verdict, sentences, figures, tables.

The verdict looks at empathy, or at the total where a reward has no empathy, and is the worst of these checks; `unknown` counts only where
nothing worse was found.

- Repeats (ICC(1) within the group), another order of replies or criteria, and criteria written anew (rank correlation within the group):
  `good` from 0.75 with an interval above 0.5, `bad` with an interval below 0.5, else `doubtful`. Koo and Li (Journal of Chiropractic
  Medicine 15, 2016) call reliability below 0.5 poor and from 0.75 on good.
- Places: an effect whose interval excludes 0 is `bad` from half a standard deviation of replies within their group, `doubtful` from a
  fifth (Cohen's medium and small effects); without such an effect an interval within half a deviation is `good`, else `unknown`.

Below five users nothing is said. Where there is no interval over users (below ten of them) repeats go by the F interval over replies; the
rest is then `unknown`, but for a perfect figure, which has no interval because nothing differs. A judge that gives all replies to a
case the same score ranks nothing, however reliably: `bad`. Agreement with other judges is told and counts for nothing here, for the
other judge may be the one who is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from peregrm.evaluation.report import estimate_with_count, format_estimate, format_value
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import LEAST_COVERAGE, Figure, Finding, Table, Verdict
from peregrm.evaluation.validity.reliability import WANTED, Agreement, Change, Noise, Place, Reliability
from peregrm.evaluation.validity.sensitivity import FEW_USERS, main_measure

__all__ = ["MEDIUM", "POOR", "RELIABLE", "SMALL", "reliability_finding"]

RELIABLE, POOR = 0.75, 0.5
"""From here on reliability is called good; below here poor."""

MEDIUM, SMALL = 0.5, 0.2
"""Effects in standard deviations of the replies of a group."""

_TIE = 1e-9

_SAID: dict[Verdict, str] = {"good": "", "doubtful": "DOUBTFUL: ", "bad": "UNRELIABLE: ", "unknown": "TOO FEW DATA: "}
_WORST: tuple[Verdict, ...] = ("bad", "doubtful", "unknown", "good")
_NOTHING = "Nothing could be scored twice."


class _Check(NamedTuple):
    verdict: Verdict
    words: str

    @property
    def sentence(self) -> str:
        return f"{_SAID[self.verdict]}{self.words}"


def reliability_finding(found: Reliability, *, data: Sequence[str], notes: Sequence[str] = ()) -> Finding:
    """Return the finding; `data` says what was judged, `notes` what does not apply to this reward and how things were done."""
    checks = sorted(_checks(found), key=lambda check: _WORST.index(check.verdict))
    verdict: Verdict = checks[0].verdict if checks else "unknown"
    if not found.asked or found.scored / found.asked < LEAST_COVERAGE:
        verdict = "unknown"
    words = [check.sentence for check in checks] or [_NOTHING]
    words += [_agreed(one) for one in found.agreement if one.measure == main_measure(_names(found))]
    if found.scored < found.asked:
        words.append(f"{found.asked - found.scored} of {found.asked} scores could not be had.")
    return Finding(
        part="reliability",
        verdict=verdict,
        words=(*words, *notes),
        figures=tuple(_figures(found)),
        tables=tuple(_tables(found)),
        data=tuple(data),
        asked=found.asked,
        scored=found.scored,
    )


def _names(found: Reliability) -> list[str]:
    return [one.measure for one in found.noise]


def _checks(found: Reliability) -> Iterator[_Check]:
    name = main_measure(_names(found))
    for noise in found.noise:
        if noise.measure == name:
            yield _repeats(noise)
    for change in found.changes:
        if change.measure == name:
            yield _unchanged(change)
    if found.place is not None:
        yield _in_place(found.place)


def _repeats(noise: Noise) -> _Check:
    if noise.spread is not None and noise.spread <= _TIE:
        words = f"all replies to a case get the same {noise.measure}, so nothing is ranked, however often it is asked."
        return _Check("bad", words)
    within, plain = noise.within, noise.plain
    bounds = _interval(within)
    if bounds is None and within.users >= FEW_USERS and plain.low is not None and plain.high is not None:
        bounds = plain.low, plain.high
    deviation = format_value(noise.repeats.deviation, 4)
    often = {None: "more than any number of scores", 1: "one score"}.get(
        noise.needed, f"the mean of {noise.needed} scores"
    )
    return _Check(
        _reliable(within.mean, bounds),
        f"asked again, a reply's {noise.measure} moves by a standard deviation of {deviation}; ICC(1) within the group is "
        f"{estimate_with_count(within)}. A ranking of reliability {WANTED} takes {often}.",
    )


def _unchanged(change: Change) -> _Check:
    kept = format_estimate(change.kept)
    return _Check(
        _reliable(change.rank.mean, _interval(change.rank)),
        f"with {change.way}, the rank correlation of {change.measure} within the group is {estimate_with_count(change.rank)}; "
        f"{kept} of the pairs keep their order; the mean moves by {format_estimate(change.shift, signed=True)}.",
    )


def _in_place(place: Place) -> _Check:
    effect, spread = place.effect, place.spread
    words = f"standing first instead of last gives a reply {format_estimate(effect, signed=True)} of {place.scale}."
    if effect.mean is None or effect.users < FEW_USERS or spread is None:
        return _Check("unknown", words)
    low, high = (effect.mean, effect.mean) if effect.low is None or effect.high is None else (effect.low, effect.high)
    if low > _TIE or high < -_TIE:
        size = abs(effect.mean) / spread if spread > _TIE else MEDIUM
        return _Check("bad" if size >= MEDIUM else "doubtful" if size >= SMALL else "good", words)
    return _Check("good" if max(-low, high) <= max(MEDIUM * spread, _TIE) else "unknown", words)


def _interval(estimate: Estimate) -> tuple[float, float] | None:
    """Return the interval, or 1 twice for a perfect figure of enough users; None where neither is to be had."""
    if estimate.mean is None or estimate.users < FEW_USERS:
        return None
    if estimate.low is not None and estimate.high is not None:
        return estimate.low, estimate.high
    return (1.0, 1.0) if estimate.mean >= 1 - _TIE else None


def _reliable(value: float | None, bounds: tuple[float, float] | None) -> Verdict:
    if value is None or bounds is None:
        return "unknown"
    if bounds[1] < POOR:
        return "bad"
    return "good" if value >= RELIABLE and bounds[0] > POOR else "doubtful"


def _agreed(one: Agreement) -> str:
    return (
        f"{' and '.join(one.alpha.judges)} on {one.measure}: Krippendorff's alpha {estimate_with_count(one.alpha.alpha)}, ICC(A,1) "
        f"{format_estimate(one.absolute)}, ICC(C,1) {format_estimate(one.consistent)}; which of them is right this does not say."
    )


def _figures(found: Reliability) -> Iterator[Figure]:
    for noise in found.noise:
        name = f"{noise.measure}: ICC(1) of repeats within the group"
        yield Figure(name=name, estimate=noise.within, reference=POOR, against="poor reliability")
        name = f"{noise.measure}: ICC(A,1) of repeats over all replies"
        yield Figure(name=name, estimate=noise.absolute, reference=POOR, against="poor reliability")
    for change in found.changes:
        name = f"{change.measure}: rank correlation within the group, {change.way}"
        yield Figure(name=name, estimate=change.rank, reference=POOR, against="poor reliability")
        name = f"{change.measure}: shift, {change.way}"
        yield Figure(name=name, estimate=change.shift, reference=0.0, against="no change")
    if found.place is not None:
        name = f"{found.place.scale}: first place minus last"
        yield Figure(name=name, estimate=found.place.effect, reference=0.0, against="places do not matter")
    for one in found.agreement:
        for name, estimate in (
            ("Krippendorff's alpha", one.alpha.alpha),
            ("ICC(A,1)", one.absolute),
            ("ICC(C,1)", one.consistent),
        ):
            yield Figure(name=f"{one.measure}: {name} of judges", estimate=estimate, reference=0.0, against="chance")


def _tables(found: Reliability) -> Iterator[Table]:
    if found.noise:
        yield Table(
            title="Asked again",
            columns=(
                "measure",
                "deviation",
                "of replies in a group",
                "ICC(1) in a group, users [95 %]",
                "the same, replies [95 %]",
                "ICC(A,1) of all [95 %]",
                f"repeats for {WANTED}",
                "replies",
            ),
            rows=tuple(_noise_row(one) for one in found.noise),
            note="The interval over replies is from F distributions and takes all replies for independent, so it is the narrower one.",
        )
    if found.changes:
        yield Table(
            title="Asked in another way",
            columns=(
                "way",
                "measure",
                "shift [95 %]",
                "deviation",
                "by noise alone",
                "rank in a group [95 %]",
                "order kept [95 %]",
            ),
            rows=tuple(_change_row(one) for one in found.changes),
        )
    if found.agreement:
        yield Table(
            title="Several judges on the same replies",
            columns=("measure", "alpha [95 %]", "ICC(A,1) [95 %]", "ICC(C,1) [95 %]", "rank correlations [95 %]", "n"),
            rows=tuple(_agreement_row(one) for one in found.agreement),
            note="ICC(A,1) is Shrout and Fleiss' (2,1), ICC(C,1) their (3,1). Intervals over users.",
        )


def _noise_row(one: Noise) -> tuple[str, ...]:
    plain = one.plain
    over_replies = "—" if plain.value is None else f"{plain.value:.3f} [no interval]"
    if plain.low is not None and plain.high is not None:
        over_replies = f"{plain.value:.3f} [{plain.low:.3f}, {plain.high:.3f}]"
    return (
        one.measure,
        format_value(one.repeats.deviation, 4),
        format_value(one.spread, 4),
        format_estimate(one.within),
        over_replies,
        format_estimate(one.absolute),
        "—" if one.needed is None else str(one.needed),
        str(one.repeats.replies),
    )


def _change_row(one: Change) -> tuple[str, ...]:
    return (
        one.way,
        one.measure,
        format_estimate(one.shift, signed=True),
        format_value(one.deviation, 4),
        format_value(one.by_noise, 4),
        format_estimate(one.rank),
        format_estimate(one.kept),
    )


def _agreement_row(one: Agreement) -> tuple[str, ...]:
    ranks = "; ".join(f"{pair.one} / {pair.other} {format_estimate(pair.rank)}" for pair in one.pairs)
    estimates = (one.alpha.alpha, one.absolute, one.consistent)
    return (one.measure, *(format_estimate(each) for each in estimates), ranks, str(one.absolute.n))
