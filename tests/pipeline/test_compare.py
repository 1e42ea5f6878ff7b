"""`peregrm compare`, end to end against a server that fills schemas and logs every call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.reward.factory import reward_names


@pytest.fixture
def compare(finished: Any, here: Callable, tmp_path: Path) -> Callable[..., Any]:
    def run(*more: str) -> Any:
        return here("compare", finished.out, "--judge", finished.server.spec, "-o", tmp_path / "cmp", *more)

    return run


def test_every_reward_has_a_row_and_finds_the_order_that_the_run_knows(compare: Callable, tmp_path: Path) -> None:
    ended = compare("--json")
    assert ended.code == 0, ended.stderr
    table = json.loads(ended.stdout)
    assert [row["method"] for row in table["rows"]] == [name for name in reward_names() if name != "scalar"]
    assert all(row["pairs_scored"] == row["pairs_known"] > 0 and row["accuracy"] for row in table["rows"])
    assert json.loads((tmp_path / "cmp" / "comparison.json").read_text()) == table

    again = json.loads(compare("--json", "--reward", "shared", "--reward", "holistic").stdout)
    first = {row["method"]: row for row in table["rows"]}
    for row in again["rows"]:
        assert row["seconds"] == pytest.approx(first[row["method"]]["seconds"]), (
            "of the calls, whoever answers them now"
        )
        assert row["seconds"] > 0
        assert row | {"seconds": 0} == first[row["method"]] | {"seconds": 0}


def test_what_it_would_ask_is_said_first_and_comes_true(compare: Callable, finished: Any, tmp_path: Path) -> None:
    asked = len(finished.server.starts())
    planned = json.loads(compare("--reward", "paper", "--reward", "holistic", "--dry-run", "--json").stdout)
    assert len(finished.server.starts()) == asked
    assert not (tmp_path / "cmp").exists()
    rows = json.loads(compare("--reward", "paper", "--reward", "holistic", "--json").stdout)["rows"]
    assert sum(row["calls"] for row in planned) == sum(row["usage"]["calls"] for row in rows)


def test_a_wrong_name_is_found_before_anything_is_asked(compare: Callable, finished: Any) -> None:
    asked = len(finished.server.starts())
    ended = compare("--reward", "holistic", "--reward", "wholistic")
    assert ended.code == 1
    assert "no reward 'wholistic'" in ended.stderr
    assert len(finished.server.starts()) == asked


def test_the_help_lists_every_reward(here: Callable) -> None:
    listed = set(re.findall(r"[a-z]+(?:-[a-z]+)*", here("compare", "--help").stdout))
    assert listed >= set(reward_names())
