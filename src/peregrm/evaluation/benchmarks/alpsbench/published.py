"""The figures that the authors of AlpsBench published for tasks 2 to 4, to stand beside ours.

They are of all packets, and, as the authors say, of a scorer that they keep to themselves: neither our scores nor those of their public
local scorer are on the same scale. The packets hold recorded answers of these models for task 1 alone. Left out on purpose: task 1, whose
formula is public and whose figures are compared one by one (`result`).
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["published_note"]


def published_note(**columns: str) -> str:
    """Return one line with the published figures of these columns, each under the words it is given.

    Raises:
        KeyError: There is no such column.
    """
    parts = []
    for column, words in columns.items():
        figures = ", ".join(f"{model['name']} {model[column]:g}" for model in _models())
        parts.append(f"{words}: {figures}")
    return f"Published, of all packets and by a scorer that is not public, so not comparable. {'; '.join(parts)}."


@cache
def _models() -> tuple[dict[str, Any], ...]:
    file = resources.files("peregrm.evaluation.benchmarks.alpsbench").joinpath("published.toml")
    return tuple(tomllib.loads(file.read_text(encoding="utf-8"))["models"])
