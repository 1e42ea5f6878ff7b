"""The figures that the authors of AlpsBench published, to stand beside ours.

Those of tasks 2 to 4 are of all packets, and, as the authors say, of a scorer that they keep to themselves: neither our scores nor those
of their public local scorer are on the same scale. The packets hold recorded answers of these models for task 1 alone. Its formula is
public, so its figures are compared one by one (`result`).
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["published_models", "published_note"]


@cache
def published_models() -> tuple[dict[str, Any], ...]:
    """Return a row a model: its name, its `names` in the released files, and its figures by column."""
    file = resources.files("peregrm.evaluation.benchmarks.alpsbench").joinpath("published.toml")
    return tuple(tomllib.loads(file.read_text(encoding="utf-8"))["models"])


def published_note(**columns: str) -> str:
    """Return one line with the published figures of these columns of tasks 2 to 4, each under the words it is given.

    Raises:
        KeyError: There is no such column.
    """
    parts = []
    for column, words in columns.items():
        figures = ", ".join(f"{model['name']} {model[column]:g}" for model in published_models())
        parts.append(f"{words}: {figures}")
    return f"Published, of all packets and by a scorer that is not public, so not comparable. {'; '.join(parts)}."
