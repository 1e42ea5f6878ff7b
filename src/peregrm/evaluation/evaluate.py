"""From rewards to the figures of an evaluation: a pure function of artifacts.

Nothing here calls a model, the order of what goes in makes no difference, and the same artifacts give the same bytes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from peregrm.errors import ArtifactError
from peregrm.evaluation.evaluation import (
    Evaluation,
    JudgeFacts,
    LengthRelation,
    PolicyFacts,
    PolicyScore,
    SliceScore,
)
from peregrm.evaluation.inference.agreement import (
    JudgeAlpha,
    JudgePair,
    Rated,
    alpha_of_judges,
    correlate_judges,
    spearman,
)
from peregrm.evaluation.inference.intervals import bootstrap_mean
from peregrm.evaluation.inference.noise import Repeats, repeat_noise
from peregrm.evaluation.inference.paired import Difference, Paired, compare_paired, holm
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.tally import Count, tally
from peregrm.records import Case, Criteria, Failure, Judgement, Reply, Reward, Usage
from peregrm.reward.aggregate import arithmetic_mean, weighted_score
from peregrm.reward.base import says_something
from peregrm.text import tokens

__all__ = ["Evaluated", "evaluate_rewards", "measure_bounds", "measure_names", "value_of"]

_BESIDE = ("empathy", "arithmetic", "bystander", "total")
_IN_SLICES = ("empathy", "total")
_LEAST_SCORE = 0.2


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation is computed from; replies and rewards are joined by the replies' ids.

    `rewards` (by reply id) and `judgements` are by judge, in the order the judges are to be shown; `usage` and `costs` (dollars) too.
    """

    cases: Mapping[str, Case]
    criteria: Mapping[str, Criteria]
    replies: Sequence[Reply]
    rewards: Mapping[str, Mapping[str, Reward]]
    judgements: Mapping[str, Sequence[Judgement]]
    usage: Mapping[str, Usage]
    costs: Mapping[str, float | None]
    prompts: Sequence[tuple[str, str]]


def measure_names(rewards: Sequence[Reward]) -> tuple[str, ...]:
    """Return the names of what is reported: the dimensions of these rewards, then empathy, arithmetic, bystander and total."""
    dimensions = dict.fromkeys(name for reward in rewards for name, _ in reward.scores)
    return (*dimensions, *_BESIDE)


def measure_bounds(measure: str, bystander_weight: float) -> tuple[float, float]:
    """Return the least and the greatest value of a measure of rewards that are made of dimensions: intervals end there."""
    least = {"bystander": 0.0, "total": _LEAST_SCORE - bystander_weight}.get(measure, _LEAST_SCORE)
    return least, 1.0


def value_of(measure: str) -> Callable[[Reward], float | None]:
    """Return how a measure is read off a reward. `arithmetic` is the arithmetic mean of the dimensions, 0.2 to 1, as the paper reports."""

    def value(reward: Reward) -> float | None:
        if measure == "arithmetic":
            return arithmetic_mean([score for _, score in reward.scores])
        if measure in _BESIDE:
            found: float | None = getattr(reward, measure)
            return found
        return dict(reward.scores).get(measure)

    return value


def evaluate_rewards(given: Evaluated, *, samples: int, bystander_weight: float, seed: int) -> Evaluation:
    """Compute all figures.

    Raises `ArtifactError` where a reply answers no case of these, one policy answers a case twice, or a judge has no reward for a reply.
    """
    table = _Table(given, flagged=False, weight=bystander_weight)
    flagged = _Table(given, flagged=True, weight=bystander_weight)
    names = measure_names([reward for judge in sorted(given.rewards) for reward in table.all_rewards(judge)])
    cases = list(table.cases.values())
    return Evaluation(
        cases=len(cases),
        users=len({case.user_id for case in cases}),
        categories=tuple(sorted(Counter(case.category for case in cases).items())),
        languages=tuple(sorted(Counter(case.language for case in cases).items())),
        samples=samples,
        bystander_weight=bystander_weight,
        seed=seed,
        criteria=tuple(sorted(Counter(c.method for c in given.criteria.values() if c.failure is None).items())),
        measures=names,
        policies=tuple(_policy_facts(policy, by_case, table.cases) for policy, by_case in table.replies.items()),
        judges=tuple(_judge_facts(judge, given) for judge in given.rewards),
        scores=tuple(_scores(table, names, seed)),
        slices=tuple(_slices(table, seed)),
        differences=tuple(_differences(table, names, seed)),
        alphas=tuple(_alphas(table, names, seed)),
        ranks=tuple(pair for name in names for pair in _ranks(table, name, seed)),
        noise=tuple(one for judge in given.rewards for one in _noise(given, judge)),
        lengths=tuple(_lengths(table, seed)),
        flagged_cases=len(flagged.cases),
        flagged=tuple(_scores(flagged, ["total"], seed)) if flagged.cases else (),
        failures=_failures(given),
        prompts=tuple(given.prompts),
    )


class _Table:
    """Replies and rewards by policy and case, both in an order of their own: of the flagged cases, or of all others."""

    def __init__(self, given: Evaluated, *, flagged: bool, weight: float) -> None:
        self.weight = weight
        self.cases = {case_id: case for case_id, case in sorted(given.cases.items()) if bool(case.flags) == flagged}
        self.judges = tuple(given.rewards)
        self.replies: dict[str, dict[str, Reply]] = {}
        for reply in sorted(given.replies, key=lambda reply: (reply.policy, reply.case_id)):
            if reply.case_id not in given.cases:
                raise ArtifactError(f"replies: {reply.id} answers {reply.case_id}, which is not among the cases")
            by_case = self.replies.setdefault(reply.policy, {})
            if reply.case_id not in self.cases:
                continue
            if reply.case_id in by_case:
                raise ArtifactError(f"replies: {reply.policy!r} answers {reply.case_id} twice")
            by_case[reply.case_id] = reply
        for judge, rewards in given.rewards.items():
            absent = [
                reply.id for by_case in self.replies.values() for reply in by_case.values() if reply.id not in rewards
            ]
            if absent:
                raise ArtifactError(f"rewards: {judge} has none for {absent[0]}")
        self._rewards = given.rewards

    def reward(self, judge: str, policy: str, case_id: str) -> Reward | None:
        """Return the reward of one policy's reply, None where there is no reply."""
        reply = self.replies[policy].get(case_id)
        return None if reply is None else self._rewards[judge][reply.id]

    def all_rewards(self, judge: str) -> Iterator[Reward]:
        """Yield the rewards of all replies."""
        for by_case in self.replies.values():
            for reply in by_case.values():
                yield self._rewards[judge][reply.id]

    def values(self, judge: str, policy: str, measure: str) -> list[tuple[Case, float | None]]:
        """Return each case with the policy's value on it, None where it has none."""
        read = value_of(measure)
        rewards = ((case, self.reward(judge, policy, case.id)) for case in self.cases.values())
        return [(case, None if reward is None else read(reward)) for case, reward in rewards]


def _words(text: str) -> int:
    return len(tokens(text))


def _policy_facts(policy: str, by_case: Mapping[str, Reply], cases: Mapping[str, Case]) -> PolicyFacts:
    there = [reply for reply in by_case.values() if reply.failure is None]
    return PolicyFacts(
        policy=policy,
        replies=len(there),
        missing=tuple(sorted(cases.keys() - by_case.keys())),
        failed=tuple(sorted(reply.case_id for reply in by_case.values() if reply.failure is not None)),
        empty=sum(not says_something(reply.text) for reply in there),
        words=sum(_words(reply.text) for reply in there) / len(there) if there else None,
    )


def _judge_facts(judge: str, given: Evaluated) -> JudgeFacts:
    judgements = given.judgements[judge]
    return JudgeFacts(
        judge=judge,
        asked=len(judgements),
        scored=sum(judgement.failure is None for judgement in judgements),
        usage=given.usage[judge],
        cost=given.costs[judge],
    )


def _mean(table: _Table, judge: str, values: Sequence[tuple[Case, float | None]], measure: str, seed: int) -> Estimate:
    by_user = [(case.user_id, value) for case, value in values]
    if measure == "total" and all(reward.empathy is None for reward in table.all_rewards(judge)):
        return bootstrap_mean(by_user, seed=seed)  # a total without dimensions is on a scale of its own
    return bootstrap_mean(by_user, seed=seed, bounds=measure_bounds(measure, table.weight))


def _scores(table: _Table, names: Sequence[str], seed: int) -> Iterator[PolicyScore]:
    for judge in table.judges:
        for policy in table.replies:
            measures = tuple(
                (name, _mean(table, judge, table.values(judge, policy, name), name, seed)) for name in names
            )
            yield PolicyScore(judge=judge, policy=policy, measures=measures)


def _slices(table: _Table, seed: int) -> Iterator[SliceScore]:
    kinds: tuple[tuple[str, Callable[[Case], str]], ...] = (
        ("category", lambda case: case.category),
        ("language", lambda case: case.language),
    )
    for by, key in kinds:
        found = sorted({key(case) for case in table.cases.values()})
        for value in found if len(found) > 1 else ():
            for judge in table.judges:
                for policy in table.replies:
                    there = {
                        name: [one for one in table.values(judge, policy, name) if key(one[0]) == value]
                        for name in _IN_SLICES
                    }
                    measures = tuple((name, _mean(table, judge, each, name, seed)) for name, each in there.items())
                    yield SliceScore(by=by, value=value, judge=judge, policy=policy, measures=measures)


def _differences(table: _Table, names: Sequence[str], seed: int) -> list[Difference]:
    found: list[Difference] = []
    for judge in table.judges:
        for name in names:
            values = {policy: table.values(judge, policy, name) for policy in table.replies}
            for a, b in combinations(values, 2):
                pairs = [
                    Paired(case.user_id, mine, theirs)
                    for (case, mine), (_, theirs) in zip(values[a], values[b], strict=True)
                ]
                found.append(compare_paired(pairs, judge=judge, measure=name, a=a, b=b, seed=seed))
    return holm(found)


def _rated(table: _Table, measure: str) -> list[Rated]:
    read = value_of(measure)
    rated: list[Rated] = []
    for policy, by_case in table.replies.items():
        for case_id, reply in by_case.items():
            if reply.failure is None and says_something(reply.text):  # an empty one is scored by rule, not by judges
                rewards = {judge: table.reward(judge, policy, case_id) for judge in table.judges}
                values = {judge: None if reward is None else read(reward) for judge, reward in rewards.items()}
                rated.append((table.cases[case_id].user_id, values))
    return rated


def _alphas(table: _Table, names: Sequence[str], seed: int) -> Iterator[JudgeAlpha]:
    for name in names:
        alpha = alpha_of_judges(_rated(table, name), table.judges, measure=name, seed=seed)
        if alpha is not None:
            yield alpha


def _ranks(table: _Table, measure: str, seed: int) -> list[JudgePair]:
    return correlate_judges(_rated(table, measure), table.judges, measure=measure, seed=seed)


def _noise(given: Evaluated, judge: str) -> list[Repeats]:
    """Return the noise of each dimension, on the scale 0.2 to 1; none where every reply was judged once."""
    trials: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for judgement in given.judgements[judge]:
        if judgement.item_scores is None or not judgement.raw or given.cases[judgement.case_id].flags:
            continue  # a failed trial has no value; what a rule scored does not vary
        weights = {name: [c.weight for c in items] for name, items in given.criteria[judgement.case_id].items}
        for name, scores in judgement.item_scores:
            trials[name][judgement.reply_id].append(weighted_score(scores, weights[name]) / 5)
    found = [
        repeat_noise([by_reply[key] for key in sorted(by_reply)], judge=judge, measure=name)
        for name, by_reply in sorted(trials.items())
    ]
    return [one for one in found if one.replies]


def _lengths(table: _Table, seed: int) -> Iterator[LengthRelation]:
    for judge in table.judges:
        by_user: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for policy, by_case in table.replies.items():
            for case_id, reply in by_case.items():
                reward = table.reward(judge, policy, case_id)
                if reward is not None and reward.total is not None and says_something(reply.text):
                    by_user[policy][table.cases[case_id].user_id].append((float(_words(reply.text)), reward.total))
        together: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for users in by_user.values():
            for user, pairs in users.items():
                together[user] += pairs
        asked = sum(map(len, table.replies.values()))
        yield LengthRelation(judge=judge, policy=None, rank=spearman(together, seed=seed, asked=asked))
        for policy in table.replies:
            rank = spearman(by_user[policy], seed=seed, asked=len(table.replies[policy]))
            yield LengthRelation(judge=judge, policy=policy, rank=rank)


def _failures(given: Evaluated) -> tuple[Count, ...]:
    causes: list[Failure] = [c.failure for _, c in sorted(given.criteria.items()) if c.failure is not None]
    causes += [reply.failure for reply in sorted(given.replies, key=lambda r: r.id) if reply.failure is not None]
    for judge in given.judgements:
        ordered = sorted(given.judgements[judge], key=lambda j: j.id)
        causes += [judgement.failure for judgement in ordered if judgement.failure is not None]
    return tally([(cause.stage, cause.kind, cause.reason) for cause in causes])
