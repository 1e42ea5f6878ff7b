"""Ask methods for the memories of every packet, and put them into the table of task 1.

A packet of which a model left any part unanswered has no score: a part of its memories is not what the method finds. Left out on purpose:
opening models, which whoever calls does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from peregrm.dataset.extractive import Embedder, extract_memories
from peregrm.dataset.memories import extract_memories_with_model
from peregrm.evaluation.benchmarks.alpsbench.items import items_of
from peregrm.evaluation.benchmarks.alpsbench.packets import Answer, Packet
from peregrm.evaluation.benchmarks.alpsbench.result import Task1Result, task1_result
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model
from peregrm.records import Failure

__all__ = ["Method", "extractive_method", "model_method", "run_task1"]

Method = Callable[[Packet], Awaitable[Answer]]
"""Finds the memories of one dialogue; sees nothing of the packet but its history."""


def extractive_method(embedder: Embedder | None) -> Method:
    """Return the method that needs no model: the user's own sentences."""

    async def find(packet: Packet) -> Answer:
        return Answer(items=tuple(items_of(extract_memories(packet.history, embedder).kept)))

    return find


def model_method(model: Model) -> Method:
    """Return the method that asks a model, with the prompt of the dataset builder."""

    async def find(packet: Packet) -> Answer:
        outcome = await extract_memories_with_model(model, packet.history)
        lost = next((drop for drop in outcome.dropped if drop.failed), None)
        if lost is not None:
            reason = f"{outcome.failures} of {outcome.asked} parts without an answer, the first: {lost.reason}"
            return Answer(failure=Failure(stage=lost.stage, kind=lost.kind, reason=reason))
        return Answer(items=tuple(items_of(outcome.kept)))

    return find


async def run_task1(packets: Sequence[Packet], methods: Mapping[str, Method], progress: Progress) -> Task1Result:
    """Return the table of task 1 with the answers of `methods` beside the recorded ones."""
    own: dict[str, dict[str, Answer]] = {}
    for name, method in methods.items():
        answers = await map_in_order(method, packets, stage=name, progress=progress)
        own[name] = {packet.packet_id: answer for packet, answer in zip(packets, answers, strict=True)}
    return task1_result(packets, own)
