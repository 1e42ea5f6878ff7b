"""Who sees which cases, and which reply stands first: counterbalanced over participants, not left to chance.

Cases are dealt out in laps: every case once, in a new order, then every case again. So at any moment two cases differ by at most one in
how often they were dealt. The sides come from an Euler orientation of the graph of participants and cases: over a whole design each
participant and each case has either policy first equally often, or once more often where their number is odd. Left out on purpose:
balancing over those who finish, which nobody can know beforehand; the analysis looks for side effects instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from peregrm.errors import SettingsError

__all__ = ["Shown", "counterbalanced"]


class Shown(NamedTuple):
    """One case as one participant sees it: its number, and whether policy A's reply is the first of the two."""

    case: int
    a_first: bool


def counterbalanced(participants: int, cases: int, per_participant: int, seed: int) -> list[list[Shown]]:
    """Return what each participant sees, in order.

    Args:
        participants: How many slots are filled, at least 1.
        cases: How many cases there are; they are numbered from 0.
        per_participant: How many different cases each participant sees, 1 to `cases`.
        seed: Decides all that is left open.

    Raises `SettingsError` where a number is out of range.
    """
    if participants < 1 or per_participant < 1:
        raise SettingsError("a study has at least one participant, who sees at least one case")
    if per_participant > cases:
        raise SettingsError(f"{per_participant} cases a participant, but there are only {cases} in the study")
    random = Random(seed)  # noqa: S311 - a design to be drawn again, no secret
    dealt = _deal(participants, cases, per_participant, random)
    sides = _sides(dealt, cases, random)
    return [[Shown(case, side) for case, side in zip(*pair, strict=True)] for pair in zip(dealt, sides, strict=True)]


def _deal(participants: int, cases: int, per_participant: int, random: Random) -> list[list[int]]:
    """Deal cases in laps; one that a participant has from the end of a lap is moved behind their share of the next."""
    dealt: list[list[int]] = []
    lap: list[int] = []
    for _ in range(participants):
        mine = lap[:per_participant]
        lap = lap[per_participant:]
        if len(mine) < per_participant:
            fresh = random.sample(range(cases), cases)
            first = [case for case in fresh if case not in mine][: per_participant - len(mine)]
            lap = [case for case in fresh if case not in first]
            mine += first
        dealt.append(random.sample(mine, len(mine)))
    return dealt


def _sides(dealt: Sequence[Sequence[int]], cases: int, random: Random) -> list[list[bool]]:
    """Say for each case of each participant whether A stands first: whether the edge is walked from the participant to the case.

    Vertices of odd degree are joined to one that is made up on the other side, so that every walk returns to where it began.
    """
    people = len(dealt)
    edges = [(person, people + case) for person, mine in enumerate(dealt) for case in mine]
    real = len(edges)
    degree = [0] * (people + cases)
    for one, other in edges:
        degree[one] += 1
        degree[other] += 1
    spare_case, spare_person = people + cases, people + cases + 1
    odd_people = [v for v in range(people) if degree[v] % 2]
    odd_cases = [v for v in range(people, people + cases) if degree[v] % 2]
    edges += [(v, spare_case) for v in odd_people] + [(spare_person, v) for v in odd_cases]
    if len(odd_people) % 2:
        edges.append((spare_person, spare_case))
    outward = _oriented(edges, people + cases + 2, random)
    sides = iter(outward[:real])
    return [[next(sides) for _ in mine] for mine in dealt]


def _oriented(edges: Sequence[tuple[int, int]], vertices: int, random: Random) -> list[bool]:
    """Walk along every edge once, from each vertex as often out as in; return which edges were walked from their first end."""
    beside: list[list[int]] = [[] for _ in range(vertices)]
    for number, ends in enumerate(edges):
        for end in ends:
            beside[end].append(number)
    for numbers in beside:
        random.shuffle(numbers)
    outward: list[bool | None] = [None] * len(edges)
    for start in random.sample(range(vertices), vertices):
        here = start
        while beside[here]:
            number = beside[here].pop()
            if outward[number] is None:
                first, second = edges[number]
                outward[number] = here == first
                here = second if here == first else first
    return [bool(way) for way in outward]
