"""What the calls of a run were and what they cost, per model and purpose.

Two totals are kept apart: what this process *spent* (fresh calls only) and what the results *used* (fresh and cached
calls). The second is the same for a run that was killed and resumed as for one that went through, so it may enter
artifacts; the first may not. Left out on purpose: a price list. Prices change, so they come from the settings, and
without one the cost is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from peregrm.models.base import Completion
from peregrm.records import Usage

__all__ = ["Ledger", "LedgerRow", "Price"]


class Price(NamedTuple):
    """Price of a model in any one currency, per million tokens."""

    input_per_million: float
    output_per_million: float

    def of(self, usage: Usage) -> float:
        """Return the price of `usage`, an upper bound: tokens from a prefix cache count at the full input price."""
        return (usage.input_tokens * self.input_per_million + usage.output_tokens * self.output_per_million) / 1e6


class LedgerRow(NamedTuple):
    """The calls of one model for one purpose.

    `failures` holds (kind, count) sorted by kind. `seconds` is the sum over fresh calls, so it passes the elapsed
    time where calls ran side by side. `cost` is that of the fresh calls, None where no price is known.
    """

    model: str
    purpose: str
    fresh_calls: int
    cached_calls: int
    failures: tuple[tuple[str, int], ...]
    fresh_usage: Usage
    seconds: float
    cost: float | None


@dataclass
class _Entry:
    fresh: Usage = field(default_factory=Usage)
    cached: Usage = field(default_factory=Usage)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    cached_seconds: float = 0.0


class Ledger:
    """Counts calls as they happen.

    Args:
        prices: Price by model name; a model that is missing has an unknown cost, not none.
    """

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = dict(prices or {})
        self._entries: dict[tuple[str, str], _Entry] = {}

    def record(self, model: str, purpose: str, completion: Completion) -> None:
        """Count one answer with the usage it carries, as cached where `completion.cached` says so, else as fresh.

        Of samples drawn in one call the first carries the usage of that call and the others none: one call is counted.
        """
        entry = self._entry(model, purpose)
        if completion.cached:
            entry.cached += completion.usage
            entry.cached_seconds += completion.seconds
        else:
            entry.fresh += completion.usage
            entry.seconds += completion.seconds

    def fail(self, model: str, purpose: str, kind: str) -> None:
        """Count one call, or one sample of a call that brought others, that ended in a `ModelError` of this kind."""
        self._entry(model, purpose).failures[kind] += 1

    def total_usage(self) -> Usage:
        """Return what was spent in this process: the usage of the fresh calls."""
        return sum((entry.fresh for entry in self._entries.values()), Usage())

    def used_usage(self, *, model: str | None = None, purpose: str | None = None) -> Usage:
        """Return the usage behind the results, fresh and cached, optionally of one model or purpose: the same whether a run was resumed."""
        return sum((entry.fresh + entry.cached for _, entry in self._matching(model, purpose)), Usage())

    def used_seconds(self) -> float:
        """Return the seconds that the calls behind the results took when they were made, one after another, fresh and cached."""
        return sum(entry.seconds + entry.cached_seconds for _, entry in self._matching(None, None))

    def total_cost(self) -> float | None:
        """Return the cost of all fresh calls, or None where a model has no known price or reported no tokens."""
        total = 0.0
        for (model, _), entry in self._matching(None, None):
            if entry.fresh.calls:
                if model not in self._prices or entry.fresh.unmetered:
                    return None
                total += self._prices[model].of(entry.fresh)
        return total

    def failures(self) -> Counter[str]:
        """Return how many calls failed, by kind, over all models and purposes."""
        return sum((entry.failures for entry in self._entries.values()), Counter())

    def summary(self) -> list[LedgerRow]:
        """Return one row for each model and purpose, sorted by both."""
        return [
            LedgerRow(
                model=model,
                purpose=purpose,
                fresh_calls=entry.fresh.calls,
                cached_calls=entry.cached.calls,
                failures=tuple(sorted(entry.failures.items())),
                fresh_usage=entry.fresh,
                seconds=entry.seconds,
                cost=self._prices[model].of(entry.fresh)
                if model in self._prices and not entry.fresh.unmetered
                else None,
            )
            for (model, purpose), entry in self._matching(None, None)
        ]

    def _entry(self, model: str, purpose: str) -> _Entry:
        key = (model, purpose)
        if key not in self._entries:
            self._entries[key] = _Entry()
        return self._entries[key]

    def _matching(self, model: str | None, purpose: str | None) -> Iterator[tuple[tuple[str, str], _Entry]]:
        for key, entry in sorted(self._entries.items(), key=lambda item: item[0]):
            if model in (None, key[0]) and purpose in (None, key[1]):
                yield key, entry
