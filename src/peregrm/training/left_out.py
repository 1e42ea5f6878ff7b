"""How a person is told what a training does not learn from."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["left_out_lines"]


def left_out_lines(left_out: Mapping[str, int]) -> list[str]:
    """Return one line for each reason why something was left out, sorted."""
    return [f"left out: {count} {reason}" for reason, count in sorted(left_out.items())]
