"""A memory as AlpsBench compares it: label, value, type and confidence, whoever wrote it.

Models write what they like into these fields, so nothing here fails: other JSON than text becomes its text, and a confidence that is no
number is none. Left out on purpose: evidence, which the benchmark does not compare.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from peregrm.records import Memory, Part

__all__ = ["Item", "folded", "item_of", "items_of"]


class Item(Part):
    """One memory. `confidence` is 0 to 1, or None where none was given; `type` is direct, indirect, or whatever a model wrote."""

    label: str
    value: str
    type: str
    confidence: float | None = None


def folded(text: str) -> str:
    """Return a text as it is compared where letters count: small ones, with single spaces."""
    return " ".join(text.lower().split())


def item_of(raw: Mapping[str, Any]) -> Item:
    """Return the item that a JSON object means."""
    return Item(
        label=_text(raw.get("label")),
        value=_text(raw.get("value")),
        type=_text(raw.get("type")),
        confidence=_confidence(raw.get("confidence")),
    )


def items_of(memories: Iterable[Memory]) -> list[Item]:
    """Return the kept memories in the shape of the benchmark; rejected and superseded ones are no answer."""
    return [
        Item(label=memory.label, value=memory.value, type=memory.type, confidence=memory.confidence)
        for memory in memories
        if memory.status == "kept"
    ]


def _text(raw: Any) -> str:
    if raw is None:
        return ""
    return raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)


def _confidence(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else min(1.0, max(0.0, number))
