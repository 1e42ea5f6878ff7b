"""Criteria that are the same for every case: the generic ones of each dimension, or none at all.

They are what per-case criteria are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.dimensions import EMPATHY, Dimension
from peregrm.errors import SettingsError
from peregrm.records import Case, Criteria, Criterion
from peregrm.reward.aggregate import percentages
from peregrm.reward.criteria import check_criteria

__all__ = ["equal_weights", "fixed_criteria", "no_criteria"]


def fixed_criteria(case: Case, dimensions: Sequence[Dimension] = EMPATHY) -> Criteria:
    """Return the dimensions' own generic criteria, equally weighted.

    Raises `SettingsError` for a dimension that has none, or some that are not fit to judge by.
    """
    without = [d.name for d in dimensions if not d.criteria]
    if without:
        raise SettingsError(
            f"there are no fixed criteria for {', '.join(without)}; give the dimension some in its file"
        )
    wrong = check_criteria([(d.name, d.criteria) for d in dimensions])
    if wrong is not None:
        raise SettingsError(f"the fixed criteria cannot be used: {wrong}")
    return Criteria(
        case_id=case.id, method="fixed", items=tuple((d.name, equal_weights(d.criteria)) for d in dimensions)
    )


def no_criteria(case: Case, dimensions: Sequence[Dimension] = EMPATHY) -> Criteria:
    """Return one criterion a dimension, its own definition: each is scored as a whole."""
    return Criteria(
        case_id=case.id, method="none", items=tuple((d.name, equal_weights((d.measures,))) for d in dimensions)
    )


def equal_weights(texts: Sequence[str]) -> tuple[Criterion, ...]:
    """Return these texts as criteria that count alike."""
    weights = percentages([1] * len(texts))
    return tuple(Criterion(text=text, weight=weight) for text, weight in zip(texts, weights, strict=True))
