"""What the tests of the summary and of the report share: the summary of artifacts, where only what matters to a test is named."""

from __future__ import annotations

from typing import Any

from peregrm.evaluation.summary import Artifacts, Summary, summarise

__all__ = ["summary_of"]


def summary_of(artifacts: Artifacts, **changes: Any) -> Summary:
    usual: dict[str, Any] = {"model": "model", "judge": "judge", "samples": 1, "known_order": (), "costs": {}}
    return summarise(artifacts, **{**usual, **changes})
