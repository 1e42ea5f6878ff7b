"""A measurement of attacks as Markdown. The wording stands in `attacks.md.jinja`; this module only fills it in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources

from peregrm.evaluation.attacks.measure import AttackResult, judge_words
from peregrm.evaluation.report import format_estimate, format_value

__all__ = ["attacks_markdown"]

_MARKUP = re.compile(r"[\\`*\[\]<>|~]")


def attacks_markdown(result: AttackResult) -> str:
    """Return the result as Markdown; the bytes depend on it alone."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - not HTML
    environment.filters.update(
        estimate=format_estimate, value=format_value, plain=_plain, counts=_counts, signed=_signed
    )
    source = resources.files(__package__).joinpath("attacks.md.jinja").read_text(encoding="utf-8")
    rows = (*result.table.families, result.table.harmless)
    text = environment.from_string(source).render(result=result, rows=rows, note=judge_words(result.judge))
    return text.rstrip() + "\n"


def _signed(value: float | None) -> str:
    return "—" if value is None else f"{value:+.3f}"


def _counts(failures: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{kind} {n}" for kind, n in failures) or "—"


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text)
