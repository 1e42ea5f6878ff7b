"""A trained head as a judge: behind the same interface as PereGRM, without criteria, without a prompt, without a call.

`--judge head` is the shipped head, `--judge head:PATH` another. Whatever the mode of PereGRM, a head judges in its one way; `samples` and
temperature mean nothing to it. Where it was trained on each dimension, it gives the three dimensions (1 to 5 on the judgement, total their
harmonic mean); otherwise a total only: the chance, 0 to 1, by which it takes the reply to be better than an average one of its training
set, under `total` on a judgement of the aspect `head`, with the log odds. Every judgement says which weights judged: a user of the training
set is judged by a fold that did not see them. Criteria are there for the reader.

An empty reply scores lowest by rule. What it cannot judge is a failure: a language it was not trained in (`language`), a reply without a
letter (`no_words`), text that is no text (`not_text`) or beyond all bounds (`too_long`), a flagged case (`flagged`). Left out on purpose:
the bystander, and any guess in place of a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from peregrm.errors import ArtifactError, SettingsError
from peregrm.models.embeddings import Embedder
from peregrm.models.heads import HEAD, head_path, is_head
from peregrm.models.planning import PlanningModel
from peregrm.records import Case, Criteria, Failure, Judgement, Reply, Reward, content_id
from peregrm.reward.aggregate import harmonic_mean
from peregrm.reward.base import EMPTY, Scored, as_replies, says_something
from peregrm.reward.guidance import flagged_failure
from peregrm.reward.heads.features import Featuring, moment_of
from peregrm.reward.heads.head import TOTAL, Head, load_head
from peregrm.reward.judge import check_parents
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.summing import Rules, add_up, reward_of
from peregrm.text import cjk_share

__all__ = ["HeadReward", "opened_head"]

_MOST_CHARACTERS = 20_000
_MOST_CHINESE = 0.3


class _Opened(NamedTuple):
    head: Head
    featuring: Featuring
    lock: Lock


@lru_cache(maxsize=4)
def _opened(path: Path, name: str) -> _Opened:
    """Load a head once a process; its name holds the hash of the file, so one that was trained again is loaded again."""
    embedder = Embedder()
    return _Opened(load_head(path, embedder.fingerprint), Featuring(embedder), Lock())


def opened_head(name: str) -> Head:
    """Return the head of a judge's name.

    Raises `InputError` where its file is not there or does not fit, `DependencyError` without the embedding model.
    """
    return _opened(head_path(name), name).head


class _Outcome(NamedTuple):
    values: dict[str, float]
    weights: str
    failure: Failure | None = None


@dataclass(eq=False)
class HeadReward(PereGRM):
    """A head as a reward. Raises `SettingsError` at construction for other dimensions than empathy, and where it should write criteria."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if [dimension.name for dimension in self.dimensions] != ["resonation", "expression", "reception"]:
            raise SettingsError("a trained head judges empathy only, not other dimensions")
        if self.criteria == "model":
            raise SettingsError("a trained head writes no criteria: use --criteria composed, or another judge")
        if not is_head(self.judge):
            raise TypeError("the judge is no head")

    @property
    def method(self) -> str:
        """`head`, whatever the mode: it judges in one way."""
        return HEAD

    @cached_property
    def rules(self) -> Rules:
        """How judgements are added up."""
        return Rules(
            method=self.method,
            judge=self.asking.model.name,
            dimensions=(),
            quorum=self.quorum,
            bystander_weight=0.0,
            guards=self.guards,
        )

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        """Return one score a reply, in order; see `peregrm.reward.base.RewardModel`."""
        group = as_replies(case, replies)
        await self.criteria_for(case)  # for the reader
        judged = await self.judge_group(case, None, group)
        return [
            Scored(reply, self.reward(case, None, reply, judgements), tuple(judgements))
            for reply, judgements in zip(group, judged, strict=True)
        ]

    async def judge_group(
        self, case: Case, criteria: Criteria | None, replies: Sequence[Reply]
    ) -> list[list[Judgement]]:
        """Return the judgements of each reply, in order: none for one that failed, else one, or one a dimension.

        Raises `ArtifactError` where criteria or reply belong to another case, and what `opened_head` raises.
        """
        for reply in replies:
            check_parents(case, criteria, reply)
        there = [reply for reply in replies if reply.failure is None]
        if isinstance(self.asking.model, PlanningModel):
            planned = Failure(stage="judge", kind="planned", reason="a plan scores nothing")
            outcomes = [_Outcome({}, "", planned) for _ in there]
        elif case.flags:
            outcomes = [_Outcome({}, "", flagged_failure(case, self.method)) for _ in there]
        else:
            outcomes = await asyncio.to_thread(self._outcomes, case, [reply.text for reply in there]) if there else []
        found = iter(outcomes)
        return [[] if reply.failure else self._judgements(reply, next(found)) for reply in replies]

    def _outcomes(self, case: Case, texts: Sequence[str]) -> list[_Outcome]:
        name = self.asking.model.name
        head, featuring, lock = _opened(head_path(name), name)
        fold = head.fold_for(case)
        unseen = f"fold {(fold or 0) + 1} of {head.card.folds}, which did not see this user"
        by = "the whole training set" if fold is None else unseen
        weights = head.weights_for(fold)
        moment = moment_of(case, self.hidden)
        outcomes = []
        for text in texts:
            if not says_something(text):
                outcomes.append(_Outcome(dict.fromkeys(weights, float("-inf")), by))
                continue
            failure = _unfit(head, case, text)
            if failure is not None:
                outcomes.append(_Outcome({}, by, failure))
                continue
            with lock:
                features = featuring.features(moment, text)
            outcomes.append(_Outcome({key: round(float(each.score(features)), 6) for key, each in weights.items()}, by))
        return outcomes

    def _judgements(self, reply: Reply, outcome: _Outcome) -> list[Judgement]:
        if outcome.failure is not None:
            return [self._judgement(reply, HEAD, failure=outcome.failure)]
        empty = not says_something(reply.text)
        said = EMPTY if empty else ((HEAD, f"No words, only features: weights of {outcome.weights}."),)
        if TOTAL in outcome.values:
            odds = outcome.values[TOTAL]
            values = [(TOTAL, _chance(odds)), *([] if empty else [("log_odds", odds)])]
            return [self._judgement(reply, HEAD, values=values, analysis=said, raw="" if empty else str(odds))]
        return [
            self._judgement(
                reply,
                name,
                item_scores=[(name, [1 + 4 * _chance(odds)])],
                analysis=said,
                raw="" if empty else str(odds),
            )
            for name, odds in outcome.values.items()
        ]

    def _judgement(self, reply: Reply, aspect: str, **result: Any) -> Judgement:
        judge = self.asking.model.name
        return Judgement.model_validate(
            {
                "case_id": reply.case_id,
                "reply_id": reply.id,
                "criteria_id": None,
                "judge": judge,
                "aspect": aspect,
                "trial": 0,
                "call": content_id("call", [judge, aspect, reply.case_id, reply.text]),
                **result,
            }
        )

    def reward(self, case: Case, criteria: Criteria | None, reply: Reply, judgements: Sequence[Judgement]) -> Reward:
        """Add the judgements of one reply up; criteria do not count.

        Raises `ArtifactError` where the parts belong to another case, reply or judge, or an aspect is judged twice.
        """
        check_parents(case, criteria, reply)
        own = (reply.id, self.rules.judge)
        strangers = [one.id for one in judgements if (one.reply_id, one.judge) != own]
        aspects = [one.aspect for one in judgements]
        if strangers or len(set(aspects)) < len(aspects):
            raise ArtifactError(
                f"reward of {reply.id}: judgements of another reply or judge, or doubled: {strangers or aspects}"
            )
        if not judgements:
            return add_up(self.rules, case, None, reply, ())
        scores = {name: given[0] / 5 for one in judgements for name, given in one.item_scores or ()}
        totals = [dict(one.values)[TOTAL] for one in judgements if one.values is not None]
        empathy = harmonic_mean(list(scores.values())) if scores else None
        before = empathy if scores else totals[0] if totals else None
        made = reward_of(self.rules, case, reply, judgements, scores=scores, before=before)
        return made.model_copy(update={"empathy": empathy})


def _unfit(head: Head, case: Case, text: str) -> Failure | None:
    """Return why a reply that says something cannot be judged, if so."""
    reason = kind = ""
    if case.language not in head.card.languages or cjk_share(text) > _MOST_CHINESE:
        kind = "language"
        reason = f"the head was trained in {', '.join(head.card.languages)} and has no evidence for another language"
    elif len(text) > _MOST_CHARACTERS:
        kind, reason = (
            "too_long",
            f"the reply has {len(text)} characters, at most {_MOST_CHARACTERS} are read; nothing is cut",
        )
    elif any("\ud800" <= character <= "\udfff" for character in text):
        kind, reason = "not_text", "the reply holds half a character"
    elif not any(character.isascii() and character.isalpha() for character in text):
        kind, reason = "no_words", "the reply has no letter that the embedding model reads"
    return Failure(stage="judge", kind=kind, reason=reason) if kind else None


def _chance(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds))) if odds > -700 else 0.0
