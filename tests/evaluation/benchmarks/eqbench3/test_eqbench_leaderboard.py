"""The leaderboard of recorded comparisons: known winners, both orders, errors, damage; and the real table where it is there."""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.eqbench3.data import Scenario, read_eqbench
from peregrm.evaluation.benchmarks.eqbench3.leaderboard import ANCHORS, recompute
from peregrm.evaluation.benchmarks.eqbench3.rubric import rubric_score
from published_data import PUBLISHED, needs

WriteElo = Callable[..., Path]
REAL = PUBLISHED / "benchmarks" / "eqbench3"
TOP, BOTTOM = ANCHORS[0][0], ANCHORS[1][0]


def both_orders(better: str, worse: str, scenario: str, much: str = "+++") -> list[tuple[str, str, str, bool, str]]:
    return [(better, worse, scenario, True, f"A0493{much}"), (better, worse, scenario, False, f"A0488{much}")]


def test_three_models_in_a_known_order(write_elo: WriteElo) -> None:
    comparisons = [
        row
        for scenario in ("1", "2")
        for row in (*both_orders("good", "fair", scenario), *both_orders("fair", "poor", scenario))
    ]
    table = recompute(write_elo(comparisons, {"good": 3, "fair": 2, "poor": 1}, errors=2))
    assert [(row.model, row.rank, row.recorded_rank) for row in table.rows] == [
        ("good", 1, 1), ("fair", 2, 2), ("poor", 3, 3)
    ]  # fmt: skip
    assert (table.comparisons, table.errors, table.pairs, table.scenarios, table.odd) == (10, 2, 4, 2, 0)
    assert (table.spearman, table.kendall, table.sequential_spearman) == (1, 1, 1)
    assert (table.agree, table.first_wins) == (1, 0.5)
    assert not table.anchored
    assert table.rows[1].rating == pytest.approx(1200)


def test_orders_that_contradict_each_other_are_a_draw(write_elo: WriteElo) -> None:
    comparisons = [("a", "b", "1", True, "A0493++"), ("b", "a", "1", True, "A0493++")]
    table = recompute(write_elo(comparisons, {"a": 1, "b": 2}))
    assert [row.rating for row in table.rows] == pytest.approx([1200, 1200])
    assert (table.agree, table.first_wins, table.spearman) == (0, 1, None)


def test_anchors_put_ratings_on_the_published_scale(write_elo: WriteElo) -> None:
    comparisons = both_orders(TOP, "middle", "1") + both_orders("middle", BOTTOM, "1")
    table = recompute(write_elo(comparisons, {TOP: 1500, "middle": 900, BOTTOM: 200}))
    assert table.anchored
    assert [row.rating for row in table.rows] == pytest.approx([1500, 850, 200])
    assert table.mean_difference == pytest.approx(50 / 3)


def test_the_order_of_the_records_changes_nothing(write_elo: WriteElo) -> None:
    comparisons = [row for n in "123" for row in (*both_orders("a", "b", n, "+"), *both_orders("b", "c", n))]
    ratings = {"a": 3.0, "b": 2.0, "c": 1.0}
    first = recompute(write_elo(comparisons, ratings))
    again = recompute(write_elo(comparisons[::-1], ratings))
    assert again.model_copy(update={"data": first.data}).model_dump_json() == first.model_dump_json()


def test_recorded_pluses_that_do_not_fit_the_verdict_are_counted(write_elo: WriteElo) -> None:
    folder = write_elo([("a", "b", "1", True, "A0493++")], {})
    path = folder / "elo_results_test.json.gz"
    document = json.loads(gzip.decompress(path.read_bytes()))
    document["__metadata__"]["global_pairwise_comparisons"][0] |= {"plus_for_test": 3, "plus_for_other": 0}
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert recompute(folder).odd == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "cannot be read"),
        (gzip.compress(b"[]"), "has no list"),
        (gzip.compress(b'{"__metadata__": {"global_pairwise_comparisons": []}}'), "no comparison has a verdict"),
        (gzip.compress(b'{"__metadata__": {"global_pairwise_comparisons": [{"pair": 1}]}}'), "comparison 1 is not one"),
    ],
    ids=["not gzip", "no list", "no verdict", "no comparison"],
)
def test_damage_is_said(eq_folder: Path, content: bytes, message: str) -> None:
    (eq_folder / "elo_results_x.json.gz").write_bytes(content)
    with pytest.raises(InputError, match=message):
        recompute(eq_folder)


def test_there_has_to_be_one_table(eq_folder: Path) -> None:
    with pytest.raises(InputError, match="holds 0 files"):
        recompute(eq_folder)


@needs(REAL)
def test_the_published_order_is_met() -> None:
    table = recompute(REAL)
    assert (table.comparisons, table.errors, table.odd, len(table.rows)) == (6452, 90, 0, 27)
    assert table.anchored
    assert table.spearman is not None
    assert table.spearman >= 0.998
    assert table.sequential_spearman is not None
    assert table.sequential_spearman >= 0.99
    assert table.mean_difference is not None
    assert table.mean_difference < 40


@needs(REAL)
def test_the_real_files_are_read() -> None:
    bench = read_eqbench(REAL)
    kinds = [scenario.kind for scenario in bench.scenarios]
    assert [kinds.count(kind) for kind in ("role-play", "drafting", "analysis")] == [25, 1, 20]
    assert (len(bench.acted.criteria), len(bench.analysis.criteria)) == (18, 6)
    assert (len(bench.acted.compared), len(bench.analysis.compared)) == (8, 8)


@needs(REAL)
def test_the_rubric_scores_of_a_published_report_are_met() -> None:
    (report,) = REAL.glob("report_*.html.gz")
    page = re.sub(r"(?s)<(script|style).*?</\1>", "", gzip.decompress(report.read_bytes()).decode())
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    found = re.findall(
        r"\| Score: ([\d.]+)(?:(?!\| Score: ).)*?Rubric Scores: Metric Score ((?:[a-z_]+ [\d.]+ )+)", text
    )
    assert len(found) > 40
    ours = []
    for published, table in found:
        cells = table.split()
        scores = {name: float(value) for name, value in zip(cells[::2], cells[1::2], strict=True)}
        kind = "analysis" if "theory_of_mind" in scores else "role-play"
        scenario = Scenario(scenario_id="1", category="", title="", kind=kind, turns=("x",))  # type: ignore[arg-type]
        score = rubric_score(scores, scenario)
        assert score is not None
        assert score == pytest.approx(float(published), abs=0.051)
        ours.append(score)
    overall = re.search(r"Rubric Score \(0-100\): ([\d.]+)", text)
    assert overall
    assert sum(ours) / len(ours) == pytest.approx(float(overall[1]), abs=0.3)
