"""Telling a model's answer from what it repeats of its question.

A reply, a memory or a history may hold an object of the very shape that a model is asked for. A model that quotes it, alone or after
its own answer, has not given it as its answer. Compared is the text of the object, whatever its spaces, kinds of quotes and
backslashes. Left out on purpose: what a model translates, decodes, changes or puts together, which is an answer, if a bad one, and
cannot be told from one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

__all__ = ["Material"]

_QUOTES = "'`´‘’“”„«»＂"
_KEY_ENDS = _QUOTES + '"\\'


class Material:
    """The texts of a question that a model may quote."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)

    def holds(self, text: str) -> bool:
        """Tell whether the object written as `text` stands in the material, with or without its outer braces."""
        if '":' in text and not self._may_hold_key:
            return False
        inside = _squeezed(text).removeprefix("{").removesuffix("}")
        return inside != "" and inside in self._squeezed

    @cached_property
    def _may_hold_key(self) -> bool:
        return any(map(_may_hold_key, self._texts))

    @cached_property
    def _squeezed(self) -> str:
        return "\0".join(_squeezed(text) for text in self._texts)


def _may_hold_key(text: str) -> bool:
    """Tell whether a quote may stand before a colon once the text is squeezed; most texts, long as they are, hold no key of an object."""
    colon = text.find(":")
    while colon >= 0:
        before = text[colon - 1 : colon]  # nothing where the text begins with it, which is in everything
        if before in _KEY_ENDS or before.isspace():
            return True
        colon = text.find(":", colon + 1)
    return False


def _squeezed(text: str) -> str:
    text = "".join(text.split()).replace("\\", "")
    for quote in _QUOTES:
        text = text.replace(quote, '"')
    return text
