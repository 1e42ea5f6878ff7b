"""The benchmark of published agreement: raw ratings are read as they came, and planted agreement of responders is found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from published_data import PUBLISHED, needs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RATED = PUBLISHED / "judge_agreement"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """Load the script, which finds `setting` beside itself."""
    path = BENCHMARKS / "judge_agreement.py"
    spec = importlib.util.spec_from_file_location("benchmark_judge_agreement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def write(path: Path, rows: list[tuple[str, str, str, str | None]]) -> Path:
    names = ("rater", "conv_id", "responder", "raw")
    path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows), encoding="utf-8")
    return path


def test_raw_ratings_are_read_and_never_mended(benchmark: ModuleType, tmp_path: Path) -> None:
    rows = [
        ("human", "1", "a", '{"Guidance": 3, "Safety": "5", "Empathy": 0, "Helpfulness": null, "Other": 2}'),
        ("claude", "1", "a", '```json\n{"Guidance": 4.5, "Safety": true}\n```'),
        ("claude", "2", "a", "I notice that there is no reply."),
        ("claude", "3", "a", None),
        ("claude", "4", "a", "[1, 2]"),
    ]
    ratings = benchmark.read_ratings(write(tmp_path / "r.jsonl", rows))
    assert ratings.by_rater["human"]["1", "a"] == {"Guidance": 3.0, "Safety": 5.0, "Empathy": 0.0}
    assert ratings.by_rater["claude"]["1", "a"] == {"Guidance": 4.5}
    assert (ratings.unread["claude"], ratings.unread["human"], ratings.outside["human"]) == (3, 0, 1)
    assert ratings.within_scale().by_rater["human"]["1", "a"] == {"Guidance": 3.0, "Safety": 5.0}


@pytest.mark.parametrize("truth", [0.2, 0.5, 0.9])
def test_planted_agreement_is_found_over_responders_and_over_replies(
    benchmark: ModuleType, tmp_path: Path, truth: float
) -> None:
    """The judge gives everything 0.5 more, and `own` is a responder that it rates against the people."""
    random = np.random.default_rng(7)
    rows: list[tuple[str, str, str, str | None]] = []
    for responder in range(400):
        level = random.normal() * truth**0.5
        noises = random.normal(size=2) * (1 - truth) ** 0.5
        for conversation in range(4):
            for rater, noise, shift in (("human", noises[0], 0.0), ("claude", noises[1], 0.5)):
                value = level + noise + shift + random.normal() * 1e-3
                rows.append((rater, str(conversation), f"m{responder}", json.dumps({"Empathy": value})))
    rows += [(rater, "1", "own", json.dumps({"Empathy": value})) for rater, value in (("human", 90), ("claude", -90))]
    ratings = benchmark.read_ratings(write(tmp_path / "r.jsonl", rows))
    found = benchmark.agreement(ratings, "Claude", "Empathy", rater="claude", own="own")
    assert (found.consistent.targets, found.replies) == (400, 1600)
    assert found.consistent.low <= truth <= found.consistent.high
    assert found.of_replies.value == pytest.approx(found.consistent.value, abs=0.02)
    assert found.absolute.value < found.consistent.value
    assert benchmark.agreement(ratings, "Claude", "Empathy", rater="claude", own=None).consistent.value < 0
    assert benchmark.agreement(ratings, "Claude", "Safety", rater="claude", own=None).consistent.value is None


def test_a_published_table_is_read_and_compared(benchmark: ModuleType) -> None:
    table = (
        "| **Judge** | **Type** | **Attribute** | **ICC(C,1)** | **95 % CI** | **ICC(A,1)** | **CI Width** | **Status** |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| One | Cognitive | Guidance | 0.5 | [0.1, 0.9] | 0.25 | 0.8 | poor |\n"
        "|  |  | Safety | **0.75** | [0.1, 0.9] | **-0.1** | 0.8 | poor |\n"
    )
    known = benchmark.published(table)
    assert known == {("One", "Guidance"): (0.5, 0.25), ("One", "Safety"): (0.75, -0.1)}


@pytest.mark.slow
@needs(RATED)
def test_the_published_table_is_reproduced(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratings, table = RATED / "mentalalign_ratings_raw.jsonl.gz", RATED / "published_icc.md"
    out = tmp_path / "figures.json"
    assert benchmark.main(["--ratings", str(ratings), "--published", str(table), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    apart = figures["differences"]["as published"]
    assert [len(gaps) for gaps in apart.values()] == [28, 28]
    assert max(abs(gap) for gaps in apart.values() for gap in gaps) < 0.004
    assert "largest difference" in capsys.readouterr().out
