"""What was found out about a judge's personal sensitivity, as the card says it: sentences, figures, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from peregrm.evaluation.report import estimate_with_count, format_estimate, format_value
from peregrm.evaluation.validity.card import Figure, Finding, Table, Verdict
from peregrm.evaluation.validity.sensitivity import (
    NOTICED,
    Components,
    Gaps,
    JudgedAs,
    Sensitivity,
    main_measure,
    sensitivity,
    sensitivity_verdict,
)

__all__ = ["sensitivity_finding"]

_NOTHING = "No reply that was written for its user could be scored under its user and under another."
_LEADS: dict[Verdict, str] = {
    "good": "The judge notices the person",
    "doubtful": "The judge notices the person in part",
    "bad": "THE JUDGE DOES NOT NOTICE THE PERSON",
    "unknown": "TOO FEW DATA to tell whether the judge notices the person",
}


def sensitivity_finding(
    rows: Iterable[JudgedAs], *, seed: int, data: Sequence[str], notes: Sequence[str] = ()
) -> Finding:
    """Return the finding of these rows; `data` says what was judged, `notes` what a reader must know of how."""
    found = sensitivity(rows, seed=seed)
    gaps = {one.measure: one for one in found.gaps}
    name = main_measure(list(gaps))
    verdict = sensitivity_verdict(found)
    words = [_NOTHING] if name is None else [*_words(verdict, gaps[name]), _explained(_main(found, name))]
    if found.scored < found.asked:
        words.append(
            f"{found.asked - found.scored} of {found.asked} judgements failed; cases are left out of what they are missing in."
        )
    return Finding(
        part="sensitivity",
        verdict=verdict,
        words=(*words, *notes),
        figures=tuple(_figures(found)),
        tables=tuple(_tables(found)) if found.gaps else (),
        data=tuple(data),
        asked=found.asked,
        scored=found.scored,
    )


def _main(found: Sensitivity, name: str) -> Components:
    return next(one for one in found.components if one.measure == name)


def _words(verdict: Verdict, gaps: Gaps) -> Iterator[str]:
    swapped, noticed = gaps.personal_swapped, gaps.noticed
    yield (
        f"{_LEADS[verdict]}: a reply written for its user loses {estimate_with_count(swapped)} of {gaps.measure} when the user is another, "
        f"and loses in {estimate_with_count(noticed)} of the cases (chance 0.5, wanted {NOTICED})."
    )
    if gaps.more_than_generic.mean is None:
        yield "There was no generic reply to compare with: a loss may be that of any reply under other criteria."
    else:
        yield (
            f"A generic reply loses {format_estimate(gaps.generic_swapped)}; the difference, which is what the person is worth, "
            f"is {format_estimate(gaps.more_than_generic)}."
        )
    if gaps.personal_none.mean is not None:
        personal, generic = format_estimate(gaps.personal_none), format_estimate(gaps.generic_none)
        yield f"Under no person at all the reply loses {personal}, a generic one {generic}."


def _explained(found: Components) -> str:
    if found.share.mean is None:
        return "No case was judged completely, or nothing differed, so there is no share of variance that the user explains."
    of = f"of the variance of {found.measure} within cases, alone or together with the reply"
    noise = "" if found.noise is not None else ", noise included, for nothing was repeated"
    return f"The user explains {estimate_with_count(found.share)} {of}{noise}."


def _figures(found: Sensitivity) -> Iterator[Figure]:
    for gaps in found.gaps:
        name = f"{gaps.measure}: own minus swapped"
        yield Figure(name=name, estimate=gaps.personal_swapped, reference=0.0, against="the swap makes no difference")
        name = f"{gaps.measure}: own minus nobody"
        yield Figure(name=name, estimate=gaps.personal_none, reference=0.0, against="the person makes no difference")
        name = f"{gaps.measure}: own minus swapped, personal minus generic"
        yield Figure(name=name, estimate=gaps.more_than_generic, reference=0.0, against="as the generic reply")
        name = f"{gaps.measure}: share of cases in which the swap is noticed"
        yield Figure(name=name, estimate=gaps.noticed, reference=0.5, against="chance")
    for components in found.components:
        name = f"{components.measure}: share of variance that the user explains"
        yield Figure(name=name, estimate=components.share, reference=0.0, against="the person makes no difference")


def _tables(found: Sensitivity) -> Iterator[Table]:
    yield Table(
        title="What a reply loses without its person",
        columns=(
            "measure",
            "reply",
            "own - swapped [95 %]",
            "own - nobody [95 %]",
            "swap noticed [95 %]",
            "n",
            "users",
        ),
        rows=tuple(row for one in found.gaps for row in _gap_rows(one)),
        note="Means over cases, intervals over users. Ties are half noticed. The difference is personal minus generic.",
    )
    yield Table(
        title="Where the variance of scores within a case comes from",
        columns=("measure", "reply", "user", "reply x user", "noise", "user explains [95 %]", "cases"),
        rows=tuple(
            (
                one.measure,
                *(format_value(v, 5) for v in (one.reply, one.user, one.reply_by_user, one.noise)),
                format_estimate(one.share),
                str(one.share.n),
            )
            for one in found.components
        ),
        note=(
            "Components of the balanced two-way random model, (user + reply x user) / all. Of these two replies and two users a case: "
            "other replies give another share."
        ),
    )


def _gap_rows(one: Gaps) -> Iterator[tuple[str, ...]]:
    rows = (
        ("for the user", one.personal_swapped, one.personal_none, one.noticed),
        ("generic", one.generic_swapped, one.generic_none, one.generic_noticed),
        ("difference", one.more_than_generic, one.more_than_generic_none, None),
    )
    for label, swapped, none, noticed in rows:
        share = "" if noticed is None else format_estimate(noticed)
        counts = (str(swapped.n), str(swapped.users))
        yield (
            one.measure,
            label,
            format_estimate(swapped, signed=True),
            format_estimate(none, signed=True),
            share,
            *counts,
        )
