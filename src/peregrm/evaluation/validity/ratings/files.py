"""From a file to its human judgements: the reader is the one that knows the first row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings import dialogues, epitome, preferences, three_replies
from peregrm.evaluation.validity.ratings.rows import HumanFile, Pair
from peregrm.histories.base import Row
from peregrm.histories.files import read_rows
from peregrm.histories.paths import show_path, stem
from peregrm.records import Case, Message, Reply, content_id

__all__ = ["OWN", "own_pairs", "read_human_file"]

OWN = "cases with replies of known order"
"""The name of the pairs that are made of ranked replies to cases of one's own."""


class _Reader(NamedTuple):
    format: str
    matches: Callable[[dict[str, Any]], bool]
    read: Callable[[Sequence[Row], str], HumanFile]


_READERS = tuple(
    _Reader(module.FORMAT, module.matches, module.read) for module in (preferences, dialogues, epitome, three_replies)
)


def read_human_file(path: Path) -> HumanFile:
    """Read a file of preferences or ratings, plain or gzip.

    Raises `InputError`, naming file and line, where it cannot be read, holds nothing, or its rows are of no known kind or of two.
    """
    rows: list[Row] = []
    for row in read_rows(path):
        if isinstance(row, InputError):
            raise row
        if not isinstance(row.value, dict):
            raise InputError(f"{row.where}: not an object")
        rows.append(row)
    reader = next((reader for reader in _READERS if rows and reader.matches(rows[0].value)), None)
    if reader is None:
        known = ", ".join(reader.format for reader in _READERS)
        where = rows[0].where if rows else show_path(path)
        raise InputError(f"{where}: no known kind of human judgements; there are: {known}")
    odd = next((row for row in rows if not reader.matches(row.value)), None)
    if odd is not None:
        raise InputError(f"{odd.where}: not one of the {reader.format} that the file begins with")
    return reader.read(rows, stem(path))


def own_pairs(cases: Mapping[str, Case], replies: Iterable[Reply], ranks: Mapping[str, int]) -> HumanFile:
    """Return every two ranked replies to one case whose ranks differ, 1 being the best; their policies are their sources."""
    groups: dict[str, list[Reply]] = {}
    for reply in replies:
        if reply.id in ranks and reply.case_id in cases and reply.failure is None:
            groups.setdefault(reply.case_id, []).append(reply)
    pairs = [
        Pair(
            id=content_id("pair", [a.id, b.id]),
            source=OWN,
            user=cases[case_id].user_id,
            context=(Message(role="user", content=cases[case_id].query),),
            a=a.text,
            b=b.text,
            better="a" if ranks[a.id] < ranks[b.id] else "b",
            gap=abs(ranks[a.id] - ranks[b.id]),
            a_source=a.policy,
            b_source=b.policy,
            case_id=case_id,
        )
        for case_id, group in groups.items()
        for a, b in combinations(sorted(group, key=lambda reply: (reply.policy, reply.id)), 2)
        if ranks[a.id] != ranks[b.id]
    ]
    return HumanFile(name=OWN, format="ranked replies", pairs=tuple(pairs), clusters="users")
