"""From the judgements of one reply to its reward: pure, so that every figure can be recomputed from the artifact without a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from peregrm.dimensions import Dimension
from peregrm.errors import ArtifactError
from peregrm.records import Case, Criteria, Failure, Judgement, Reply, Reward
from peregrm.reward.aggregate import (
    arithmetic_mean,
    bystander_share,
    harmonic_mean,
    mean_of_scored,
    total_reward,
    weighted_score,
)
from peregrm.reward.guards import Guards, measure, penalty

__all__ = ["STAGE", "Rules", "add_up", "check_trials", "reward_of", "unscored", "why_no_total"]

STAGE = "reward"


@dataclass(frozen=True)
class Rules:
    """How judgements become a reward.

    `quorum` is the share of trials that must be scored, 0 to 1, for there to be a score. `bystander_weight` is the lambda of the total.
    `arithmetic` takes the arithmetic mean of the dimensions instead of the harmonic one. `guards` take something off for length,
    recital and flattery.
    """

    method: str
    judge: str
    dimensions: tuple[Dimension, ...]
    quorum: float = 0.5
    bystander_weight: float = 0.5
    arithmetic: bool = False
    guards: Guards = field(default_factory=Guards)


def add_up(
    rules: Rules, case: Case, criteria: Criteria | None, reply: Reply, judgements: Sequence[Judgement]
) -> Reward:
    """Return the reward of one reply from all its judgements, scored and unscored; without any there is none."""
    if not judgements:
        return unscored(rules, case, reply, _why_nothing(criteria, reply))
    trials = _trials(rules.dimensions, criteria, judgements)
    scores = {name: _fifth(mean_of_scored(values, rules.quorum)) for name, values in trials.items()}
    mean = arithmetic_mean if rules.arithmetic else harmonic_mean
    empathy = mean(list(scores.values()))
    points = [j.bystander for j in judgements if j.aspect == "bystander"]
    shares = [bystander_share([value for _, value in p]) if p else None for p in points]
    bystander = mean_of_scored(shares, rules.quorum)
    before = total_reward(empathy, bystander, rules.bystander_weight)
    measured = measure(case, reply.text)
    taken = penalty(rules.guards, measured)
    total = None if before is None else before - taken
    return Reward(
        case_id=case.id,
        reply_id=reply.id,
        policy=reply.policy,
        judge=rules.judge,
        method=rules.method,
        scores=tuple(scores.items()),
        empathy=empathy,
        bystander=bystander,
        total=total,
        measured=measured,
        penalty=None if total is None else taken,
        coverage=sum(j.failure is None for j in judgements) / len(judgements),
        judgement_ids=tuple(j.id for j in judgements),
        failure=why_no_total(judgements) if total is None else None,
    )


def _trials(
    dimensions: Sequence[Dimension], criteria: Criteria | None, judgements: Sequence[Judgement]
) -> dict[str, list[float | None]]:
    """Return the score of every trial by dimension, 1 to 5, None where the trial has none."""
    weights = {} if criteria is None else {name: [item.weight for item in items] for name, items in criteria.items}
    trials: dict[str, list[float | None]] = {dimension.name: [] for dimension in dimensions}
    for judgement in judgements:
        scores = dict(judgement.item_scores or ())
        for name, values in trials.items():
            if judgement.aspect == "dimensions":
                values.append(weighted_score(scores[name], weights[name]) if scores else None)
            elif judgement.aspect == name:
                values.append(scores[name][0] if scores else None)
    return trials


def check_trials(
    judge: str,
    criteria: Criteria | None,
    reply: Reply,
    judgements: Sequence[Judgement],
    wanted: Mapping[tuple[str, int], int],
) -> None:
    """Raise `ArtifactError` where judgements are not of this reply, criteria and judge, or not exactly the (aspect, trial) `wanted`."""
    own = (reply.id, None if criteria is None else criteria.id, judge)
    strangers = [j.id for j in judgements if (j.reply_id, j.criteria_id, j.judge) != own]
    if strangers:
        raise ArtifactError(f"reward of {reply.id}: judgements of another reply, criteria or judge: {strangers}")
    shape = [] if criteria is None else [(name, len(items)) for name, items in criteria.items]
    for judgement in judgements:
        if judgement.item_scores is None:
            continue
        expected = shape if judgement.aspect == "dimensions" else [(judgement.aspect, 1)]
        if [(n, len(s)) for n, s in judgement.item_scores] != expected:
            raise ArtifactError(f"reward of {reply.id}: {judgement.id} does not score every criterion once")
    there = Counter((j.aspect, j.trial) for j in judgements)
    if dict(there) != dict(wanted):
        missing = sorted((Counter(wanted) - there).elements())
        extra = sorted((there - Counter(wanted)).elements())
        raise ArtifactError(f"reward of {reply.id}: missing trials {missing}, superfluous {extra}")


def unscored(rules: Rules, case: Case, reply: Reply, failure: Failure) -> Reward:
    """Return a reward without any value, carrying the reason."""
    return Reward(
        case_id=case.id,
        reply_id=reply.id,
        policy=reply.policy,
        judge=rules.judge,
        method=rules.method,
        scores=tuple((d.name, None) for d in rules.dimensions),
        empathy=None,
        bystander=None,
        total=None,
        measured=() if reply.failure else measure(case, reply.text),
        coverage=0.0,
        judgement_ids=(),
        failure=failure,
    )


def _fifth(score: float | None) -> float | None:
    return None if score is None else score / 5


def _why_nothing(criteria: Criteria | None, reply: Reply) -> Failure:
    cause = reply.failure or (criteria.failure if criteria is not None else None)
    if cause is None:
        return Failure(stage=STAGE, kind="not_judged", reason="there are no judgements of this reply")
    what = "there is no reply" if reply.failure else "there are no criteria"
    return Failure(stage=STAGE, kind=cause.kind, reason=f"{what}: {cause.reason}")


def why_no_total(judgements: Sequence[Judgement]) -> Failure:
    """Return one failure that sums up those of the judgements; some of them must have failed."""
    failures = [j.failure for j in judgements if j.failure is not None]
    kinds = sorted({failure.kind for failure in failures})
    reason = f"{len(failures)} of {len(judgements)} judgements failed; the first: {failures[0].reason}"
    return Failure(stage=STAGE, kind="+".join(kinds), reason=reason)


def reward_of(
    rules: Rules,
    case: Case,
    reply: Reply,
    judgements: Sequence[Judgement],
    *,
    scores: Mapping[str, float | None],
    before: float | None,
) -> Reward:
    """Return the reward of one reply: `before`, on the rival's scale, less what the guards take; `scores` are kept as they are."""
    named = tuple(scores.items())
    if not judgements:
        return add_up(rules, case, None, reply, ()).model_copy(update={"scores": named})
    measured = measure(case, reply.text)
    taken = penalty(rules.guards, measured)
    return Reward(
        case_id=case.id,
        reply_id=reply.id,
        policy=reply.policy,
        judge=rules.judge,
        method=rules.method,
        scores=named,
        empathy=None,
        bystander=None,
        total=None if before is None else before - taken,
        measured=measured,
        penalty=None if before is None else taken,
        coverage=sum(j.failure is None for j in judgements) / len(judgements),
        judgement_ids=tuple(j.id for j in judgements),
        failure=why_no_total(judgements) if before is None else None,
    )
