"""The templates of reports: one place that loads them, so that pages share their head and its style."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from peregrm.templates import environment, printable

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["rendered"]


def rendered(name: str, view: Mapping[str, Any], *, escape: bool) -> str:
    """Return the template of this folder filled in; for HTML everything is escaped. What cannot be printed is replaced."""
    return printable(_environment(escape=escape).get_template(name).render(view))


@lru_cache(maxsize=2)
def _environment(*, escape: bool) -> Environment:
    return environment(resources.files(__package__), escape=escape)
