"""How the templates of reports, pages, cards and prompts are filled in: a missing variable raises. jinja2 is imported inside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from jinja2 import Environment

__all__ = ["environment", "printable"]

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def environment(folder: Traversable | None = None, *, escape: bool, **more: Any) -> Environment:
    """Return a template engine.

    Args:
        folder: Where `get_template` looks; None for templates that are given as text.
        escape: For HTML: whatever is put in is escaped. Other templates escape or fence what is from outside with filters of their own.
        more: Further options of `jinja2.Environment`.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=None if folder is None else FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=escape,  # noqa: S701 - off for what is not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **more,
    )


def printable(text: str) -> str:
    """Return a text with the replacement character for each one that no file of text should hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
