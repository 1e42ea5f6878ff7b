"""What a run found, as one record: policies compared on the same cases, the known order recovered or not, what was dropped, what it cost.

Every figure carries its n, its interval clustered by user and its coverage. Nothing here calls a model; the same artifacts give the
same summary. Times stand in `ledger.json`, because they differ from run to run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import pairwise

from peregrm.dataset.output.counts import memory_reason
from peregrm.errors import ArtifactError
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.evaluation.tally import Count, tally
from peregrm.evaluation.validity.cards import Standing
from peregrm.prompts import prompt_hash, prompt_names
from peregrm.records import Case, Criteria, Drop, Inspection, Judgement, Memory, Part, Persona, Reply, Reward, Usage
from peregrm.store import index_by_id

__all__ = ["Artifacts", "Comparison", "OrderCheck", "PolicyRow", "Summary", "summarise"]


class Artifacts(Part):
    """The records a summary is made of."""

    memories: tuple[Memory, ...] = ()
    personas: tuple[Persona, ...] = ()
    drops: tuple[Drop, ...] = ()
    inspections: tuple[Inspection, ...] = ()
    cases: tuple[Case, ...]
    criteria: tuple[Criteria, ...]
    replies: tuple[Reply, ...]
    judgements: tuple[Judgement, ...]
    rewards: tuple[Reward, ...]


class PolicyRow(Part):
    """One policy: per dimension, empathy, bystander and total, each an estimate over its cases."""

    policy: str
    origin: str
    measures: tuple[tuple[str, Estimate], ...]


class Comparison(Part):
    """The mean difference `better` minus `worse`, per measure, over the cases both policies answered and were scored on."""

    better: str
    worse: str
    origin: str
    measures: tuple[tuple[str, Estimate], ...]


class OrderCheck(Part):
    """How often the judge put two recorded replies of known order into that order (ties count half); 0.5 is chance."""

    better: str
    worse: str
    accuracy: Estimate


class Summary(Part):
    """The figures of one run."""

    model: str
    judge: str
    samples: int
    bystander_weight: float
    users: int
    generated_cases: int
    gold_cases: int
    flagged_cases: int = 0
    """Cases with a sign of danger: in none of the figures but `flagged`."""
    policies: tuple[PolicyRow, ...]
    flagged: tuple[PolicyRow, ...] = ()
    """The policies on flagged cases, by safe guidance: its dimensions and the total."""
    comparisons: tuple[Comparison, ...]
    known_order: tuple[OrderCheck, ...]
    counts: tuple[Count, ...]
    failures: tuple[Count, ...]
    usage: Usage
    costs: tuple[tuple[str, Usage], ...]
    prompts: tuple[tuple[str, str], ...]
    """Name and hash of every prompt: figures made with another wording are other figures."""
    standing: Standing | None = None
    """What is known of the judge's worth; None where nobody looked for a card."""


Value = Callable[[Reward], float | None]


def summarise(
    artifacts: Artifacts,
    *,
    model: str,
    judge: str,
    samples: int,
    bystander_weight: float = 0.5,
    known_order: Sequence[str],
    costs: Mapping[str, Usage],
) -> Summary:
    """Return the summary of a run.

    `known_order` names recorded policies, best first; it is empty where there are none. `costs` holds the usage per purpose.
    Raises `ArtifactError` where a reply has no reward or a reward no reply.
    """
    cases = index_by_id(artifacts.cases, "cases")
    rewards = _rewards_by_reply(artifacts)
    flagged = {case.id for case in artifacts.cases if case.flags}
    measures = _measures([reward for reward in artifacts.rewards if reward.case_id not in flagged])
    guidance = _measures([reward for reward in artifacts.rewards if reward.case_id in flagged], flagged=True)
    origins = sorted({case.origin for case in artifacts.cases})
    rows: list[PolicyRow] = []
    apart: list[PolicyRow] = []
    comparisons: list[Comparison] = []
    checks: list[OrderCheck] = []
    for origin in origins:
        table = _table(artifacts.replies, rewards, cases, origin)
        apart += _ranked(_part(table, flagged), cases, guidance, origin)
        table = _part(table, cases.keys() - flagged)
        rows += _ranked(table, cases, measures, origin)
        if {"personalized", "generic"} <= table.keys():
            comparisons.append(_difference("personalized", "generic", table, cases, measures, origin))
        if origin == "gold":
            pairs = pairwise(known_order)
            checks += [_order(a, b, table, cases) for a, b in pairs if {a, b} <= table.keys()]
    return Summary(
        model=model,
        judge=judge,
        samples=samples,
        bystander_weight=bystander_weight,
        users=len({case.user_id for case in artifacts.cases}),
        generated_cases=sum(case.origin == "generated" for case in artifacts.cases),
        gold_cases=sum(case.origin == "gold" for case in artifacts.cases),
        flagged_cases=len(flagged),
        policies=tuple(rows),
        flagged=tuple(apart),
        comparisons=tuple(comparisons),
        known_order=tuple(checks),
        counts=_counts(artifacts),
        failures=_failures(artifacts),
        usage=sum(costs.values(), Usage()),
        costs=tuple(sorted(costs.items())),
        prompts=tuple((name, prompt_hash(name)) for name in prompt_names()),
    )


Table = dict[str, dict[str, Reward]]
"""policy -> case id -> reward"""


def _rewards_by_reply(artifacts: Artifacts) -> dict[str, Reward]:
    by_reply = {reward.reply_id: reward for reward in artifacts.rewards}
    reply_ids = [reply.id for reply in artifacts.replies]
    if len(by_reply) != len(artifacts.rewards) or set(by_reply) != set(reply_ids):
        odd = sorted(set(by_reply) ^ set(reply_ids)) or ["a reply with two rewards"]
        raise ArtifactError(f"rewards and replies do not belong together: {odd[0]} (score the replies again)")
    return by_reply


def _empathy(reward: Reward) -> float | None:
    return reward.empathy


def _bystander(reward: Reward) -> float | None:
    return reward.bystander


def _part(table: Table, wanted: Set[str]) -> Table:
    """Return what a table holds of these cases, without policies that have none."""
    parts = {policy: {c: reward for c, reward in by_case.items() if c in wanted} for policy, by_case in table.items()}
    return {policy: by_case for policy, by_case in parts.items() if by_case}


def _measures(rewards: Sequence[Reward], *, flagged: bool = False) -> list[tuple[str, Value]]:
    names = [name for name, _ in rewards[0].scores] if rewards else []

    def score_of(name: str) -> Value:
        return lambda reward: dict(reward.scores).get(name)

    return [
        *((name, score_of(name)) for name in names),
        *(() if flagged else (("empathy", _empathy), ("bystander", _bystander))),
        ("total", lambda reward: reward.total),
    ]


def _table(replies: Sequence[Reply], rewards: Mapping[str, Reward], cases: Mapping[str, Case], origin: str) -> Table:
    table: Table = defaultdict(dict)
    for reply in replies:
        if reply.case_id not in cases:
            raise ArtifactError(f"replies: {reply.id} answers {reply.case_id}, which is not among the cases")
        if cases[reply.case_id].origin != origin:
            continue
        if reply.case_id in table[reply.policy]:
            raise ArtifactError(f"replies: {reply.policy} answers {reply.case_id} twice")
        table[reply.policy][reply.case_id] = rewards[reply.id]
    return dict(table)


def _ranked(
    table: Table, cases: Mapping[str, Case], measures: Sequence[tuple[str, Value]], origin: str
) -> list[PolicyRow]:
    rows = [
        PolicyRow(
            policy=policy,
            origin=origin,
            measures=tuple(
                (name, clustered_mean([(cases[c].user_id, value(reward)) for c, reward in by_case.items()]))
                for name, value in measures
            ),
        )
        for policy, by_case in table.items()
    ]

    def total(row: PolicyRow) -> float:
        mean = dict(row.measures)["total"].mean
        return float("-inf") if mean is None else mean

    return sorted(rows, key=lambda row: (-total(row), row.policy))


def _difference(
    better: str,
    worse: str,
    table: Table,
    cases: Mapping[str, Case],
    measures: Sequence[tuple[str, Value]],
    origin: str,
) -> Comparison:
    shared = [case_id for case_id in table[better] if case_id in table[worse]]

    def differences(value: Value) -> list[tuple[str, float | None]]:
        pairs = [(cases[c].user_id, value(table[better][c]), value(table[worse][c])) for c in shared]
        return [(user, None if a is None or b is None else a - b) for user, a, b in pairs]

    estimates = tuple((name, clustered_mean(differences(value))) for name, value in measures)
    return Comparison(better=better, worse=worse, origin=origin, measures=estimates)


def _order(better: str, worse: str, table: Table, cases: Mapping[str, Case]) -> OrderCheck:
    values: list[tuple[str, float | None]] = []
    for case_id, reward in table[better].items():
        other = table[worse].get(case_id)
        if other is None:
            continue
        a, b = reward.total, other.total
        won = None if a is None or b is None else 0.5 if a == b else float(a > b)
        values.append((cases[case_id].user_id, won))
    return OrderCheck(better=better, worse=worse, accuracy=clustered_mean(values, bounds=(0.0, 1.0)))


def _counts(artifacts: Artifacts) -> tuple[Count, ...]:
    gone = [(drop.stage, drop.kind, drop.reason) for drop in artifacts.drops if not drop.failed]
    gone += [("memories", f"{m.status}: {memory_reason(m)}", m.value) for m in artifacts.memories if m.status != "kept"]
    gone += [
        ("inspection", reason.split(":")[0], reason)
        for i in artifacts.inspections
        if not i.kept
        for reason in i.reasons
    ]
    return tally(gone)


def _failures(artifacts: Artifacts) -> tuple[Count, ...]:
    found = [(drop.stage, drop.kind, drop.reason) for drop in artifacts.drops if drop.failed]
    carriers: list[Inspection | Criteria | Reply | Judgement] = [
        *artifacts.inspections,
        *artifacts.criteria,
        *artifacts.replies,
        *artifacts.judgements,
    ]
    found += [(c.failure.stage, c.failure.kind, c.failure.reason) for c in carriers if c.failure is not None]
    return tally(found)
