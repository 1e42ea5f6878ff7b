"""What goes wrong in group training: judges that go away, empty replies, losses that are none, full disks. Nothing corrupt is written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from group_parts import TINY, Logs, TopicReward, gone, same_weights, train, warnings_of, weights
from peregrm.errors import FailureBudgetExceeded, ModelAuthError, TrainingStopped
from peregrm.records import Case, Failure

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.careful import last_checkpoint  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated and will be removed in v6:FutureWarning",  # TRL asks transformers by an old name
)


@pytest.fixture(scope="module")
def usual(policy: Path, cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps in which nothing went wrong; every checkpoint but the first two is there."""
    folder = tmp_path_factory.mktemp("usual")
    train(folder, policy, cases, TopicReward(), max_steps=4, save_every=1)
    return folder / "checkpoints"


class AwayBetween:
    """Nobody answers from the `first` to before the `last` time it is asked."""

    def __init__(self, first: int, last: float) -> None:
        self.first, self.last, self.asked = first, last, 0

    def __call__(self, case: Case) -> Failure | None:
        self.asked += 1
        return gone() if self.first <= self.asked < self.last else None


def test_a_judge_that_was_away_for_a_while_changes_nothing(
    policy: Path, cases: list[Case], usual: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    away = AwayBetween(4, 20)
    last = train(tmp_path, policy, cases, TopicReward(away), max_steps=4, say=said.append)
    assert away.asked > 20
    assert len(said) == 2
    assert same_weights(last, usual / "checkpoint-4")


def test_a_judge_that_stays_away_stops_the_training_and_nothing_is_made_up(
    policy: Path, cases: list[Case], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two steps are judged. Then no weight changes until the budget is passed, and afterwards training goes on from there."""
    logs = Logs()
    with caplog.at_level(logging.WARNING), pytest.raises(FailureBudgetExceeded, match="the same command goes on"):
        train(
            tmp_path,
            policy,
            cases,
            TopicReward(AwayBetween(5, math.inf)),
            max_steps=50,
            wait_s=0.02,
            failure_budget=0.5,
            callbacks=[logs.callback()],
        )
    stopped = last_checkpoint(tmp_path / "checkpoints")
    assert stopped is not None
    assert stopped.name == "checkpoint-4"
    logged = [row for row in logs.rows if "loss" in row]
    assert [row["skipped_update"] for row in logged] == [0, 0, 1, 1]
    assert [row["reward"] is None for row in logged] == [False, False, True, True]
    two = train(tmp_path / "two", policy, cases, TopicReward(), max_steps=2)
    assert same_weights(stopped, two)
    assert not [one for one in caplog.records if "user0" in one.getMessage()]
    again = TopicReward()
    assert train(tmp_path, policy, cases, again, max_steps=6).name == "checkpoint-6"
    assert len(again.totals) == 2 * TINY.replies


def test_a_step_without_rewards_makes_no_noise_about_the_figures_it_lacks(
    policy: Path, cases: list[Case], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    reward = TopicReward(AwayBetween(3, math.inf))
    with warnings_of("transformers.integrations.integration_utils") as said:
        train(
            tmp_path,
            policy,
            cases,
            reward,
            max_steps=2,
            wait_s=0.0,
            failure_budget=1.0,
            report_to="tensorboard",
        )
    assert said == []


def test_a_group_without_rewards_is_left_out_and_the_rest_is_learned_from(
    policy: Path, cases: list[Case], tmp_path: Path
) -> None:
    logs = Logs()
    reward = TopicReward(lambda case: gone("unparsable") if case.user_id in ("user1", "user4", "user6") else None)
    last = train(tmp_path, policy, cases, reward, max_steps=4, failure_budget=1.0, callbacks=[logs.callback()])
    logged = [row for row in logs.rows if "loss" in row]
    assert sum(row["peregrm/failed"] for row in logged) == pytest.approx(1.5)
    assert all(math.isfinite(row["loss"]) for row in logged)
    assert all(value.isfinite().all() for value in weights(last).values())


def test_a_refused_key_stops_the_training_at_once(policy: Path, cases: list[Case], tmp_path: Path) -> None:
    asked: list[str] = []

    def refuse(case: Case) -> Failure | None:
        asked.append(case.id)
        if len(asked) > 3:
            raise ModelAuthError("key refused")
        return None

    with pytest.raises(ModelAuthError):
        train(tmp_path, policy, cases, TopicReward(refuse), max_steps=4, save_every=1)
    kept = last_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.name == "checkpoint-1"


@pytest.mark.parametrize("replies", ["all", "some"])
def test_replies_of_no_token_but_the_last_are_what_they_are(
    policy: Path, cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replies: str
) -> None:
    from transformers import LlamaForCausalLM

    write = LlamaForCausalLM.generate

    def silent(self: Any, **named: Any) -> Any:
        made = write(self, **named)
        length = named["input_ids"].shape[1]
        made[:: 1 if replies == "all" else 2, length:] = self.config.eos_token_id
        return made

    monkeypatch.setattr(LlamaForCausalLM, "generate", silent)
    logs = Logs()
    reward = TopicReward()
    last = train(tmp_path, policy, cases, reward, max_steps=2, callbacks=[logs.callback()])
    assert reward.texts.count("") >= len(reward.texts) / (1 if replies == "all" else 2)
    assert all(math.isfinite(row["loss"]) for row in logs.rows if "loss" in row)
    assert all(value.isfinite().all() for value in weights(last).values())


def breaking(steps: set[int], how: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return what makes the loss of these steps, counted from 0, be `how` of it."""

    def made(trainer: Any) -> None:
        compute = trainer.compute_loss

        def broken(*arguments: Any, **named: Any) -> Any:
            loss = compute(*arguments, **named)
            return how(loss) if trainer.state.global_step in steps else loss

        trainer.compute_loss = broken

    return made


@pytest.mark.parametrize("how", ["nan", "infinite", "gradient"])
def test_a_loss_that_is_none_changes_no_weight_and_training_goes_on(
    policy: Path, cases: list[Case], tmp_path: Path, how: str
) -> None:
    class Breaks(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, value: Any) -> Any:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient * math.inf

    ways: dict[str, Callable[[Any], Any]] = {
        "nan": lambda loss: loss * math.nan,
        "infinite": lambda loss: loss + math.inf,
        "gradient": Breaks.apply,
    }
    logs = Logs()
    last = train(
        tmp_path,
        policy,
        cases,
        TopicReward(),
        max_steps=4,
        save_every=1,
        callbacks=[logs.callback()],
        made=breaking({2}, ways[how]),
    )
    logged = [row for row in logs.rows if "loss" in row]
    assert [row["skipped_update"] for row in logged] == [0, 0, 1, 0]
    assert [math.isfinite(row["loss"]) for row in logged] == [True, True, how == "gradient", True]
    assert all(value.isfinite().all() for value in weights(last).values())
    before = train(tmp_path / "two", policy, cases, TopicReward(), max_steps=2)
    assert same_weights(tmp_path / "checkpoints" / "checkpoint-3", before)


def test_losses_that_stay_none_stop_the_training_with_good_weights(
    policy: Path, cases: list[Case], tmp_path: Path
) -> None:
    with pytest.raises(TrainingStopped, match="not finite in 3 steps in a row"):
        train(
            tmp_path,
            policy,
            cases,
            TopicReward(),
            max_steps=9,
            made=breaking(set(range(1, 9)), lambda loss: loss * math.nan),
        )
    stopped = last_checkpoint(tmp_path / "checkpoints")
    assert stopped is not None
    assert stopped.name == "checkpoint-4"
    assert all(value.isfinite().all() for value in weights(stopped).values())
    assert train(tmp_path, policy, cases, TopicReward(), max_steps=5).name == "checkpoint-5"


def full_disk(library: str) -> Exception:
    """Return what a library raises where a disk is full."""
    from safetensors import SafetensorError

    return {
        "os": OSError(28, "No space left on device"),
        "torch": RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        "safetensors": SafetensorError("I/O error: No space left on device (os error 28)"),
    }[library]


@pytest.mark.parametrize("library", ["os", "torch", "safetensors"])
def test_a_full_disk_takes_no_checkpoint_along(
    policy: Path, cases: list[Case], usual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Half of the third checkpoint is there when the disk is full; the second stands, and training goes on from it."""
    error = full_disk(library)
    if library == "torch":  # which does not say so
        monkeypatch.setattr("peregrm.training.grpo.checkpoints._FULL_BYTES", math.inf)

    def made(trainer: Any) -> None:
        write = trainer._save_optimizer_and_scheduler

        def fill(folder: str) -> None:
            if trainer.state.global_step == 3:
                (Path(folder) / "optimizer.pt").write_bytes(b"half")
                raise error
            write(folder)

        trainer._save_optimizer_and_scheduler = fill

    with pytest.raises(TrainingStopped) as told:
        train(tmp_path, policy, cases, TopicReward(), max_steps=4, save_every=1, made=made)
    assert "the disk is full" in str(told.value)
    assert "checkpoint-2 stands" in str(told.value)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-1", "checkpoint-2"]
    last = train(tmp_path, policy, cases, TopicReward(), max_steps=4, save_every=1)
    assert same_weights(last, usual / "checkpoint-4")


def test_weights_out_of_range_and_too_little_memory_are_told_plainly(
    policy: Path, cases: list[Case], tmp_path: Path
) -> None:
    def full(trainer: Any) -> None:
        def compute(*_: Any, **__: Any) -> Any:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

        trainer.compute_loss = compute

    with pytest.raises(TrainingStopped, match=r"step 1: there is not enough memory.*--at-once"):
        train(tmp_path / "memory", policy, cases, TopicReward(), max_steps=1, made=full)

    def wreck(trainer: Any) -> None:
        with torch.no_grad():
            trainer.model.lm_head.weight.fill_(math.nan)

    with pytest.raises(TrainingStopped, match="no probabilities any more"):
        train(tmp_path / "wrecked", policy, cases, TopicReward(), max_steps=1, made=wreck)
