"""What the folder of a group training binds, and what an earlier training that binds nobody must not leave to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from peregrm.errors import SettingsError
from peregrm.pipeline.training_folder import TrainingRun, begun
from peregrm.reward.options import RewardOptions
from peregrm.training.careful import MARK
from peregrm.training.grpo.settings import GroupSettings
from peregrm.training.grpo.trainer import CHECKPOINTS, REFERENCE

RUN = TrainingRun(
    model="gguf:model.gguf",
    weights="0123abcd",
    material="training-1",
    judges=("judge",),
    reward=RewardOptions(judges=("judge",)),
    settings=GroupSettings(),
)
OTHER = RUN.model_copy(update={"weights": "abcd0123"})


def test_the_reference_of_a_run_that_binds_nobody_is_not_the_next_ones(tmp_path: Path) -> None:
    assert begun(tmp_path, RUN) is None
    reference = tmp_path / REFERENCE / "model.safetensors"
    reference.parent.mkdir()
    reference.write_bytes(b"weights as they began")
    begun(tmp_path, RUN)
    assert reference.exists()  # the same run keeps it
    begun(tmp_path, OTHER)
    assert not reference.parent.exists()


def test_a_run_with_a_checkpoint_keeps_its_reference_and_refuses_another_model(tmp_path: Path) -> None:
    begun(tmp_path, RUN)
    reference = tmp_path / REFERENCE
    checkpoint = tmp_path / CHECKPOINTS / "checkpoint-1"
    for folder in (reference, checkpoint):
        folder.mkdir(parents=True)
    (checkpoint / MARK).touch()
    with pytest.raises(SettingsError, match="the model is another one"):
        begun(tmp_path, OTHER)
    assert reference.is_dir()
