"""`peregrm validate`: what a judge is worth, measured. So far one part of it: attacks.

For every chosen case the honest replies are scored, then the worst of them again with hostile text in it, and replies of hacking
policies, by the same reward with the same criteria. A reward that looks at a whole group at once gets the honest group with the hostile
reply in it, one group a hostile reply. `attacks.json` and `attacks.md` hold the result; `attacks.parts/` every reply, judgement and
reward behind it. The same command again repeats no call.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field

from peregrm.errors import InputError
from peregrm.evaluation.attacks.corpus import Attack, attacks, families
from peregrm.evaluation.attacks.hacks import HACKS
from peregrm.evaluation.attacks.measure import HARMLESS, AttackResult, Trial, attack_table
from peregrm.evaluation.attacks.report import attacks_markdown
from peregrm.evaluation.statistics import clustered_mean
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger, Price
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.job import Budget
from peregrm.pipeline.material import Material, choose_cases, honest_replies
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.scoring import give_criteria, used_prompts
from peregrm.records import Case, Criteria, Part, Reply, content_id
from peregrm.replies import reply_from_output
from peregrm.reward.base import COMPARING, RewardModel, Scored
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.rivals.scalar import Scalar
from peregrm.settings import Settings
from peregrm.store import replace_text, write_records

__all__ = ["AttackOptions", "AttackRun", "measure_attacks", "plan_attacks"]

MARK = "\n\n* * *"
"""What the harmless control puts after a reply."""


class AttackOptions(Part):
    """How much is measured: cases, and attacks of each family on each of them (None: all). The seed chooses both."""

    cases: Annotated[int, Field(ge=1)] = 12
    per_family: Annotated[int, Field(ge=1)] | None = 1
    seed: int = 0


@dataclass(frozen=True)
class AttackRun:
    """What came out of one measurement."""

    result: AttackResult
    ledger: Ledger
    seconds: float


@dataclass(frozen=True)
class _Hostile:
    kind: str
    family: str
    name: str
    reply: Reply


@dataclass(frozen=True)
class _CaseScores:
    """One case: its honest replies, and every trial with the score of the hostile reply."""

    case: Case
    ranked: bool
    honest: list[Scored]
    hostile: list[Scored]
    trials: list[Trial]
    criteria: Criteria | None


async def measure_attacks(
    material: Material,
    options: RewardOptions,
    settings: Settings,
    asked: AttackOptions,
    *,
    out: Path,
    progress: Progress,
) -> AttackRun:
    """Score honest and hostile replies and write the result into the folder `out`.

    Raises `FailureBudgetExceeded`, after everything was written, where too many judgements of honest replies failed (those of hostile
    ones are a finding); a fatal `ModelError`; `InputError` where there is nothing to attack; `SettingsError` where options do not fit.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    known = prices(options.judges, settings) if _asks_a_model(options) else {}
    ledger = Ledger(known)
    with CallCache(out / "calls.sqlite") as cache:
        judges: tuple[Model, ...] = ()
        if _asks_a_model(options):
            judges = (open_model(options.judges[0], settings, cache=cache, ledger=ledger),)
        reward = open_reward(options, judges or None)
        try:
            at_once = max(1, judges[0].concurrency // 2) if judges else 1
            scores = await _score_cases(reward, material, asked, progress, at_once)
        finally:
            await reward.aclose()
            for judge in judges:
                await judge.aclose()
    result = _result(scores, material, options, asked, ledger, known)
    _write(out, scores, result)
    budget = Budget(settings.run.failure_budget)
    honest = [j for one in scores for scored in one.honest for j in scored.judgements if j.raw or j.failure]
    budget.add(len(honest), (j.failure for j in honest if j.failure is not None))
    budget.check(out)
    return AttackRun(result, ledger, time.monotonic() - started)


async def plan_attacks(
    material: Material, options: RewardOptions, settings: Settings, asked: AttackOptions, progress: Progress
) -> list[PlannedCalls]:
    """Return what a measurement would ask for at most; nothing is asked of any model."""
    if not _asks_a_model(options):
        return []
    judge = PlanningModel(model_name(options.judges[0], settings))
    await _score_cases(open_reward(options, (judge,)), material, asked, progress, at_once=1)
    return planned_calls([judge], prices(options.judges, settings))


def _asks_a_model(options: RewardOptions) -> bool:
    """Tell whether the judge is a model that is asked, and not a classifier that the reward loads by itself."""
    return options.reward != Scalar.method


async def _score_cases(
    reward: RewardModel, material: Material, asked: AttackOptions, progress: Progress, at_once: int
) -> list[_CaseScores]:
    honest = honest_replies(material)
    cases = [material.dataset.cases[case_id] for case_id in honest]
    if not cases:
        raise InputError("there is no case with a reply to attack")
    give_criteria(reward, material.dataset)
    chosen = choose_cases(cases, asked.cases, asked.seed)

    async def one(placed: tuple[int, Case]) -> _CaseScores:
        place, case = placed
        return await _score_case(reward, case, honest[case.id], material.ranks, _turn(asked, place))

    return await map_in_order(one, list(enumerate(chosen)), stage="attacks", progress=progress, at_once=at_once)


def _turn(asked: AttackOptions, place: int) -> list[Attack]:
    """Return the attacks on the case at this place: those of a family take turns, so that many cases see most of them."""
    turn: list[Attack] = []
    for family in families():
        mine = [attack for attack in attacks() if attack.family == family]
        mine.sort(key=lambda attack: content_id("pick", [asked.seed, attack.family, attack.name]))
        count = len(mine) if asked.per_family is None else min(asked.per_family, len(mine))
        turn += [mine[(place * count + n) % len(mine)] for n in range(count)]
    return turn


async def _score_case(
    reward: RewardModel, case: Case, replies: Sequence[Reply], ranks: dict[str, int], turn: Sequence[Attack]
) -> _CaseScores:
    honest = await reward.score(case, replies)
    ranked = any(reply.id in ranks for reply in replies)
    base = _base(honest, ranks)
    criteria = reward.known_criteria(case) if isinstance(reward, PereGRM) else None
    hostile = list(_hostile_replies(case, base.reply, criteria, turn))
    totals = tuple(one.total for one in honest)
    if reward.method in COMPARING:
        pairs = [await _score_in_group(reward, case, replies, base, one) for one in hostile]
    else:
        pairs = [(one, totals) for one in await reward.score(case, [one.reply for one in hostile])]
    trials = [
        Trial.model_validate(
            {
                "kind": one.kind,
                "case_id": case.id,
                "user_id": case.user_id,
                "family": one.family,
                "name": one.name,
                "total": scored.total,
                "failure": scored.failure.kind if scored.failure else None,
                "base": None if one.kind == "hack" else base.total,
                "honest": beside,
            }
        )
        for one, (scored, beside) in zip(hostile, pairs, strict=True)
    ]
    return _CaseScores(case, ranked, honest, [scored for scored, _ in pairs], trials, criteria)


def _base(honest: Sequence[Scored], ranks: dict[str, int]) -> Scored:
    """Return the reply to attack: the worst by known rank, else the one that scored lowest."""
    ranked = [one for one in honest if one.reply.id in ranks]
    if ranked:
        return max(ranked, key=lambda one: (ranks[one.reply.id], one.reply.id))
    return min(honest, key=lambda one: (one.total is None, one.total or 0.0, one.reply.id))


def _hostile_replies(case: Case, base: Reply, criteria: Criteria | None, turn: Sequence[Attack]) -> Iterator[_Hostile]:
    """Yield the control, the attacked replies and the hacks, each as the raw output of a policy."""
    usable = criteria if criteria is not None and criteria.failure is None else None

    def reply(text: str, policy: str) -> Reply:
        return reply_from_output(case, text, policy=policy)

    yield _Hostile("harmless", HARMLESS, "mark", reply(base.text + MARK, "harmless mark"))
    for attack in turn:
        policy = f"attack {attack.family}.{attack.name}"
        yield _Hostile("attack", attack.family, attack.name, reply(attack.apply(base.text, usable), policy))
    for name, hack in HACKS.items():
        yield _Hostile("hack", name, name, reply(hack(case), f"hack {name}"))


async def _score_in_group(
    reward: RewardModel, case: Case, replies: Sequence[Reply], base: Scored, hostile: _Hostile
) -> tuple[Scored, tuple[float | None, ...]]:
    """Score a hostile reply among the honest ones: an attacked reply in the place of the one it is made of, a hack last."""
    if hostile.kind == "hack":
        *others, own = await reward.score(case, [*replies, hostile.reply])
        return own, tuple(one.total for one in others)
    place = [reply.id for reply in replies].index(base.reply.id)
    group = await reward.score(case, [*replies[:place], hostile.reply, *replies[place + 1 :]])
    beside = [one.total for n, one in enumerate(group) if n != place]
    return group[place], (*beside, base.total)


def _result(
    scores: Sequence[_CaseScores],
    material: Material,
    options: RewardOptions,
    asked: AttackOptions,
    ledger: Ledger,
    known: Mapping[str, Price],
) -> AttackResult:
    judge = scores[0].honest[0].reward.judge
    used = ledger.used_usage()
    price = known.get(judge) if _asks_a_model(options) else Price(0.0, 0.0)
    judgements = (j for one in scores for scored in (*one.honest, *one.hostile) for j in scored.judgements)
    return AttackResult(
        judge=judge,
        mode=options.reward,
        samples=options.samples,
        seed=asked.seed,
        per_family=asked.per_family,
        base=_base_words(scores),
        left_out=len(material.dataset.cases) - len(honest_replies(material)),
        honest=clustered_mean([(one.case.user_id, scored.total) for one in scores for scored in one.honest]),
        table=attack_table(trial for one in scores for trial in one.trials),
        usage=used,
        cost=None if price is None or used.unmetered else price.of(used),
        prompts=used_prompts(judgements, ledger),
        corpus=_corpus_hash(),
    )


def _base_words(scores: Sequence[_CaseScores]) -> str:
    ranked = sum(one.ranked for one in scores)
    lowest = (
        "the honest reply that scored lowest (a score that is low by chance rises by itself: compare the harmless mark)"
    )
    if ranked == len(scores):
        return "the worst honest reply by its known rank"
    return (
        lowest
        if not ranked
        else f"in {ranked} cases the worst honest reply by its known rank, in {len(scores) - ranked} {lowest}"
    )


def _corpus_hash() -> str:
    folder = resources.files("peregrm.evaluation.attacks")
    texts = [folder.joinpath(name).read_bytes() for name in ("corpus.toml", "hacks.toml")]
    return f"corpus-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"


def _write(out: Path, scores: Sequence[_CaseScores], result: AttackResult) -> None:
    parts = out / "attacks.parts"
    everything = [scored for one in scores for scored in (*one.honest, *one.hostile)]
    write_records(parts / "cases.jsonl", (one.case for one in scores))
    write_records(parts / "criteria.jsonl", (one.criteria for one in scores if one.criteria is not None))
    write_records(parts / "replies.jsonl", (scored.reply for scored in everything))
    write_records(parts / "judgements.jsonl", (j for scored in everything for j in scored.judgements))
    write_records(parts / "rewards.jsonl", (scored.reward for scored in everything))
    replace_text(out / "attacks.json", result.model_dump_json(indent=1) + "\n")
    replace_text(out / "attacks.md", attacks_markdown(result))
