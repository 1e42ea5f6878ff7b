"""Which numbers a model of torch computes with."""

from __future__ import annotations

from typing import Any

__all__ = ["takes_bf16"]


def takes_bf16(torch: Any, device: str) -> bool:
    """Tell whether `device` is a GPU that computes in bfloat16; everything else computes in float32."""
    return device == "cuda" and bool(torch.cuda.is_bf16_supported())
