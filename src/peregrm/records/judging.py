"""Criteria, replies, judgements and rewards."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field, model_validator

from peregrm.records.base import Failure, Part, Record, Usage

__all__ = ["Bystander", "Criteria", "Criterion", "Judgement", "Reply", "Reward"]


class Criterion(Part):
    """One thing a good reply to this case does. `weight` is in percent of its dimension."""

    text: str
    weight: int = Field(ge=1, le=100)


class Criteria(Record):
    """The criteria of one case: for each dimension 4 to 6 whose weights sum to 100, or a failure and none.

    `items` holds (dimension name, criteria) in the order of the dimension set. `method` says how they were made.
    """

    id_prefix: ClassVar[str] = "crt"

    case_id: str
    items: tuple[tuple[str, tuple[Criterion, ...]], ...] = ()
    method: str
    failure: Failure | None = None

    @model_validator(mode="after")
    def _weights_or_failure(self) -> Criteria:
        if bool(self.items) == (self.failure is not None):
            raise ValueError("criteria hold either items or a failure")
        sums = {name: sum(item.weight for item in items) for name, items in self.items}
        wrong = [f"{name} sum to {total}" for name, total in sums.items() if total != 100]
        if wrong:
            raise ValueError(f"the weights of {', '.join(wrong)}, not to 100")
        return self


class Reply(Record):
    """A policy's answer to a case, thinking already stripped into `thinking`.

    `policy` names who wrote it. An empty `text` is a real, empty reply; a `failure` means that there is no reply.
    """

    id_prefix: ClassVar[str] = "rep"
    id_excludes: ClassVar[frozenset[str]] = frozenset({"usage", "thinking"})

    case_id: str
    policy: str
    text: str
    thinking: str = ""
    failure: Failure | None = None
    usage: Usage = Usage()


class Bystander(Part):
    """How useful an onlooker finds the reply: five parts of 0 to 20 points."""

    content: float = Field(ge=0, le=20)
    structure: float = Field(ge=0, le=20)
    efficiency: float = Field(ge=0, le=20)
    objectivity: float = Field(ge=0, le=20)
    accuracy: float = Field(ge=0, le=20)


class Judgement(Record):
    """One answer of a judge about one reply: either scores or a failure, never both and never neither.

    `aspect` says what was asked:

    - `dimensions`: `item_scores` holds, for each dimension, one score of 1 to 5 per criterion, in the order of the criteria; fractional
      where it is an expectation over the judge's digit probabilities;
    - the name of one dimension, where a judge scored that one by criteria of its own or by none: `item_scores` holds that one score;
    - `bystander`: the bystander's points;
    - another reward's own word: `values` holds its named numbers, on the scale that reward documents.

    `criteria_id` is None where no criteria were given. `trial` numbers the repeated samples (or orders) from 0. `raw` is the judge's
    output as it came, `prompt` the name and hash of the prompt it answered. `call` names the call: judgements of several replies that
    one call gave share it, and each of them carries that call's whole usage.
    """

    id_prefix: ClassVar[str] = "jud"
    id_excludes: ClassVar[frozenset[str]] = frozenset({"usage", "call"})

    case_id: str
    reply_id: str
    criteria_id: str | None
    judge: str
    aspect: str = Field(min_length=1)
    trial: int = Field(ge=0)
    item_scores: tuple[tuple[str, tuple[float, ...]], ...] | None = None
    bystander: Bystander | None = None
    values: tuple[tuple[str, float], ...] | None = None
    analysis: tuple[tuple[str, str], ...] = ()
    expected: bool = False
    failure: Failure | None = None
    raw: str = ""
    prompt: str = ""
    call: str = ""
    usage: Usage = Usage()

    @model_validator(mode="after")
    def _value_or_failure(self) -> Judgement:
        held = {"item_scores": self.item_scores, "bystander": self.bystander, "values": self.values}
        given = [name for name, value in held.items() if value is not None]
        if len(given) + (self.failure is not None) != 1:
            raise ValueError("a judgement holds either scores or a failure")
        if given and (given == ["bystander"]) != (self.aspect == "bystander"):
            raise ValueError(f"a judgement of {self.aspect} does not hold {given[0]}")
        if not all(1 <= score <= 5 for _, scores in self.item_scores or () for score in scores):
            raise ValueError("scores lie from 1 to 5")
        if not all(math.isfinite(value) for _, value in self.values or ()):
            raise ValueError("values are finite")
        return self


class Reward(Record):
    """What the judgements of one reply add up to.

    `scores` are per dimension, 0.2 to 1 (mean over trials of 1 to 5, divided by 5); `empathy` their harmonic mean; `bystander` 0
    to 1; `total` = empathy + weight * (bystander - 1) - `penalty`. Each is None where fewer than the quorum of trials could be scored,
    and `failure` then says why. `coverage` is the share of trials that were scored, 0 to 1. `method` names the reward: a mode of
    PereGRM or one of its rivals, whose `scores` and `total` are on the scales they document and whose `empathy` and `bystander` may
    be None by nature. `measured` holds what the guards saw (length, parroting, sycophancy), whether or not it costs anything.
    """

    id_prefix: ClassVar[str] = "rwd"

    case_id: str
    reply_id: str
    policy: str
    judge: str
    method: str = "shared"
    scores: tuple[tuple[str, float | None], ...]
    empathy: float | None
    bystander: float | None
    total: float | None
    measured: tuple[tuple[str, float], ...] = ()
    penalty: float | None = Field(default=None, ge=0)
    coverage: float = Field(ge=0, le=1)
    judgement_ids: tuple[str, ...]
    failure: Failure | None = None

    @model_validator(mode="after")
    def _total_or_failure(self) -> Reward:
        if (self.total is None) == (self.failure is None):
            raise ValueError("a reward holds either a total or a failure")
        numbers = (self.empathy, self.bystander, self.total, self.penalty, *(score for _, score in self.scores))
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise ValueError("scores and total are finite")
        return self
