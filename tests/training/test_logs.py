"""The log of a training run: one line a log of the trainer, numbers that are none, and a run that goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peregrm.errors import ArtifactError
from peregrm.models.base import Completion
from peregrm.models.ledger import Ledger, Price
from peregrm.records import Usage
from peregrm.training.clock import Clock
from peregrm.training.logs import LOG, Spent, TrainingLog, read_log, spent_by

LOGS = {
    "loss": 0.02,
    "grad_norm": 0.5,
    "learning_rate": 1e-6,
    "reward": 0.61,
    "reward_std": 0.1,
    "rewards/peregrm_shared/mean": 0.61,
    "kl": 0.003,
    "completions/mean_length": 87.5,
    "completions/clipped_ratio": 0.25,
    "peregrm/total": 0.61,
    "peregrm/resonation": 0.7,
    "peregrm/reception": 0.5,
    "peregrm/coverage": 0.9,
    "peregrm/failed": 0.125,
    "epoch": 0.5,
}


def log_of(folder: Path, spent: Spent | None = None) -> tuple[TrainingLog, list[str], Clock]:
    said: list[str] = []
    time = iter(range(1000))
    clock = Clock(now=lambda: float(next(time)))
    return TrainingLog(folder, said.append, clock, None if spent is None else lambda: spent), said, clock


def test_a_line_holds_what_was_logged_and_is_said(tmp_path: Path) -> None:
    log, said, clock = log_of(tmp_path, Spent(calls=12, input_tokens=300, output_tokens=30, cost=0.5))
    log.begin(0)
    clock.begin_step()  # at 0
    with clock.timed("generating"):  # 1 to 2
        pass
    with clock.timed("judging"):  # 3 to 4
        pass
    clock.end_step()  # at 5
    log.add(3, 0.5, 20, LOGS)
    (line,) = read_log(tmp_path)
    assert (line.kind, line.step, line.epoch, line.reward, line.kl) == ("step", 3, 0.5, 0.61, 0.003)
    assert line.dimensions == {"resonation": 0.7, "reception": 0.5}
    assert (line.coverage, line.failed, line.reply_tokens, line.cut_off) == (0.9, 0.125, 87.5, 0.25)
    assert line.judge == Spent(calls=12, input_tokens=300, output_tokens=30, cost=0.5)
    assert line.seconds is not None
    assert line.seconds.model_dump() == {"generating": 1, "judging": 1, "updating": 3, "steps": 5}
    assert line.more == {"rewards/peregrm_shared/mean": 0.61, "peregrm/total": 0.61}
    assert line.not_finite == ()
    (told,) = said
    assert told.startswith("step 3/20  reward 0.6100  resonation 0.700")
    assert "no reward for 12%" in told
    assert "88 tokens a reply (25% cut off)" in told
    assert "5.0 s (generating 1.0, judging 1.0, updating 3.0)" in told
    assert "12 judge calls, cost 0.5000" in told


def test_why_replies_have_no_reward_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    counts = iter([{"language": 16, "timeout": 1}, {}])
    log = TrainingLog(tmp_path, said.append, Clock(), failures=lambda: next(counts))
    log.begin(0)
    log.add(1, None, 2, LOGS)
    log.add(1, None, 2, {"held_out/total": 0.5})
    log.add(2, None, 2, {**LOGS, "peregrm/failed": 0.0})
    assert "no reward for 12% (language 16, timeout 1)" in said[0]
    assert [line.failures for line in read_log(tmp_path)] == [{"language": 16, "timeout": 1}, {}, {}]


def test_numbers_that_are_none_are_null_and_named(tmp_path: Path) -> None:
    log, said, _ = log_of(tmp_path)
    log.begin(0)
    log.add(1, None, 2, {"loss": math.nan, "grad_norm": math.inf, "reward": None, "peregrm/resonation": math.nan})
    raw = json.loads((tmp_path / LOG).read_text(), parse_constant=pytest.fail)
    assert raw["not_finite"] == ["grad_norm", "loss", "peregrm/resonation"]
    assert (raw["loss"], raw["grad_norm"], raw["reward"]) == (None, None, None)
    assert "NOT FINITE: grad_norm, loss, peregrm/resonation" in said[0]


def test_a_run_that_goes_on_drops_what_lies_past_its_checkpoint(tmp_path: Path) -> None:
    log, _, _ = log_of(tmp_path, Spent(calls=5, cost=None))
    log.begin(0)
    for step in (1, 2, 3):
        log.add(step, None, 4, {"loss": 0.1})
    with (tmp_path / LOG).open("a") as handle:
        handle.write('{"kind": "step", "ste')  # a kill in the middle of a line
    assert [line.step for line in read_log(tmp_path)] == [1, 2, 3]
    log, _, _ = log_of(tmp_path, Spent(calls=2, cost=1.0))
    log.begin(2)
    log.add(3, None, 4, {"loss": 0.2})
    lines = read_log(tmp_path)
    assert [(line.step, line.loss) for line in lines] == [(1, 0.1), (2, 0.1), (3, 0.2)]
    assert lines[-1].judge == Spent(calls=7, cost=None)  # what was asked past the checkpoint was asked all the same
    log.begin(0)
    assert read_log(tmp_path) == []


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"kind": "step", "step": 1}\nnonsense\n')
    with pytest.raises(ArtifactError, match=r"log\.jsonl:2"):
        read_log(tmp_path)


def test_a_line_that_cannot_be_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _, _ = log_of(tmp_path)
    log.begin(0)
    log.add(1, None, 4, {"loss": 0.1})
    opened = Path.open

    def full(self: Path, *args: Any) -> Any:
        handle = opened(self, *args)
        return FullDisk(handle)

    class FullDisk:
        def __init__(self, handle: Any) -> None:
            self.handle = handle

        def __enter__(self) -> Any:
            return SimpleNamespace(tell=self.handle.tell, truncate=self.handle.truncate, write=self.write, flush=None)

        def __exit__(self, *_: object) -> None:
            self.handle.close()

        def write(self, data: bytes) -> None:
            self.handle.write(data[:9])
            self.handle.flush()
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            log.add(2, None, 4, {"loss": 0.1})
    assert (tmp_path / LOG).read_text().count("\n") == 1
    log.add(2, None, 4, {"loss": 0.1})
    assert [line.step for line in read_log(tmp_path)] == [1, 2]


def test_other_logs_are_no_steps(tmp_path: Path) -> None:
    log, said, _ = log_of(tmp_path)
    log.begin(0)
    log.add(2, None, 4, {"held_out/total": 0.4, "note": "a text"})
    log.add(4, None, 4, {"train_runtime": 3.5})
    assert [(line.kind, line.more) for line in read_log(tmp_path)] == [
        ("evaluation", {"held_out/total": 0.4, "note": "a text"}),
        ("end", {"train_runtime": 3.5}),
    ]
    assert said == []


def test_what_judges_were_asked_comes_from_their_ledgers() -> None:
    priced, unpriced = Ledger({"j": Price(1.0, 2.0)}), Ledger()
    answer = Completion(text="", model="j", usage=Usage(calls=1, input_tokens=1_000_000, output_tokens=500_000))
    priced.record("j", "judge", answer)
    assert spent_by(priced) == Spent(calls=1, input_tokens=1_000_000, output_tokens=500_000, cost=2.0)
    assert spent_by(priced, unpriced).cost == 2.0
    unpriced.record("k", "judge", answer)
    assert spent_by(priced, unpriced).cost is None
    assert spent_by() == Spent()


def test_a_trainer_is_watched_from_outside() -> None:
    time = iter(range(1000))
    clock = Clock(now=lambda: float(next(time)))
    trainer = SimpleNamespace(
        _generate=lambda prompts: ([[1]] * 2, [[1, 2, 3], [4]], "rest"), _calculate_rewards=lambda *given: given
    )
    clock.watch(trainer)
    clock.watch(SimpleNamespace())  # one that has no such methods
    clock.begin_step()  # at 0
    assert trainer._generate(["a", "b"])[1] == [[1, 2, 3], [4]]
    assert trainer._calculate_rewards(7) == (7,)
    clock.end_step()
    assert clock.read() == ({"generating": 1.0, "judging": 1.0}, 5.0, 2, 4)
    assert clock.read() == ({}, 0.0, 0, 0)
