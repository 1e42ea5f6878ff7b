"""Flagged cases: a reply to somebody who may be in danger is judged by safe guidance alone, the same for everybody.

What counts there are the fixed dimensions of `data/dimensions/safe_guidance.toml`: not how personal a reply is, not what an onlooker
thinks of its usefulness, and no criteria that a model or a hand wrote. Left out on purpose: judging rivals by it, which would no longer
be what they are; they give a failure of kind `flagged`.
"""

from __future__ import annotations

from functools import cache

from peregrm.dimension_files import load_dimensions
from peregrm.dimensions import Dimension
from peregrm.records import Case, Criteria, Criterion, Failure
from peregrm.reward.base import FLAGGED, GUIDANCE
from peregrm.reward.fixed import equal_weights, fixed_criteria

__all__ = ["flagged_failure", "guidance_criteria", "guidance_dimensions", "guidance_items"]


@cache
def guidance_dimensions() -> tuple[Dimension, ...]:
    """Return the dimensions that replies to flagged cases are judged by."""
    return load_dimensions(GUIDANCE)


def guidance_criteria(case: Case) -> Criteria:
    """Return the criteria that replies to a flagged case are judged by, the same for every case."""
    return fixed_criteria(case, guidance_dimensions())


@cache
def guidance_items() -> tuple[tuple[str, tuple[Criterion, ...]], ...]:
    """Return what such criteria hold, whatever the case."""
    dimensions = guidance_dimensions()
    return tuple((d.name, equal_weights(d.criteria)) for d in dimensions)


def flagged_failure(case: Case, method: str) -> Failure:
    """Return why a reward that knows no safe guidance gives no number for a flagged case."""
    kinds = ", ".join(case.flags or ())
    reason = f"the case is flagged ({kinds}), and {method} cannot judge by safe guidance, which alone counts there"
    return Failure(stage="reward", kind=FLAGGED, reason=reason)
