"""Run EmoBench for a model: every item in several orders of its options, accuracy beside chance.

For EU an answer is right where emotion and cause both are. An item's accuracy is the share of right ones among its answers; `majority`
counts the answer given most often, which must be one alone, and `consistency` is the share of answers that are it. An item that is asked in
both languages is one cluster.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from peregrm.evaluation.benchmarks.common import About, ItemScore, Outcome, Scale, benchmark_result, choose
from peregrm.evaluation.benchmarks.emobench.data import TASKS, Item, task_file
from peregrm.evaluation.benchmarks.emobench.questions import Reply, ask_item, prompt_name
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model

__all__ = ["EmoOptions", "item_score", "run_emobench"]


class EmoOptions(NamedTuple):
    """How much is run: `limit` items (None: all), each in `orders` orders of its options, answers of at most `max_tokens`."""

    limit: int | None = None
    orders: int = 4
    seed: int = 0
    max_tokens: int = 512


async def run_emobench(
    folder: Path, items: Sequence[Item], model: Model, options: EmoOptions, progress: Progress
) -> Outcome:
    """Ask a model the items read from `folder`. Raises `ModelError` only where it is fatal."""
    chosen = choose(
        items, options.limit, options.seed, lambda item: item.item_id, lambda item: f"{item.task}/{item.language}"
    )
    asked = [(item, turn) for item in chosen for turn in range(options.orders)]

    async def one(question: tuple[Item, int]) -> Reply:
        item, turn = question
        return await ask_item(model, item, seed=options.seed, turn=turn, max_tokens=options.max_tokens)

    replies = await map_in_order(one, asked, stage="questions", progress=progress)
    by_item: dict[str, list[Reply]] = {item.item_id: [] for item in chosen}
    for (item, _), reply in zip(asked, replies, strict=True):
        by_item[item.item_id].append(reply)
    tasks = [task for task in TASKS if any(item.task == task for item in chosen)]
    about = About(
        "emobench",
        ", ".join(tasks),
        {"model": model.name},
        [task_file(folder, task) for task in tasks],
        len(items),
        sorted({prompt_name(item.task, item.language) for item in chosen}),
        options.seed,
    )
    scores = [item_score(item, by_item[item.item_id]) for item in chosen]
    scales = [scale for task in tasks for scale in _scales(task, options.orders)]
    return benchmark_result(about, scores, scales)


def item_score(item: Item, replies: Sequence[Reply]) -> ItemScore:
    """Return the scores of one item from its replies in all orders."""
    answers = [reply.chosen for reply in replies if reply.chosen is not None]
    right = tuple(choice.right for choice in item.choices)
    task = item.task
    scores: list[tuple[str, float | None]] = [(f"{task} accuracy", _share([chosen == right for chosen in answers]))]
    chance = [1 / len(choice.options) for choice in item.choices]
    guesses = [(f"{task} accuracy", math.prod(chance))]
    if len(right) > 1:
        for n, choice in enumerate(item.choices):
            name = f"{task} {choice.name}"
            scores.append((name, _share([chosen[n] == right[n] for chosen in answers])))
            guesses.append((name, chance[n]))
    if len(replies) > 1:
        most = Counter(answers).most_common(2)
        alone = len(most) == 1 or (len(most) == 2 and most[0][1] > most[1][1])
        scores.append((f"{task} majority", float(alone and most[0][0] == right) if answers else None))
        scores.append((f"{task} consistency", most[0][1] / len(answers) if len(answers) > 1 else None))
    scores.append((f"{task} answered", len(answers) / len(replies)))
    return ItemScore(
        item_id=item.item_id,
        cluster=f"{task}/{item.qid}",
        slices=(("language", item.language), *((name, f"{task} {kind}") for name, kind in item.kinds)),
        scores=tuple(scores),
        chance=tuple(guesses),
        asked=len(replies),
        failures=tuple(reply.failure for reply in replies if reply.failure is not None),
        details=(("chosen", "; ".join(_texts(item, reply) for reply in replies)),),
    )


def _share(facts: Sequence[bool]) -> float | None:
    return sum(facts) / len(facts) if facts else None


def _texts(item: Item, reply: Reply) -> str:
    if reply.chosen is None:
        return "(no answer)"
    return " / ".join(choice.options[n] for choice, n in zip(item.choices, reply.chosen, strict=True))


def _scales(task: str, orders: int) -> tuple[Scale, ...]:
    both = "EU accuracy: emotion and cause both right." if task == "EU" else ""
    return (
        Scale(f"{task} accuracy", (0, 1), both, headline=True),
        *((Scale("EU emotion", (0, 1)), Scale("EU cause", (0, 1))) if task == "EU" else ()),
        Scale(
            f"{task} majority",
            (0, 1),
            f"majority: the answer given most often over {orders} orders of the options is right.",
        ),
        Scale(
            f"{task} consistency", (0, 1), "consistency: share of an item's answers that are the one given most often."
        ),
        Scale(
            f"{task} answered",
            (0, 1),
            "answered: share of questions with an answer that could be read; the rest is no guess.",
        ),
    )
