"""Plain measures of replies, which no judge can be talked into: what to look at when a reward goes up.

Beside the guards' length, copying and flattery there are the share of a reply that repeats itself, and whether it is written in the
user's language. Left out on purpose: anything that needs a model.
"""

from __future__ import annotations

from peregrm.dataset.languages import fits_language
from peregrm.records import Case
from peregrm.reward.guards import measure
from peregrm.text import tokens
from peregrm.training.generation import Written

__all__ = ["PLAIN", "plain_measures", "repetition"]

PLAIN = ("tokens", "parroting", "sycophancy", "repetition", "language", "cut_off", "empty", "no_reply")
"""Length in words and Chinese characters; all others are shares, 0 to 1, of one reply or of the replies."""

_RUN = 4


def plain_measures(case: Case, written: Written) -> dict[str, float | None]:
    """Return the measures of `PLAIN` for one reply; those of its words are None where there is no reply."""
    reply = written.reply
    there = reply.failure is None
    of_words: dict[str, float | None] = dict.fromkeys(PLAIN[:5])
    if there:
        of_words = {**dict(measure(case, reply.text)), "repetition": repetition(reply.text)}
        of_words["language"] = float(fits_language(reply.text, case.language)) if reply.text else None
    return {
        **of_words,
        "cut_off": float(written.cut_off),
        "empty": float(there and not reply.text.strip()),
        "no_reply": float(not there),
    }


def repetition(text: str) -> float:
    """Return the share of runs of four tokens that stood earlier in the same text, 0 to 1."""
    words = tokens(text)
    runs = list(zip(*(words[n:] for n in range(_RUN)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
