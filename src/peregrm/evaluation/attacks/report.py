"""A measurement of attacks as Markdown. The wording stands in `attacks.md.jinja`; this module only fills it in."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from peregrm.evaluation.attacks.measure import AttackResult, judge_words
from peregrm.evaluation.report import format_estimate, format_value
from peregrm.markdown import code, plain
from peregrm.templates import environment

__all__ = ["attacks_markdown"]


def attacks_markdown(result: AttackResult) -> str:
    """Return the result as Markdown; the bytes depend on it alone."""
    made = environment(resources.files(__package__), escape=False)
    made.filters.update(
        estimate=format_estimate, value=format_value, plain=plain, code=code, counts=_counts, signed=_signed
    )
    rows = (*result.table.families, result.table.harmless)
    text = made.get_template("attacks.md.jinja").render(result=result, rows=rows, note=judge_words(result.judge))
    return text.rstrip() + "\n"


def _signed(value: float | None) -> str:
    return "—" if value is None else f"{value:+.3f}"


def _counts(failures: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in failures) or "—"
