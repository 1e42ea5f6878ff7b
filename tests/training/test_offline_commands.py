"""`peregrm train sft`, `dpo` and `reward` from beginning to end: own replies or given ones, a scalar judge, stops in between."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from offline_parts import BAD, GOOD, WORDS, prompts, same_weights, tiny
from peregrm.records import Case, Reply, Reward
from peregrm.store import read_records, write_records

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.cli import app  # noqa: E402
from peregrm.training.generation import write_replies  # noqa: E402
from peregrm.training.offline import samples  # noqa: E402
from peregrm.training.offline.classifier import classifier_of  # noqa: E402

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


def test_a_dry_run_writes_nothing(dataset: Path) -> None:
    said = command("dpo", dataset, "out", *judged(dataset), "--dry-run")
    plan = json.loads(command("dpo", dataset, "out", *judged(dataset), "--dry-run", "--json"))
    assert plan["replies_to_write"] == 3 * plan["prompts"]
    assert f"{plan['steps']} steps" in said
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
