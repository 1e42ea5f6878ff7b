"""What `--dry-run` announces is never less than what the same run then asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OPTIONS = {
    "all by the model": ("--cases", "3"),
    "several samples": ("--cases", "1", "--samples", "3"),
    "hand-written cases only": ("--cases", "0"),
    "as many cases as allowed": ("--cases", "6"),
    "composed criteria": ("--cases", "2", "--criteria", "composed"),
    "one user of two": ("--cases", "2", "--users", "1"),
}


def planned_calls(stdout: str) -> dict[str, int]:
    return {row["purpose"]: row["calls"] for row in json.loads(stdout)}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_plan_bounds_the_calls_of_the_run(
    options: tuple[str, ...], tmp_path: Path, here: Callable, small: Any, server: Any, make_history: Callable
) -> None:
    long_turn = "I have been thinking about the move to the coast. " * 300
    small.histories.write_text(make_history() + make_history("bea", ["My sister is moving away.", long_turn]))
    before = len(server.starts())
    out = tmp_path / "out"
    command = small.command(out, server, *options)

    planned = planned_calls(here(*command, "--dry-run", "--json").stdout)
    assert len(server.starts()) == before
    assert not out.exists()

    ended = here(*command)
    assert ended.code == 0, ended.stderr
    asked = {row["purpose"]: row["fresh_calls"] for row in json.loads((out / "ledger.json").read_text())["calls"]}
    assert sum(asked.values()) == len(server.starts()) - before > 0
    assert set(asked) <= set(planned)
    assert {purpose: calls for purpose, calls in asked.items() if calls > planned[purpose]} == {}


def test_calls_that_cannot_be_avoided_are_planned_exactly(
    tmp_path: Path, here: Callable, small: Any, server: Any
) -> None:
    before = len(server.starts())
    command = small.command(tmp_path / "out", server, "--cases", "0", "--samples", "2")
    planned = planned_calls(here(*command, "--dry-run", "--json").stdout)
    at_most = planned.pop("supersession")
    assert planned == {
        "memories": 1,
        "persona": 1,
        "criteria": 1,
        "safety": 1,
        "replies": 2,
        "judge": 8,
        "bystander": 8,
    }
    assert here(*command).code == 0
    assert 0 <= len(server.starts()) - before - sum(planned.values()) <= at_most


def test_cost_is_known_where_the_price_is(tmp_path: Path, here: Callable, small: Any) -> None:
    settings = tmp_path / "priced.toml"
    settings.write_text(
        '[models.priced]\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\ninput_price = 2.0\noutput_price = 10.0\n'
    )
    rows = json.loads(
        here("run", small.histories, "--config", settings, "--model", "priced", "--dry-run", "--json").stdout
    )
    for row in rows:
        assert row["cost"] == pytest.approx((row["input_tokens"] * 2 + row["output_tokens"] * 10) / 1e6)
    unpriced = here("run", small.histories, "--model", "m@http://127.0.0.1:9/v1", "--dry-run", "--json").stdout
    assert {row["cost"] for row in json.loads(unpriced)} == {None}
