"""`peregrm evaluate`: replies of any number of policies, judged by any number of judges by one set of criteria a case.

Criteria are made once, by the first judge where a model writes them, and stored with the dataset, so that the next evaluation uses the
same. Each judge scores every reply with the code that training uses; calls are made in an order drawn with the seed, so that nothing
hangs on who comes first. `DIR` holds the replies, the criteria, each judge's judgements and rewards, `evaluation.json`, the reports, the
ledger and the call cache. The same command again repeats no call.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from peregrm.errors import SettingsError
from peregrm.evaluation.evaluate import Evaluated, evaluate_rewards
from peregrm.evaluation.evaluation import Evaluation
from peregrm.evaluation.inference.paired import check_installed
from peregrm.evaluation.page.wording import criteria_words
from peregrm.evaluation.validity.cards import checked_places, standing_of
from peregrm.evaluation.validity.ways import way_of
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger, Price
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.answering import PolicySpec, answer_cases, planned_name
from peregrm.pipeline.finish import save_ledger
from peregrm.pipeline.job import Budget
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.scoring import give_criteria
from peregrm.prompts import prompt_hash
from peregrm.records import Case, Criteria, History, Judgement, Reply, Usage
from peregrm.reward.base import ABSTAINED, Scored
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.variants import peregrm_of
from peregrm.settings import Settings
from peregrm.store import Workspace, held_alone, read_records, replace_text, write_records

__all__ = ["EvaluationRun", "Wanted", "check_budget", "evaluate_policies", "plan_evaluation", "usage_of"]

_GROUPS_AT_ONCE = 64


@dataclass(frozen=True)
class Wanted:
    """What is to be evaluated: the cases, replies to them, policies that are to write more, and how they are judged.

    `options.judges` are judges one beside the other, not a pool. `criteria_file` is where criteria are kept with the dataset; `histories`
    are by user, for policies that see them.
    """

    dataset: Dataset
    replies: Sequence[Reply]
    options: RewardOptions
    criteria_file: Path
    policies: Sequence[PolicySpec] = ()
    histories: Mapping[str, History] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRun:
    """The figures and everything they rest on. `scored` is by judge, in the order of the judges."""

    evaluation: Evaluation
    cases: list[Case]
    criteria: dict[str, Criteria]
    scored: dict[str, list[Scored]]
    ledger: Ledger
    seconds: float


async def evaluate_policies(
    wanted: Wanted,
    settings: Settings,
    *,
    out: Path,
    progress: Progress,
    say: Callable[[str], None] = lambda line: None,
) -> EvaluationRun:
    """Judge all replies and compute all figures; everything but the reports is written to `out`.

    Whether too much failed is for `check_budget` to say, once the reports are written. Raises a fatal `ModelError`; `SettingsError`
    where a judge is named twice, the options ask for another reward than mode `shared`, or `out` is where this or another dataset lies.
    """
    started = time.monotonic()
    check_installed()
    specs = _checked(wanted.options, settings)
    cards = checked_places(settings.run.cards)
    if out.resolve() == wanted.criteria_file.parent.resolve():
        raise SettingsError(f"{out} holds the dataset, whose files would be replaced: name another folder with --out")
    if (out / "run.json").exists() or ((out / "cases.jsonl").exists() and not (out / "calls.sqlite").exists()):
        raise SettingsError(
            f"{out} holds another dataset, whose files would be replaced: name another folder with --out"
        )
    ledger = Ledger(prices({*specs, *(policy.model for policy in wanted.policies)}, settings))
    with held_alone(out), CallCache(out / "calls.sqlite") as cache:
        opened = partial(open_model, settings=settings, cache=cache, ledger=ledger)
        wanted = await _answer(wanted, settings, opened, progress, say)
        judges = [open_model(spec, settings, cache=cache, ledger=ledger) for spec in specs]
        try:
            rewards = _rewards(wanted, judges)
            cases = _answered(wanted)
            criteria = await _criteria(rewards[0], cases, wanted, progress)
            _say_other_method(wanted, criteria, say)
            _keep_new(wanted, criteria, say)
            scored = await _judge(rewards, cases, criteria, wanted, progress)
        finally:
            for judge in judges:
                await judge.aclose()
    names = {judge.name: spec for judge, spec in zip(judges, specs, strict=True)}
    evaluation = _evaluation(wanted, criteria, scored, prices(specs, settings), names)
    ways = {reward.asking.model.name: way_of(reward) for reward in rewards}
    standings = tuple(
        standing_of([one.reward for one in given], ways[judge], cards, otherwise=judge)
        for judge, given in scored.items()
    )
    evaluation = evaluation.model_copy(update={"standings": standings})
    run = EvaluationRun(evaluation, cases, criteria, scored, ledger, time.monotonic() - started)
    _write(out, wanted, run)
    return run


async def plan_evaluation(wanted: Wanted, settings: Settings, progress: Progress) -> list[PlannedCalls]:
    """Return what an evaluation would ask for at most; nothing is asked of any model and nothing written."""
    specs = _checked(wanted.options, settings)
    models = {policy.model: PlanningModel(model_name(policy.model, settings)) for policy in wanted.policies}
    wanted = await _answer(wanted, settings, models.__getitem__, progress, lambda line: None)
    judges = [PlanningModel(model_name(spec, settings)) for spec in specs]
    rewards, cases = _rewards(wanted, judges), _answered(wanted)
    await _judge(rewards, cases, await _criteria(rewards[0], cases, wanted, progress), wanted, progress)
    return planned_calls([*models.values(), *judges], prices([*models, *specs], settings))


async def _answer(
    wanted: Wanted,
    settings: Settings,
    opened: Callable[[str], Model],
    progress: Progress,
    say: Callable[[str], None],
) -> Wanted:
    """Return the same with the replies of its policies; raises `SettingsError` where a policy's name is taken by recorded replies."""
    taken = {reply.policy for reply in wanted.replies}
    for policy in wanted.policies:
        if planned_name(policy, settings) in taken:
            raise SettingsError(f"there are recorded replies of {planned_name(policy, settings)!r} already")
    written = await answer_cases(
        wanted.policies,
        list(wanted.dataset.cases.values()),
        wanted.histories,
        settings,
        opened=opened,
        progress=progress,
        say=say,
    )
    return replace(wanted, replies=[*wanted.replies, *written])


def usage_of(judgements: Iterable[Judgement]) -> Usage:
    """Return what the calls behind judgements used; a call that several judgements share counts once."""
    by_call = {judgement.call or judgement.id: judgement.usage for judgement in judgements}
    return sum(by_call.values(), Usage())


def _checked(options: RewardOptions, settings: Settings) -> tuple[str, ...]:
    if options.reward != "shared":
        raise SettingsError(
            f"an evaluation judges by criteria fixed for each case, in mode shared, not {options.reward}"
        )
    if len({model_name(spec, settings) for spec in options.judges}) < len(options.judges):
        raise SettingsError(f"a judge is named twice: {', '.join(options.judges)}")
    return options.judges


def _rewards(wanted: Wanted, judges: Sequence[Model]) -> list[PereGRM]:
    """Return one reward a judge; the first has the criteria that came with the dataset, and makes what lacks."""
    rewards = [peregrm_of(wanted.options, judge) for judge in judges]
    give_criteria(rewards[0], wanted.dataset)
    return rewards


def _answered(wanted: Wanted) -> list[Case]:
    """Return the cases that any policy has a reply to, in an order of their own."""
    there = {reply.case_id for reply in wanted.replies}
    return [case for case_id, case in sorted(wanted.dataset.cases.items()) if case_id in there]


async def _criteria(first: PereGRM, cases: Sequence[Case], wanted: Wanted, progress: Progress) -> dict[str, Criteria]:
    """Return the one set of criteria by which every judge judges a case, or its failure; none where no reply is there to be judged."""
    said = {reply.case_id for reply in wanted.replies if reply.failure is None}
    made = await map_in_order(
        first.criteria_for,
        [case for case in cases if case.id in said],
        stage="criteria",
        progress=progress,
        at_once=_GROUPS_AT_ONCE,
    )
    return {one.case_id: one for one in made if one is not None}


def _say_other_method(wanted: Wanted, criteria: Mapping[str, Criteria], say: Callable[[str], None]) -> None:
    kept = [one for case_id, one in criteria.items() if one == wanted.dataset.criteria.get(case_id)]
    others = Counter(one.method for one in kept if one.method not in (wanted.options.criteria, "fixed"))
    for method, n in sorted(others.items()):
        say(f"criteria of {n} cases are those that came with the dataset, {criteria_words(method)}")


def _keep_new(wanted: Wanted, criteria: Mapping[str, Criteria], say: Callable[[str], None]) -> None:
    """Keep criteria that were made now with the dataset, or say that it takes none; what its file holds by now stays as it is."""
    known = wanted.dataset
    new = {
        case_id: one
        for case_id, one in criteria.items()
        if one.failure is None and one != known.criteria.get(case_id) and not known.cases[case_id].flags
    }
    if not new:
        return
    path = wanted.criteria_file
    before = read_records(path, Criteria) if path.exists() else []
    there = {one.case_id for one in before}
    rows = [one if one.failure is None else new.get(one.case_id, one) for one in before]
    rows += [new[case_id] for case_id in known.cases if case_id in new and case_id not in there]
    try:
        write_records(path, rows)
    except OSError as error:
        say(
            f"criteria of {len(new)} cases were made, for this evaluation alone: {path} cannot be written: {error.strerror}"
        )
        return
    say(f"criteria of {len(new)} cases were made and are kept in {path}: this and later commands judge by them")


async def _judge(
    rewards: Sequence[PereGRM],
    cases: Sequence[Case],
    criteria: Mapping[str, Criteria],
    wanted: Wanted,
    progress: Progress,
) -> dict[str, list[Scored]]:
    """Return the scores by judge; a case whose criteria failed is asked of no judge, and its replies have no score."""
    groups: dict[str, list[Reply]] = {case.id: [] for case in cases}
    for reply in sorted(wanted.replies, key=lambda reply: (reply.policy, reply.id)):
        groups[reply.case_id].append(reply)
    chance = random.Random(wanted.options.seed)  # noqa: S311 - an order of calls, no secret
    tasks = [
        (reward, case, chance.sample(groups[case.id], len(groups[case.id]))) for reward in rewards for case in cases
    ]
    chance.shuffle(tasks)

    async def one(task: tuple[PereGRM, Case, list[Reply]]) -> tuple[str, list[Scored]]:
        reward, case, group = task
        by = criteria.get(case.id)
        judged = await reward.judge_group(case, by, group)
        return reward.asking.model.name, [
            Scored(reply, reward.reward(case, by, reply, judgements), tuple(judgements))
            for reply, judgements in zip(group, judged, strict=True)
        ]

    done = await map_in_order(one, tasks, stage="judge", progress=progress, at_once=_GROUPS_AT_ONCE)
    scored: dict[str, list[Scored]] = {reward.asking.model.name: [] for reward in rewards}
    for judge, group in done:
        scored[judge] += group
    return {
        judge: sorted(every, key=lambda one: (one.reply.case_id, one.reply.policy, one.reply.id))
        for judge, every in scored.items()
    }


def _evaluation(
    wanted: Wanted,
    criteria: Mapping[str, Criteria],
    scored: Mapping[str, Sequence[Scored]],
    known: Mapping[str, Price],
    names: Mapping[str, str],
) -> Evaluation:
    judgements = {judge: [j for one in every for j in one.judgements] for judge, every in scored.items()}
    usage = {judge: usage_of(given) for judge, given in judgements.items()}
    every = [judgement for given in judgements.values() for judgement in given]
    prompts = {judgement.prompt for judgement in every if judgement.prompt}
    prompts |= {f"criteria@{prompt_hash('criteria')}" for one in criteria.values() if one.method == "model"}
    return evaluate_rewards(
        Evaluated(
            cases=wanted.dataset.cases,
            criteria={case_id: one for case_id, one in criteria.items() if not wanted.dataset.cases[case_id].flags},
            replies=wanted.replies,
            rewards={judge: {one.reply.id: one.reward for one in given} for judge, given in scored.items()},
            judgements=judgements,
            usage=usage,
            costs={judge: _cost(known.get(judge), usage[judge]) for judge in names},
            prompts=[(name, digest) for name, _, digest in sorted(prompt.partition("@") for prompt in prompts)],
        ),
        samples=wanted.options.samples,
        bystander_weight=wanted.options.bystander_weight,
        seed=wanted.options.seed,
    )


def _cost(price: Price | None, usage: Usage) -> float | None:
    return None if price is None or usage.unmetered else price.of(usage)


def _write(out: Path, wanted: Wanted, run: EvaluationRun) -> None:
    every = [one for scored in run.scored.values() for one in scored]
    write_records(out / "cases.jsonl", run.cases)
    write_records(out / "criteria.jsonl", run.criteria.values())
    replies = sorted(wanted.replies, key=lambda reply: (reply.case_id, reply.policy))
    write_records(out / "replies.jsonl", replies)
    write_records(out / "judgements.jsonl", (judgement for one in every for judgement in one.judgements))
    write_records(out / "rewards.jsonl", (one.reward for one in every))
    replace_text(out / "evaluation.json", run.evaluation.model_dump_json(indent=1) + "\n")
    save_ledger(Workspace(out), run.ledger, run.seconds, {row.purpose for row in run.ledger.summary()})


def check_budget(run: EvaluationRun, wanted: Wanted, share: float, out: Path) -> None:
    """Raise `FailureBudgetExceeded` where more than this share of the judges' answers could not be used."""
    judgements = [j for scored in run.scored.values() for one in scored for j in one.judgements if j.raw or j.failure]
    written = [c for c in run.criteria.values() if c.method == "model" and c != wanted.dataset.criteria.get(c.case_id)]
    budget = Budget(share)
    budget.add(len(written), (criteria.failure for criteria in written if criteria.failure is not None))
    budget.add(
        len(judgements), (j.failure for j in judgements if j.failure is not None and j.failure.kind not in ABSTAINED)
    )
    budget.check(out)
