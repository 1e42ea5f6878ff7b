"""Plain measures of text that the rules, gates and baselines share, and what an error says. English and Chinese; pure functions.

A token is a run of letters or digits, lower-cased, or one Chinese character; content tokens leave function words out and take
Chinese characters in pairs. Left out on purpose: stemming and real tokenisers, which none of the uses needs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

__all__ = [
    "THINK_CLOSE",
    "THINK_OPEN",
    "cjk_share",
    "containment",
    "content_tokens",
    "error_line",
    "is_repetitive",
    "longest_shared_run",
    "tokens",
]

THINK_OPEN = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
THINK_CLOSE = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
"""The tags around a model's reasoning, where it comes in the same text as the answer."""

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+(?:['’][^\W_\u3400-\u9fff]+)*")
_ASCII_TOKEN = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*")
"""The same where there are only lower-case ASCII characters: most texts, in half the time."""

_CJK_RUN = re.compile(r"[\u3400-\u9fff]+")
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "about",
        "all",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "down",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "here",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "may",
        "me",
        "might",
        "more",
        "most",
        "my",
        "no",
        "not",
        "of",
        "off",
        "on",
        "or",
        "our",
        "out",
        "over",
        "she",
        "should",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "up",
        "was",
        "we",
        "were",
        "what",
        "when",
        "which",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)


def tokens(text: str) -> list[str]:
    """Return the tokens of `text` in order."""
    return _found_tokens(_lowered(text))


def _found_tokens(lowered: str) -> list[str]:
    return (_ASCII_TOKEN if lowered.isascii() else _TOKEN).findall(lowered)


def _lowered(text: str) -> str:
    """Return the text in compatibility form and lower case."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()


def content_tokens(text: str) -> set[str]:
    """Return the words that carry content, and pairs of neighbouring Chinese characters."""
    normal = _lowered(text)
    words = {token for token in _found_tokens(normal) if len(token) > 1 and token not in _FUNCTION_WORDS}
    for run in _CJK_RUN.findall(normal):
        words.update(run[i : i + 2] for i in range(len(run) - 1))
    return words


def containment(text: str, source: str) -> float:
    """Return the share of the content of `text` that also occurs in `source`, 0 to 1; 0 for a text without content."""
    mine = content_tokens(text)
    return len(mine & content_tokens(source)) / len(mine) if mine else 0.0


def longest_shared_run(text: str, source: str) -> int:
    """Return the length in tokens of the longest run that occurs in both."""
    a, b = tokens(text), tokens(source)
    best = 0
    previous = [0] * (len(b) + 1)
    for token in a:
        current = [0] * (len(b) + 1)
        for j, other in enumerate(b, start=1):
            if token == other:
                current[j] = previous[j - 1] + 1
                best = max(best, current[j])
        previous = current
    return best


def is_repetitive(text: str, *, run: int = 4, most: float = 0.3) -> bool:
    """Tell whether more than `most` of the `run`-token sequences of `text` repeat an earlier one."""
    sequence = tokens(text)
    runs: Sequence[tuple[str, ...]] = [tuple(sequence[i : i + run]) for i in range(len(sequence) - run + 1)]
    return bool(runs) and (len(runs) - len(set(runs))) / len(runs) > most


def cjk_share(text: str) -> float:
    """Return the share of Chinese characters among all letters, 0 to 1; 0 where there are no letters."""
    letters = [character for character in text if character.isalpha()]
    return sum("\u3400" <= c <= "\u9fff" for c in letters) / len(letters) if letters else 0.0


def error_line(error: BaseException) -> str:
    """Return what an error of another library says, on one line of at most 300 characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
