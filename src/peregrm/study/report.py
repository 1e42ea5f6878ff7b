"""The report of a study as Markdown: what was planned, what was found, and in words whether the hypotheses hold.

The wording stands in `study.md.jinja`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from peregrm.evaluation.page.wording import counted, format_p
from peregrm.evaluation.report import format_estimate, format_value, plain
from peregrm.study.analysis import StudyResult
from peregrm.study.estimates import Effect

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
    said = [_verdict("Choice", choice.p, alpha, a if choice.people_one > choice.people_other else b, "chosen")]
    for one in result.main.outcomes:
        better = a if one.difference and one.difference.estimate > 0 else b
        said.append(_verdict(f"“{one.statement}”", one.p_holm, alpha, better, "rated higher"))
    return said


def _verdict(what: str, p: float | None, alpha: float, better: str, how: str) -> str:
    if p is None:
        return f"{what}: too few answers for the planned test."
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
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - Markdown, escaped by `plain`
    return environment.from_string(resources.files(__package__).joinpath("study.md.jinja").read_text(encoding="utf-8"))
