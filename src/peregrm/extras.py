"""How to install what is optional, said once."""

from __future__ import annotations

__all__ = ["install"]


def install(extra: str) -> str:
    """Return the command that brings an extra: from a checkout, for the package is in no index yet."""
    return f"pip install -e '.[{extra}]' in peregrm's checkout"
