"""Read the role cards of ESC-Eval: who the seeker is and what troubles them.

```
[{"base": "Age: ...\\nGender: ...\\nOccupation: ...\\nProblem: ...", "res": topic, "source": corpus, "language", "id"}]
```
Left out on purpose: `base_biaozhu`, which is the card once more, for annotators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import data_file, read_once
from peregrm.histories.base import Row, optional, required
from peregrm.histories.turns import text_id
from peregrm.records import Part

__all__ = ["LANGUAGES", "Card", "card_file", "read_cards"]

LANGUAGES = ("en", "zh")

_TOPICS = {"家庭生活": "family life", "工作学习": "work and study", "社会与其他": "society and other"}


class Card(Part):
    """One seeker. `topic` and `source` are the benchmark's own words for what it is about and which corpus it was made from."""

    card_id: str
    language: str
    text: str
    topic: str = ""
    source: str = ""


def card_file(folder: Path, language: str) -> Path:
    """Return the file of cards in a language; raises `InputError` where it is not there."""
    return data_file(folder, f"card_high_{language}.json")


def read_cards(folder: Path, languages: Sequence[str] = LANGUAGES) -> list[Card]:
    """Return the cards of a folder in these languages.

    Raises `InputError`, naming the record, for one that cannot be read or stands there twice.
    """
    sources = ((card_file(folder, language), partial(_card, language=language)) for language in languages)
    return read_once(sources, lambda card: card.card_id, "card")


def _card(row: Row, language: str) -> Card:
    number = text_id(row.value, "id", row.where)
    if number is None:
        raise InputError(f"{row.where}: the card has no id")
    text = required(row.value, "base", str, row.where).strip()
    if not text:
        raise InputError(f"{row.where}: card {number} is empty")
    topic = optional(row.value, "res", str, row.where) or ""
    return Card(
        card_id=f"{language}-{number}",
        language=language,
        text=text,
        topic=_TOPICS.get(topic, topic),
        source=optional(row.value, "source", str, row.where) or "",
    )
