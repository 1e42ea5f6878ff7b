"""Chains as one self-contained HTML page: no script, nothing fetched from anywhere, readable on a phone, in the dark and on paper.

Everything that users and models wrote is escaped by the template engine. A quote is marked where it stands in its turn. The wording
stands in `show.html.jinja`. Left out on purpose: JavaScript; what folds away is an HTML element that needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from peregrm.dataset.output.chain import Chain, list_users
from peregrm.dataset.output.show import profile_lines, quoted_turns
from peregrm.templates import environment, printable

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["USERS_IN_FULL", "page"]

USERS_IN_FULL = 25
"""A page of more users than this holds the list only: one of thousands would open in no browser."""


class _Piece(NamedTuple):
    """A stretch of a turn's text and the numbers of the memories that quote it."""

    text: str
    numbers: tuple[int, ...]


class _TurnView(NamedTuple):
    anchor: str
    number: int
    role: str
    pieces: tuple[_Piece, ...]
    numbers: tuple[int, ...]


class _SessionView(NamedTuple):
    session_id: str
    date: str | None
    turns: tuple[_TurnView, ...]
    quoted: int


class _ChainView(NamedTuple):
    anchor: str
    chain: Chain
    numbers: dict[str, int]
    sessions: tuple[_SessionView, ...]
    turn_anchors: dict[tuple[str, int], str]


def page(chains: Sequence[Chain], title: str, *, with_list: bool) -> str:
    """Return the page of these chains; `with_list` puts the list of users before them."""
    in_full = chains if len(chains) <= USERS_IN_FULL else ()
    views = [_view(f"u{number}", chain) for number, chain in enumerate(in_full, start=1)]
    anchors = {view.chain.user_id: view.anchor for view in views}
    text = _template().render(
        title=title,
        users=list_users(chains) if with_list else [],
        anchors=anchors,
        chains=views,
        opened=not with_list or len(views) == 1,
        most=USERS_IN_FULL,
        profile_lines=profile_lines,
    )
    return printable(text)


def _view(anchor: str, chain: Chain) -> _ChainView:
    numbers = {memory.id: number for number, memory in enumerate(chain.memories, start=1)}
    quoted = quoted_turns(chain.memories)
    sessions = []
    anchors: dict[tuple[str, int], str] = {}
    for place, session in enumerate(chain.history.sessions if chain.history else ()):
        turns = []
        for index, turn in enumerate(session.turns):
            quotes = [(quote, numbers[memory.id]) for quote, memory in quoted.get((session.session_id, index), ())]
            cited = tuple(sorted({number for _, number in quotes}))
            anchors[session.session_id, index] = f"{anchor}-s{place}-{index}"
            turns.append(
                _TurnView(
                    anchors[session.session_id, index], index, turn.role, tuple(_pieces(turn.text, quotes)), cited
                )
            )
        quoted_here = sum(bool(turn.numbers) for turn in turns)
        sessions.append(_SessionView(session.session_id, session.date, tuple(turns), quoted_here))
    return _ChainView(anchor, chain, numbers, tuple(sessions), anchors)


def _pieces(text: str, quotes: Sequence[tuple[str, int]]) -> list[_Piece]:
    """Cut a text where quotes begin and end; a quote that does not stand in it marks nothing."""
    spans = [
        (start, start + len(quote), number) for quote, number in quotes if quote and (start := text.find(quote)) >= 0
    ]
    borders = sorted({0, len(text), *(edge for start, end, _ in spans for edge in (start, end))})
    pieces = []
    for start, end in pairwise(borders):
        inside = {number for first, last, number in spans if first <= start and end <= last}
        pieces.append(_Piece(text[start:end], tuple(sorted(inside))))
    return pieces


@lru_cache(maxsize=1)
def _template() -> Template:
    return environment(resources.files(__package__), escape=True).get_template("show.html.jinja")
