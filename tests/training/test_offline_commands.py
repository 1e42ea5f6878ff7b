"""`peregrm train sft`, `dpo` and `reward` from beginning to end: own replies or given ones, a scalar judge, stops in between."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from offline_parts import BAD, GOOD, WORDS, prompts, same_weights, tiny
from peregrm.errors import SettingsError
from peregrm.records import Case, Reply, Reward
from peregrm.reward.rivals.scalar import Scalar
from peregrm.store import held_alone, read_records, write_records

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.cli import app  # noqa: E402
from peregrm.pipeline import training_offline  # noqa: E402
from peregrm.training.generation import Written, write_replies  # noqa: E402
from peregrm.training.logs import TrainingLog  # noqa: E402
from peregrm.training.offline import samples  # noqa: E402
from peregrm.training.offline.classifier import classifier_of  # noqa: E402
from peregrm.training.offline.samples import cut_off_samples  # noqa: E402
from peregrm.training.offline.tokens import Example  # noqa: E402
from training.conftest import tiny_policy  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is deprecated and will be removed in v6:FutureWarning"  # trl and peft ask transformers the old way
)

COMMON = ["--max-new-tokens", "8", "--setting", "generic", "--batch", "4", "--at-once", "2", "--learning-rate", "0.01"]


@pytest.fixture
def dataset(case: Case, tmp_path: Path) -> Path:
    """Twelve cases of as many users, and a policy and a classifier of random weights beside them."""
    write_records(tmp_path / "cases.jsonl", [row.case for row in prompts(case, 12)])
    policy = tiny(tmp_path / "base", context=2048)
    made = classifier_of(policy, None, seed=5)
    made.model.save_pretrained(tmp_path / "scalar")
    made.tokenizer.save_pretrained(tmp_path / "scalar")
    return tmp_path / "cases.jsonl"


def command(name: str, dataset: Path, out: str, *more: str, code: int = 0) -> str:
    root = dataset.parent
    arguments = ["train", name, str(dataset), "--model", str(root / "base"), "-o", str(root / out), *COMMON, *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return f"{done.output}{done.exception or ''}"


def judged(dataset: Path) -> tuple[str, ...]:
    return ("--judge", f"scalar:{dataset.parent / 'scalar'}", "--reward", "scalar", "--rollouts", "3")


def test_the_best_of_the_policys_own_replies_is_learned_from(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = command("sft", dataset, "out", *judged(dataset))
    out = dataset.parent / "out"
    assert f"The policy: {out / 'policy'}" in said
    replies = read_records(out / "samples.jsonl", Reply)
    totals: dict[str, dict[str, float]] = defaultdict(dict)
    for reward in read_records(out / "scores.jsonl", Reward):
        assert reward.total is not None
        totals[reward.case_id][reward.reply_id] = reward.total
    assert {len(each) for each in totals.values()} == {3}
    assert {reply.id for reply in replies} == {name for each in totals.values() for name in each}
    rows = [json.loads(line) for line in (out / "chosen.jsonl").read_text().splitlines()]
    assert rows
    assert all(row["total"] == max(totals[row["case_id"]].values()) for row in rows)
    assert all(row["worst"] is None for row in rows)
    monkeypatch.setattr(samples, "write_replies", None)  # nobody writes again
    assert command("sft", dataset, "out", *judged(dataset)).endswith(f"The policy: {out / 'policy'}\n")
    assert "another temperature" in command("sft", dataset, "out", *judged(dataset), "--temperature", "0.5", code=1)


def test_sampling_that_was_stopped_goes_on(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_PROMPTS", 3)
    command("dpo", dataset, "whole", *judged(dataset))
    asked: list[int] = []

    def write(*arguments: Any, **named: Any) -> Any:
        asked.append(len(arguments[1]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return write_replies(*arguments, **named)

    monkeypatch.setattr(samples, "write_replies", write)
    assert "stopped" in command("dpo", dataset, "parts", *judged(dataset), code=130)
    assert not (dataset.parent / "parts" / "samples.jsonl").exists()
    command("dpo", dataset, "parts", *judged(dataset))
    whole, parts = (dataset.parent / name for name in ("whole", "parts"))
    assert (whole / "samples.jsonl").read_bytes() == (parts / "samples.jsonl").read_bytes()
    assert same_weights(whole / "policy", parts / "policy")
    assert asked == [3, 3, 3, 3, 1]  # ten prompts in parts of three; the third part was stopped and written again


def test_a_training_that_began_keeps_what_was_chosen(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that would say something else now, or nothing at all, does not stop a run from going on; other weights do."""
    command("sft", dataset, "out", *judged(dataset))
    out = dataset.parent / "out"
    chosen = (out / "chosen.jsonl").read_bytes()
    for lost in ("result.json", "scores.jsonl", "calls.sqlite"):
        (out / lost).unlink(missing_ok=True)

    async def score(self: Any, case: Case, replies: Any) -> Any:
        raise AssertionError("nobody is asked again")

    monkeypatch.setattr(Scalar, "score", score)
    command("sft", dataset, "out", *judged(dataset))
    assert (out / "result.json").exists()
    assert (out / "chosen.jsonl").read_bytes() == chosen
    tiny_policy(dataset.parent / "base", WORDS, context=2048, seed=7)
    assert "another weights" in command("sft", dataset, "out", *judged(dataset), code=1)


def test_a_reply_that_was_cut_off_is_learned_without_an_end(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Example] = []
    real = training_offline.train_sft

    def watched(policy: Any, examples: list[Example], *rest: Any) -> Any:
        seen.extend(examples)
        return real(policy, examples, *rest)

    monkeypatch.setattr(training_offline, "train_sft", watched)
    monkeypatch.setattr(samples, "write_replies", half_cut_off)
    said = command("sft", dataset, "out", *judged(dataset))
    out = dataset.parent / "out"
    cut_off = cut_off_samples(out)
    chosen = [json.loads(line)["best"] in cut_off for line in (out / "chosen.jsonl").read_text().splitlines()]
    assert 0 < sum(chosen) < len(chosen)
    end = tiny(dataset.parent / "base").tokenizer.eos_token_id
    assert [made.reply[-1] != end for made in seen] == chosen
    assert f"{sum(chosen)} of the replies were cut off" in said


def half_cut_off(policy: Any, rows: Any, *, name: str, samples: int, **_: Any) -> list[Written]:
    """Write replies of which those to every second prompt were cut off."""
    return [
        Written(row.case, Reply(case_id=row.case.id, policy=f"{name}-{n + 1}", text=text), place % 2 == 0)
        for place, row in enumerate(rows)
        for n, text in zip(range(samples), (GOOD, BAD, "rest now"), strict=True)
    ]


def test_given_replies_with_ranks_need_no_judge(dataset: Path) -> None:
    cases = read_records(dataset, Case)
    rows = []
    for n, case in enumerate(cases):
        ranks = (1, 2) if n % 4 else (1, 1)
        rows += [
            {"case_id": case.id, "policy": name, "text": text, "rank": rank}
            for (name, text), rank in zip((("gold good", GOOD), ("gold bad", BAD)), ranks, strict=True)
        ]
    given = dataset.with_name("given.jsonl")
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = command("dpo", dataset, "out", "--replies", str(given), "--epochs", "2")
    assert "cases whose replies are all equally good" in said
    assert "replies to cases that are not trained on" in said
    assert not (dataset.parent / "out" / "samples.jsonl").exists()
    result = json.loads((dataset.parent / "out" / "result.json").read_text())
    assert result["figures"]["margin_after"] > result["figures"]["margin_before"]
    for row in rows:
        del row["rank"]
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "name a judge" in command("sft", dataset, "other", "--replies", str(given), code=1)
    assert "name a judge" in command("sft", dataset, "other", code=1)


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_two_trainings_do_not_work_in_one_folder(dataset: Path, name: str) -> None:
    out = dataset.parent / "out"
    with held_alone(out):
        assert "another command is at work here" in command(name, dataset, "out", *judged(dataset), code=1)
        assert not list(out.iterdir())


def test_a_log_that_cannot_be_written_names_the_checkpoint(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = TrainingLog._append

    def full(self: TrainingLog, text: str) -> None:
        if '"step":3,' in text:
            raise OSError(28, "No space left on device")
        write(self, text)

    monkeypatch.setattr(TrainingLog, "_append", full)
    arguments = (*judged(dataset), "--save-every", "1", "--epochs", "3")
    told = command("sft", dataset, "out", *arguments, code=1)
    assert "a file could not be written: the disk is full" in told
    assert "checkpoint-2 stands" in told


def test_a_dry_run_writes_nothing(dataset: Path) -> None:
    said = command("dpo", dataset, "out", *judged(dataset), "--dry-run")
    plan = json.loads(command("dpo", dataset, "out", *judged(dataset), "--dry-run", "--json"))
    assert plan["replies_to_write"] == 3 * plan["prompts"]
    assert f"{plan['steps']} steps" in said
    both = command("dpo", dataset, "out", *judged(dataset), "--judge", "head", "--dry-run", code=2)
    assert "a reward of its own" in " ".join(both.split())
    assert not (dataset.parent / "out").exists()


def test_a_reward_model_is_trained_and_used(dataset: Path) -> None:
    rows = [
        {
            "id": f"p{n}",
            "context": f"hello my friend {WORDS[n % 9]}",
            "a": GOOD,
            "b": BAD,
            "better": "a",
            "user": f"u{n % 8}",
        }
        for n in range(24)
    ]
    pairs = dataset.with_name("pairs.jsonl")
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    root = dataset.parent
    arguments = [
        "train",
        "reward",
        str(pairs),
        "--model",
        str(root / "base"),
        "-o",
        str(root / "rm"),
        "--licence",
        "CC0",
    ]
    assert "0 calls" in CliRunner().invoke(app, [*arguments, "--dry-run"]).output
    assert not (root / "rm").exists()
    done = CliRunner().invoke(app, [*arguments, "--batch", "4", "--at-once", "4", "--learning-rate", "0.02"])
    assert done.exit_code == 0, done.output
    assert "all pairs" in done.output
    assert "longer wins" in done.output
    command(
        "sft", dataset, "out", "--judge", f"scalar:{root / 'rm' / 'model'}", "--reward", "scalar", "--rollouts", "2"
    )


def test_ppo_learns_from_a_scalar_reward_model(dataset: Path) -> None:
    root = dataset.parent
    arguments = ["train", "ppo", str(dataset), "--model", str(root / "base"), "--judge", f"scalar:{root / 'scalar'}"]
    sizes = ["--rollouts", "2", "--batch", "2", "--updates", "2", "--max-steps", "2", "--max-new-tokens", "8"]
    done = CliRunner().invoke(app, [*arguments, *sizes, "-o", str(root / "ppo"), "--learning-rate", "0.01"])
    assert done.exit_code == 0, f"{done.output}{done.exception or ''}"
    assert (root / "ppo" / "policy" / "model.safetensors").exists()
    assert (root / "ppo" / "checkpoints" / "checkpoint-4" / "critic.pt").exists()
    assert json.loads((root / "ppo" / "result.json").read_text())["steps"] == 2


@pytest.mark.parametrize("name", ["sft", "reward", "judge"])
def test_flags_that_make_no_sense_are_one_line(name: str, tmp_path: Path) -> None:
    common = ["train", name, str(tmp_path), "--model", "embedded", "-o", str(tmp_path / "out"), "--dry-run"]
    for flags, says in (
        (["--learning-rate", "-1"], "learning_rate"),
        (["--at-once", "3", "--batch", "2"], "does not divide"),
    ):
        done = CliRunner().invoke(app, [*common, *flags])
        assert isinstance(done.exception, SettingsError)
        assert says in str(done.exception)
