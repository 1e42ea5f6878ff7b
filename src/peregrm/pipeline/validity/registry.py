"""The parts of a validation by name: each the `measure` of a module of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from peregrm.evaluation.validity.card import PARTS, PartName
from peregrm.pipeline.validity import attacks, calibration, human, reliability, robustness, sensitivity, stability
from peregrm.pipeline.validity.context import Measure

__all__ = ["MEASURES", "NEEDS_FILES", "in_order"]

MEASURES: Mapping[PartName, Measure] = MappingProxyType(
    {
        "human": human.measure,
        "sensitivity": sensitivity.measure,
        "reliability": reliability.measure,
        "stability": stability.measure,
        "robustness": robustness.measure,
        "attacks": attacks.measure,
        "calibration": calibration.measure,
    }
)
"""What measures each part."""

NEEDS_FILES: frozenset[PartName] = frozenset({"human", "calibration"})
"""The parts that read what people preferred or rated from files of the user's."""


def in_order(parts: Collection[PartName]) -> list[PartName]:
    """Return the parts in the order of the card, each once."""
    return [part for part in PARTS if part in parts]
