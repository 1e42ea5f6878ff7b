"""The answers held against the plan: who is left out by its rules, the estimates it names, and where the study went another way.

Left out on purpose: looking for subgroups. What the plan does not name is not tested here; the export has all that another analysis needs.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from peregrm.errors import ArtifactError
from peregrm.records import Part
from peregrm.study.answers import Participant
from peregrm.study.estimates import ChoiceResult, OutcomeResult, estimate_choice, estimate_first, estimate_outcome
from peregrm.study.plan import Exclusions, Plan, read_plan
from peregrm.study.power import Crossed, power_choice, power_ratings
from peregrm.study.rows import Row, read_all

__all__ = ["ArmResult", "Reached", "StudyResult", "analyse_rows", "analyse_study", "exclude"]


class ArmResult(Part):
    """The figures of one arm: A against B."""

    policies: tuple[str, str]
    participants: int
    cases: int
    answers: int
    choice: ChoiceResult
    first: ChoiceResult
    outcomes: tuple[OutcomeResult, ...]


class Reached(Part):
    """How many agreed, answered anything, finished and are in the analysis, and the power of that many under the plan's assumptions."""

    agreed: int
    answering: int
    finished: int
    analysed: int
    planned: int
    power_ratings: float
    power_choice: float


class StudyResult(Part):
    """What a study found. `excluded` counts participants by reason; `deviations` are sentences, none where all went by the plan."""

    plan: Plan
    sha256: str
    reached: Reached
    excluded: dict[str, int]
    deviations: tuple[str, ...]
    main: ArmResult
    own: ArmResult | None = None


def analyse_study(folder: Path, *, registered: str | None = None) -> StudyResult:
    """Analyse the study in `folder`.

    Raises `InputError` where there is nothing to analyse, `ArtifactError` where the plan is not the one that was frozen, that participants
    agreed under, or that was `registered`.
    """
    plan, digest = read_plan(folder)
    if registered is not None and registered.strip().lower() != digest:
        raise ArtifactError(f"{folder}: the plan's hash is {digest}, not the registered {registered}")
    rows, people = read_all(folder, plan)
    strange = sum(person.plan != digest for person in people)
    if strange:
        raise ArtifactError(
            f"{folder}: {strange} of {len(people)} participants agreed under another plan than this one ({digest})"
        )
    return analyse_rows(plan, digest, rows, people)


def analyse_rows(plan: Plan, digest: str, rows: Sequence[Row], people: Sequence[Participant]) -> StudyResult:
    """Analyse the answers of a study."""
    main = [row for row in rows if row.arm == "cases"]
    kept, excluded = exclude(main, plan.exclusions)
    arm = _arm(kept, plan, plan.policies)
    by_person: dict[str, int] = {}
    for row in main:
        by_person[row.participant] = by_person.get(row.participant, 0) + 1
    design = Crossed(plan.per_participant, plan.cases, plan.assumed.icc, plan.assumed.case_icc)
    n = arm.participants
    reached = Reached(
        agreed=len(people),
        answering=len(by_person),
        finished=sum(count == plan.per_participant for count in by_person.values()),
        analysed=n,
        planned=plan.participants,
        power_ratings=power_ratings(plan.assumed.effect, n, design, alpha=plan.alpha, tests=len(plan.outcomes)),
        power_choice=power_choice(plan.assumed.choice_share, n, design, alpha=plan.alpha),
    )
    own = [row for row in rows if row.arm == "own"]
    return StudyResult(
        plan=plan,
        sha256=digest,
        reached=reached,
        excluded=excluded,
        deviations=tuple(_deviations(plan, reached, arm, kept)),
        main=arm,
        own=_arm(own, plan, (own[0].policy_a, own[0].policy_b)) if own else None,
    )


def exclude(rows: Sequence[Row], rules: Exclusions) -> tuple[list[Row], dict[str, int]]:
    """Return the rows of participants who stay, and how many went by reason, each by the first rule that they break."""
    by_person: dict[str, list[Row]] = {}
    for row in rows:
        by_person.setdefault(row.participant, []).append(row)
    reasons = {person: _why(mine, rules) for person, mine in by_person.items()}
    excluded: dict[str, int] = {}
    for reason in filter(None, reasons.values()):
        excluded[reason] = excluded.get(reason, 0) + 1
    return [row for row in rows if not reasons[row.participant]], dict(sorted(excluded.items()))


def _why(rows: Sequence[Row], rules: Exclusions) -> str:
    if len(rows) < rules.min_answers:
        return f"fewer than {rules.min_answers} answers"
    seconds = [row.seconds for row in rows if row.seconds is not None]
    if seconds and statistics.median(seconds) < rules.min_seconds:
        return f"median time on a case below {rules.min_seconds:g} s"
    given = {number for row in rows for side in (row.a, row.b) for number in side.values()}
    if rules.straight_lining and len(rows) > 1 and len(given) == 1:
        return "the same number on everything"
    return ""


def _arm(rows: Sequence[Row], plan: Plan, policies: tuple[str, str]) -> ArmResult:
    outcomes = [estimate_outcome(rows, outcome, seed=plan.seed) for outcome in plan.outcomes]
    return ArmResult(
        policies=policies,
        participants=len({row.participant for row in rows}),
        cases=len({row.case for row in rows}),
        answers=len(rows),
        choice=estimate_choice(rows, seed=plan.seed),
        first=estimate_first(rows, seed=plan.seed),
        outcomes=tuple(_with_holm(outcomes)),
    )


def _with_holm(outcomes: Sequence[OutcomeResult]) -> list[OutcomeResult]:
    known = [
        (place, one.difference.p)
        for place, one in enumerate(outcomes)
        if one.difference and one.difference.p is not None
    ]
    if not known:
        return list(outcomes)
    from statsmodels.stats.multitest import multipletests

    corrected = dict(
        zip([place for place, _ in known], multipletests([p for _, p in known], method="holm")[1], strict=True)
    )
    return [
        one.model_copy(update={"p_holm": float(corrected[place]) if place in corrected else None})
        for place, one in enumerate(outcomes)
    ]


def _deviations(plan: Plan, reached: Reached, arm: ArmResult, kept: Sequence[Row]) -> list[str]:
    said = []
    more = reached.finished - plan.participants
    if more < 0:
        early = "A look before the end is not the planned test."
        said.append(f"{reached.finished} participants have finished; {plan.participants} were planned. {early}")
    elif more:
        said.append(f"{more} more participants have finished than planned: they had begun before it was complete.")
    if reached.analysed < reached.finished:
        said.append(
            f"{reached.finished - reached.analysed} who finished are left out by the plan's rules, which lowers the power."
        )
    if arm.cases < plan.cases and arm.answers:
        said.append(f"{plan.cases - arm.cases} of {plan.cases} cases were answered by nobody in the analysis.")
    if kept and any(row.seconds is None for row in kept):
        said.append("For some answers the time on the page is not known.")
    simpler = [one.name for one in arm.outcomes if one.method == "clustered"]
    if simpler and arm.answers:
        said.append(f"The mixed model could not be fitted for {', '.join(simpler)}: the plan's fallback was used.")
    return said
