"""AlpsBench task 4: answer a message with what is known of the user, in five abilities.

```
{"task4": [{"ability": "ability1".."ability5", "queries": [{"query_id", "query"}], "task4_selected_memory": {"value"}}]}
```
In ability 1 (persona) the model is given the memory itself, in all others (preference, virtual reality, constraint, emotion) the dialogue
that it comes from. It answers, and names the fact it used. The public local scorer (`src/benchmark/metrics.py` of the repository) looks at
the fact alone: `grounding` is 1 where the fact and the memory are the same text or one holds the other, in lower case with single spaces. A
single letter is held by nearly every memory, so its chance is what the best single letter gets.

The authors judge answers by dimensions that they name (`docs/evaluation_metric.md`) and prompts that they do not publish. Ours rates the
same dimensions from 1 to 5; `judged` is their plain mean, for the authors' weights are not public. They report abilities apart, and so does
this: means over all are of a mixture. Left out on purpose: a single score of task 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.alpsbench.items import folded
from peregrm.evaluation.benchmarks.alpsbench.packets import history_of, read_task
from peregrm.histories.base import Row, required
from peregrm.histories.language import detect_language
from peregrm.histories.turns import text_id
from peregrm.records import Part, Session

__all__ = ["ABILITIES", "Query", "best_letter", "is_grounded", "read_queries"]

ABILITIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ability1": ("1 persona", ("alignment", "naturalness", "honesty", "personalization")),
    "ability2": ("2 preference", ("respect", "following", "fact_match", "quality", "naturalness")),
    "ability3": ("3 virtual reality", ("immersion", "consistency")),
    "ability4": ("4 constraint", ("adherence", "helpfulness")),
    "ability5": ("5 emotion", ("emotional_grounding", "fact_match", "empathy")),
}
"""Each ability: what it is called here, and the dimensions a judge rates."""


class Query(Part):
    """One message of one user, the memory that its answer should rest on, and the dialogue the memory comes from."""

    query_id: str
    user_id: str
    ability: str
    language: str
    text: str
    memory: str
    dialogue: Session


def read_queries(path: Path) -> list[Query]:
    """Read task 4 of the packets of a file, in their order. Raises `InputError` as `read_task` does."""
    return [query for queries in read_task(path, "task4", list, _queries) for query in queries]


def _queries(row: Row, packet_id: str, where: str) -> list[Query]:
    history = history_of(row, packet_id, where)
    found = []
    for place, entry in enumerate(row.value["task4"]):
        here = f"task4[{place}]"
        ability = required(entry, "ability", str, where, here)
        if ability not in ABILITIES:
            raise InputError(f"{where}: {here}.ability is {ability!r}; there is: {', '.join(ABILITIES)}")
        memory = required(required(entry, "task4_selected_memory", dict, where, here), "value", str, where, here)
        if not memory.strip():
            raise InputError(f"{where}: {here}: the memory is empty")
        for number, raw in enumerate(required(entry, "queries", list, where, here)):
            text = required(raw, "query", str, where, f"{here}.queries")
            found.append(
                Query(
                    query_id=f"{packet_id}/{_name(raw, where) or f'{ability}-{place}-{number}'}",
                    user_id=history.user_id,
                    ability=ability,
                    language=detect_language([text]),
                    text=text,
                    memory=memory,
                    dialogue=history.sessions[0],
                )
            )
    return found


def _name(raw: Any, where: str) -> str | None:
    return text_id(raw, "query_id", where)


def is_grounded(fact: str, memory: str) -> bool:
    """Tell whether the public scorer takes a fact for the memory: the same text, or one holds the other."""
    one, other = folded(fact), folded(memory)
    return bool(one and other) and (one in other or other in one)


def best_letter(queries: Sequence[Query]) -> str:
    """Return the single letter that most of the memories hold, the first of several; empty where there is none."""
    counts = Counter(letter for query in queries for letter in sorted(set(folded(query.memory))) if letter.isalpha())
    return min(counts, key=lambda letter: (-counts[letter], letter), default="")
