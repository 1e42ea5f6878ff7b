"""Markdown that shows a text as it is: what users and models wrote is never markup."""

from __future__ import annotations

import re

__all__ = ["code", "plain"]

_MARKUP = re.compile(r"[\\`*_\[\]<>|~#]")
_ENTITY = re.compile(r"&(?=\w+;)")
_LINE_START = re.compile(r"^(\d*)([+\-=:.)])")


def plain(text: str) -> str:
    """Return one line of Markdown that shows `text` as it is, also in a table, in a heading and at the start of a line."""
    line = _ENTITY.sub("&amp;", _MARKUP.sub(r"\\\g<0>", " ".join(text.split())))
    return _LINE_START.sub(r"\g<1>\\\g<2>", line)


def code(text: str) -> str:
    """Return `text` as inline code on one line, not for tables."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"
