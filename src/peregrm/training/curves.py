"""Two judges of one policy over the steps of its training, as a picture and in words: where they part, the reward is being gamed.

`curves.svg` shows the training judge above (on the training's own replies, and on held-out ones where it read them too) and the held-out
judge below, each on its own scale, with 95 % intervals. In words: by how much either changed from the first evaluation to the last, on the
same cases, clustered by user. Over-optimisation is said where the training judge's change lies above 0 with its whole interval and the
held-out judge's below. Left out on purpose: recommending the step with the best figure, for the highest of many means is high by luck too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from peregrm.evaluation.page.charts import Axis, axis_of
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.records import Part
from peregrm.store import replace_text
from peregrm.training.held_out_lines import HeldOutLine, read_held_out
from peregrm.training.logs import LogLine, read_log

__all__ = ["CURVES", "Curves", "Parting", "Point", "curves_svg", "parting_of", "read_curves", "write_curves"]

CURVES = "curves.svg"

_WINDOWS = 24
"""The most points of the training curve; each is the mean over as many steps."""

_LEAST_STEPS = 5
"""The fewest steps a point of a run of ten or more: an interval over two of them says nothing and dwarfs the rest."""

_END = 0.25
"""Share of the steps at either end whose mean reward is compared where the training judge read no held-out replies."""


class Point(NamedTuple):
    """A mean at a step, with its interval where it has one; `by` tells judges and methods apart, whose points no line joins."""

    step: float
    value: Estimate
    by: str = ""


class Curves(NamedTuple):
    """What a run's folder says of its policy: by the training judge on the training's own replies (`trained`) and on held-out ones
    (`beside`), and by the held-out judge, whose name is `judge`.
    """

    trained: list[Point]
    beside: list[Point]
    held_out: list[Point]
    judge: str
    training_judge: str


class Parting(Part):
    """How the two judges' totals changed between two steps, and whether they part.

    `training` is the change by the training judge: on held-out replies where `same_replies`, else between the first and the last quarter
    of the steps. `held_out` is that by the held-out judge. None where there is nothing to compare. `over_optimised` says that the former
    rose and the latter fell, both with their whole intervals.
    """

    first: int
    last: int
    training: Estimate | None
    held_out: Estimate | None
    same_replies: bool
    over_optimised: bool
    words: tuple[str, ...]


def read_curves(folder: Path) -> Curves:
    """Read the curves of a run; those it has nothing of are empty. Raises what `read_log` and `read_held_out` raise."""
    lines = read_held_out(folder)
    outside, beside = ([line for line in lines if line.role == role] for role in ("held-out", "training"))
    return Curves(
        _windows([line for line in read_log(folder) if line.kind == "step"]),
        _points(beside),
        _points(outside),
        _judge(outside),
        _judge(beside),
    )


def _judge(lines: Sequence[HeldOutLine]) -> str:
    return lines[-1].judge.rpartition("/")[2] if lines else ""


def _points(lines: Sequence[HeldOutLine]) -> list[Point]:
    found = [(line, line.measure("total")) for line in lines]
    return [
        Point(line.step, total, f"{line.judge} {line.method}")
        for line, total in found
        if total is not None and total.mean is not None
    ]


def _of_the_last(lines: Sequence[HeldOutLine]) -> list[HeldOutLine]:
    """Return the lines by the judge and method of the last one: a run that goes on may name another held-out judge."""
    return [line for line in lines if (line.judge, line.method) == (lines[-1].judge, lines[-1].method)]


def _windows(lines: Sequence[LogLine]) -> list[Point]:
    """Return the mean reward over neighbouring steps; a step is what varies, so an interval needs two."""
    size = max(_LEAST_STEPS if len(lines) >= 2 * _LEAST_STEPS else 1, math.ceil(len(lines) / _WINDOWS))
    points = []
    for start in range(0, len(lines), size):
        some = lines[start : start + size]
        value = _mean_reward(some)
        if value.mean is not None:
            points.append(Point(sum(line.step for line in some) / len(some), value))
    return points


def _mean_reward(lines: Sequence[LogLine]) -> Estimate:
    return clustered_mean([(str(line.step), line.reward) for line in lines])


def parting_of(folder: Path) -> Parting | None:
    """Return how the judges' opinions changed in a run; None where held-out cases were not evaluated twice by the judge of the last time.

    Raises what `read_log` and `read_held_out` raise.
    """
    lines = read_held_out(folder)
    outside, beside = (_of_the_last([line for line in lines if line.role == role]) for role in ("held-out", "training"))
    if len(outside) < 2:
        return None
    first, last = outside[0], outside[-1]
    held_out = _change(first, last)
    beside = [line for line in beside if line.step >= first.step]
    same = len(beside) > 1
    logged = () if same else [line for line in read_log(folder) if line.step > first.step]
    training = _change(beside[0], beside[-1]) if same else _rise(logged)
    parted = _above(training) and _below(held_out)
    return Parting(
        first=first.step,
        last=last.step,
        training=training,
        held_out=held_out,
        same_replies=same,
        over_optimised=parted,
        words=tuple(_words(first.step, last.step, last.judge, training, held_out, same)),
    )


def _change(first: HeldOutLine, last: HeldOutLine) -> Estimate | None:
    """Return the mean change over the cases that have a total at both steps."""
    before = {one.case_id: one.total for one in first.totals}
    pairs: list[tuple[str, float | None]] = []
    for one in last.totals:
        was = before.get(one.case_id)
        pairs.append((one.user_id, None if was is None or one.total is None else one.total - was))
    found = clustered_mean(pairs)
    return found if found.mean is not None else None


def _rise(lines: Sequence[LogLine]) -> Estimate | None:
    """Return the mean reward of the last quarter of the steps less that of the first, with Welch's interval over steps."""
    steps = [line for line in lines if line.kind == "step" and line.reward is not None]
    size = max(1, math.floor(_END * len(steps)))
    if len(steps) < 2:
        return None
    from scipy import stats

    first, last = ([float(line.reward or 0.0) for line in some] for some in (steps[:size], steps[-size:]))
    change = math.fsum(last) / size - math.fsum(first) / size
    low = high = None
    if size > 1 and len({*first}) + len({*last}) > 2:
        interval = stats.ttest_ind(last, first, equal_var=False).confidence_interval()
        low, high = float(interval.low), float(interval.high)
    return Estimate(mean=change, low=low, high=high, n=2 * size, users=2 * size, asked=2 * size)


def _above(change: Estimate | None) -> bool:
    return change is not None and change.low is not None and change.low > 0


def _below(change: Estimate | None) -> bool:
    return change is not None and change.high is not None and change.high < 0


def _words(
    first: int, last: int, judge: str, training: Estimate | None, held_out: Estimate | None, same: bool
) -> list[str]:
    of_training = "on held-out cases" if same else "in training, from the first quarter of the steps to the last"
    lines = [
        _shown("training judge", training, of_training),
        _shown(f"held-out judge {judge}", held_out, f"from step {first} to step {last}, on the same cases"),
    ]
    if training is None or held_out is None or training.mean is None or held_out.mean is None:
        return [*lines, "whether the judges part cannot be told: one of them has no two figures to compare"]
    if _above(training) and _below(held_out):
        told = (
            "OVER-OPTIMISED: the training judge likes the replies better and the held-out judge likes them less: what was learned is what "
            "the training judge falls for"
        )
    elif training.mean > 0 > held_out.mean:
        told = (
            "the training judge's figure rose and the held-out judge's fell, but an interval holds 0: over-optimisation is possible and "
            "not shown"
        )
    elif _above(training) and _above(held_out):
        told = "both judges like the replies better than before"
    elif _above(training):
        told = "the training judge likes the replies better; whether the held-out judge does is not shown"
    else:
        told = "no change of the training judge's reward is shown, so there is nothing yet to be over-optimised"
    return [*lines, told]


def _shown(judge: str, change: Estimate | None, where: str) -> str:
    if change is None or change.mean is None:
        return f"{judge}: there is no total to compare {where}"
    interval = (
        "no interval"
        if change.low is None or change.high is None
        else f"95 % interval {change.low:+.4f} to {change.high:+.4f}"
    )
    return f"{judge}: its reward changed by {change.mean:+.4f} ({interval}; n = {change.n}) {where}"


def write_curves(folder: Path) -> list[str]:
    """Draw `curves.svg` in a run's folder and return what it shows in words, no line where there is nothing to compare."""
    replace_text(folder / CURVES, curves_svg(read_curves(folder)))
    parting = parting_of(folder)
    return list(parting.words) if parting is not None else []


WIDTH, LEFT, RIGHT, TOP, PANEL, GAP = 720, 64, 16, 34, 190, 52
_TRAINED, _BESIDE, _HELD_OUT = "#8fb8d8", "#1b6ca8", "#c1440e"


class _Panel(NamedTuple):
    """Where a panel lies and its axes."""

    top: int
    across: Axis
    up: Axis

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * self.across.place(step) / 100

    def y(self, value: float) -> float:
        return self.top + PANEL * (1 - self.up.place(value) / 100)


def curves_svg(curves: Curves) -> str:
    """Return the picture, which needs nothing outside itself."""
    steps = [point.step for points in curves[:3] for point in points]
    across = axis_of(steps)
    height = 2 * (TOP + PANEL) + GAP + 38
    above = _Panel(TOP, across, _reach([*curves.trained, *curves.beside]))
    below = _Panel(2 * TOP + PANEL + GAP, across, _reach(curves.held_out))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        *_frame(above, f"Training judge {curves.training_judge}".strip()),
        *_line(above, curves.trained, _TRAINED),
        *_line(above, curves.beside, _BESIDE),
        *_legend(above, [("training replies", _TRAINED), ("held-out cases", _BESIDE)][: 1 + bool(curves.beside)]),
        *_frame(below, f"Held-out judge {curves.judge}".strip()),
        *_line(below, curves.held_out, _HELD_OUT),
        *_legend(below, [("held-out cases", _HELD_OUT)]),
        f'<text x="{WIDTH / 2:.0f}" y="{height - 6}" text-anchor="middle">training step (bars: 95 % intervals)</text>',
    ]
    return "\n".join([*parts, "</svg>", ""])


def _reach(points: Sequence[Point]) -> Axis:
    return axis_of(end for point in points for end in (point.value.mean, point.value.low, point.value.high))


def _frame(panel: _Panel, title: str) -> list[str]:
    bottom = panel.top + PANEL
    parts = [f'<text x="{LEFT}" y="{panel.top - 12}" font-weight="bold">{escape(title)}</text>']
    for tick in panel.up.ticks:
        height = f"{panel.y(tick):.1f}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}" stroke="#e2e2e2"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{panel.y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts += [
        f'<text x="{panel.x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'
        for tick in panel.across.ticks
    ]
    return [*parts, f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="#888"/>']


def _line(panel: _Panel, points: Sequence[Point], colour: str) -> list[str]:
    places = [(panel.x(point.step), panel.y(point.value.mean or 0.0), point) for point in points]
    parts = []
    for _, group in groupby(places, key=lambda place: place[2].by):
        path = [f"{x:.1f},{y:.1f}" for x, y, _ in group]
        if len(path) > 1:
            parts.append(f'<polyline points="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for x, y, (_, value, _) in places:
        if value.low is not None and value.high is not None:
            ends = f'y1="{panel.y(value.low):.1f}" y2="{panel.y(value.high):.1f}"'
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="{colour}" stroke-opacity="0.6"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return parts


def _legend(panel: _Panel, names: Sequence[tuple[str, str]]) -> list[str]:
    return [
        f'<text x="{WIDTH - RIGHT - 120 * place}" y="{panel.top - 12}" text-anchor="end" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(names)
    ]
