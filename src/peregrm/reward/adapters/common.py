"""What the adapters share: flat batches become groups, completions become replies, and a deadline becomes a failure.

Trainers hand over rows: a completion, and the case it answers as a column of the training set. Rows of one case are scored together,
because that is how criteria are shared, and the results go back to the rows in their order. A row without a reward is an `Outcome`
without a total and with the reason: each adapter says it in its trainer's own way, and none of them as a number. The thinking of a
policy is taken off in `peregrm.replies` alone. Left out on purpose: retries, which the judge's own settings govern.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from peregrm.dimension_files import load_dimensions
from peregrm.errors import InputError, PeregrmError, SettingsError
from peregrm.mapping import NoProgress, map_in_order
from peregrm.models.base import Model
from peregrm.records import Case, Failure
from peregrm.reward.base import COMPARING, RewardModel, Scored
from peregrm.reward.factory import open_reward
from peregrm.reward.options import RewardOptions
from peregrm.store import index_by_id, read_records, summarise_validation

__all__ = [
    "MEASURES",
    "CaseReader",
    "Outcome",
    "Row",
    "RowScorer",
    "Unscored",
    "close_scorers",
    "last_reply",
    "numbers",
    "row_scorer",
    "score_rows",
]

_LOGGER = logging.getLogger("peregrm.reward.adapters")

STAGE = "reward"
CASES = "cases.jsonl"
MEASURES = ("tokens", "parroting", "sycophancy")
"""What the guards see in every reply."""


class Unscored(PeregrmError):
    """A reply has no reward and its trainer wants an exception for that; `failure` is the reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)  # what it is made again from, where trainers send it between processes
        self.failure = failure

    def __str__(self) -> str:
        return f"no reward ({self.failure.kind}): {self.failure.reason}"


class Row(NamedTuple):
    """One completion of a batch: the case it answers and the policy's raw output, thinking included."""

    case: Case
    output: str


class Outcome(NamedTuple):
    """What became of one row: a total, or a failure. `scored` is None where the deadline passed before there was a score.

    Total and failure are both there only where the policy never came to reply and `no_reply_score` said what that is worth.
    """

    total: float | None
    scored: Scored | None
    failure: Failure | None

    @property
    def no_reply(self) -> bool:
        """Whether the policy's output holds no reply, which is the policy's own doing and not the judge's."""
        return self.scored is not None and self.scored.reply.failure is not None

    def required(self) -> float:
        """Return the total. Raises `Unscored` where there is none."""
        if self.total is not None:
            return self.total
        raise Unscored(self.failure or Failure(stage=STAGE, kind="no_total", reason="the reward gave no total"))


class CaseReader:
    """Reads the case column of a training set.

    Args:
        dataset: The folder of a dataset, where a case id is looked up in `cases.jsonl`; None where rows hold whole cases.
    """

    def __init__(self, dataset: Path | None = None) -> None:
        self.dataset = dataset
        self._has_warned = False

    @cached_property
    def _cases(self) -> dict[str, Case]:
        if self.dataset is None:
            return {}
        return index_by_id(read_records(self.dataset / CASES, Case), str(self.dataset / CASES))

    def read(self, value: object) -> Case:
        """Return the case that a cell holds: a `Case`, its fields, their JSON text, or a case id.

        The first case that nobody looked at for danger (None for flags) is said in the log: replies to it are judged like any other.
        Raises `InputError` where it is none of these, or the dataset has no such case.
        """
        case = self._read(value)
        if case.flags is None and not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "case %s was never looked at for danger; `peregrm build` and `peregrm import` do that", case.id
            )
        return case

    def _read(self, value: object) -> Case:
        if isinstance(value, Case):
            return value
        try:
            if isinstance(value, Mapping):
                return Case.model_validate(dict(value))
            if isinstance(value, str) and value.lstrip().startswith("{"):
                return Case.model_validate_json(value)
        except ValidationError as error:
            raise InputError(f"case column: {summarise_validation(error)}") from None
        if not isinstance(value, str):
            raise InputError(f"case column: a case, its JSON text or its id is wanted, not {type(value).__name__}")
        case = self._cases.get(value)
        if case is None:
            where = "no dataset was given to look case ids up in" if self.dataset is None else f"{self.dataset}"
            raise InputError(f"case column: there is no case {value[:80]!r} ({where})")
        return case


def last_reply(completion: object) -> str:
    """Return a policy's raw output from a completion: a text as it is, of chat messages the content of the last assistant's.

    Content in parts is put together from its text parts; none at all is an empty text. Raises `InputError` for anything else.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence) or not all(isinstance(message, Mapping) for message in completion):
        raise InputError(f"completion: a text or chat messages are wanted, not {type(completion).__name__}")
    said = [message for message in completion if message.get("role") == "assistant"]
    if not said:
        raise InputError("completion: there is no assistant's message in it")
    content = said[-1].get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")


async def score_rows(
    reward: RewardModel,
    rows: Sequence[Row],
    *,
    deadline_s: float | None = None,
    no_reply_score: float | None = None,
) -> list[Outcome]:
    """Return one outcome a row, in order; rows of one case form one group.

    `deadline_s` is the time for all of it, in seconds: groups that are not done by then are failures of kind `deadline`.
    `no_reply_score` is the total of an output that holds no reply because its thinking never ended; None makes it a failure.
    Raises what `RewardModel.score` raises.
    """
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.case.id, []).append(place)
    groups = list(places.values())

    async def score_group(group: list[int]) -> list[Outcome]:
        limit = asyncio.timeout(deadline_s)
        try:
            async with limit:
                scored = await reward.score(rows[group[0]].case, [rows[place].output for place in group])
        except TimeoutError:
            if not limit.expired():
                raise
            return [Outcome(None, None, _late(deadline_s))] * len(group)
        return [_outcome(one, no_reply_score) for one in scored]

    results = await map_in_order(score_group, groups, stage=STAGE, progress=NoProgress(), at_once=len(groups) or 1)
    by_place: dict[int, Outcome] = {}
    for group, outcomes in zip(groups, results, strict=True):
        by_place.update(zip(group, outcomes, strict=True))
    return [by_place[place] for place in range(len(rows))]


def _late(deadline_s: float | None) -> Failure:
    return Failure(stage=STAGE, kind="deadline", reason=f"the judge was not done after {deadline_s:g} s")


def _outcome(scored: Scored, no_reply_score: float | None) -> Outcome:
    total = no_reply_score if scored.reply.failure is not None else scored.total
    return Outcome(total, scored, scored.failure)


def numbers(outcome: Outcome, dimensions: Sequence[str]) -> dict[str, float]:
    """Return everything measured about one row, by name: the same names for every row, NaN for what does not exist.

    Beside the names of `dimensions` and `MEASURES` there are `empathy`, `bystander`, `coverage` and, 0 or 1, `judge_failed`, `no_reply`
    and `flagged`: a flagged case is judged by safe guidance alone and has neither `empathy` nor these dimensions. For trainers that demand
    a number under every name; the total is not among them.
    """
    scored = outcome.scored
    scores = {} if scored is None else scored.scores
    measured = {} if scored is None or outcome.no_reply else dict(scored.reward.measured)
    values: dict[str, float | None] = {
        "empathy": None if scored is None or scored.flagged else scored.empathy,
        "bystander": None if scored is None else scored.bystander,
        "coverage": None if outcome.no_reply else 0.0 if scored is None else scored.coverage,
        **{name: scores.get(name) for name in dimensions},
        **{name: measured.get(name) for name in MEASURES},
        "judge_failed": float(outcome.failure is not None and not outcome.no_reply),
        "no_reply": float(outcome.no_reply),
        "flagged": float(scored is not None and scored.flagged),
    }
    return {name: math.nan if value is None else value for name, value in values.items()}


class RowScorer:
    """Scores single rows as they come, for trainers that never show a whole group.

    Criteria are written once a case all the same: rows of one case that are under way together wait for the same ones.

    Attributes:
        dimensions: The names of the dimensions, in order.
    """

    def __init__(
        self,
        options: RewardOptions,
        judges: tuple[Model | str, ...],
        cases: CaseReader,
        deadline_s: float | None,
        no_reply_score: float | None,
    ) -> None:
        if options.reward in COMPARING or len(judges) > 1:
            what = f"the reward {options.reward!r}" if options.reward in COMPARING else "a pool of several judges"
            raise SettingsError(f"{what} compares the replies of a group, and this trainer hands over one at a time")
        self.dimensions = tuple(dimension.name for dimension in load_dimensions(options.dimensions))
        self.reward = open_reward(options, judges)
        self._cases = cases
        self._deadline_s = deadline_s
        self._no_reply_score = no_reply_score

    async def score(self, case: object, output: str) -> Outcome:
        """Return the outcome of one row; `case` is as `CaseReader.read` takes it."""
        row = Row(self._cases.read(case), output)
        (outcome,) = await score_rows(
            self.reward, [row], deadline_s=self._deadline_s, no_reply_score=self._no_reply_score
        )
        return outcome


_SCORERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, RowScorer]] = WeakKeyDictionary()


def row_scorer(
    *,
    judge: str | Model | Sequence[str | Model] | None = None,
    dataset: str | Path | None = None,
    deadline_s: float | None = None,
    no_reply_score: float | None = None,
    **options: Any,
) -> RowScorer:
    """Return the scorer for these settings in the running event loop: the same one at every call, opened at the first.

    `options` are fields of `RewardOptions` as a configuration file gives them. Raises `SettingsError` for settings that make no
    sense, and for a reward that compares replies.
    """
    if "judges" in options or judge is None:
        raise SettingsError("name the judge as `judge`: nothing is trained on a judge that nobody chose")
    judges = (judge,) if isinstance(judge, str) or not isinstance(judge, Sequence) else tuple(judge)
    names = tuple(one if isinstance(one, str) else one.name for one in judges)
    try:
        chosen = RewardOptions.model_validate({**_plain(options), "judges": names})
    except ValidationError as error:
        raise SettingsError(f"reward options: {summarise_validation(error)}") from None
    key = (chosen, judges, str(dataset), deadline_s, no_reply_score)
    scorers = _SCORERS.setdefault(asyncio.get_running_loop(), {})
    if key not in scorers:
        cases = CaseReader(None if dataset is None else Path(dataset))
        scorers[key] = RowScorer(chosen, judges, cases, deadline_s, no_reply_score)
    return scorers[key]


async def close_scorers() -> None:
    """Close the judges that `row_scorer` opened in the running event loop; the next call opens new ones."""
    for scorer in _SCORERS.pop(asyncio.get_running_loop(), {}).values():
        await scorer.reward.aclose()


def _plain(value: Any) -> Any:
    """Return containers of a configuration library as dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
