"""The pages as HTML. Everything that people and models wrote is escaped; the wording stands in the templates."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from peregrm.templates import environment

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["asset", "render_page"]


def render_page(name: str, **values: Any) -> str:
    """Return the page of the template `name`."""
    return _environment().get_template(f"{name}.html.jinja").render(values)


@lru_cache(maxsize=2)
def asset(name: str) -> str:
    """Return the text of a file that pages refer to."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return environment(resources.files(__package__) / "templates", escape=True)
