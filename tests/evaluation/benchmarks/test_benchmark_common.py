"""What benchmarks share: means over items, choices by seed, tables that show names as they are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import (
    About,
    ItemScore,
    Scale,
    benchmark_result,
    choose,
    data_file,
    format_interval,
    print_result,
)
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Failure


def item(item_id: str, score: float | None, cluster: str = "c", **more: object) -> ItemScore:
    return ItemScore.model_validate({"item_id": item_id, "cluster": cluster, "scores": (("right", score),), **more})


@pytest.fixture
def about(tmp_path: Path) -> About:
    path = tmp_path / "data.jsonl"
    path.write_text("x")
    return About("bench", "part", {"model": "[b]m[/b]"}, [path], 9)


def test_means_slices_failures_and_chance(about: About) -> None:
    lost = Failure(stage="asking", kind="empty", reason="it is empty")
    items = [
        item("2", 1.0, "a", slices=(("language", "en"),), chance=(("right", 0.25),), asked=2),
        item("1", 0.0, "b", slices=(("language", "zh"),), chance=(("right", 0.5),), asked=2),
        item("3", None, "b", slices=(("language", "zh"),), asked=2, failures=(lost, lost)),
    ]
    outcome = benchmark_result(about, items, [Scale("right", (0, 1), "a note"), Scale("absent")], notes=["read this"])
    result = outcome.result
    (metric,) = result.metrics
    assert (metric.estimate.mean, metric.estimate.n, metric.estimate.asked, metric.chance) == (0.5, 2, 3, 0.375)
    assert [(kind, value, m[0].estimate.mean) for kind, value, m in result.slices] == [
        ("language", "en", 1.0), ("language", "zh", 0.0)
    ]  # fmt: skip
    assert (result.asked, result.failures, result.clusters, result.available) == (6, (("asking", "empty", 2),), 2, 9)
    assert [one.item_id for one in outcome.items] == ["1", "2", "3"]
    assert (
        benchmark_result(about, items[::-1], [Scale("right", (0, 1), "a note")], notes=["read this"]).result == result
    )
    out = io.StringIO()
    print_result(Console(width=120, file=out), result)
    for words in ("[b]m[/b]", "asking/empty 2", "a note", "read this", "By language", "2/3"):
        assert words in out.getvalue()


def test_no_item_and_one_twice_are_errors(about: About) -> None:
    with pytest.raises(InputError, match="there is no item"):
        benchmark_result(about, [], [])
    with pytest.raises(InputError, match="item 1 stands there twice"):
        benchmark_result(about, [item("1", 1.0), item("1", 0.0)], [])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), unique=True), st.integers(0, 9), st.randoms())
def test_a_choice_hangs_on_the_seed_alone_and_a_larger_one_only_adds(items: list, limit: int, random) -> None:  # type: ignore[type-arg, no-untyped-def]
    def chosen(given: list, n: int | None) -> list:  # type: ignore[type-arg]
        return choose(given, n, 5, key=str, group=lambda one: one[0])

    some = chosen(items, limit)
    assert chosen(random.sample(items, len(items)), limit) == some
    assert set(some) <= set(chosen(items, limit + 1))
    assert len(some) == min(limit, len(items))
    assert chosen(items, None) == sorted(items, key=str)
    counts = [sum(one[0] == group for one in some) for group in {one[0] for one in items}]
    room = [sum(one[0] == group for one in items) for group in {one[0] for one in items}]
    assert (
        all(count >= min(max(counts) - 1, most) for count, most in zip(counts, room, strict=True)) if counts else True
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"EA\.jsonl: no such file"):
        data_file(tmp_path, "EA.jsonl")


def test_intervals_that_are_not_there_are_dashes() -> None:
    none = Estimate(mean=None, low=None, high=None, n=0, users=0, asked=1)
    alone = none.model_copy(update={"mean": 0.5, "n": 1})
    both = alone.model_copy(update={"low": 0.25, "high": 0.75})
    assert [format_interval(e, 2) for e in (none, alone, both)] == ["—", "0.50 [—]", "0.50 [0.25, 0.75]"]
