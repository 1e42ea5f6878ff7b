"""The report of a run as Markdown and JSON: figures first, then case by case everything they rest on.

The wording stands in `report.md.jinja`; this module only gathers. The bytes depend on the artifacts alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.summary import Artifacts, Summary
from peregrm.evaluation.validity.cards import Standing, standing
from peregrm.records import Case, Criteria, Judgement, Reply, Reward
from peregrm.store import index_by, join

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "CaseView",
    "ReplyView",
    "case_views",
    "estimate_with_count",
    "format_estimate",
    "format_value",
    "judge_note",
    "markdown",
    "plain",
]

_MARKUP = re.compile(r"[\\`*_\[\]<>|~]")
_LINE_START = re.compile(r"^(\d*)([#+\-=:.)])")


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
        view = ReplyView(reply, rewards[reply.id], _words(judgements[reply.id]))
        replies[reply.case_id].append(view)

    def best_first(view: ReplyView) -> tuple[bool, float, str]:
        total = view.reward.total
        return (total is None, -(total or 0.0), view.reply.policy)

    return [CaseView(case, criteria[case.id], sorted(replies[case.id], key=best_first)) for case in artifacts.cases]


def _words(judgements: Sequence[Judgement]) -> tuple[tuple[str, str], ...]:
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
    template = _environment().from_string(
        resources.files(__package__).joinpath("report.md.jinja").read_text(encoding="utf-8")
    )
    text = template.render(
        summary=summary, note=judge_note(summary.judge, summary.standing), cases=case_views(artifacts)
    )
    return text.rstrip() + "\n"


def plain(text: str) -> str:
    """Return one line of Markdown that shows `text` as it is: what users and models wrote is never markup."""
    return _escaped(" ".join(text.split()))


def _quote(text: str) -> str:
    return "\n".join(f"> {plain(line)}".rstrip() for line in text.strip().splitlines()) or "> (empty)"


def _code(text: str) -> str:
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


def _escaped(line: str) -> str:
    line = _MARKUP.sub(r"\\\g<0>", line)
    line = re.sub(r"&(?=#?\w+;)", "&amp;", line)
    return _LINE_START.sub(r"\g<1>\\\g<2>", line)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(estimate=format_estimate, value=format_value, quote=_quote, plain=plain, code=_code)
    return environment
