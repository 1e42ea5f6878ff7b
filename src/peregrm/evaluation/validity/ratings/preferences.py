"""Pairs as JSON Lines: {id, dataset, user, context, a, b, better, gap, meta}; all but context, a, b and better may be missing.

`user` is a name or an object. An object is a user by its `id`, `user_id` or `name`, else by its `persona` text. Where there is none of
these, nobody says which rows come from one person: then rows of the same context are one cluster, and a context that occurs once makes
its pair a cluster of its own. `better` is a or b; anything that says tie is left out. `meta` may name `better_source` and `worse_source`,
or `a_source` and `b_source`, which may also stand in the row itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.rows import HumanFile, Pair, messages_of, number_of, text_of
from peregrm.histories.base import Row
from peregrm.records import content_id

__all__ = ["FORMAT", "matches", "read", "sources_of"]

FORMAT = "preference pairs"
_TIES = (None, "", "tie", "equal", "same", "none")


def matches(value: dict[str, Any]) -> bool:
    """Tell whether a row is a pair."""
    return {"a", "b", "context", "better"} <= value.keys()


def read(rows: Sequence[Row], name: str) -> HumanFile:
    """Return the pairs of a file; raises `InputError` naming the row that is none."""
    left_out: Counter[str] = Counter()
    pairs: dict[str, Pair] = {}
    named = 0
    for row in rows:
        user = _user(row.value.get("user"))
        named += user is not None
        pair = _pair(row, name, user, left_out)
        if pair is None:
            continue
        if pair.id in pairs:
            raise InputError(f"{row.where}: pair {pair.id} stands there twice")
        pairs[pair.id] = pair
    unnamed = f"{len(rows) - named} of {len(rows)} rows name no user: for those, pairs of the same context"
    return HumanFile(
        name=name,
        format=FORMAT,
        pairs=tuple(pairs.values()),
        clusters="users" if named == len(rows) else f"users; {unnamed}" if named else "contexts (no row names a user)",
        left_out=tuple(sorted(left_out.items())),
    )


def _pair(row: Row, name: str, user: str | None, left_out: Counter[str]) -> Pair | None:
    context = messages_of(row.value["context"], row.where)
    better = row.value["better"]
    if (better.strip().lower() if isinstance(better, str) else better) in _TIES:
        left_out["people saw no difference"] += 1
        return None
    if better not in ("a", "b"):
        raise InputError(f"{row.where}: better: neither a nor b: {better!r}")
    if not context or context[-1].role != "user":
        left_out["the context does not end with the user"] += 1
        return None
    gap = number_of(row.value.get("gap"), f"{row.where}: gap")
    if gap is not None and gap <= 0:
        left_out["people saw no difference"] += 1
        return None
    words = [message.model_dump() for message in context]
    a, b = text_of(row, "a"), text_of(row, "b")
    given = row.value.get("id")
    a_source, b_source = sources_of(row.value, better)
    return Pair(
        id=str(given) if given is not None else content_id("pair", [words, a, b]),
        source=str(row.value.get("dataset") or name),
        user=user or content_id("context", words),
        context=context,
        a=a,
        b=b,
        better=better,
        gap=gap,
        a_source=a_source,
        b_source=b_source,
    )


def _user(value: object) -> str | None:
    if isinstance(value, dict):
        own = next((value[key] for key in ("id", "user_id", "name") if value.get(key) not in (None, "")), None)
        if own is None and isinstance(value.get("persona"), str) and value["persona"].strip():
            return content_id("persona", value["persona"].strip())
        value = own
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip() else None


def sources_of(value: dict[str, Any], better: str) -> tuple[str | None, str | None]:
    """Return who wrote a and b of a row, as far as it says."""
    meta = value.get("meta")
    there = {**(meta if isinstance(meta, dict) else {}), **value}
    sources = [there.get("a_source"), there.get("b_source")]
    if sources == [None, None]:
        sources = [there.get("better_source"), there.get("worse_source")][:: 1 if better == "a" else -1]
    a, b = (source if isinstance(source, str) and source else None for source in sources)
    return a, b
