"""Put one item to a model with its options in several orders, and map the answers back.

The first order is drawn by the seed and the item's id alone, each further one moves it round by one, so that over as many orders as there
are options the right one has stood in every place: what a model gains by liking a place, it loses again. An answer that cannot be read is
no answer; it is never a guess.
"""

from __future__ import annotations

import hashlib
import string
from functools import lru_cache
from typing import Literal, NamedTuple

from pydantic import BaseModel, create_model

from peregrm.evaluation.benchmarks.emobench.data import Choice, Item
from peregrm.models.base import Message, Model, Request
from peregrm.models.structured import ask
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Part

__all__ = ["Order", "Reply", "ask_item", "option_order", "prompt_name", "question"]

Order = tuple[int, ...]
"""At place n stands option order[n]."""

_CHINESE = "zh"


class Reply(NamedTuple):
    """What a model answered in one order: the place in the item of each chosen option, or the failure."""

    chosen: tuple[int, ...] | None
    failure: Failure | None = None


def option_order(item_id: str, choice: Choice, seed: int, turn: int) -> Order:
    """Return the order of a choice's options in the given turn, from 0; as many turns as options put each in every place."""
    places = range(len(choice.options))
    first = sorted(places, key=lambda n: (_draw(f"{seed}\n{item_id}\n{choice.name}\n{choice.options[n]}"), n))
    shift = turn % len(first)
    return (*first[shift:], *first[:shift])


def _draw(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def prompt_name(task: str, language: str) -> str:
    """Return the name of the prompt for a task in a language."""
    return f"emobench_{task.lower()}" + ("_zh" if language == _CHINESE else "")


def question(item: Item, orders: tuple[Order, ...]) -> tuple[Message, ...]:
    """Return the messages that ask an item with its options in these orders, one order a choice."""
    shown = [Untrusted(_lettered(choice, order)) for choice, order in zip(item.choices, orders, strict=True)]
    asked: dict[str, object] = {"scenario": Untrusted(item.scenario), "subject": Untrusted(item.subject)}
    if item.task == "EA":
        asked |= {"options": shown[0], "response": item.response}
    else:
        asked |= {"emotions": shown[0], "causes": shown[1]}
    return render(prompt_name(item.task, item.language), **asked)


def _lettered(choice: Choice, order: Order) -> str:
    return "\n".join(f"{letter}. {choice.options[n]}" for letter, n in zip(string.ascii_uppercase, order, strict=False))


async def ask_item(model: Model, item: Item, *, seed: int, turn: int, max_tokens: int) -> Reply:
    """Ask an item in the order of this turn. Raises `ModelError` only where it is fatal."""
    orders = tuple(option_order(item.item_id, choice, seed, turn) for choice in item.choices)
    request = Request(messages=question(item, orders), max_tokens=max_tokens, seed=seed, purpose="emobench")
    answer = await ask(model, request, _schema(tuple((c.name, len(c.options)) for c in item.choices)))
    if answer.value is None:
        return Reply(None, answer.failure)
    said = answer.value.model_dump()
    letters = [string.ascii_uppercase.index(said[choice.name]) for choice in item.choices]
    return Reply(tuple(order[letter] for order, letter in zip(orders, letters, strict=True)))


@lru_cache(maxsize=64)
def _schema(choices: tuple[tuple[str, int], ...]) -> type[BaseModel]:
    """Return the shape of an answer: for each choice one of its letters."""
    fields = {name: (Literal.__getitem__(tuple(string.ascii_uppercase[:n])), ...) for name, n in choices}
    return create_model("Answer", __base__=Part, **fields)  # type: ignore[call-overload,no-any-return]
