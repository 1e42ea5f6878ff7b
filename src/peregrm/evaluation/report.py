"""The report of a run as Markdown and JSON: figures first, then case by case everything they rest on.

The wording stands in `report.md.jinja`; this module only gathers. The bytes depend on the artifacts alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from peregrm.evaluation.statistics import Estimate, measures_given
from peregrm.evaluation.summary import Artifacts, Summary
from peregrm.evaluation.validity.cards import Standing, standing
from peregrm.markdown import code, plain
from peregrm.records import Case, Criteria, Judgement, Reply, Reward
from peregrm.store import index_by, join
from peregrm.templates import environment

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "CaseView",
    "ReplyView",
    "analysis_of",
    "case_views",
    "estimate_with_count",
    "format_estimate",
    "format_value",
    "judge_note",
    "markdown",
]


class ReplyView(NamedTuple):
    """One reply with its reward and the judge's words, of the first trial that was scored."""

    reply: Reply
    reward: Reward
    analysis: tuple[tuple[str, str], ...]


class CaseView(NamedTuple):
    """One case with its criteria and its replies, best first; unscored ones last."""

    case: Case
    criteria: Criteria
    replies: list[ReplyView]


def judge_note(judge: str, standing_: Standing | None = None) -> str:
    """Say what is known of a judge's worth: what its card says, where one was found, and otherwise that there is none."""
    return (standing_ or standing(judge, "")).words


def case_views(artifacts: Artifacts) -> list[CaseView]:
    """Gather what belongs to each case, in the order of the cases.

    Raises `ArtifactError` where a case has no criteria or criteria have no case.
    """
    rewards = {reward.reply_id: reward for reward in artifacts.rewards}
    criteria = index_by(artifacts.criteria, lambda c: c.case_id, "criteria")
    join([case.id for case in artifacts.cases], criteria, "criteria")
    judgements: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in artifacts.judgements:
        judgements[judgement.reply_id].append(judgement)
    replies: dict[str, list[ReplyView]] = defaultdict(list)
    for reply in artifacts.replies:
        view = ReplyView(reply, rewards[reply.id], analysis_of(judgements[reply.id]))
        replies[reply.case_id].append(view)

    def best_first(view: ReplyView) -> tuple[bool, float, str]:
        total = view.reward.total
        return (total is None, -(total or 0.0), view.reply.policy)

    return [CaseView(case, criteria[case.id], sorted(replies[case.id], key=best_first)) for case in artifacts.cases]


def analysis_of(judgements: Sequence[Judgement]) -> tuple[tuple[str, str], ...]:
    """Return the judge's words on a reply by their heading: of each aspect those of the first trial that was scored."""
    words: dict[str, tuple[tuple[str, str], ...]] = {}
    for judgement in judgements:
        if judgement.failure is None:
            words.setdefault(judgement.aspect, judgement.analysis)
    return tuple(line for aspect in ("dimensions", "bystander") for line in words.get(aspect, ()))


def format_value(value: float | None, digits: int = 3) -> str:
    """Print a number, or an em dash where there is none."""
    return "—" if value is None else f"{value:.{digits}f}"


def format_estimate(estimate: Estimate, *, signed: bool = False) -> str:
    """Print a mean with its interval, a dash where either is not to be had."""
    if estimate.mean is None:
        return "—"
    sign = "+" if signed else ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:{sign}.3f} [no interval]"
    return f"{estimate.mean:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def estimate_with_count(estimate: Estimate) -> str:
    """Print a mean with its interval and what it rests on."""
    return f"{format_estimate(estimate)} (n {estimate.n}, {estimate.users} users)"


def markdown(summary: Summary, artifacts: Artifacts) -> str:
    """Return the whole report as Markdown."""
    text = (
        _environment()
        .get_template("report.md.jinja")
        .render(
            summary=summary,
            note=judge_note(summary.judge, summary.standing),
            cases=case_views(artifacts),
            given=lambda rows: measures_given([row.measures for row in rows]),
        )
    )
    return text.rstrip() + "\n"


def _quote(text: str) -> str:
    return "\n".join(f"> {plain(line)}".rstrip() for line in text.strip().splitlines()) or "> (empty)"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment(resources.files(__package__), escape=False)
    made.filters.update(estimate=format_estimate, value=format_value, quote=_quote, plain=plain, code=code)
    return made
