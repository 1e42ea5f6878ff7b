"""Run AlpsBench task 4: the model answers and names its fact, the judge rates the answer in the dimensions of the ability.

Left out on purpose: asking the judge about the fact alone; it sees the fact beside the answer.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from peregrm.evaluation.benchmarks.alpsbench.dialogue import last_turns, room
from peregrm.evaluation.benchmarks.alpsbench.published import published_note
from peregrm.evaluation.benchmarks.alpsbench.response import ABILITIES, Query, best_letter, is_grounded, read_queries
from peregrm.evaluation.benchmarks.common import About, ItemScore, Outcome, Scale, benchmark_result, choose
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render

__all__ = ["run_task4"]

PROMPT, JUDGE = "alpsbench_answer", "alpsbench_judge"

_MIXED = "Means over all queries mix abilities, which the benchmark reports apart: read the slices."


_SCALES = (
    Scale(
        "grounding",
        (0.0, 1.0),
        "grounding: the public local scorer, which looks at the named fact alone; chance: what one letter gets, the best there is.",
    ),
    Scale("judged", (1.0, 5.0), "judged: mean of the ability's dimensions, 1 to 5, by the judge named here."),
    *(Scale(name, (1.0, 5.0)) for name in dict.fromkeys(name for _, names in ABILITIES.values() for name in names)),
)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    answer: str = Field(min_length=1, max_length=4000)
    fact: str = Field(max_length=600)


async def run_task4(
    path: Path,
    models: tuple[Model, Model],
    manner: Manner,
    progress: Progress,
    *,
    context: int,
    limit: int | None = None,
) -> Outcome:
    """Let a model answer the queries of the packets of a file and a judge rate the answers.

    Args:
        path: The file of packets.
        models: Who answers, and who rates.
        manner: How both are asked.
        progress: Shown how far it is.
        context: Tokens of prompt and answer that one call may hold; of a dialogue as much is shown as fits.
        limit: Only so many queries, spread over the abilities.

    Raises:
        InputError: The file cannot be read.
        ModelError: Only a fatal one.
    """
    model, judge = models
    queries = read_queries(path)
    chosen = choose(queries, limit, manner.seed, lambda each: each.query_id, lambda each: each.ability)

    letter = best_letter(queries)

    async def one(query: Query) -> ItemScore:
        item = await _answer_and_judge(query, model, judge, manner, context)
        return item.model_copy(update={"chance": (("grounding", float(is_grounded(letter, query.memory))),)})

    items = await map_in_order(one, chosen, stage="alpsbench task 4", progress=progress)
    names = {"model": model.name, "judge": judge.name}
    about = About("alpsbench", "task 4: response", names, [path], len(queries), (PROMPT, JUDGE), manner.seed)
    return benchmark_result(about, items, _SCALES, notes=(_MIXED, _published()))


def _published() -> str:
    return published_note(
        persona="ability 1",
        preference_general="2, general",
        preference_interaction="2, interaction",
        virtual="3",
        constraint="4",
        emotion_en="5, English, 1 to 5",
        emotion_zh="5, Chinese, 1 to 5",
    )


async def _answer_and_judge(query: Query, model: Model, judge: Model, manner: Manner, context: int) -> ItemScore:
    request, whole = _request(query, manner, context)
    answer = await ask(model, request, _Answer)
    scores: dict[str, float | None] = dict.fromkeys(("grounding", "judged", *ABILITIES[query.ability][1]))
    failures = [answer.failure]
    details = [("material", "whole" if whole else "its last turns")]
    if answer.value is not None:
        scores["grounding"] = float(is_grounded(answer.value.fact, query.memory))
        verdict = await ask(
            judge, _judge_request(query, answer.value, manner), _verdict_type(query.ability, manner.reasons)
        )
        failures.append(verdict.failure)
        details += [("answer", answer.value.answer), ("fact", answer.value.fact)]
        if verdict.value is not None:
            rated = verdict.value.model_dump()
            details += [("analysis", rated.pop("analysis"))] if manner.reasons else []
            scores |= {name: float(points) for name, points in rated.items()}
            scores["judged"] = sum(map(float, rated.values())) / len(rated)
    return ItemScore(
        item_id=query.query_id,
        cluster=query.user_id,
        slices=(("ability", ABILITIES[query.ability][0]),),
        scores=tuple(scores.items()),
        asked=1 + (answer.value is not None),
        failures=tuple(failure for failure in failures if failure is not None),
        details=tuple(details),
    )


def _request(query: Query, manner: Manner, context: int) -> tuple[Request, bool]:
    """Return what the model is asked, and whether it sees all of the material."""
    values = {"query": Untrusted(query.text), "has_memory": query.ability == "ability1"}
    most = manner.max_tokens + 150
    whole = True
    if query.ability == "ability1":
        material = Untrusted(query.memory)
    else:
        left = room(context, render(PROMPT, **values, material=Untrusted("")), most)
        material, whole = last_turns(query.dialogue, left)
    request = Request(
        messages=render(PROMPT, **values, material=material),
        max_tokens=most,
        temperature=manner.temperature,
        seed=manner.seed,
        schema_name="answer",
        purpose=PROMPT,
    )
    return request, whole


def _judge_request(query: Query, answer: _Answer, manner: Manner) -> Request:
    messages = render(
        JUDGE,
        ability=query.ability,
        reasons=manner.reasons,
        dimensions=ABILITIES[query.ability][1],
        memory=Untrusted(query.memory),
        query=Untrusted(query.text),
        fact=Untrusted(answer.fact),
        answer=Untrusted(answer.answer),
    )
    return Request(messages=messages, max_tokens=300, seed=manner.seed, schema_name="verdict", purpose=JUDGE)


@lru_cache(maxsize=16)
def _verdict_type(ability: str, reasons: bool) -> type[BaseModel]:
    words = (str, Field(min_length=1, max_length=2000, json_schema_extra={"maxLength": 300}))
    fields: dict[str, Any] = {"analysis": words} if reasons else {}
    fields |= {name: (int, Field(ge=1, le=5)) for name in ABILITIES[ability][1]}
    return create_model("ResponseVerdict", __config__=ConfigDict(extra="forbid"), **fields)
