"""Several samples of one request, from any model: in one call where the model can, in calls of their own where not.

A sample that fails is a `ModelError` in its place, so that it spoils none of the others; only a fatal error, after
which no further call can succeed, is raised. Left out on purpose: drawing more samples in place of failed ones, which
would favour requests that are easy to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from peregrm.errors import ModelError
from peregrm.models.base import Completion, Model, Request, SamplingModel

__all__ = ["complete_samples", "each_outcome"]

T = TypeVar("T")


async def complete_samples(model: Model, request: Request, n: int) -> list[Completion | ModelError]:
    """Return `n` samples of a request, in the order of their trials.

    Args:
        model: Who answers. A `SamplingModel` is asked for all at once; samples it does not give are asked by single
            calls, side by side.
        request: Sample k, from 0, is the answer to this request with `trial` + k.
        n: At least 1.

    Returns:
        For each sample the completion or the error that is not fatal. Where one call failed that was to bring several
        samples, its error stands in the place of each.

    Raises:
        ModelError: Only a fatal one, once no call is under way any more.
        ValueError: `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"at least one sample, not {n}")
    samples: list[Completion | ModelError] = []
    if n > 1 and isinstance(model, SamplingModel):
        samples += await _in_one_call(model, request, n)
    rest = range(len(samples), n)
    return samples + await each_outcome(model.complete(request.sample(number)) for number in rest)


async def _in_one_call(model: SamplingModel, request: Request, n: int) -> list[Completion | ModelError]:
    try:
        return list(await model.complete_many(request, n))[:n]
    except ModelError as error:
        if error.fatal:
            raise
        return [error] * n


async def each_outcome(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T | ModelError]:
    """Run calls side by side and return, in their order, what each returned or the `ModelError` it raised.

    Raises:
        ModelError: One of them was fatal; the first of those, after all calls ended, so that what they brought is kept.
        BaseException: The first of any other kind, likewise. When this task is cancelled, so are the calls.
    """
    calls = list(calls)
    if len(calls) <= 1:  # the usual cases, without a task of their own
        return [await _outcome(call) for call in calls]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers: list[T | ModelError] = []
    fatal: ModelError | None = None
    for outcome in outcomes:
        if isinstance(outcome, ModelError):
            fatal = fatal or (outcome if outcome.fatal else None)
        elif isinstance(outcome, BaseException):
            raise outcome
        answers.append(outcome)
    if fatal is not None:
        raise fatal
    return answers


async def _outcome(call: Coroutine[Any, Any, T]) -> T | ModelError:
    try:
        return await call
    except ModelError as error:
        if error.fatal:
            raise
        return error
