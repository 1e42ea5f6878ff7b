"""The benchmark of building at scale runs, counts every call, and its model's answers pass every gate; how fast it was is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "build_scale.py"


@pytest.mark.slow
def test_two_sizes_are_built_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    arguments = ["--sizes", "2", "5", "--latency", "0.01", "--in-flight", "4", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(out.read_text(encoding="utf-8"))
    for build, histories in zip(figures["builds"], (2, 5), strict=True):
        assert (build["histories"], build["cases"], build["calls"]) == (histories, histories, 5 * histories)
        assert 1 <= build["most_in_flight"] <= 4
        assert build["peak_megabytes"] > 20
        assert build["ideal"] == pytest.approx(5 * 0.01 * max(1, histories / 4))
    assert [goal["name"] for goal in figures["goals"]] == [
        "overhead, local, 5 histories",
        "time of a history, local, 5 : 2",
    ]
