"""Personal sensitivity: whether a judge notices when the person behind a case is another, or nobody.

The same replies are judged under the user's own persona and memories, under another user's, and under none; situation and query stay. A
reply written for this user should lose when the user is swapped, and more than a generic reply does: the generic one is the control, for
criteria made for somebody else may be harder or easier for any reply.

How much of the variance of scores the user explains at all comes from the two-way random model with interaction within each case, score =
reply + user + reply x user + noise, where the users are the own and the swapped one and the noise that between repeats. Components are
the ANOVA estimators of a balanced design (Searle, Casella and McCulloch, Variance Components, 1992, section 4.3), sums of squares added
over the cases; the share is (user + reply x user) / all four. Components below 0 are shown as 0, and so are the share and the ends of
its interval, but they go into it as they are: cut off one by one they would find a user where there is none. The share is relative to
these replies: the more they differ in plain quality, the smaller it gets. What differs between cases is in none of them. Its interval
draws whole users anew; with 10 to 30 users it held planted shares of 0 to 0.4 in 93 to 98 % of simulations.

The verdict looks at empathy, or at the total where a reward has no empathy. `good`: the reply for the user loses (interval above 0), loses
more than the generic one (interval above 0), and does so in at least 0.75 of the cases. `bad`: the interval of that share lies below 0.75,
or the generic one loses more. `doubtful`: one of the three is missing. `unknown`: fewer than five users, less than half of the scores, or
intervals that leave room for both. Values that are the same for all users have no interval; then the mean decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from peregrm.evaluation.inference.intervals import bootstrap_mean, bootstrap_statistic
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import LEAST_COVERAGE, Verdict
from peregrm.records import Part

__all__ = [
    "FEW_USERS",
    "NOTICED",
    "Components",
    "Gaps",
    "JudgedAs",
    "Person",
    "Role",
    "Sensitivity",
    "main_measure",
    "sensitivity",
    "sensitivity_verdict",
]

Role = Literal["personal", "generic"]
"""A reply written for this user, and one that would fit anybody."""

Person = Literal["own", "swapped", "none"]

FEW_USERS = 5
"""Users below which a t interval is so wide that nothing can be said."""

NOTICED = 0.75
"""The share of cases in which the reply for the user must lose by the swap: half way between chance and always."""

_TIE = 1e-9
_SHARE = (0.0, 1.0)


class JudgedAs(Part):
    """One reply to one case, judged as a reply to one person.

    `scores` are the measures by name, None where there is no score; `failure` is the kind of it then. `donor` is the user whose persona
    and memories stood in the case, for `swapped`. `repeat` numbers judgements of the same, from 0.
    """

    user_id: str
    case_id: str
    reply_id: str
    policy: str
    role: Role
    person: Person
    donor: str | None = None
    repeat: int = 0
    scores: tuple[tuple[str, float | None], ...]
    failure: str | None = None


class Gaps(Part):
    """How far a measure falls, on its own scale, when the person is taken away: for personal replies, generic ones, and their difference.

    Each is a mean over cases. `noticed` is the share of cases in which the personal reply scored higher under its own user than under the
    other, a tie half; `generic_noticed` the same for the generic one. `more_than_generic` and `more_than_generic_none` are differences of
    differences: personal minus generic.
    """

    measure: str
    personal_swapped: Estimate
    personal_none: Estimate
    generic_swapped: Estimate
    generic_none: Estimate
    more_than_generic: Estimate
    more_than_generic_none: Estimate
    noticed: Estimate
    generic_noticed: Estimate


class Components(Part):
    """Variances within cases on the measure's squared scale, and the share that the user explains, alone or together with the reply.

    `noise` is None without repeats; what repeats would vary is then part of `reply_by_user`, and `share` is too large by it. `share.n`
    counts cases judged completely; the variances are None where there are none.
    """

    measure: str
    reply: float | None
    user: float | None
    reply_by_user: float | None
    noise: float | None
    share: Estimate


class Sensitivity(Part):
    """Gaps and components of every measure, in the order in which measures first occur; `asked` and `scored` count judged replies."""

    gaps: tuple[Gaps, ...]
    components: tuple[Components, ...]
    cases: int
    users: int
    asked: int
    scored: int


class _CaseMeans(NamedTuple):
    user: str
    means: dict[tuple[Role, Person], float | None]

    def gap(self, role: Role, person: Person) -> float | None:
        """Return own minus `person`, None where one of them is missing."""
        own, other = self.means.get((role, "own")), self.means.get((role, person))
        return None if own is None or other is None else own - other

    def more(self, person: Person) -> float | None:
        """Return the gap of the personal reply minus that of the generic one."""
        personal, generic = self.gap("personal", person), self.gap("generic", person)
        return None if personal is None or generic is None else personal - generic

    def noticed(self, role: Role) -> float | None:
        """Return 1 where the reply lost by the swap, 0 where it won, 0.5 for a tie."""
        gap = self.gap(role, "swapped")
        return None if gap is None else 0.5 if abs(gap) <= _TIE else float(gap > 0)


def sensitivity(rows: Iterable[JudgedAs], *, seed: int) -> Sensitivity:
    """Return what the rows show; their order makes no difference but for the order of measures.

    Every case has at most one personal and one generic reply, each under the same persons and as often repeated.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name, _ in row.scores))
    names = [name for name in names if any(dict(row.scores).get(name) is not None for row in rows)]
    return Sensitivity(
        gaps=tuple(_gaps(name, _case_means(rows, name), seed) for name in names),
        components=tuple(_components(name, rows, seed) for name in names),
        cases=len({row.case_id for row in rows}),
        users=len({row.user_id for row in rows}),
        asked=len(rows),
        scored=sum(row.failure is None for row in rows),
    )


def main_measure(names: Sequence[str]) -> str | None:
    """Return the measure that verdicts go by: empathy, the total where a reward has none, None where nothing was scored."""
    return next((name for name in ("empathy", "total") if name in names), None)


def _case_means(rows: Sequence[JudgedAs], measure: str) -> list[_CaseMeans]:
    values: dict[tuple[str, str], dict[tuple[Role, Person], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        value = dict(row.scores).get(measure)
        own = values[row.user_id, row.case_id]
        if value is not None:
            own[row.role, row.person].append(value)
    return [
        _CaseMeans(user, {key: math.fsum(some) / len(some) for key, some in sorted(values[user, case].items())})
        for user, case in sorted(values)
    ]


def _gaps(measure: str, cases: Sequence[_CaseMeans], seed: int) -> Gaps:
    def mean(value: Callable[[_CaseMeans], float | None], bounds: tuple[float, float] | None = None) -> Estimate:
        pairs = [(case.user, value(case)) for case in cases]
        return bootstrap_mean(pairs, seed=seed, bounds=bounds or (-math.inf, math.inf))

    return Gaps(
        measure=measure,
        personal_swapped=mean(lambda case: case.gap("personal", "swapped")),
        personal_none=mean(lambda case: case.gap("personal", "none")),
        generic_swapped=mean(lambda case: case.gap("generic", "swapped")),
        generic_none=mean(lambda case: case.gap("generic", "none")),
        more_than_generic=mean(lambda case: case.more("swapped")),
        more_than_generic_none=mean(lambda case: case.more("none")),
        noticed=mean(lambda case: case.noticed("personal"), _SHARE),
        generic_noticed=mean(lambda case: case.noticed("generic"), _SHARE),
    )


def _components(measure: str, rows: Sequence[JudgedAs], seed: int) -> Components:
    asked = len({row.case_id for row in rows})
    blocks = _blocks(rows, measure)
    if not blocks:
        nothing = Estimate(mean=None, low=None, high=None, n=0, users=0, asked=asked)
        return Components(measure=measure, reply=None, user=None, reply_by_user=None, noise=None, share=nothing)
    shape = blocks[0][1].shape
    users = sorted({user for user, _ in blocks})
    sums = np.zeros((len(users), 5))
    for user, block in blocks:
        sums[users.index(user)] += _sums_of_squares(block)
    share = bootstrap_statistic(
        len(users),
        lambda drawn: _share(_variances(drawn @ sums, shape)),
        seed=seed,
        asked=asked,
        n=len(blocks),
        expanded=True,
    )
    reply, user_alone, both, noise = (max(0.0, value) for value in _variances(sums.sum(axis=0), shape))
    return Components(
        measure=measure,
        reply=reply,
        user=user_alone,
        reply_by_user=both,
        noise=noise if shape[2] > 1 else None,
        share=share.model_copy(update={name: _clipped(getattr(share, name)) for name in ("mean", "low", "high")}),
    )


def _clipped(value: float | None) -> float | None:
    return None if value is None else min(1.0, max(0.0, value))


def _blocks(rows: Sequence[JudgedAs], measure: str) -> list[tuple[str, Any]]:
    """Return user and (reply, person, repeat) array of every case that was judged completely under its own and another user."""
    repeats = 1 + min(
        (max((row.repeat for row in rows if row.person == person), default=0) for person in ("own", "swapped")),
        default=0,
    )
    cells: dict[tuple[str, str], dict[tuple[int, int, int], float]] = defaultdict(dict)
    for row in rows:
        value = dict(row.scores).get(measure)
        if value is not None and row.person != "none" and row.repeat < repeats:
            place = (int(row.role == "generic"), int(row.person == "swapped"), row.repeat)
            cells[row.user_id, row.case_id][place] = value
    shape = (2, 2, repeats)
    whole = [(user, cells[user, case]) for user, case in sorted(cells) if len(cells[user, case]) == math.prod(shape)]
    return [(user, np.array([known[place] for place in np.ndindex(shape)]).reshape(shape)) for user, known in whole]


def _sums_of_squares(block: Any) -> Any:
    """Return the sums of squares of reply, user, reply x user and noise of one case, and 1 for the case."""
    replies, persons, repeats = block.shape
    middle, cells = block.mean(), block.mean(axis=2)
    by_reply, by_person = cells.mean(axis=1) - middle, cells.mean(axis=0) - middle
    both = cells - middle - by_reply[:, None] - by_person[None, :]
    return np.array(
        [
            persons * repeats * float((by_reply**2).sum()),
            replies * repeats * float((by_person**2).sum()),
            repeats * float((both**2).sum()),
            float(((block - cells[:, :, None]) ** 2).sum()),
            1.0,
        ]
    )


def _variances(sums: Any, shape: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """Return the components of reply, user, reply x user and noise from sums over cases of this shape."""
    replies, persons, repeats = shape
    of_reply, of_user, of_both, of_noise, cases = map(float, sums)
    r, u = replies - 1, persons - 1
    noise = of_noise / (cases * replies * persons * (repeats - 1)) if repeats > 1 else 0.0
    both = of_both / (cases * r * u)
    return (
        (of_reply / (cases * r) - both) / (persons * repeats),
        (of_user / (cases * u) - both) / (replies * repeats),
        (both - noise) / repeats,
        noise,
    )


def _share(variances: tuple[float, float, float, float]) -> float | None:
    reply, user, both, noise = variances
    everything = reply + user + both + noise
    return None if everything <= _TIE**2 else (user + both) / everything


def sensitivity_verdict(found: Sensitivity) -> Verdict:
    """Return the verdict by the rules of this module."""
    gaps: Mapping[str, Gaps] = {one.measure: one for one in found.gaps}
    name = main_measure(list(gaps))
    if name is None or not found.asked or found.scored / found.asked < LEAST_COVERAGE:
        return "unknown"
    loses, more, noticed = (_bounds(e) for e in _of_verdict(gaps[name]))
    if loses is None or noticed is None:
        return "unknown"
    if noticed[1] < NOTICED or (more is not None and more[1] < -_TIE):
        return "bad"
    shown = [loses[0] > _TIE, more is not None and more[0] > _TIE]
    often = gaps[name].noticed.mean
    if all(shown) and often is not None and often >= NOTICED:
        return "good"
    return "doubtful" if any(shown) else "unknown"


def _of_verdict(gaps: Gaps) -> tuple[Estimate, Estimate, Estimate]:
    return gaps.personal_swapped, gaps.more_than_generic, gaps.noticed


def _bounds(estimate: Estimate) -> tuple[float, float] | None:
    """Return the interval, or the mean twice where all of enough users agree; None where too few are there."""
    if estimate.mean is None or estimate.users < FEW_USERS:
        return None
    if estimate.low is None or estimate.high is None:
        return estimate.mean, estimate.mean
    return estimate.low, estimate.high
