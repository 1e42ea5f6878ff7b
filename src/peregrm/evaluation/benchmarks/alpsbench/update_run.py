"""Run AlpsBench task 2: the model names what a new dialogue changes, code applies it to the list of memories.

Left out on purpose: taking memories away, which the benchmark has no case of.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from peregrm.evaluation.benchmarks.alpsbench.dialogue import last_turns, room
from peregrm.evaluation.benchmarks.alpsbench.items import Item
from peregrm.evaluation.benchmarks.alpsbench.published import published_note
from peregrm.evaluation.benchmarks.alpsbench.update import Note, UpdatePacket, UpdateScore, read_updates, score_update
from peregrm.evaluation.benchmarks.common import About, ItemScore, Outcome, Scale, benchmark_result, choose
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.taxonomy import UNMAPPED, labels

__all__ = ["run_task2", "updated_notes"]

PROMPT = "alpsbench_update"

_ANSWER = 700
_SCALES = (
    Scale("score", (0.0, 100.0), "score: formula of task 1 between the updated list and the reference."),
    Scale("exact_f1", (0.0, 1.0), "exact_f1: the public local scorer, for which a memory in other words is wrong."),
    Scale("kept", (0.0, 1.0), "kept: memories to be kept that still stand."),
    Scale("changed", (0.0, 1.0), "changed: likeness of the closest new text to what should change or come."),
    Scale("stale", (0.0, 1.0), "stale: share of lists in which the outdated memory still stands; lower is better."),
)
_MARK = re.compile(r"\s*\[error:.*\Z", re.IGNORECASE | re.DOTALL)


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: int = Field(ge=1)
    value: str = Field(min_length=1, max_length=300)
    confidence: int = Field(ge=0, le=100)


class _New(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: str = Field(max_length=60)
    type: Literal["direct", "indirect"]
    value: str = Field(min_length=1, max_length=300)
    confidence: int = Field(ge=0, le=100)
    time_scope: Literal["long_term", "short_term", "unknown"]


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    changed: list[_Change] = Field(max_length=6)
    added: list[_New] = Field(max_length=6)


async def run_task2(
    path: Path, model: Model, manner: Manner, progress: Progress, *, context: int, limit: int | None = None
) -> Outcome:
    """Let `model` update the memories of the packets of a file.

    Args:
        path: The file of packets.
        model: Who is asked.
        manner: How; only the seed matters.
        progress: Shown how far it is.
        context: Tokens of prompt and answer that one call may hold; of the dialogue before as much is shown as fits.
        limit: Only so many packets.

    Raises:
        InputError: The file cannot be read.
        ModelError: Only a fatal one.
    """
    packets = read_updates(path)
    chosen = choose(packets, limit, manner.seed, lambda each: each.packet_id, lambda each: each.history.language)

    async def one(packet: UpdatePacket) -> ItemScore:
        return await _update(packet, model, manner, context)

    items = await map_in_order(one, chosen, stage="alpsbench task 2", progress=progress)
    about = About("alpsbench", "task 2: update", {"model": model.name}, [path], len(packets), (PROMPT,), manner.seed)
    notes = ("chance: what the list gets as it was, with nothing done.", published_note(update="task 2"))
    return benchmark_result(about, items, _SCALES, notes=notes)


async def _update(packet: UpdatePacket, model: Model, manner: Manner, context: int) -> ItemScore:
    request, whole = _request(packet, manner, context)

    def wrong(changes: _Changes) -> str | None:
        numbers = [change.note for change in changes.changed]
        if len(set(numbers)) < len(numbers):
            return "a note is changed twice"
        return None if max(numbers, default=1) <= len(packet.pool) else f"there are only {len(packet.pool)} notes"

    answer = await ask(model, request, _Changes, wrong)
    details = [("dialogue before", "whole" if whole else "its last turns")]
    score: UpdateScore | None = None
    if answer.value is not None:
        score = score_update(packet, updated_notes(packet, answer.value))
        details.append(("answer", answer.value.model_dump_json()))
    undone = {name: x for name, x in score_update(packet, packet.pool)._asdict().items() if x is not None}
    return ItemScore(
        item_id=packet.packet_id,
        cluster=packet.history.user_id,
        slices=(("language", packet.history.language),),
        scores=tuple((name, None if score is None else getattr(score, name)) for name in undone),
        chance=tuple(undone.items()),
        asked=1,
        failures=() if answer.failure is None else (answer.failure,),
        details=tuple(details),
    )


def _request(packet: UpdatePacket, manner: Manner, context: int) -> tuple[Request, bool]:
    """Return what the model is asked, and whether the dialogue before is shown as a whole."""
    notes = [
        f"{n}. ({note.item.label}) {_MARK.sub('', note.item.value)}" for n, note in enumerate(packet.pool, start=1)
    ]
    values = {
        "labels": ", ".join((*labels(), UNMAPPED)),
        "notes": Untrusted("\n".join(notes)),
        "conversation": Untrusted("\n".join(f"{turn.role}: {turn.text}" for turn in packet.new.turns)),
    }
    left = room(context, render(PROMPT, **values, earlier=Untrusted("")), _ANSWER)
    shown = last_turns(packet.history.sessions[0], left)
    messages = render(PROMPT, **values, earlier=shown.text)
    request = Request(messages=messages, max_tokens=_ANSWER, seed=manner.seed, schema_name="changes", purpose=PROMPT)
    return request, shown.whole


def updated_notes(packet: UpdatePacket, changes: _Changes) -> list[Note]:
    """Return the list after the changes: what is not named stands as it was, in its place; what is new comes last."""
    by_number = {change.note: change for change in changes.changed}
    notes = [_changed(note, by_number[n]) if n in by_number else note for n, note in enumerate(packet.pool, start=1)]
    return notes + [
        Note(
            item=Item(label=new.label, value=new.value, type=new.type, confidence=new.confidence / 100),
            time_scope=new.time_scope,
        )
        for new in changes.added
    ]


def _changed(note: Note, change: _Change) -> Note:
    item = note.item.model_copy(update={"value": change.value, "confidence": change.confidence / 100})
    return note.model_copy(update={"item": item})
