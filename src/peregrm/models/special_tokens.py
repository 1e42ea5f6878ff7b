"""The words a transformers tokenizer reads as special: text from outside must not be able to end its own turn.

Servers of chat models escape them or should; where a tokenizer runs in this process, nobody else does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["defused", "special_tokens"]


def special_tokens(tokenizer: Any) -> list[str]:
    """Return the special tokens of a transformers tokenizer, shorter ones first; single characters are left out."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return sorted({token for token in (*added, *tokenizer.all_special_tokens) if len(token) > 1}, key=len)


def defused(text: str, tokens: Iterable[str]) -> str:
    """Return the text with a space inside every one of `tokens` that it spells out."""
    for token in tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
