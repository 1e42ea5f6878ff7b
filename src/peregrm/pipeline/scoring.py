"""`peregrm score`: any replies to the cases of a dataset, scored by any reward, with everything the scores rest on kept beside them.

`scores.jsonl` holds the rewards; `scores.parts/` the replies, judgements, criteria, each judge's own rewards where several were pooled,
the call cache and the ledger. The same command again repeats no call.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peregrm.evaluation.summary import Artifacts, Summary, summarise
from peregrm.evaluation.validity.card import Way
from peregrm.evaluation.validity.cards import checked_places, standing_of
from peregrm.evaluation.validity.ways import way_of
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.job import Budget
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.reply_files import Dataset
from peregrm.prompts import prompt_hash
from peregrm.records import Case, Criteria, Failure, Judgement, Reply, Reward
from peregrm.reward.base import ABSTAINED, RewardModel, Scored
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import MODES, PereGRM
from peregrm.reward.pool import Agreement, Pool, agreement
from peregrm.reward.rivals.scalar import Scalar
from peregrm.settings import Settings
from peregrm.store import held_alone, replace_text, write_records

__all__ = ["Scoring", "give_criteria", "parts_folder", "plan_scoring", "score_replies", "used_prompts"]

_GROUPS_AT_ONCE = 64


@dataclass(frozen=True)
class Scoring:
    """What came out of one scoring."""

    cases: list[Case]
    scored: list[Scored]
    criteria: list[Criteria]
    summary: Summary
    agreement: list[Agreement]
    ledger: Ledger
    cost: float | None
    """What everything behind the scores costs, also what the cache answered; None where a price is not known."""
    seconds: float


def parts_folder(out: Path) -> Path:
    """Return the folder beside the file `out` that holds what its scores rest on."""
    return out.with_name(f"{out.stem}.parts")


async def score_replies(
    dataset: Dataset,
    replies: Sequence[Reply],
    options: RewardOptions,
    settings: Settings,
    *,
    out: Path,
    progress: Progress,
) -> Scoring:
    """Score replies and write the results to `out` and the folder beside it.

    Raises `FailureBudgetExceeded`, after everything was written, where too many judgements failed; a fatal `ModelError`; `ArtifactError`
    and `SettingsError` where the parts do not fit.
    """
    started = time.monotonic()
    folder = parts_folder(out)
    places = checked_places(settings.run.cards)
    generative = options.reward != Scalar.method
    ledger = Ledger(prices(set(options.judges), settings) if generative else {})
    with held_alone(folder), CallCache(folder / "calls.sqlite") as cache:
        specs = options.judges if generative else ()
        judges = tuple(open_model(spec, settings, cache=cache, ledger=ledger) for spec in specs)
        reward = open_reward(options, judges or None)
        try:
            scored, criteria = await _score_all(reward, dataset, replies, progress)
        finally:
            await reward.aclose()
            for judge in judges:
                await judge.aclose()
    answered = {one.reply.case_id for one in scored}
    cases = [case for case in dataset.cases.values() if case.id in answered]
    scoring = Scoring(
        cases,
        scored,
        criteria,
        _summary(cases, options, judges, scored, criteria, ledger, way_of(reward), places),
        agreement(_by_judge(scored)),
        ledger,
        _cost(ledger, options, settings) if generative else 0.0,
        time.monotonic() - started,
    )
    _write(out, scoring)
    written = [c for c in criteria if c.method == "model" and c != dataset.criteria.get(c.case_id)]
    _check_budget(scored, written, settings.run.failure_budget, folder)
    return scoring


async def _score_all(
    reward: RewardModel, dataset: Dataset, replies: Sequence[Reply], progress: Progress
) -> tuple[list[Scored], list[Criteria]]:
    give_criteria(reward, dataset)
    groups: dict[str, list[Reply]] = {}
    for reply in replies:
        groups.setdefault(reply.case_id, []).append(reply)

    first = _members(reward)[0]

    async def one(case: Case) -> tuple[list[Scored], Criteria | None]:
        scored = await reward.score(case, groups[case.id])
        return scored, _criteria(first, case, scored) if isinstance(first, PereGRM) else None

    cases = [dataset.cases[case_id] for case_id in groups]
    done = await map_in_order(one, cases, stage="score", progress=progress, at_once=_GROUPS_AT_ONCE)
    return [one for group, _ in done for one in group], [criteria for _, criteria in done if criteria is not None]


def _criteria(reward: PereGRM, case: Case, group: Sequence[Scored]) -> Criteria | None:
    """Return the criteria a group was judged by, or those that failed; None where none were needed."""
    causes = [one.failure for one in group if one.failure and not one.judgements and one.reply.failure is None]
    if not causes:
        return reward.known_criteria(case)
    failure = Failure(stage="criteria", kind=causes[0].kind, reason=causes[0].reason)
    return Criteria(case_id=case.id, method=reward.criteria, failure=failure)


def give_criteria(reward: RewardModel, dataset: Dataset) -> None:
    """Let a reward judge by the criteria that came with a dataset, where it would have written some itself."""
    for member in _members(reward):
        if isinstance(member, PereGRM):
            member.use_criteria(_fitting(member, dataset))


def _members(reward: RewardModel) -> tuple[RewardModel, ...]:
    return reward.members if isinstance(reward, Pool) else (reward,)


def _fitting(reward: PereGRM, dataset: Dataset) -> list[Criteria]:
    """Return the dataset's criteria, where they are for this reward's dimensions and it is no ablation that goes without."""
    takes_them = reward.criteria in ("model", "composed") or reward.method in MODES
    if not takes_them or reward.hidden:
        return []
    names = {dimension.name for dimension in reward.dimensions}
    return [c for c in dataset.criteria.values() if {name for name, _ in c.items} == names]


def _cost(ledger: Ledger, options: RewardOptions, settings: Settings) -> float | None:
    known = prices(set(options.judges), settings)
    used = {row.model: ledger.used_usage(model=row.model) for row in ledger.summary()}
    if any(name not in known or usage.unmetered for name, usage in used.items()):
        return None
    return sum(known[name].of(usage) for name, usage in used.items())


def _by_judge(scored: Sequence[Scored]) -> dict[str, dict[str, Reward]]:
    by_judge: dict[str, dict[str, Reward]] = {}
    for one in scored:
        for part in () if one.flagged else one.parts:
            by_judge.setdefault(part.reward.judge, {})[part.reply.id] = part.reward
    return by_judge


def _summary(
    cases: Sequence[Case],
    options: RewardOptions,
    judges: Sequence[Model],
    scored: Sequence[Scored],
    criteria: Sequence[Criteria],
    ledger: Ledger,
    way: Way,
    cards: Sequence[Path],
) -> Summary:
    purposes = {row.purpose for row in ledger.summary()}
    artifacts = Artifacts(
        cases=tuple(cases),
        criteria=tuple(criteria),
        replies=tuple(one.reply for one in scored),
        judgements=tuple(judgement for one in scored for judgement in one.judgements),
        rewards=tuple(one.reward for one in scored),
    )
    summary = summarise(
        artifacts,
        model="recorded replies",
        judge=" + ".join(judge.name for judge in judges) or " + ".join(options.judges),
        samples=options.samples,
        bystander_weight=options.bystander_weight,
        known_order=(),
        costs={purpose: ledger.used_usage(purpose=purpose) for purpose in purposes},
    )
    prompts = used_prompts(artifacts.judgements, criteria=bool(ledger.used_usage(purpose="criteria").calls))
    known = standing_of([one.reward for one in scored], way, cards, otherwise=summary.judge)
    return summary.model_copy(update={"prompts": prompts, "standing": known})


def used_prompts(judgements: Iterable[Judgement], *, criteria: bool) -> tuple[tuple[str, str], ...]:
    """Return name and hash of the prompts asked with, sorted: those of judgements, and that of `criteria` where some were written."""
    said = {judgement.prompt for judgement in judgements if judgement.prompt}
    if criteria:
        said.add(f"criteria@{prompt_hash('criteria')}")
    return tuple((name, digest) for name, _, digest in sorted(prompt.partition("@") for prompt in said))


def _write(out: Path, scoring: Scoring) -> None:
    folder = parts_folder(out)
    write_records(out, (one.reward for one in scoring.scored))
    write_records(folder / "cases.jsonl", scoring.cases)
    write_records(folder / "replies.jsonl", (one.reply for one in scoring.scored))
    write_records(folder / "judgements.jsonl", (j for one in scoring.scored for j in one.judgements))
    write_records(folder / "criteria.jsonl", scoring.criteria)
    write_records(folder / "judges.jsonl", (part.reward for one in scoring.scored for part in one.parts))
    report = {
        "summary": scoring.summary.model_dump(mode="json"),
        "agreement": [pair._asdict() for pair in scoring.agreement],
    }
    replace_text(folder / "summary.json", json.dumps(report, indent=1) + "\n")


def _check_budget(scored: Sequence[Scored], written: Sequence[Criteria], share: float, folder: Path) -> None:
    judgements = [judgement for one in scored for judgement in one.judgements if judgement.raw or judgement.failure]
    budget = Budget(share)
    budget.add(len(written), (criteria.failure for criteria in written if criteria.failure is not None))
    budget.add(
        len(judgements), (j.failure for j in judgements if j.failure is not None and j.failure.kind not in ABSTAINED)
    )
    budget.check(folder)


async def plan_scoring(
    dataset: Dataset, replies: Sequence[Reply], options: RewardOptions, settings: Settings, progress: Progress
) -> list[PlannedCalls]:
    """Return what scoring would ask for at most; nothing is asked of any model."""
    if options.reward == Scalar.method:
        return []
    judges = tuple(PlanningModel(model_name(spec, settings)) for spec in options.judges)
    await _score_all(open_reward(options, judges), dataset, replies, progress)
    return planned_calls(judges, prices(options.judges, settings))
