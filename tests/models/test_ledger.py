from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.models.base import Completion
from peregrm.models.ledger import Ledger, Price
from peregrm.records import Usage


def done(tokens_in: int = 10, tokens_out: int = 2, *, cached: bool = False, seconds: float = 1.0) -> Completion:
    usage = Usage(calls=1, input_tokens=tokens_in, output_tokens=tokens_out, cached_tokens=1)
    return Completion(text="x", usage=usage, cached=cached, seconds=seconds)


def test_counts_are_kept_apart() -> None:
    ledger = Ledger({"priced": Price(2.0, 10.0)})
    ledger.record("priced", "judge", done(1_000_000, 100_000))
    ledger.record("priced", "judge", done(5, 5, cached=True))
    ledger.fail("priced", "judge", "timeout")
    ledger.fail("priced", "judge", "auth")
    ledger.fail("priced", "judge", "timeout")
    ledger.record("free", "judge", done())
    ledger.record("priced", "criteria", done(cached=True))
    rows = ledger.summary()
    assert [(row.model, row.purpose) for row in rows] == [
        ("free", "judge"),
        ("priced", "criteria"),
        ("priced", "judge"),
    ]
    row = rows[2]
    assert (row.fresh_calls, row.cached_calls, row.seconds) == (1, 1, 1.0)
    assert row.failures == (("auth", 1), ("timeout", 2))
    assert row.fresh_usage == Usage(calls=1, input_tokens=1_000_000, output_tokens=100_000, cached_tokens=1)
    assert row.cost == pytest.approx(3.0)
    assert ledger.failures() == {"timeout": 2, "auth": 1}


def test_unknown_price_is_unknown_cost() -> None:
    ledger = Ledger()
    assert ledger.total_cost() == 0
    ledger.record("m", "p", done())
    assert ledger.summary()[0].cost is None
    assert ledger.total_cost() is None


def test_cached_calls_of_an_unpriced_model_cost_nothing() -> None:
    ledger = Ledger({"priced": Price(1.0, 1.0)})
    ledger.record("m", "p", done(cached=True))
    ledger.record("priced", "p", done(500_000, 500_000))
    assert ledger.total_cost() == pytest.approx(1.0)
    assert ledger.summary()[0].cost is None


def test_samples_of_one_call_count_as_one() -> None:
    ledger = Ledger()
    ledger.record("m", "judge", done(100, 30))
    for _ in range(3):
        ledger.record("m", "judge", Completion(text="x"))
    (row,) = ledger.summary()
    assert (row.fresh_calls, row.fresh_usage.output_tokens, row.seconds) == (1, 30, 1.0)


def test_totals_of_one_model_or_purpose() -> None:
    ledger = Ledger()
    ledger.record("a", "x", done(1))
    ledger.record("a", "y", done(10))
    ledger.record("b", "x", done(100))
    assert ledger.used_usage().input_tokens == ledger.total_usage().input_tokens == 111
    assert ledger.used_usage(model="a").input_tokens == 11
    assert ledger.used_usage(purpose="x").input_tokens == 101
    assert ledger.used_usage(model="c") == Usage()


calls = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 99), st.integers(0, 99)))


@given(calls, st.data())
def test_used_is_the_same_whatever_came_from_the_cache(
    made: list[tuple[str, str, int, int]], data: st.DataObject
) -> None:
    through, resumed = Ledger(), Ledger()
    for model, purpose, tokens_in, tokens_out in made:
        through.record(model, purpose, done(tokens_in, tokens_out))
        resumed.record(model, purpose, done(tokens_in, tokens_out, cached=data.draw(st.booleans())))
    assert resumed.used_usage() == through.used_usage() == through.total_usage()
    assert resumed.used_usage(model="a", purpose="x") == through.used_usage(model="a", purpose="x")
    assert through.used_usage().calls == len(made)
    assert resumed.used_seconds() == through.used_seconds() == len(made)
