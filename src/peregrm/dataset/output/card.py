"""The dataset card, `README.md`: what a dataset holds, where it is from, what was left out and what that did to it.

The wording stands in `card.md.jinja`; this module gives it a form that Markdown and YAML cannot misread. The bytes depend on the run's
files alone. Left out on purpose: any sentence about quality that no count in the run supports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from peregrm.dataset.output.bias import BiasRow
from peregrm.dataset.output.counts import Lengths, Reason, StageCount
from peregrm.dataset.output.leaks import NEAR_COPY, RUN, RUN_ZH, LeakRow, Share
from peregrm.dataset.output.table import COLUMNS, FOLDER, WITHHELD, file_name
from peregrm.markdown import code, plain
from peregrm.records import Part
from peregrm.templates import environment

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Card", "SplitRow", "card_text"]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_MOST_VALUES = 12
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


class SplitRow(Part):
    """One file of the dataset: its split, cases, users, flagged cases, and bytes (None where it was not written)."""

    name: str
    cases: int
    users: int
    flagged: int
    bytes: int | None


class Card(Part):
    """All that the card says. Pairs are names with their values or counts, in the order they are printed."""

    title: str
    licence: str | None
    version: str
    splits: tuple[SplitRow, ...]
    moved: tuple[str, ...]
    withhold: bool
    sources: tuple[tuple[str, str], ...]
    stages: tuple[StageCount, ...]
    reasons: tuple[Reason, ...]
    mended: tuple[tuple[str, int], ...]
    categories: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]
    labels: tuple[tuple[str, int], ...]
    flags: tuple[tuple[str, int], ...]
    safety: str = ""
    """Who looked for signs of danger, in a sentence; empty where that is not known."""
    lengths: tuple[Lengths, ...]
    settings: tuple[tuple[str, str], ...]
    methods: tuple[tuple[str, str], ...]
    prompts: tuple[tuple[str, str], ...]
    bias: tuple[BiasRow, ...]
    leaks: tuple[LeakRow, ...]


def card_text(card: Card) -> str:
    """Return the card as Markdown with its YAML header."""
    text = (
        _environment()
        .get_template("card.md.jinja")
        .render(
            card=card,
            columns=COLUMNS,
            folder=FOLDER,
            withheld=WITHHELD,
            size=_size(sum(row.cases for row in card.splits)),
            most=_MOST_VALUES,
            run=RUN,
            run_zh=RUN_ZH,
            near_copy=NEAR_COPY,
            drifted=[row for row in card.bias if _drifted(row)],
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _drifted(row: BiasRow) -> bool:
    p, p_users = row.drift.p, row.drift.p_users
    return p is not None and p_users is not None and max(p, p_users) < 0.05


def _size(n: int) -> str:
    """Return the size category of dataset hubs."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"]
    return names[sum(n >= limit for limit in _SIZES)]


def _yaml(text: str) -> str:
    """Return a text as a YAML scalar: JSON's double-quoted form is one, but for what YAML cannot print."""
    return json.dumps(_UNPRINTABLE.sub(" ", text), ensure_ascii=False)


def _share(share: Share) -> str:
    if share.share is None:
        return "—"
    if share.low is None or share.high is None:
        return f"{share.share:.1%} [no interval]"
    return f"{share.share:.1%} [{share.low:.1%}, {share.high:.1%}]"


def _p(value: float | None) -> str:
    return "—" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _counts(pairs: Sequence[tuple[str, int]], most: int = 40) -> str:
    total = sum(n for _, n in pairs)
    shown = [f"{plain(name)} {n} ({n / total:.0%})" for name, n in pairs[:most] if total]
    rest = sum(n for _, n in pairs[most:])
    return ", ".join([*shown, *([f"{len(pairs) - most} others {rest} ({rest / total:.0%})"] if rest else [])]) or "none"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment(resources.files(__package__), escape=False)
    made.filters.update(yaml=_yaml, plain=plain, code=code, share=_share, p=_p, counts=_counts, file_name=file_name)
    return made
