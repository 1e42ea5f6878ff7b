"""The report of a study as Markdown: what was planned, what was found, and in words whether the hypotheses hold.

The wording stands in `study.md.jinja`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from peregrm.evaluation.page.wording import counted, format_p
from peregrm.evaluation.report import format_estimate, format_value
from peregrm.markdown import plain
from peregrm.study.analysis import StudyResult
from peregrm.study.estimates import Effect, OutcomeResult
from peregrm.templates import environment

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["report_markdown", "verdicts"]


def report_markdown(result: StudyResult) -> str:
    """Return the report."""
    text = _template().render(
        r=result,
        plan=result.plan,
        verdicts=verdicts(result),
        effect=_effect,
        estimate=format_estimate,
        value=format_value,
        p=format_p,
        plain=plain,
        counted=counted,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def verdicts(result: StudyResult) -> list[str]:
    """Say of each hypothesis whether the planned test supports it, the primary one first. Not supported does not mean refuted."""
    a, b = result.plan.policies
    alpha = result.plan.alpha
    choice = result.main.choice
    tied = choice.people_tied > 1
    why = "nobody chose either more often, so there is nothing to test." if tied else _TOO_FEW
    said = [_verdict("Choice", choice.p, alpha, a if choice.people_one > choice.people_other else b, "chosen", why)]
    for one in result.main.outcomes:
        better = a if one.difference and one.difference.estimate > 0 else b
        said.append(_verdict(f"“{one.statement}”", one.p_holm, alpha, better, "rated higher", _untested(one)))
    return said


_TOO_FEW = "too few answers for the planned test."


def _untested(one: OutcomeResult) -> str:
    """Say why there is no p of a difference."""
    if one.difference is None or one.clustered.users < 2:
        return _TOO_FEW
    p = format_p(one.p_permutation, "p = ").replace("< ", "p < ")
    return (
        f"participants do not differ (A minus B is {one.difference.estimate:+.2f} for each), so the planned test, which needs a spread, "
        f"says nothing; permutation test {p}."
    )


def _verdict(what: str, p: float | None, alpha: float, better: str, how: str, otherwise: str) -> str:
    if p is None:
        return f"{what}: {otherwise}"
    if p >= alpha:
        return f"{what}: no difference was shown ({format_p(p, 'p = ').replace('< ', 'p < ')})."
    return f"{what}: {better} is {how} ({format_p(p, 'p = ').replace('< ', 'p < ')})."


def _effect(one: Effect | None) -> str:
    if one is None:
        return "—"
    if one.low is None:
        return f"{one.estimate:+.2f} (no interval)"
    return f"{one.estimate:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


@lru_cache(maxsize=1)
def _template() -> Template:
    return environment(resources.files(__package__), escape=False).get_template("study.md.jinja")
