"""A trained head as a judge: behind the same interface as PereGRM, without criteria, without a prompt, without a call.

`--judge head` is the shipped head, `--judge head:PATH` another. Whatever the mode of PereGRM, a head judges in its one way; `samples` and
temperature mean nothing to it. Where it was trained on each dimension, it gives the three dimensions (1 to 5 on the judgement, total their
harmonic mean); otherwise a total only: the chance, 0 to 1, by which it takes the reply to be better than an average one of its training
set, under `total` on a judgement of the aspect `head`, with the log odds. Every judgement says which weights judged: a user of the training
set is judged by a fold that did not see them. Criteria are there for the reader.

An empty reply scores lowest by rule; a nearly empty one is judged, since a short reply may be meant, and heads learn that some are worse.
What it cannot judge is a failure: a language it was not trained in, by the case or by the script of message or reply (`language`), a reply
without a letter (`no_words`), text that is no text (`not_text`) or beyond all bounds (`too_long`), features from which no number follows
(`no_number`), a flagged case (`flagged`). Of a text beyond 256 word pieces the embedding model sees the first 256; words and sentences are
counted to the end. Left out on purpose: the bystander, telling languages of one script apart, and any guess in place of a failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from peregrm.errors import ArtifactError, SettingsError
from peregrm.models.embeddings import Embedder
from peregrm.models.heads import HEAD, is_head
from peregrm.models.planning import PlanningModel
from peregrm.records import Case, Criteria, Failure, Judgement, Reply, Reward, content_id
from peregrm.reward.aggregate import harmonic_mean
from peregrm.reward.base import EMPTY, Scored, as_replies, says_something
from peregrm.reward.guidance import flagged_failure
from peregrm.reward.heads.features import MOST_CHARACTERS, MOST_FOREIGN, Featuring, Moment, foreign_share, moment_of
from peregrm.reward.heads.head import TOTAL, Head, load_head
from peregrm.reward.judge import check_parents
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.summing import Rules, add_up, reward_of

__all__ = ["HeadReward", "opened_head"]


class _Opened(NamedTuple):
    head: Head
    featuring: Featuring
    lock: Lock


@lru_cache(maxsize=4)
def _opened(name: str) -> _Opened:
    """Load a head once a process; its name holds the hash of the file, so one that was trained again is loaded again."""
    embedder = Embedder()
    return _Opened(load_head(name, embedder.fingerprint), Featuring(embedder), Lock())


def opened_head(name: str) -> Head:
    """Return the head of a judge's name.

    Raises `InputError` where its file is not there, does not fit or has changed, `DependencyError` without the embedding model.
    """
    return _opened(name).head


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
        head, featuring, lock = _opened(self.asking.model.name)
        fold = head.fold_for(case)
        unseen = f"fold {(fold or 0) + 1} of {head.card.folds}, which saw nobody of this name or with these words"
        by = "the whole training set" if fold is None else unseen
        weights = head.weights_for(fold)
        moment = moment_of(case, self.hidden)
        beforehand = _unfit_case(head, case, moment)
        outcomes = []
        for text in texts:
            if not says_something(text):
                outcomes.append(_Outcome(dict.fromkeys(weights, float("-inf")), by))
                continue
            failure = beforehand or _unfit(head, text)
            if failure is not None:
                outcomes.append(_Outcome({}, by, failure))
                continue
            with lock:
                features = featuring.features(moment, text)
            odds = {key: round(float(each.score(features)), 6) for key, each in weights.items()}
            finite = all(map(isfinite, odds.values()))
            outcomes.append(_Outcome(odds, by) if finite else _Outcome({}, by, _failure("no_number", _NO_NUMBER)))
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


_NO_NUMBER = "no finite number follows from the features of this reply"


def _failure(kind: str, reason: str) -> Failure:
    return Failure(stage="judge", kind=kind, reason=reason)


def _language(head: Head, found: str) -> Failure:
    return _failure(
        "language", f"{found}: the head was trained in {', '.join(head.card.languages)} and has no evidence for others"
    )


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _unfit_case(head: Head, case: Case, moment: Moment) -> Failure | None:
    """Return why no reply to a case can be judged, if so."""
    texts = (moment.query, moment.situation, *(known.text for known in moment.known))
    longest = max(map(len, texts))
    if case.language not in head.card.languages:
        return _language(head, f"the case is in {case.language}")
    if any(map(_is_broken, texts)):
        return _failure("not_text", "message, situation or something known holds half a character")
    if longest > MOST_CHARACTERS:
        return _failure(
            "too_long",
            f"message, situation or something known has {longest} characters, at most {MOST_CHARACTERS} are read",
        )
    if foreign_share(case.query) > MOST_FOREIGN:
        return _language(head, "the message is in another script")
    return None


def _unfit(head: Head, text: str) -> Failure | None:
    """Return why a reply that says something cannot be judged, if so."""
    if len(text) > MOST_CHARACTERS:
        return _failure("too_long", f"the reply has {len(text)} characters, at most {MOST_CHARACTERS} are read")
    if _is_broken(text):
        return _failure("not_text", "the reply holds half a character")
    if foreign_share(text) > MOST_FOREIGN:
        return _language(head, "the reply is in another script")
    if not any(character.isascii() and character.isalpha() for character in text):
        return _failure("no_words", "the reply has no letter that the embedding model reads")
    return None


def _chance(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds))) if odds > -700 else 0.0
