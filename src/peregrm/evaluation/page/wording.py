"""Numbers in words, for the page, the Markdown and the terminal alike."""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.store import first_of

__all__ = ["counted", "criteria_words", "format_p", "some_of"]

_NAMED = 20
"""Cases named where some are missing; `evaluation.json` has them all."""

_CRITERIA = {
    "model": "written by a model",
    "composed": "put together from the case without a model",
    "fixed": "the same for every case",
    "hand": "edited by hand",
    "none": "left out",
}


def counted(n: int, noun: str, nouns: str | None = None) -> str:
    """Return a number with its noun, of which `nouns` is the plural: by default with an s."""
    return f"{n} {noun if n == 1 else nouns or noun + 's'}"


def format_p(p: float | None, sign: str = "") -> str:
    """Print a p with three digits after `sign`, a dash where there is none."""
    if p is None:
        return "—"
    return "< 0.001" if p < 0.001 else f"{sign}{p:.3f}"


def criteria_words(method: str) -> str:
    """Say how criteria of a method were made."""
    return _CRITERIA.get(method, method)


def some_of(ids: Sequence[str]) -> str:
    """Return the first ids and how many more there are."""
    return first_of(ids, _NAMED)
