"""Noise of repeats: known values and what has none."""

from __future__ import annotations

import numpy as np
import pytest

from peregrm.evaluation.inference.noise import repeat_noise


def test_known_values() -> None:
    """Two replies, two trials: within (0.5 + 0.5) / 2 = 0.5; between 2 * (4 + 4) / 1 = 16; of replies (16 - 0.5) / 2 = 7.75."""
    found = repeat_noise([[1.0, 2.0], [5.0, 6.0]], judge="j", measure="m")
    assert found.deviation == pytest.approx(np.sqrt(0.5))
    assert found.share == pytest.approx(0.5 / (7.75 + 0.5))
    assert (found.replies, found.trials) == (2, 4)


def test_planted_noise_is_recovered() -> None:
    chance = np.random.default_rng(0)
    groups = [list(chance.normal(chance.normal(0, 1.0), 0.5, size=4)) for _ in range(2000)]
    found = repeat_noise(groups, judge="j", measure="m")
    assert found.deviation == pytest.approx(0.5, abs=0.02)
    assert found.share == pytest.approx(0.25 / 1.25, abs=0.02)


def test_no_repeats_no_noise() -> None:
    found = repeat_noise([[1.0], []], judge="j", measure="m")
    assert (found.replies, found.deviation, found.share) == (0, None, None)
    assert repeat_noise([[1.0, 2.0]], judge="j", measure="m").share is None
    assert repeat_noise([[1.0, 1.0], [1.0, 1.0]], judge="j", measure="m").share is None
