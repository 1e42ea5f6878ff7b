"""Which histories is a dataset built on? Those whose user comes for something personal, and of whom something personal is known.

Two filters, each on or off: by what the user comes for (`intents`) and by the labels of their memories (`labels`). Each keeps a history
or gives a drop with its reason. The lists are in `data/intents.json` and `data/memory_labels.json`. Left out on purpose: the depth gate,
which the persona stage has, and safety.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

from peregrm.dataset.intents import Intents, classify_by_rules, is_allowed, normalise_intent
from peregrm.errors import SettingsError
from peregrm.records import Drop, History, Memory
from peregrm.taxonomy import UNMAPPED

__all__ = ["FILTERS", "by_intents", "by_labels", "filters_of", "intents_of", "is_selected_label"]

STAGE = "selection"

FILTERS = ("intents", "labels")
"""The names of the filters, in the order in which they are applied."""

_NAMED = 3
_NO_WORD = re.compile(r"[\W_]+")


class _Lists(NamedTuple):
    labels: tuple[str, ...]
    keywords: tuple[str, ...]


def filters_of(setting: str) -> tuple[str, ...]:
    """Return the filters that a setting like `intents,labels`, `labels` or `none` asks for.

    Raises:
        SettingsError: It names a filter that does not exist, or `none` beside others.
    """
    names = [name.strip() for name in setting.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    wrong = sorted(set(names) - set(FILTERS))
    if wrong or not names:
        raise SettingsError(
            f"select: {', '.join(map(repr, wrong)) or 'nothing'} is no filter; use intents, labels, intents,labels or none"
        )
    return tuple(name for name in FILTERS if name in names)


def intents_of(history: History) -> Intents:
    """Return the intents a source brought along by our names, those we have no name for as they are; without any, by word lists."""
    if history.intents:
        return Intents(tuple(dict.fromkeys(normalise_intent(raw) or raw for raw in history.intents)))
    return Intents(classify_by_rules(history))


def by_intents(history: History, intents: Intents) -> Drop | None:
    """Return None where any of the intents is one to build on, else the drop that says what the user came for."""
    if intents.failure is not None:
        failure = intents.failure
        return Drop(stage=STAGE, subject=history.id, kind=failure.kind, reason=failure.reason, failed=True)
    if any(map(is_allowed, intents.names)):
        return None
    if not intents.names:
        return Drop(
            stage=STAGE,
            subject=history.id,
            kind="intent unknown",
            reason="intents: nothing shows what the user comes for",
        )
    named = ", ".join(intents.names[:_NAMED])
    return Drop(stage=STAGE, subject=history.id, kind="intent", reason=f"intents: the user comes for {named} alone")


def by_labels(history: History, memories: Sequence[Memory]) -> Drop | None:
    """Return None where a kept memory of the history has a label to build on, else the drop that says what there is."""
    kept = [memory for memory in memories if memory.status == "kept"]
    if any(map(is_selected_label, kept)):
        return None
    if not kept:
        return Drop(stage=STAGE, subject=history.id, kind="no memories", reason="labels: no memory was kept")
    named = ", ".join(sorted({memory.label for memory in kept})[:_NAMED])
    reason = f"labels: nothing personal among {len(kept)} memories ({named})"
    return Drop(stage=STAGE, subject=history.id, kind="label", reason=reason)


def is_selected_label(memory: Memory) -> bool:
    """Tell whether a memory's label is on the list; one without a label is looked at by the words of the label that its source suggests.

    Where the source suggests none, by those of its value.
    """
    lists = _lists()
    if memory.label == UNMAPPED:
        words = _words(memory.label_suggestion or memory.value)
        return any((f" {word}" if word.isascii() else word) in words for word in lists.keywords)
    return memory.label.startswith(lists.labels)


def _words(text: str) -> str:
    """Return the words of a text or of a label such as `Social_Relations/PetCare`, a space around each."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return f" {_NO_WORD.sub(' ', apart).casefold()} "


@cache
def _lists() -> _Lists:
    data = json.loads((resources.files(__package__) / "data" / "memory_labels.json").read_text(encoding="utf-8"))
    return _Lists(tuple(data["labels"]), tuple(data["keywords"]))
