"""`peregrm train grpo` from end to end: a dataset, a judge behind HTTP, a tiny policy; stopped, killed, repeated, changed, planned."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from group_parts import WORDS, same_weights, topic_cases
from peregrm.cli import main
from peregrm.errors import ArtifactError
from peregrm.models.cache import CallCache
from peregrm.records import Reply
from peregrm.store import held_alone, read_records, replace_text, write_records

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.careful import last_checkpoint  # noqa: E402
from peregrm.training.held_out import read_held_out  # noqa: E402
from peregrm.training.logs import TrainingLog, read_log  # noqa: E402
from peregrm.training.policies import load_policy  # noqa: E402
from pipeline.conftest import SchemaServer, servers  # noqa: E402
from stored_calls import stored_answers  # noqa: E402
from training.conftest import tiny_policy  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated and will be removed in v6:FutureWarning",  # TRL asks transformers by an old name
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaServer]:
    with servers(tmp_path_factory.mktemp("server")) as start:
        yield start()


@pytest.fixture(scope="module")
def dataset(make_memory: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_records(folder / "cases.jsonl", topic_cases(make_memory, 20))
    return folder


@pytest.fixture
def command(dataset: Path, policy: Path, server: SchemaServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command in this process and return its exit code."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)

    def run(out: Path, *more: str, dataset: Path = dataset, **changed: str) -> int:
        try:
            main(arguments(dataset, policy, server, out, *more, **changed))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def arguments(
    dataset: Path, policy: Path, server: SchemaServer, out: Path, *more: str, algorithm: str = "grpo", **changed: str
) -> list[str]:
    flags = {
        "model": str(policy),
        "judge": server.spec,
        "rollouts": "4",
        "batch": "2",
        "max-new-tokens": "6",
        "learning-rate": "0.005",
        "setting": "generic",
        "criteria": "composed",
        "max-steps": "3",
        "save-every": "1",
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    named = [text for name, value in flags.items() for text in (f"--{name}", value)]
    return ["train", algorithm, str(dataset), "-o", str(out), *named, *more]


def test_a_run_leaves_a_policy_and_what_it_rests_on(
    command: Callable[..., int], server: SchemaServer, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    other = server.spec.replace("scripted@", "other@")
    assert command(out, held_out_judge=other, eval_every="2") == 0
    said = capsys.readouterr()
    assert f"{out / 'policy'}: 3 steps" in said.out
    assert "cases to train on, 0 flagged ones withheld" in said.err
    assert said.err.count("\nstep ") == 3
    there = {path.name for path in out.iterdir()}
    assert there >= {"policy", "run.json", "log.jsonl", "checkpoints", "calls.sqlite", "ledger.json", "held_out.jsonl"}
    trained = load_policy(str(out / "policy"))
    assert trained.context == 512
    assert trained.model.generation_config.eos_token_id == [trained.tokenizer.eos_token_id], "what it learned to end at"
    steps = [line for line in read_log(out) if line.kind == "step"]
    assert [line.step for line in steps] == [1, 2, 3]
    assert all(line.reward is not None and set(line.dimensions) >= {"resonation"} for line in steps)
    assert steps[-1].judge is not None
    assert steps[-1].judge.calls > 0
    seen = {(line.step, line.role, line.judge.partition("@")[0]) for line in read_held_out(out)}
    judges = (("held-out", "other"), ("training", "scripted"))
    assert seen == {(step, role, judge) for step in (0, 2, 3) for role, judge in judges}
    (session,) = json.loads((out / "ledger.json").read_text())["sessions"]
    assert sum(row["fresh_calls"] for row in session["calls"]) == steps[-1].judge.calls

    asked = len(server.starts())
    assert command(out, held_out_judge=other) == 0
    assert "there is nothing to do" in capsys.readouterr().err
    assert command(out, max_steps="5") == 0
    assert "going on from" in capsys.readouterr().err
    assert [line.step for line in read_log(out) if line.kind == "step"] == [1, 2, 3, 4, 5]
    assert len(json.loads((out / "ledger.json").read_text())["sessions"]) == 2
    assert asked < len(server.starts())


def test_a_step_of_ppo_is_a_batch_whatever_the_updates_on_it(
    command: Callable[..., int], server: SchemaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, flags = tmp_path / "run", {"algorithm": "ppo", "updates": "3", "eval_every": "2", "save_every": "2"}
    flags["held_out_judge"] = server.spec.replace("scripted@", "other@")
    assert command(out, max_steps="2", **flags) == 0
    assert "\nstep 2/2 " in capsys.readouterr().err
    assert command(out, max_steps="4", **flags) == 0
    assert json.loads((out / "result.json").read_text())["steps"] == 4
    lines = [line for line in read_log(out) if line.kind == "step"]
    assert [line.step for line in lines] == [1, 2, 3, 4]
    assert all("critic/error" in line.more for line in lines)
    assert {line.step for line in read_held_out(out)} == {0, 2, 4}
    assert {row.policy for row in read_records(out / "held_out_replies.jsonl", Reply)} == {"step-0", "step-2", "step-4"}


def test_a_model_that_was_changed_in_its_place_is_another_one(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_policy(tmp_path / "model", WORDS)
    assert command(tmp_path / "run", model=str(model), max_steps="1") == 0
    tiny_policy(model, WORDS, seed=1)
    capsys.readouterr()
    assert command(tmp_path / "run", model=str(model), max_steps="2") == 1
    assert "the model is another one" in capsys.readouterr().err


def test_another_training_is_not_mixed_into_a_folder(
    command: Callable[..., int], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert command(out, max_steps="1") == 0
    before = (out / "run.json").read_bytes()
    capsys.readouterr()
    for more, changed, named in (
        ((), {"learning_rate": "0.1"}, "learning_rate 0.005, not 0.1"),
        ((), {"seed": "7"}, "seed 0, not 7"),
        (("--lora",), {}, "lora"),
        ((), {"reward": "holistic"}, "reward 'shared', not 'holistic'"),
        ((), {"algorithm": "rloo"}, "algorithm 'grpo', not 'rloo'"),
    ):
        assert command(out, *more, **changed) == 1
        told = capsys.readouterr().err
        assert "holds another training" in told
        assert named in told
    assert (out / "run.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{}")
    assert command(tmp_path / "other") == 1
    assert "is not of such a training" in capsys.readouterr().err


def test_what_makes_no_sense_is_refused_before_anything_is_loaded(
    command: Callable[..., int], server: SchemaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, changed, named in (
        ((), {"held_out_judge": server.spec}, "it cannot show that training went wrong"),
        ((), {"at_once": "3"}, "name a divisor"),
        (("--judge", "scalar:there"), {}, "no other judge goes with it"),
        ((), {"setting": "history"}, "input should be 'generic', 'memories' or 'personalized'"),
        ((), {"max_new_tokens": "512"}, "no room for a prompt"),
        ((), {"reward": "nothing"}, "there is no reward 'nothing'"),
        ((), {"report_to": "wandb"}, "report_to"),
        ((), {"learning_rate": "0"}, "learning_rate: input should be greater than 0"),
    ):
        assert command(tmp_path / "run", *more, **changed) != 0
        assert named in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_it_reports_to_must_be_there_before_anything_is_loaded(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peregrm.pipeline.training._REPORTING", {"trackio": ("no_such_package",)})
    for more in ((), ("--dry-run",)):
        assert command(tmp_path / "run", *more, report_to="trackio") == 1
        assert "--report-to trackio: that is not installed: pip install no_such_package" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_trainings_do_not_work_in_one_folder(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with held_alone(out):
        assert command(out) == 1
    assert "another command is at work here" in capsys.readouterr().err
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", ["ledger.json", "log.jsonl", "calls.sqlite"])
def test_a_full_disk_names_the_checkpoint_whatever_could_not_be_written(
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    out = tmp_path / "run"
    no_room: Exception = OSError(28, "No space left on device")

    def full(write: Callable[..., None]) -> Callable[..., None]:
        def fails(*given: Any) -> None:
            if (out / "checkpoints" / "checkpoint-2").exists():
                raise no_room
            write(*given)

        return fails

    if name == "log.jsonl":
        monkeypatch.setattr(TrainingLog, "_append", full(TrainingLog._append))
    elif name == "calls.sqlite":
        no_room = ArtifactError(f"{out / name}: cannot be used as a call cache: database or disk is full")
        monkeypatch.setattr(CallCache, "put_all", full(CallCache.put_all))
    else:
        monkeypatch.setattr("peregrm.pipeline.training_folder.replace_text", full(replace_text))
    assert command(out) == 1
    told = capsys.readouterr().err
    assert (
        f"{out}: a file could not be written: the disk is full. {out / 'checkpoints' / 'checkpoint-2'} stands" in told
    )


def test_why_a_judge_declines_is_in_the_log_and_on_the_console(
    command: Callable[..., int],
    make_memory: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    strange = [case.model_copy(update={"language": "de"}) for case in topic_cases(make_memory, 8)]
    write_records(tmp_path / "strange" / "cases.jsonl", strange)
    out = tmp_path / "run"
    assert command(out, dataset=tmp_path / "strange", judge="head", max_steps="1") == 0
    assert "no reward for 100% (language 8)" in capsys.readouterr().err
    (line,) = [line for line in read_log(out) if line.kind == "step"]
    assert line.failures == {"language": 8}


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    command: Callable[..., int], server: SchemaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = len(server.starts())
    assert command(tmp_path / "run", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["training"]["steps"], plan["training"]["replies"]) == (3, 24)
    assert plan["memory_peak"] > 0
    assert sum(row["calls"] for row in plan["calls"]) > 24
    assert command(tmp_path / "run", "--dry-run") == 0
    assert "3 steps" in capsys.readouterr().out
    assert command(tmp_path / "run", "--dry-run", held_out_judge=server.spec) == 1
    assert "gives the training reward" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert len(server.starts()) == asked


@pytest.mark.slow
def test_a_judge_that_is_stopped_and_started_again_is_waited_for(
    command: Callable[..., int], dataset: Path, policy: Path, tmp_path: Path
) -> None:
    """Its server is gone in the middle of a step and comes back; then the weights are those of a run in which it was always there."""
    with servers(tmp_path) as start:
        server = start()
        settings = tmp_path / "settings.toml"
        url = f"http://127.0.0.1:{server.port}/v1"
        settings.write_text(f'[models.scripted]\nmodel = "scripted"\nbase_url = "{url}"\nretries = 0\n')
        asked = {"judge": "scripted", "config": str(settings)}
        assert command(tmp_path / "whole", **asked) == 0
        half = len(server.starts()) // 2
        server.log.unlink()
        server.hold_at(half)
        run = [sys.executable, "-m", "peregrm.cli", *arguments(dataset, policy, server, tmp_path / "left", **asked)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True)
        assert process.stderr is not None
        while len(set(server.starts())) <= half:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        server.stop()
        assert any("training waits up to" in line for line in process.stderr), "until it is said, or the process ends"
        server.hold_at(None)
        start(port=server.port)
        told = process.communicate()[1]
        assert process.returncode == 0, told
        assert "the judge answers again" in told
    ends = [last_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "left")]
    assert ends[0] is not None
    assert ends[1] is not None
    assert same_weights(ends[0], ends[1])


@pytest.mark.slow
def test_a_trainer_that_is_killed_again_and_again_ends_as_one_that_was_not(
    command: Callable[..., int], dataset: Path, policy: Path, tmp_path: Path
) -> None:
    """Killed while its judge is asked; then the weights are those of a run that went through, and no answered call was repeated."""
    with servers(tmp_path) as start:
        server = start(delay=0.01)
        assert command(tmp_path / "whole", judge=server.spec) == 0
        whole = server.starts()
        assert len(whole) == len(set(whole))
        server.log.unlink()
        killed = tmp_path / "killed"
        run = [sys.executable, "-m", "peregrm.cli", *arguments(dataset, policy, server, killed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        known: list[set[str]] = []
        for share in (0.2, 0.8):
            server.hold_at(math.ceil(share * len(whole)))
            process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
            while len(set(server.starts())) < share * len(whole):
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            known.append(stored_answers(killed))
        server.hold_at(None)
        assert command(killed, judge=server.spec) == 0
    ends = [last_checkpoint(folder / "checkpoints") for folder in (tmp_path / "whole", killed)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert same_weights(ends[0], ends[1])
    assert known[0] <= known[1] <= stored_answers(killed)
    assert stored_answers(killed) == stored_answers(tmp_path / "whole")
