"""Replies to posts with levels 0 to 2 of three mechanisms of empathy, as EPITOME has them: reactions, interpretations, explorations.

Every mechanism is a scale of its own; the sum of the three, 0 to 6, is the one that decides, because no single mechanism is what a good
reply must have. Posts are the clusters: no row names who wrote them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from peregrm.evaluation.validity.ratings.rows import HumanFile, Rated, Scale, messages_of, number_of, text_of
from peregrm.histories.base import Row
from peregrm.records import content_id

__all__ = ["FORMAT", "SUM", "matches", "read"]

FORMAT = "levels of three mechanisms"
SCALES = {
    mechanism: Scale(name=mechanism.replace("_", " "), low=0, high=2, headline=False)
    for mechanism in ("emotional_reactions", "interpretations", "explorations")
}
SUM = Scale(name="sum of three mechanisms", low=0, high=6)


def matches(value: dict[str, Any]) -> bool:
    """Tell whether a row is a post, its reply and the three levels."""
    return {"seeker_post", "response_post", *SCALES} <= value.keys()


def read(rows: Sequence[Row], name: str) -> HumanFile:
    """Return four rated rows a reply; raises `InputError` naming the row that is none."""
    left_out: Counter[str] = Counter()
    rated = [one for row in rows for one in _rated(row, name, left_out)]
    return HumanFile(
        name=name,
        format=FORMAT,
        rated=tuple(rated),
        clusters="posts (no row names a user)",
        left_out=tuple(sorted(left_out.items())),
    )


def _rated(row: Row, name: str, left_out: Counter[str]) -> Iterator[Rated]:
    context = messages_of(text_of(row, "seeker_post"), row.where)
    reply = text_of(row, "response_post").strip()
    levels = {key: number_of(row.value.get(key), f"{row.where}: {key}", scale) for key, scale in SCALES.items()}
    known = [level for level in levels.values() if level is not None]
    if not context or not reply or len(known) < len(SCALES):
        left_out["a post, a reply or a level is missing"] += 1
        return
    user = str(row.value.get("sp_id") or content_id("post", context[0].content))
    named = str(row.value.get("rp_id") or content_id("reply", reply))
    for scale, level in [*((SCALES[key], levels[key]) for key in SCALES), (SUM, sum(known))]:
        if level is not None:
            yield Rated(
                id=f"{user}|{named}|{scale.name}",
                source=name,
                user=user,
                context=context,
                reply=reply,
                level=level,
                scale=scale,
            )
