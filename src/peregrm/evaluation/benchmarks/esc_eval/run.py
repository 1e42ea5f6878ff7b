"""Run ESC-Eval: dialogues are played, then one verdict of the judge gives the seven dimensions from 0 to 4.

The dimensions are those of `score.py` in github.com/haidequanbu/ESC-Eval (fluency, diversity, empathic, suggestion, human, tech, overall)
under the names of the paper; what their steps mean is worded anew in the judge's prompt. The authors ask for each in a call of its own and
take the first digit of the answer, wherever it stands; here all seven come in one strict object or not at all. Left out on purpose: a
total, which the authors do not have; `mean` is the plain mean of the first six, for comparing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, create_model

from peregrm.evaluation.benchmarks.common import About, ItemScore, Outcome, Scale, benchmark_result, choose
from peregrm.evaluation.benchmarks.esc_eval.cards import LANGUAGES, Card, card_file, read_cards
from peregrm.evaluation.benchmarks.esc_eval.dialogue import (
    GREETING,
    REPLY,
    ROUNDS,
    SEEKER,
    Dialogue,
    greeting_of,
    play,
    repeated_share,
)
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure

__all__ = ["DIMENSIONS", "Cast", "judge_dialogue", "run_esc_eval"]

DIMENSIONS = ("fluency", "expression", "empathy", "information", "humanoid", "skill", "overall")
"""The seven dimensions, each 0 to 4."""

JUDGE = "esc_eval_judge"
_PLAIN = DIMENSIONS[:-1]
_NOTES = (
    "Seeker and judge are the models named here, with prompts of this project: published scores are of other ones.",
    "A dialogue in which a turn failed is not judged.",
)


class Cast(NamedTuple):
    """Who takes part: the model under test, who plays the seeker, and who judges."""

    model: Model
    seeker: Model
    judge: Model


async def run_esc_eval(
    folder: Path,
    cast: Cast,
    manner: Manner,
    progress: Progress,
    *,
    languages: Sequence[str] = LANGUAGES,
    rounds: int = ROUNDS,
    limit: int | None = None,
) -> Outcome:
    """Play and judge a dialogue for every role card.

    Args:
        folder: Where the files of cards are.
        cast: The three models.
        manner: How they are asked.
        progress: Shown how far it is.
        languages: Which cards: en, zh.
        rounds: Turns of the seeker, each with its answer.
        limit: Only so many cards, spread over languages and topics.

    Raises:
        InputError: There are no cards, or they cannot be read.
        ModelError: Only a fatal one.
    """
    cards = read_cards(folder, languages)
    chosen = choose(cards, limit, manner.seed, lambda card: card.card_id, lambda card: f"{card.topic}/{card.language}")

    async def one(card: Card) -> tuple[Dialogue, ItemScore]:
        dialogue = await play(card, cast.model, cast.seeker, manner, rounds)
        return dialogue, await judge_dialogue(card, dialogue, cast.judge, manner)

    played = await map_in_order(one, chosen, stage="esc-eval", progress=progress)
    about = About(
        "esc-eval",
        f"{rounds} rounds",
        {"model": cast.model.name, "seeker": cast.seeker.name, "judge": cast.judge.name},
        [card_file(folder, language) for language in languages],
        len(cards),
        (GREETING, SEEKER, REPLY, JUDGE),
        manner.seed,
    )
    dialogues = sorted((dialogue for dialogue, _ in played), key=lambda each: each.card_id)
    return benchmark_result(
        about, [item for _, item in played], _scales(), notes=_NOTES, files={"dialogues.jsonl": dialogues}
    )


async def judge_dialogue(card: Card, dialogue: Dialogue, judge: Model, manner: Manner) -> ItemScore:
    """Return the scores of one dialogue; they are None where a turn of it or its verdict could not be had."""
    if dialogue.failure is not None:
        return _item(card, dialogue, None, dialogue.asked, (dialogue.failure,))
    lines = [f"assistant: {greeting_of(card.language)}"]
    lines += [f"{'person' if turn.role == 'user' else 'assistant'}: {turn.text}" for turn in dialogue.turns]
    request = Request(
        messages=render(JUDGE, reasons=manner.reasons, dialogue=Untrusted("\n\n".join(lines))),
        max_tokens=400,
        seed=manner.seed,
        schema_name="dialogue",
        purpose=JUDGE,
    )
    answer = await ask(judge, request, _verdict_type(manner.reasons))
    failures = () if answer.failure is None else (answer.failure,)
    value = None if answer.value is None else answer.value.model_dump()
    return _item(card, dialogue, value, dialogue.asked + 1, failures)


@lru_cache(maxsize=2)
def _verdict_type(reasons: bool) -> type[BaseModel]:
    words = (str, Field(min_length=1, max_length=2000, json_schema_extra={"maxLength": 300}))
    fields: dict[str, Any] = {"analysis": words} if reasons else {}
    fields |= {name: (int, Field(ge=0, le=4)) for name in DIMENSIONS}
    return create_model("DialogueVerdict", __config__=ConfigDict(extra="forbid"), **fields)


def _item(
    card: Card, dialogue: Dialogue, value: dict[str, Any] | None, asked: int, failures: tuple[Failure, ...]
) -> ItemScore:
    scores: list[tuple[str, float | None]] = [
        ("mean", None if value is None else sum(float(value[name]) for name in _PLAIN) / len(_PLAIN)),
        *((name, None if value is None else float(value[name])) for name in DIMENSIONS),
    ]
    if (repeated := repeated_share(dialogue)) is not None:
        scores.append(("repeats", repeated))
    analysis = (("analysis", str(value["analysis"])),) if value is not None and "analysis" in value else ()
    return ItemScore(
        item_id=card.card_id,
        cluster=card.card_id,
        slices=(("language", card.language), ("topic", card.topic or "(none)")),
        scores=tuple(scores),
        asked=asked,
        failures=failures,
        details=analysis,
    )


def _scales() -> list[Scale]:
    return [
        Scale("mean", (0.0, 4.0), note="mean: of the first six dimensions, 0 to 4."),
        *(Scale(name, (0.0, 4.0)) for name in DIMENSIONS),
        Scale(
            "repeats",
            (0.0, 1.0),
            note="repeats: share of the seeker's turns that only say again what was said; a seeker that does so plays nobody.",
        ),
    ]
