"""Which prompt is used when: known before the first step, and the same whether a run was stopped or not.

Each epoch has an order of its own that hangs on the seed alone, and epochs follow each other without a gap, so no prompt is left out
because a batch was not full.
"""

from __future__ import annotations

import random
from itertools import count

__all__ = ["prompt_order"]


def prompt_order(prompts: int, uses: int, seed: int) -> list[int]:
    """Return the numbers, below `prompts`, of the prompts used first to last; `uses` in all. More uses begin with the same ones."""
    order: list[int] = []
    for epoch in count() if prompts else ():
        if len(order) >= uses:
            break
        order += random.Random(f"{seed}/{epoch}").sample(range(prompts), prompts)  # noqa: S311 - an order, no secret
    return order[:uses]
