"""The server's own request and answer shapes, and how a request names its case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError, model_validator

from peregrm.records import Case, Part, Reply
from peregrm.reward.base import Scored
from peregrm.reward.server.limits import Refused

__all__ = [
    "CaseRef",
    "Group",
    "ReplyScore",
    "ScoreGroup",
    "ScoreRequest",
    "ScoreResponse",
    "ScoredGroup",
    "WhyNot",
    "explain_invalid",
    "find_case",
    "reply_score",
    "total_of",
]

Group = tuple[Case, Sequence[Reply | str]]
"""What is scored together: a case and replies to it."""


class CaseRef(Part):
    """A case in full, or the id of one of the cases the server was started with."""

    case: Case | None = None
    case_id: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> CaseRef:
        if (self.case is None) == (self.case_id is None):
            raise ValueError("give either a case or a case_id")
        return self


class ScoreGroup(CaseRef):
    """Replies to one case: the policy's raw outputs, thinking included."""

    replies: tuple[str, ...] = Field(min_length=1)


class ScoreRequest(Part):
    """What `POST /score` takes."""

    groups: tuple[ScoreGroup, ...] = Field(min_length=1)


class WhyNot(Part):
    """Why a reply has no total: a short stable word and a sentence."""

    kind: str
    reason: str


class ReplyScore(Part):
    """The score of one reply. Numbers are null where there are none; `total` is null exactly where there is a `failure`.

    A reply to a `flagged` case is judged by safe guidance alone, which `method` says: it has no `empathy`, and its numbers are not to be
    averaged with others.
    """

    reply_id: str
    method: str
    flagged: bool
    total: float | None
    empathy: float | None
    dimensions: dict[str, float | None]
    bystander: float | None
    coverage: float
    penalty: float | None
    measured: dict[str, float]
    failure: WhyNot | None


class ScoredGroup(Part):
    """The scores of one group, in the order of its replies."""

    case_id: str
    scores: tuple[ReplyScore, ...]


class ScoreResponse(Part):
    """What `POST /score` gives: the groups in the order of the request."""

    groups: tuple[ScoredGroup, ...]


def reply_score(scored: Scored) -> ReplyScore:
    """Return a score as the server sends it."""
    failure = scored.failure
    return ReplyScore(
        reply_id=scored.reply.id,
        method=scored.reward.method,
        flagged=scored.flagged,
        total=scored.total,
        empathy=None if scored.flagged else scored.empathy,
        dimensions=scored.scores,
        bystander=scored.bystander,
        coverage=scored.coverage,
        penalty=scored.reward.penalty,
        measured=dict(scored.reward.measured),
        failure=None if failure is None else WhyNot(kind=failure.kind, reason=failure.reason),
    )


def total_of(scored: Scored, no_reply_score: float | None) -> float | None:
    """Return a total for a trainer that wants a number, or None.

    `no_reply_score` is what an output without a reply is worth, which is the policy's doing; a judge's failure is never worth anything.
    """
    return no_reply_score if scored.reply.failure is not None else scored.total


def find_case(cases: Mapping[str, Case], wanted: CaseRef, where: str) -> Case:
    """Return the case that a request means; `where` is its place in the request. Raises `Refused` (404) where it is unknown."""
    if wanted.case is not None:
        return wanted.case
    found = cases.get(wanted.case_id or "")
    if found is None:
        raise Refused(404, "unknown_case", f"{where}: this server has no case of that id ({len(cases)} are known)")
    return found


def explain_invalid(errors: ValidationError | Iterable[Mapping[str, Any]], where: str = "") -> Refused:
    """Return the refusal (422) that names the wrong fields, without repeating their values."""
    if isinstance(errors, ValidationError):
        errors = errors.errors(include_url=False, include_input=False, include_context=False)
    problems = [f"{_path(problem['loc'], where)}: {problem['msg'].removeprefix('Value error, ')}" for problem in errors]
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return Refused(422, "malformed", "; ".join(problems[:5]) + more)


def _path(loc: Sequence[int | str], where: str) -> str:
    keys = [str(key) for key in loc if key != "body"]
    return ".".join([*filter(None, [where]), *keys]) or "body"
