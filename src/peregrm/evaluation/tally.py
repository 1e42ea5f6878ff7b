"""How often something failed or was left out, by stage and kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from peregrm.records import Part

__all__ = ["Count", "tally"]


class Count(Part):
    """How often something failed or was left out at one stage for one kind of reason, and the first reason in words."""

    stage: str
    kind: str
    n: int
    example: str


def tally(found: Sequence[tuple[str, str, str]]) -> tuple[Count, ...]:
    """Return the counts of (stage, kind, reason), sorted by stage and kind."""
    counts = Counter((stage, kind) for stage, kind, _ in found)
    examples = {(stage, kind): reason for stage, kind, reason in reversed(found)}
    return tuple(
        Count(stage=stage, kind=kind, n=n, example=examples[stage, kind]) for (stage, kind), n in sorted(counts.items())
    )
