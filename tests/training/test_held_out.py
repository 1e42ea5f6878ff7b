"""A policy looked at from outside while it trains: other users, another judge, files that resume, and a training that is left alone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilled_parts import TAUGHT
from held_out_parts import WordJudge, rows_of, watched_policy
from peregrm.errors import ModelAuthError, SettingsError
from peregrm.models.heads import SHIPPED_HEAD
from peregrm.models.local_judge import JUDGE_FILE
from peregrm.pipeline.reply_files import read_replies
from peregrm.records import Case, Failure
from peregrm.reward.adapters.trl import trl_reward
from peregrm.settings import Settings
from simulated_judges import many_cases

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.curves import CURVES  # noqa: E402
from peregrm.training.held_out import HeldOut, check_other_judge, held_out_callback  # noqa: E402
from peregrm.training.held_out_lines import HELD_OUT_REPLIES, read_held_out  # noqa: E402
from peregrm.training.logs import log_callback, read_log  # noqa: E402

CASES = many_cases(4, 2)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return watched_policy(tmp_path_factory.mktemp("policy"))


def held_out(policy: Any, folder: Path, judge: Any = None, **options: Any) -> tuple[HeldOut, list[str]]:
    said: list[str] = []
    return HeldOut(policy, rows_of(CASES), judge or WordJudge(), folder, 8, said.append, **options), said


def test_an_evaluation_says_what_it_rests_on(policy: Any, tmp_path: Path) -> None:
    reported: list[dict[str, float]] = []
    one, said = held_out(policy, tmp_path, beside=WordJudge("cat", "other"), report=reported.append)
    one.begin(0)
    line, beside = read_held_out(tmp_path)
    assert [(each.step, each.role, each.judge) for each in (line, beside)] == [
        (0, "held-out", "counter"),
        (0, "training", "other"),
    ]
    replies = read_replies(tmp_path / HELD_OUT_REPLIES, {case.id: case for case in CASES})
    assert {reply.policy for reply in replies} == {"step-0"}
    by_case = {reply.case_id: reply.text.split() for reply in replies}
    shares = [words.count("dog") / max(1, len(words)) for words in by_case.values()]
    total = line.measure("total")
    assert total is not None
    assert total.mean == pytest.approx(math.fsum(shares) / 8)
    assert (total.n, total.asked, total.users, line.cases) == (8, 8, 4, 8)
    assert {each.case_id: each.total for each in line.totals}.keys() == by_case.keys()
    assert line.measures[2][0] == "resonation"
    assert line.measure("tokens") == beside.measure("tokens")
    assert reported[0]["held_out/total"] == total.mean
    assert {"held_out/training_judge_total", "held_out/cut_off"} <= reported[0].keys()
    assert len(said) == 2
    assert said[0].startswith("held-out cases, step 0, counter (held-out judge): total 0.")
    one.close()
    one.close()


def test_a_run_that_goes_on_drops_what_lies_past_its_checkpoint(policy: Any, tmp_path: Path) -> None:
    first, _ = held_out(policy, tmp_path)
    first.begin(0)
    for step in (2, 4):
        assert len(first.evaluate(step)) == 1
    assert first.evaluate(4) == []
    judge = WordJudge()
    again, _ = held_out(policy, tmp_path, judge)
    again.begin(2)
    assert judge.asked == []
    assert [line.step for line in read_held_out(tmp_path)] == [0, 2]
    text = (tmp_path / HELD_OUT_REPLIES).read_text()
    assert ("step-2" in text, "step-4" in text) == (True, False)
    again.evaluate(4)
    assert [line.step for line in read_held_out(tmp_path)] == [0, 2, 4]
    assert (tmp_path / CURVES).read_text().count("<circle") == 3
    for one in (first, again):
        one.close()


def locked(case: Case) -> Failure | None:
    raise ModelAuthError("the key was refused")


def unread(case: Case) -> Failure | None:
    kind = Failure(stage="judge", kind="unparsable", reason="no verdict")
    return kind if case.user_id in ("en00", "en01") else None


@pytest.mark.parametrize(("broken", "n", "failures"), [(locked, 0, (("auth", 8),)), (unread, 4, (("unparsable", 4),))])
def test_a_judge_that_fails_leaves_its_cases_uncovered(
    policy: Any,
    tmp_path: Path,
    broken: Callable[[Case], Failure | None],
    n: int,
    failures: tuple[tuple[str, int], ...],
) -> None:
    one, said = held_out(policy, tmp_path, WordJudge(broken=broken))
    (line,) = one.evaluate(3)
    total = line.measure("total")
    assert total is not None
    assert (total.n, total.asked, line.failures) == (n, 8, failures)
    assert (total.mean is None) == (n == 0)
    assert f"{failures[0][1]} without a total: {failures[0][0]}" in said[0]
    one.close()


def test_flagged_cases_are_in_no_mean_with_the_others(policy: Any, tmp_path: Path) -> None:
    one, _ = held_out(policy, tmp_path)
    flagged = CASES[0].model_copy(update={"flags": ("self_harm",)})
    one.rows = rows_of([flagged, *CASES[1:]])
    (line,) = one.evaluate(1)
    total, apart = line.measure("total"), line.measure("flagged_total")
    assert total is not None
    assert apart is not None
    assert (total.asked, apart.asked, len(line.totals)) == (7, 1, 7)
    one.close()


def test_a_reward_that_compares_replies_is_refused(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="compares replies"):
        held_out(policy, tmp_path, WordJudge(method="listwise"))


def test_the_training_judge_may_not_look_at_held_out_cases() -> None:
    here, there = "qwen@http://127.0.0.1:1/v1", "qwen@http://127.0.0.1:2/v1"
    with pytest.raises(SettingsError, match="name a different one"):
        check_other_judge(["head", here], [here], Settings())
    (warning,) = check_other_judge([here], [there], Settings())
    assert "may be that of the training judge" in warning
    assert check_other_judge(["head"], [here], Settings()) == []


def test_a_judge_elsewhere_is_the_same_judge(tmp_path: Path) -> None:
    head = tmp_path / "copy.json"
    shutil.copy(SHIPPED_HEAD, head)
    with pytest.raises(SettingsError, match="name a different one"):
        check_other_judge(["head"], [f"head:{head}"], Settings())
    teacher = "qwen@http://127.0.0.1:1/v1"
    for name, base in (("one", "a"), ("copy", "a"), ("other", "b")):
        (tmp_path / name).mkdir()
        taught = TAUGHT.model_copy(update={"teacher": teacher, "base": base})
        (tmp_path / name / JUDGE_FILE).write_text(taught.model_dump_json())
    one, copy, other = (f"local:{tmp_path / name}" for name in ("one", "copy", "other"))
    with pytest.raises(SettingsError, match="name a different one"):
        check_other_judge([one], [copy], Settings())
    for training, outside in ((one, teacher), (teacher, one), (one, other)):
        (warning,) = check_other_judge([training], [outside], Settings())
        assert "one teacher" in warning
    assert check_other_judge([one], ["head"], Settings()) == []


def trained(folder: Path, *, watched: bool, resume: bool = False, steps: int = 4) -> Any:
    """Train a policy by TRL on a word; returns its weights."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    policy = watched_policy(folder / "policy")
    judge = WordJudge()
    log = log_callback(folder, lambda line: None)
    outside = held_out_callback(
        policy,
        rows_of(CASES[4:]),
        WordJudge("cat", "other"),
        every=2,
        folder=folder,
        max_new_tokens=8,
        say=lambda line: None,
    )
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=trl_reward(judge),
        train_dataset=Dataset.from_list(
            [{"prompt": row.chat, "case": row.case.model_dump_json()} for row in rows_of(CASES[:4])]
        ),
        args=GRPOConfig(
            output_dir=str(folder / "out"),
            max_steps=steps,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=8,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_steps=2,
            use_cpu=True,
            bf16=False,
            report_to="tensorboard",
            disable_tqdm=True,
        ),
        callbacks=[log, outside] if watched else [log],
    )
    log.clock.watch(trainer)
    outside.held_out.report = lambda values: super(GRPOTrainer, trainer).log(values)
    trainer.train(resume_from_checkpoint=resume or None)
    outside.held_out.close()
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_watching_changes_no_weight_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights with and without evaluations, and from a run that was stopped; every figure reaches the reporters."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    alone = trained(tmp_path / "alone", watched=False)
    watched = trained(tmp_path / "watched", watched=True)
    trained(tmp_path / "stopped", watched=True, steps=2)
    stopped = trained(tmp_path / "stopped", watched=True, resume=True)
    for name, weights in alone.items():
        assert torch.equal(weights, watched[name]), name
        assert torch.equal(weights, stopped[name]), name
    for folder in (tmp_path / "watched", tmp_path / "stopped"):
        lines = [line for line in read_log(folder) if line.kind == "step"]
        assert [line.step for line in lines] == [1, 2, 3, 4]
        assert all(
            line.reward is not None and line.coverage == 1.0 and "resonation" in line.dimensions for line in lines
        )
        assert all(line.seconds is not None and line.seconds.generating and line.tokens_per_second for line in lines)
        assert [line.step for line in read_held_out(folder)] == [0, 2, 4]
    whole, parts = (read_held_out(tmp_path / name) for name in ("watched", "stopped"))
    assert [line.totals for line in whole] == [line.totals for line in parts]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    tags: set[str] = set()
    for file in board.rglob("events*"):
        events = EventAccumulator(str(file))
        events.Reload()
        tags |= set(events.Tags()["scalars"])
    assert {"train/peregrm/total", "train/peregrm/resonation", "train/peregrm/coverage", "train/held_out/total"} <= tags
