"""The part of a validation that attacks the judge.

For every chosen case the honest replies are scored, then the worst of them again with hostile text in it, and replies of hacking
policies, by the same reward with the same criteria. A reward that looks at a whole group at once gets the honest group with the hostile
reply in it, one group a hostile reply. `attacks.json` and `attacks.md` hold every figure; `attacks.parts/` every reply, judgement and
reward behind them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from peregrm.errors import InputError
from peregrm.evaluation.attacks.corpus import Attack, attacks, families
from peregrm.evaluation.attacks.hacks import HACKS
from peregrm.evaluation.attacks.measure import HARMLESS, AttackResult, Trial, attack_table
from peregrm.evaluation.attacks.report import attacks_markdown
from peregrm.evaluation.statistics import clustered_mean
from peregrm.evaluation.validity.attacks import attack_finding
from peregrm.evaluation.validity.card import Finding
from peregrm.mapping import map_in_order
from peregrm.models.ledger import Price
from peregrm.models.registry import prices
from peregrm.pipeline.evaluating import usage_of
from peregrm.pipeline.material import choose_cases, honest_replies
from peregrm.pipeline.scoring import give_criteria, used_prompts
from peregrm.pipeline.validity.context import Context
from peregrm.records import Case, Criteria, Judgement, Reply, Usage, content_id
from peregrm.replies import reply_from_output
from peregrm.reward.base import ABSTAINED, COMPARING, RewardModel, Scored
from peregrm.reward.peregrm import PereGRM
from peregrm.store import replace_text, write_records

__all__ = ["measure"]

MARK = "\n\n* * *"
"""What the harmless control puts after a reply."""

NAME = "attacks"


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


async def measure(context: Context, per_family: int | None = 1) -> Finding:
    """Score honest and hostile replies; `per_family` attacks of each family a case (None: all), which take turns over the cases.

    Raises `InputError` where there is nothing to attack; a fatal `ModelError`; `SettingsError` where options do not fit.
    """
    honest = honest_replies(context.material)
    cases = [context.material.dataset.cases[case_id] for case_id in honest]
    if not cases:
        raise InputError("there is no case with a reply to attack")
    chosen = choose_cases(cases, context.cases, context.seed)
    reward = context.open()

    async def one(placed: tuple[int, Case]) -> _CaseScores:
        place, case = placed
        turn = _turn(context.seed, per_family, place)
        return await _score_case(reward, case, honest[case.id], context.material.ranks, turn)

    try:
        give_criteria(reward, context.material.dataset)
        scores = await map_in_order(
            one, list(enumerate(chosen)), stage=NAME, progress=context.progress, at_once=context.at_once
        )
    finally:
        await reward.aclose()
    left_out = len(context.material.dataset.cases) - len(cases)
    result = _result(scores, context, per_family, left_out)
    _write(context.out, scores, result)
    usual = [one.honest for one in scores]
    usual += [
        [s] for one in scores for s, trial in zip(one.hostile, one.trials, strict=True) if trial.family == HARMLESS
    ]
    asked = [j for group in usual for scored in group for j in scored.judgements if j.raw or _is_lost(j)]
    return attack_finding(
        result,
        [trial for one in scores for trial in one.trials],
        asked=len(asked),
        scored=sum(judgement.failure is None for judgement in asked),
    )


def _turn(seed: int, per_family: int | None, place: int) -> list[Attack]:
    """Return the attacks on the case at this place: those of a family take turns, so that many cases see most of them."""
    turn: list[Attack] = []
    for family in families():
        mine = [attack for attack in attacks() if attack.family == family]
        mine.sort(key=lambda attack: content_id("pick", [seed, attack.family, attack.name]))
        count = len(mine) if per_family is None else min(per_family, len(mine))
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
    reply = partial(reply_from_output, case)
    yield _Hostile("harmless", HARMLESS, "mark", reply(base.text + MARK, policy="harmless mark"))
    for attack in turn:
        policy = f"attack {attack.family}.{attack.name}"
        yield _Hostile("attack", attack.family, attack.name, reply(attack.apply(base.text, usable), policy=policy))
    for name, hack in HACKS.items():
        yield _Hostile("hack", name, name, reply(hack(case), policy=f"hack {name}"))


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


def _result(scores: Sequence[_CaseScores], context: Context, per_family: int | None, left_out: int) -> AttackResult:
    judgements = [j for one in scores for scored in (*one.honest, *one.hostile) for j in scored.judgements]
    used = usage_of(judgements)
    return AttackResult(
        judge=scores[0].honest[0].reward.judge,
        mode=scores[0].honest[0].reward.method,
        samples=context.options.samples,
        seed=context.seed,
        per_family=per_family,
        base=_base_words(scores),
        left_out=left_out,
        honest=clustered_mean([(one.case.user_id, scored.total) for one in scores for scored in one.honest]),
        table=attack_table(trial for one in scores for trial in one.trials),
        usage=used,
        cost=_cost(context, used),
        prompts=used_prompts(judgements, criteria=any(_is_written(one.criteria) for one in scores)),
        corpus=_corpus_hash(),
    )


def _cost(context: Context, used: Usage) -> float | None:
    model = context.judges[0]
    price = Price(0.0, 0.0) if model is None else prices(context.options.judges[:1], context.settings).get(model.name)
    return None if price is None or used.unmetered else price.of(used)


def _is_lost(judgement: Judgement) -> bool:
    """Tell whether a judgement failed that the judge did not decline to give; what it declines is missing from n alone."""
    return judgement.failure is not None and judgement.failure.kind not in ABSTAINED


def _is_written(criteria: Criteria | None) -> bool:
    return criteria is not None and criteria.method == "model"


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
    parts = out / f"{NAME}.parts"
    everything = [scored for one in scores for scored in (*one.honest, *one.hostile)]
    write_records(parts / "cases.jsonl", (one.case for one in scores))
    write_records(parts / "criteria.jsonl", (one.criteria for one in scores if one.criteria is not None))
    write_records(parts / "replies.jsonl", (scored.reply for scored in everything))
    write_records(parts / "judgements.jsonl", (j for scored in everything for j in scored.judgements))
    write_records(parts / "rewards.jsonl", (scored.reward for scored in everything))
    replace_text(out / f"{NAME}.json", result.model_dump_json(indent=1) + "\n")
    replace_text(out / f"{NAME}.md", attacks_markdown(result))
