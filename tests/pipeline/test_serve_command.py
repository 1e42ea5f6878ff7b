"""`peregrm serve`: what the flags say is what the application is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peregrm.dataset.safety import look_at
from peregrm.reward.guards import Guards


def test_the_flags_reach_the_application(
    finished: Any, server: Any, here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr("peregrm.reward.server.app.create_app", lambda reward, **given: made.append((reward, given)))
    monkeypatch.setattr("peregrm.reward.server.run.serve", lambda *_: None)
    ended = here(
        "serve", "--reward", "shared", "--judge", server.spec, "--dataset", finished.out, "--no-reply-score", "-0.5",
        "--dimensions", "humour", "--length-penalty", "0.01", "--length-limit", "100", "--sycophancy-penalty", "0.2",
    )  # fmt: skip
    assert ended.code == 0, ended.stderr
    ((reward, given),) = made
    assert given["no_reply_score"] == -0.5
    assert given["look"] is look_at
    assert len(given["cases"]) == 3
    assert [dimension.name for dimension in reward.dimensions] == ["timing", "taste", "kindness"]
    assert reward.guards == Guards(length_limit=100, length_coefficient=0.01, sycophancy_coefficient=0.2)


def test_a_score_that_is_no_number_is_refused(server: Any, here: Callable) -> None:
    ended = here("serve", "--reward", "shared", "--judge", server.spec, "--no-reply-score", "nan")
    assert ended.code == 1
    assert "not a finite number" in ended.stderr
