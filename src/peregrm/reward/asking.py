"""How a judge is asked: the model, the number of trials, and what of the person it gets to see.

Every reward that asks a model goes through here, so that one rule decides temperature and trials, and one rendering shows the case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from peregrm.context import known_facts, memory_list, persona_text
from peregrm.dimensions import EMPATHY, Dimension
from peregrm.models.base import Message, Model, Request
from peregrm.models.structured import Answer, ask, ask_samples
from peregrm.prompts import Untrusted, prompt_hash, render
from peregrm.records import Case, Criteria, Judgement, Reply

__all__ = ["Asking", "Hideable", "criteria_text", "said", "shown", "together"]

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")

Hideable = Literal["persona", "memories", "situation"]
"""What an ablation may keep from the judge."""

_HIDDEN = Untrusted("(not shown)")
_MOST_SHOWN = 256
_SHOWN: dict[tuple[str, frozenset[Hideable]], dict[str, Untrusted]] = {}
_LISTED: dict[str, Untrusted] = {}


def shown(case: Case, hidden: frozenset[Hideable] = frozenset()) -> dict[str, Untrusted]:
    """Return what a judge is shown of a case: persona, memories, situation and query, as prompt values.

    It is the same for every reply and trial, so the last cases are remembered.
    """
    key = (case.id, hidden)
    if key not in _SHOWN:
        if len(_SHOWN) >= _MOST_SHOWN:
            _SHOWN.pop(next(iter(_SHOWN)), None)
        _SHOWN[key] = _shown(case, hidden)
    return dict(_SHOWN[key])


def _shown(case: Case, hidden: frozenset[Hideable]) -> dict[str, Untrusted]:
    memories = memory_list(case.memories) if "persona" in hidden else known_facts(case.persona, case.memories)
    values = {
        "persona": persona_text(case.persona),
        "memories": memories,
        "situation": Untrusted(case.situation),
    }
    return {
        **{name: _HIDDEN if name in hidden else text for name, text in values.items()},
        "query": Untrusted(case.query),
    }


def criteria_text(criteria: Criteria) -> Untrusted:
    """Return criteria as the judge reads them: s1 is the first of its dimension. The last ones are remembered, as in `shown`."""
    if criteria.id not in _LISTED:
        if len(_LISTED) >= _MOST_SHOWN:
            _LISTED.pop(next(iter(_LISTED)), None)
        _LISTED[criteria.id] = _listed(criteria)
    return _LISTED[criteria.id]


@lru_cache(maxsize=64)
def said(text: str) -> Untrusted:
    """Return the text of a reply as a prompt value: the same for the two questions that are asked about it one after the other."""
    return Untrusted(text)


def _listed(criteria: Criteria) -> Untrusted:
    lines: list[str] = []
    for name, items in criteria.items:
        lines.append(f"{name}:")
        lines += [f"  s{n}: {item.text}" for n, item in enumerate(items, start=1)]
    return Untrusted("\n".join(lines))


async def together(calls: Iterable[Awaitable[R]]) -> list[R]:
    """Run calls side by side and return, in their order, what they returned.

    The first exception is raised once all of them have ended, so that none goes on behind the caller's back, on connections that may
    be closed meanwhile, and what the others brought is kept.
    """
    returned: list[R] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        returned.append(outcome)
    return returned


@dataclass(frozen=True)
class Asking:
    """A judge model and how it is asked.

    `samples` is K, the trials of each question: one is drawn at temperature 0, several at `temperature`. `reasons` asks for a sentence
    before the scores; a judge too small to reason is faster without. `hidden` names what the judge does not get to see.
    """

    model: Model
    dimensions: tuple[Dimension, ...] = EMPATHY
    samples: int = 1
    temperature: float = 0.7
    seed: int = 0
    reasons: bool = True
    bystander: bool = True
    hidden: frozenset[Hideable] = field(default_factory=frozenset)

    async def ask(
        self,
        prompt: str,
        values: dict[str, Any],
        schema: type[T],
        *,
        max_tokens: int,
        purpose: str,
        samples: int | None = None,
        top_logprobs: int = 0,
        first_trial: int = 0,
    ) -> list[Answer[T]]:
        """Return one answer a trial, counted from `first_trial`, to the prompt file `prompt` rendered with `values`."""
        samples = self.samples if samples is None else samples
        messages = render(prompt, **values)
        request = self._request(messages, samples, max_tokens, purpose, first_trial, top_logprobs)
        return await ask_samples(self.model, request, schema, samples)

    async def ask_trial(
        self, prompt: str, values: dict[str, Any], schema: type[T], *, trial: int, max_tokens: int, purpose: str
    ) -> Answer[T]:
        """Return the answer of one trial, as a call of its own."""
        request = self._request(render(prompt, **values), self.samples, max_tokens, purpose, trial)
        return await ask(self.model, request, schema)

    def _request(
        self,
        messages: tuple[Message, ...],
        samples: int,
        max_tokens: int,
        purpose: str,
        trial: int,
        top_logprobs: int = 0,
    ) -> Request:
        return Request(
            messages=messages,
            max_tokens=max_tokens,
            temperature=self.temperature if samples > 1 else 0.0,
            seed=self.seed,
            schema_name=purpose,
            top_logprobs=top_logprobs,
            trial=trial,
            purpose=purpose,
        )

    def judgement(
        self,
        reply: Reply,
        criteria: Criteria | None,
        *,
        aspect: str,
        trial: int,
        prompt: str,
        answer: Answer[Any],
        value: dict[str, Any] | None,
    ) -> Judgement:
        """Return the judgement that `answer` gives; `value` holds its scores and is None where there are none."""
        return Judgement.model_validate(
            {
                "case_id": reply.case_id,
                "reply_id": reply.id,
                "criteria_id": None if criteria is None else criteria.id,
                "judge": self.model.name,
                "aspect": aspect,
                "trial": trial,
                "raw": answer.raw,
                "prompt": f"{prompt}@{prompt_hash(prompt)}",
                "call": answer.prompt_key,
                "usage": answer.usage,
                **({"failure": answer.failure} if value is None else value),
            }
        )
