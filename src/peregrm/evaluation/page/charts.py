"""Where things stand in the charts of a page, in percent of their width or height; the template only draws.

An axis spans everything that is shown on it, interval ends included, so that no interval is cut; charts of one quantity share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from peregrm.evaluation.statistics import Estimate

__all__ = ["SHARES", "Axis", "Dot", "Strip", "Upright", "axis_of", "cloud", "strip", "uprights"]

_MARGIN = 0.06


class Axis(NamedTuple):
    """A linear axis from `low` to `high`, with round `ticks` inside."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return where a value stands, in percent from the low end, kept within the axis."""
        return round(min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low))), 2)


class Strip(NamedTuple):
    """A dot with its interval on an axis, in percent; `low` and `high` are None where there is no interval."""

    middle: float
    low: float | None
    high: float | None


class Dot(NamedTuple):
    """A point of a cloud, in percent from the left and from the top."""

    x: float
    y: float


class Upright(NamedTuple):
    """A point of a cloud with the ends of its upright interval, in percent from the top; None where there is no interval."""

    dot: Dot
    low: float | None
    high: float | None


SHARES = Axis(0.0, 1.0, (0.0, 0.5, 1.0))
"""The axis of what lies between nothing and all."""


def axis_of(values: Iterable[float | None]) -> Axis:
    """Return an axis that holds all values; one of 0 to 1 where there are none."""
    there = [value for value in values if value is not None]
    if not there:
        return SHARES
    low, high = min(there), max(there)
    room = (high - low) * _MARGIN or max(abs(high), 1.0) * _MARGIN
    return Axis(low - room, high + room, _ticks(low - room, high + room))


def strip(axis: Axis, estimate: Estimate) -> Strip | None:
    """Return where an estimate stands; None where it has no value."""
    if estimate.mean is None:
        return None
    ends = [None if end is None else axis.place(end) for end in (estimate.low, estimate.high)]
    return Strip(axis.place(estimate.mean), ends[0], ends[1])


def cloud(points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> tuple[Dot, ...]:
    """Return points of (x, y) on two axes."""
    return tuple(Dot(across.place(x), round(100 - up.place(y), 2)) for x, y in points)


def uprights(points: Sequence[tuple[float, Estimate]], across: Axis, up: Axis) -> tuple[Upright, ...]:
    """Return estimates over the values they were made at, from the left; those without a value are left out."""
    found = []
    for x, one in sorted(points, key=lambda point: point[0]):
        if one.mean is not None:
            ends = [None if end is None else round(100 - up.place(end), 2) for end in (one.low, one.high)]
            found.append(Upright(cloud([(x, one.mean)], across, up)[0], ends[0], ends[1]))
    return tuple(found)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Return three to six round numbers between two ends."""
    span = high - low
    size = 10.0 ** len(str(int(span))) if span >= 1 else 1.0
    while span / size < 3:
        size /= 2 if str(size).strip("0.")[:1] in ("1", "2") else 2.5
    first = int(low // size) + 1
    return tuple(round(k * size, 10) for k in range(first, first + 8) if low <= k * size <= high)
