"""A judge's scores of the replies that people compared or rated.

Of each file at most so many contexts are judged as the validation asks for, one user after another. A context is a case without persona and
memories; a reply that stands in several pairs is scored once. A reward that compares the replies of a group sees one pair at a time, so
that a pair's verdict does not hang on who else stands in the file. Cases that show signs of danger by the rules are left out: replies to
them are judged by other dimensions than the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peregrm.dataset.safety import look_at
from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.files import own_pairs, read_human_file
from peregrm.evaluation.validity.ratings.rows import (
    HumanFile,
    JudgedFile,
    JudgedPair,
    JudgedRating,
    Pair,
    Rated,
    Scores,
    case_of,
)
from peregrm.mapping import map_in_order
from peregrm.pipeline.material import choose_cases
from peregrm.pipeline.scoring import give_criteria
from peregrm.pipeline.validity.context import Context
from peregrm.records import Case, Part, Reply
from peregrm.reward.base import COMPARING, RewardModel, Scored
from peregrm.store import write_records

__all__ = ["JudgedPairRow", "JudgedRatingRow", "judge_files", "read_files"]

_NOBODY = "unnamed"
_FLAGGED = "rows of a context that shows signs of danger"


class JudgedPairRow(Part):
    """A pair as it is kept: the human side and the judge's scores of both replies by measure."""

    file: str
    pair: str
    user: str
    better: str
    gap: float | None
    a: dict[str, float | None]
    b: dict[str, float | None]


class JudgedRatingRow(Part):
    """A rating as it is kept, with the judge's scores by measure."""

    file: str
    rating: str
    user: str
    scale: str
    level: float
    scores: dict[str, float | None]


@dataclass
class _Group:
    """A case with all that people said about replies to it."""

    case: Case
    pairs: list[Pair] = field(default_factory=list)
    rated: list[Rated] = field(default_factory=list)
    scored: dict[tuple[str, str], list[Scored]] = field(default_factory=dict)

    def reply(self, text: str, source: str | None) -> Reply:
        return Reply(case_id=self.case.id, policy=source or _NOBODY, text=text)


def read_files(context: Context) -> list[HumanFile]:
    """Return the human judgements there are: the given files, and the known order of replies to one's own cases.

    Raises `InputError`, naming file and line where one cannot be read, and where there are no judgements at all.
    """
    given = [read_human_file(path) for path in dict.fromkeys((*context.pairs, *context.ratings))]
    material = context.material
    own = own_pairs(material.dataset.cases, material.replies, material.ranks)
    files = [*given, own] if own.pairs else given
    if not files:
        raise InputError(
            "there are no pairs or ratings by people (--pairs, --ratings), and no cases with ranked replies"
        )
    return files


async def judge_files(context: Context, *, part: str) -> list[JudgedFile]:
    """Ask the judge about every file and keep the raw rows in the folder `part` of the validation.

    Raises what reading the files and scoring raise.
    """
    reward = context.open()
    try:
        give_criteria(reward, context.material.dataset)
        found = [await _judge(reward, file, context, part) for file in read_files(context)]
    finally:
        await reward.aclose()
    _write(context.out / part, found)
    return [judged for judged, _ in found]


async def _judge(reward: RewardModel, file: HumanFile, context: Context, part: str) -> tuple[JudgedFile, list[_Group]]:
    chosen, dropped = _choose(_groups(file, context), context)

    async def one(group: _Group) -> tuple[list[JudgedPair], list[JudgedRating]]:
        return await _judge_group(reward, group)

    judged = await map_in_order(
        one, chosen, stage=f"{part}: {file.name}", progress=context.progress, at_once=context.at_once
    )
    replies = [one for group in chosen for scored in group.scored.values() for one in scored]
    left_out = (*file.left_out, (_FLAGGED, dropped)) if dropped else file.left_out
    return (
        JudgedFile(
            file=file.model_copy(update={"left_out": left_out}),
            pairs=[pair for pairs, _ in judged for pair in pairs],
            rated=[rated for _, ratings in judged for rated in ratings],
            asked=len(replies),
            scored=sum(one.total is not None for one in replies),
        ),
        chosen,
    )


def _choose(groups: dict[str, _Group], context: Context) -> tuple[list[_Group], int]:
    """Return as many groups as asked for that show no sign of danger, and how many rows of others were met on the way.

    Cases are looked at in the order they are chosen in, and no further: looking takes longer than all else here.
    """
    chosen: list[_Group] = []
    dropped = 0
    for case in choose_cases([group.case for group in groups.values()], len(groups), context.seed):
        if len(chosen) == context.cases:
            break
        group = groups[case.id]
        if look_at(case).flags:
            dropped += len(group.pairs) + len(group.rated)
        else:
            chosen.append(group)
    return chosen, dropped


def _groups(file: HumanFile, context: Context) -> dict[str, _Group]:
    """Return what people said by case."""
    own = context.material.dataset.cases
    made: dict[tuple[str, object], Case] = {}
    rows: list[tuple[Case, Pair | Rated]] = []
    everything: list[Pair | Rated] = [*file.pairs, *file.rated]
    for row in everything:
        if isinstance(row, Pair) and row.case_id is not None:
            rows.append((own[row.case_id], row))
            continue
        key = (row.user, row.context)
        if key not in made:
            made[key] = case_of(row.user, row.context)
        rows.append((made[key], row))
    cases = {case.id: case for case, _ in rows}
    groups = {case_id: _Group(case) for case_id, case in cases.items()}
    for case, row in rows:
        group = groups[case.id]
        if isinstance(row, Pair):
            group.pairs.append(row)
        else:
            group.rated.append(row)
    return groups


async def _judge_group(reward: RewardModel, group: _Group) -> tuple[list[JudgedPair], list[JudgedRating]]:
    if reward.method in COMPARING:
        return await _judge_pairs(reward, group)
    replies = {reply.text: reply for reply in (group.reply(text, source) for text, source in _replies(group))}
    scored = await reward.score(group.case, list(replies.values()))
    group.scored["", ""] = list(scored)
    scores = {text: _scores(one) for text, one in zip(replies, scored, strict=True)}
    return (
        [JudgedPair(pair, scores[pair.a], scores[pair.b]) for pair in group.pairs],
        [JudgedRating(rated, scores[rated.reply]) for rated in group.rated],
    )


async def _judge_pairs(reward: RewardModel, group: _Group) -> tuple[list[JudgedPair], list[JudgedRating]]:
    """Score pair by pair; a rated reply alone is nothing such a reward can score."""
    judged: list[JudgedPair] = []
    for pair in group.pairs:
        replies = [group.reply(pair.a, pair.a_source), group.reply(pair.b, pair.b_source)]
        a, b = group.scored[pair.id, "pair"] = await reward.score(group.case, replies)
        judged.append(JudgedPair(pair, _scores(a), _scores(b)))
    return judged, []


def _replies(group: _Group) -> list[tuple[str, str | None]]:
    said = [(pair.a, pair.a_source) for pair in group.pairs] + [(pair.b, pair.b_source) for pair in group.pairs]
    return said + [(rated.reply, rated.reply_source) for rated in group.rated]


def _scores(scored: Scored) -> Scores:
    return {"total": scored.total, "empathy": scored.empathy, **scored.scores}


def _write(folder: Path, found: Sequence[tuple[JudgedFile, Sequence[_Group]]]) -> None:
    groups = [group for _, chosen in found for group in chosen]
    scored = [one for group in groups for some in group.scored.values() for one in some]
    rows: dict[str, list[Part]] = defaultdict(list)
    for judged, _ in found:
        rows["pairs"] += [_pair_row(judged.file.name, one) for one in judged.pairs]
        rows["ratings"] += [_rating_row(judged.file.name, one) for one in judged.rated]
    write_records(folder / "pairs.jsonl", rows["pairs"])
    write_records(folder / "ratings.jsonl", rows["ratings"])
    write_records(folder / "cases.jsonl", {group.case.id: group.case for group in groups}.values())
    write_records(folder / "replies.jsonl", {one.reply.id: one.reply for one in scored}.values())
    write_records(folder / "judgements.jsonl", {j.id: j for one in scored for j in one.judgements}.values())
    write_records(folder / "rewards.jsonl", {one.reward.id: one.reward for one in scored}.values())


def _pair_row(name: str, one: JudgedPair) -> JudgedPairRow:
    pair = one.pair
    return JudgedPairRow(
        file=name,
        pair=pair.id,
        user=pair.user,
        better=pair.better,
        gap=pair.gap,
        a=dict(one.a),
        b=dict(one.b),
    )


def _rating_row(name: str, one: JudgedRating) -> JudgedRatingRow:
    rated = one.rated
    return JudgedRatingRow(
        file=name,
        rating=rated.id,
        user=rated.user,
        scale=rated.scale.name,
        level=rated.level,
        scores=dict(one.scores),
    )
