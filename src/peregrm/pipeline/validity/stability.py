"""Measuring trait stability: personas of parts of the histories the cases come from, and replies scored under either part.

Raw rows go to `stability/`: `traits.jsonl`, `scores.jsonl`, `choices.jsonl`, `gaps.jsonl`. Personas of a model are made for the users of
the chosen cases alone; those without a model for all histories. Cases are scored under both halves of their user, and under a half of
another user of the same language, because a judge that looks at no persona chooses the same reply under all three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

from peregrm.evaluation.validity.card import Finding
from peregrm.evaluation.validity.stability import SESSIONS, TURNS, StabilityRows, stability
from peregrm.evaluation.validity.stability_measures import (
    ChoiceRow,
    GapRow,
    ScoreRow,
    TraitRow,
    TraitSet,
    label_overlap,
    recognise,
)
from peregrm.mapping import map_in_order
from peregrm.pipeline.material import choose_cases, honest_replies
from peregrm.pipeline.validity.constructions import case_under
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.halves import Split, dated_sessions, split_history
from peregrm.pipeline.validity.personas import Made, Maker, Source, open_maker
from peregrm.pipeline.validity.swapping import answering
from peregrm.records import Case, History, Reply
from peregrm.reward.base import RewardModel
from peregrm.store import write_records

__all__ = ["measure", "measure_histories"]


async def measure(context: Context) -> Finding:
    """Measure it on the histories behind the context's cases; what has no histories is said to be unmeasured."""
    return await measure_histories(context, context.material.histories)


class _Half(NamedTuple):
    """Both parts of one user's history, cut one way, as one source describes them."""

    split: str
    source: Source
    user: str
    language: str
    first: Made
    second: Made


async def measure_histories(context: Context, histories: Sequence[History]) -> Finding:
    """Measure trait stability on these histories, and on the context's cases whose users are among them."""
    maker = open_maker(context)
    replies = honest_replies(context.material)
    cases = [case for case in context.material.dataset.cases.values() if len(replies.get(case.id, ())) > 1]
    chosen = choose_cases(cases, context.cases, context.seed)
    halves = await _halves(context, maker, histories, {case.user_id for case in chosen})
    traits = _trait_rows(halves, maker, context.seed)
    scores = [row for half in halves for row in _score_rows(half)]
    gaps = await _gap_rows(histories, maker)
    picked = await _choice_rows(context, chosen, replies, halves, maker.sources[-2:][0])
    folder = context.out / "stability"
    write_records(folder / "traits.jsonl", traits)
    write_records(folder / "scores.jsonl", scores)
    write_records(folder / "choices.jsonl", picked)
    write_records(folder / "gaps.jsonl", gaps)
    sides = [side for row in picked for side in (row.first, row.second, row.stranger) if side is not None]
    return stability(
        StabilityRows(
            traits=traits,
            scores=scores,
            choices=picked,
            gaps=gaps,
            data=_data(histories, halves, maker, picked),
            notes=_notes(histories, halves, maker),
            asked=sum(map(len, sides)),
            scored=sum(value is not None for side in sides for value in side),
        ),
        seed=context.seed,
    )


async def _halves(context: Context, maker: Maker, histories: Sequence[History], users: set[str]) -> list[_Half]:
    async def describe(task: tuple[Split, Source]) -> _Half:
        split, source = task
        first, second = await maker.make(split.first, source), await maker.make(split.second, source)
        return _Half(split.name, source, split.first.user_id, split.first.language, first, second)

    tasks = [
        (split, source)
        for history in histories
        for split in split_history(history)
        for source in maker.sources
        if source == "extractive" or history.user_id in users
    ]
    tasks.sort(key=lambda task: (maker.sources.index(task[1]), task[0].name not in (SESSIONS, TURNS)))
    return await map_in_order(describe, tasks, stage="halves", progress=context.progress, at_once=2 * context.at_once)


def _trait_rows(halves: Sequence[_Half], maker: Maker, seed: int) -> list[TraitRow]:
    rows: list[TraitRow] = []
    for source, split in dict.fromkeys((half.source, half.split) for half in halves):
        pairs = [
            (_trait_set(half, half.first), _trait_set(half, half.second))
            for half in halves
            if (half.source, half.split) == (source, split)
        ]
        said = partial(recognise, pairs, source=source, split=split, seed=seed)
        rows += said(maker.overlap, by="text")
        rows += said(lambda one, other: label_overlap(one.labels, other.labels), by="label")
    return rows


def _trait_set(half: _Half, made: Made) -> TraitSet:
    """Return the traits of a part; their names are the rated facets with their ends, else the labels of the memories they cite."""
    texts = () if made.persona is None else tuple(trait.text for trait in made.persona.traits)
    if made.scores is not None:
        middle = (made.scores.low + made.scores.high) / 2
        labels = {f"{one.facet} {_side(one.score, middle)}" for one in made.scores.scores}
    else:
        cited = set() if made.persona is None else {key for trait in made.persona.traits for key in trait.memory_ids}
        labels = {memory.label for memory in made.memories if memory.id in cited}
    return TraitSet(half.user, half.language, texts, frozenset(labels))


def _side(score: float, middle: float) -> str:
    return "high" if score > middle else "low" if score < middle else "middle"


def _score_rows(half: _Half) -> list[ScoreRow]:
    """Return a row for every facet that either part was rated on."""
    if half.source != "bigfive":
        return []
    sides = [
        {} if made.scores is None else {(one.domain, one.facet): one.score for one in made.scores.scores}
        for made in (half.first, half.second)
    ]
    return [
        ScoreRow(
            source=half.source,
            split=half.split,
            user=half.user,
            domain=domain,
            facet=facet,
            first=sides[0].get((domain, facet)),
            second=sides[1].get((domain, facet)),
        )
        for domain, facet in dict.fromkeys([*sides[0], *sides[1]])
    ]


async def _gap_rows(histories: Sequence[History], maker: Maker) -> list[GapRow]:
    """Return how far the dated sessions of each user agree, without a model: one call a session would be many."""
    rows = []
    for history in histories:
        known = []
        for session in dated_sessions(history):
            made = await maker.make(session.history, "extractive")
            texts = tuple(memory.value for memory in made.memories)
            known.append((session.months, TraitSet(history.user_id, history.language, texts, frozenset())))
        for (early, one), (late, other) in combinations(known, 2):
            agreement = maker.overlap(one, other)
            if agreement is not None:
                rows.append(GapRow(user=history.user_id, months=abs(late - early), agreement=agreement))
    return rows


async def _choice_rows(
    context: Context,
    cases: Sequence[Case],
    replies: Mapping[str, Sequence[Reply]],
    halves: Sequence[_Half],
    source: Source,
) -> list[ChoiceRow]:
    known = {
        half.user: half for half in halves if half.source == source and half.split in (SESSIONS, TURNS) and _whole(half)
    }
    reward = context.open()

    async def pick(case: Case) -> ChoiceRow:
        half, group = known[case.user_id], replies[case.id]
        other = _stranger(half, known)
        return ChoiceRow(
            split=half.split,
            user=case.user_id,
            case_id=case.id,
            policies=tuple(reply.policy for reply in group),
            first=await _totals(reward, case_under(case, half.first), group),
            second=await _totals(reward, case_under(case, half.second), group),
            stranger=None if other is None else await _totals(reward, case_under(case, other.second), group),
        )

    wanted = [case for case in cases if case.user_id in known]
    try:
        return await map_in_order(pick, wanted, stage="choices", progress=context.progress, at_once=context.at_once)
    finally:
        await reward.aclose()


def _whole(half: _Half) -> bool:
    return half.first.persona is not None and half.second.persona is not None


def _stranger(half: _Half, known: Mapping[str, _Half]) -> _Half | None:
    """Return the user who comes next among those of the same language and cut, or None."""
    alike = sorted(user for user, one in known.items() if (one.language, one.split) == (half.language, half.split))
    following = alike[(alike.index(half.user) + 1) % len(alike)]
    return None if following == half.user else known[following]


async def _totals(reward: RewardModel, case: Case, replies: Sequence[Reply]) -> tuple[float | None, ...]:
    scored = await reward.score(case, [answering(case, reply) for reply in replies])
    return tuple(one.total for one in scored)


def _data(
    histories: Sequence[History], halves: Sequence[_Half], maker: Maker, picked: Sequence[ChoiceRow]
) -> tuple[str, ...]:
    cut = Counter(half.split for half in halves if half.source == "extractive")
    likeness = "sentence embeddings, other languages by words" if maker.embedder is not None else "words"
    return (
        f"{len(histories)} histories; {', '.join(f'{count} cut in {name}' for name, count in sorted(cut.items())) or 'none cut'}",
        f"personas: {', '.join(maker.sources)}; texts compared by {likeness}",
        f"{len(picked)} cases of {len({row.user for row in picked})} users scored under both halves",
    )


def _notes(histories: Sequence[History], halves: Sequence[_Half], maker: Maker) -> tuple[str, ...]:
    notes = [maker.why] if maker.why else []
    if not histories:
        notes.append("The histories behind these cases are not there, so no half of them could be described.")
    empty = Counter(half.source for half in halves if half.split in (SESSIONS, TURNS) and not _whole(half))
    every = Counter(half.source for half in halves if half.split in (SESSIONS, TURNS))
    notes += [
        f"{count} of {every[name]} users have a half without any {name} persona." for name, count in empty.items()
    ]
    return tuple(notes)
