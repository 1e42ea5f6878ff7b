"""AlpsBench task 3: find, among a hundred memories of other people, the one memory that a query needs.

```
{"task3": {"query", "candidate_memories": [{"memory_id", "value", "label"}], "task3_selected_memory_id", "task3_selected_memory": {"value"},
 "metadata": {"language"?}}}
```
The public local scorer (`src/benchmark/metrics.py` of the repository) takes an answer as right where its `selected_memory_id` is the wanted
one; that is `accuracy` here. The ids themselves give the answer away: they are numbered within each user, 6 to 10 different ones stand
among 101 candidates, and in the released packets no other candidate bears the wanted one. Whoever picks an id that occurs once, and reads
nothing, is right in more than half of them (`id_floor`). So the model is not shown ids: the candidates are numbered, and it names a number.
Left out on purpose: the answer to the query, which no public formula scores, and stores without a model, which
`peregrm benchmark memory` measures.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench.items import folded
from peregrm.evaluation.benchmarks.alpsbench.packets import read_task
from peregrm.evaluation.benchmarks.alpsbench.published import published_note
from peregrm.evaluation.benchmarks.common import About, ItemScore, Outcome, Scale, benchmark_result, choose
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.histories.base import Row, required
from peregrm.histories.language import detect_language
from peregrm.histories.turns import text_id
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Part

__all__ = ["Candidate", "RetrievalPacket", "id_floor", "read_retrievals", "run_task3"]

PROMPT = "alpsbench_retrieve"


class Candidate(Part):
    """A memory to choose from. `memory_id` is unique among the memories of its user alone."""

    memory_id: str
    value: str
    label: str


class RetrievalPacket(Part):
    """One query, the candidates in the order of the file, and what the wanted one says."""

    packet_id: str
    user_id: str
    language: str
    query: str
    candidates: tuple[Candidate, ...]
    wanted_value: str

    def is_wanted(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is the wanted memory, by what it says."""
        return folded(candidate.value) == folded(self.wanted_value)


def read_retrievals(path: Path) -> list[RetrievalPacket]:
    """Read task 3 of the packets of a file, in their order. Raises `InputError` as `read_task` does."""
    return read_task(path, "task3", dict, _packet)


def _packet(row: Row, packet_id: str, where: str) -> RetrievalPacket:
    task = row.value["task3"]
    query = required(task, "query", str, where, "task3")
    candidates = tuple(
        Candidate(
            memory_id=text_id(raw, "memory_id", where, "task3.candidate_memories") or "",
            value=required(raw, "value", str, where, "task3.candidate_memories"),
            label=str(raw.get("label") or ""),
        )
        for raw in required(task, "candidate_memories", list, where, "task3")
    )
    wanted = required(task, "task3_selected_memory", dict, where, "task3")
    packet = RetrievalPacket(
        packet_id=packet_id,
        user_id=text_id(row.value, "user_id", where) or packet_id,
        language=detect_language([query]),
        query=query,
        candidates=candidates,
        wanted_value=required(wanted, "value", str, where, "task3.task3_selected_memory"),
    )
    if not any(map(packet.is_wanted, candidates)):
        raise InputError(f"{where}: the wanted memory of task3 is not among its candidates")
    return packet


async def run_task3(
    path: Path, model: Model, manner: Manner, progress: Progress, *, limit: int | None = None
) -> Outcome:
    """Let `model` choose a memory for the query of every packet of a file.

    Args:
        path: The file of packets.
        model: Who chooses.
        manner: How it is asked.
        progress: Shown how far it is.
        limit: Only so many packets.

    Raises:
        InputError: The file cannot be read.
        ModelError: Only a fatal one.
    """
    packets = read_retrievals(path)
    chosen = choose(packets, limit, manner.seed, lambda each: each.packet_id, lambda each: each.language)

    async def one(packet: RetrievalPacket) -> ItemScore:
        return await _choose_memory(packet, model, manner)

    items = await map_in_order(one, chosen, stage="alpsbench task 3", progress=progress)
    about = About("alpsbench", "task 3: retrieval", {"model": model.name}, [path], len(packets), (PROMPT,), manner.seed)
    floor = sum(map(id_floor, chosen)) / len(chosen)
    leak = f"Ids are not shown: picking one that occurs once among the candidates would be right in {floor:.0%} of these packets."
    notes = (
        leak,
        published_note(retrieval_100="task 3 with 100 distractors"),
    )
    return benchmark_result(about, items, _SCALES, notes=notes)


async def _choose_memory(packet: RetrievalPacket, model: Model, manner: Manner) -> ItemScore:
    lines = [f"{n}. ({each.label}) {' '.join(each.value.split())}" for n, each in enumerate(packet.candidates, start=1)]
    messages = render(
        PROMPT,
        reasons=manner.reasons,
        count=len(packet.candidates),
        memories=Untrusted("\n".join(lines)),
        query=Untrusted(packet.query),
    )
    request = Request(messages=messages, max_tokens=200, seed=manner.seed, schema_name="choice", purpose=PROMPT)
    answer = await ask(model, request, _choice_type(len(packet.candidates), manner.reasons))
    picked: Candidate | None = None
    if answer.value is not None:
        number: int = answer.value.model_dump()["memory"]
        picked = packet.candidates[number - 1]
    return ItemScore(
        item_id=packet.packet_id,
        cluster=packet.user_id,
        slices=(("language", packet.language),),
        scores=(("accuracy", None if picked is None else float(packet.is_wanted(picked))),),
        chance=(("accuracy", sum(map(packet.is_wanted, packet.candidates)) / len(packet.candidates)),),
        asked=1,
        failures=() if answer.failure is None else (answer.failure,),
        details=() if picked is None else (("chosen", picked.value), ("answer", answer.raw)),
    )


@lru_cache(maxsize=64)
def _choice_type(count: int, reasons: bool) -> type[BaseModel]:
    words = (str, Field(min_length=1, max_length=2000, json_schema_extra={"maxLength": 200}))
    fields: dict[str, Any] = {"reason": words} if reasons else {}
    fields["memory"] = (int, Field(ge=1, le=count))
    return create_model("ChosenMemory", __config__=ConfigDict(extra="forbid"), **fields)


_SCALES = (Scale("accuracy", (0.0, 1.0), "accuracy: the wanted memory was chosen."),)


def id_floor(packet: RetrievalPacket) -> float:
    """Return how likely the wanted memory is for somebody who sees nothing but ids, and picks one of those that occur once."""
    counts = Counter(each.memory_id for each in packet.candidates)
    once = [each for each in packet.candidates if counts[each.memory_id] == 1] or list(packet.candidates)
    return sum(map(packet.is_wanted, once)) / len(once)
