"""Which cluster the Ray engine joins: one that is there, or none where the last one only left its address behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from peregrm.pipeline.ray_engine import cluster_address


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_without_a_note_or_with_a_cluster_there_ray_looks_by_itself(tmp_path: Path) -> None:
    assert cluster_address(tmp_path / "none") is None
    with socket.create_server(("127.0.0.1", 0)) as there:
        (tmp_path / "noted").write_text(f"127.0.0.1:{there.getsockname()[1]}\n")
        assert cluster_address(tmp_path / "noted") is None


@pytest.mark.parametrize("noted", ["127.0.0.1:9", "127.0.0.1", "", "127.0.0.1:x", "[::1]:9"])
def test_a_cluster_that_is_gone_is_not_waited_for(tmp_path: Path, noted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noted").write_text(noted)
    assert cluster_address(tmp_path / "noted") == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address(tmp_path / "noted") is None, "what the user says is not looked at twice"
