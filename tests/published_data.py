"""Published datasets, which are no part of a checkout: where they lie on this machine, and the mark of a test that reads one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["PUBLISHED", "needs"]

PUBLISHED = Path(os.environ.get("PEREGRM_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()


def needs(path: Path) -> pytest.MarkDecorator:
    """Skip the test where `path`, a file or folder under `PUBLISHED`, is not there."""
    name = path.relative_to(PUBLISHED)
    return pytest.mark.skipif(
        not path.exists(), reason=f"published dataset {name} is not on this machine (PEREGRM_TEST_DATA)"
    )
