"""One utterance and three replies to it, of a person and two prompts of a model, each rated 1 to 3 for empathy (Welivita and Pu).

A row gives three rated replies, and pairs of those whose ratings differ. In this study each of three raters saw one of the replies, so
a pair compares two raters as well. The cluster is the part (`part_no`) that one set of raters worked through, its dialogues with them;
where a file has no parts, it is the dialogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from peregrm.evaluation.validity.ratings.rows import (
    HumanFile,
    Rated,
    Scale,
    messages_of,
    number_of,
    pairs_of_levels,
    text_of,
)
from peregrm.histories.base import Row
from peregrm.records import content_id

__all__ = ["FORMAT", "SCALE", "matches", "read"]

FORMAT = "ratings of three replies"
SCALE = Scale(name="rated empathy", low=1, high=3)
_RESPONSE, _RATING = "response_", "rating_"


def matches(value: dict[str, Any]) -> bool:
    """Tell whether a row is an utterance with rated replies."""
    sources = [key.removeprefix(_RATING) for key in value if key.startswith(_RATING)]
    return "speaker_uttr" in value and bool(sources) and all(f"{_RESPONSE}{source}" in value for source in sources)


def read(rows: Sequence[Row], name: str) -> HumanFile:
    """Return ratings and pairs; raises `InputError` naming the row that is neither."""
    left_out: Counter[str] = Counter()
    rated = [one for row in rows for one in _rated(row, name, left_out)]
    parts = all(row.value.get("part_no") not in (None, "") for row in rows)
    return HumanFile(
        name=name,
        format=FORMAT,
        pairs=tuple(pairs_of_levels(rated, left_out)),
        rated=tuple(rated),
        clusters="parts of the study, each with its raters" if parts else "dialogues (no row names a user)",
        left_out=tuple(sorted(left_out.items())),
    )


def _rated(row: Row, name: str, left_out: Counter[str]) -> Iterator[Rated]:
    context = messages_of(text_of(row, "speaker_uttr"), row.where)
    dialogue = str(row.value.get("dialog_id") or content_id("dialogue", text_of(row, "speaker_uttr")))
    part = row.value.get("part_no")
    for key in sorted(row.value):
        if not key.startswith(_RATING):
            continue
        source = key.removeprefix(_RATING)
        level = number_of(row.value[key], f"{row.where}: {key}", SCALE)
        reply = row.value.get(f"{_RESPONSE}{source}")
        if level is None or not context or not isinstance(reply, str) or not reply.strip():
            left_out["an utterance, a reply or a rating is missing"] += 1
            continue
        yield Rated(
            id=f"{dialogue}|{source}",
            source=name,
            user=dialogue if part in (None, "") else f"part-{part}",
            context=context,
            reply=reply.strip(),
            level=level,
            scale=SCALE,
            reply_source=source,
        )
