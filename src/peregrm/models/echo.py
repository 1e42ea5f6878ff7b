"""Telling a model's answer from what it repeats of its question.

A reply, a memory or a history may hold an object of the very shape that a model is asked for. A model that quotes it, alone or after
its own answer, has not given it as its answer. Compared is the text of the object, whatever its spaces, kinds of quotes and
backslashes. Left out on purpose: what a model translates, decodes, changes or puts together, which is an answer, if a bad one, and
cannot be told from one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

__all__ = ["Material"]

_QUOTES = "'`´‘’“”„«»＂"
_MAY_END_KEY = re.compile(rf""":(?<![^\s{_QUOTES}"\\]:)""")
"""A colon behind nothing, a space, a quote or a backslash; the colon stands first, to be found fast."""


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
        """Whether a quote may stand before a colon once a text is squeezed; most texts, long as they are, hold no key of an object.

        A colon that a text begins with counts as well: what stands before it is not known.
        """
        return any(map(_MAY_END_KEY.search, self._texts))

    @cached_property
    def _squeezed(self) -> str:
        return "\0".join(_squeezed(text) for text in self._texts)


def _squeezed(text: str) -> str:
    text = "".join(text.split()).replace("\\", "")
    for quote in _QUOTES:
        text = text.replace(quote, '"')
    return text
