"""The tasks for Inspect, run by its own command: the same scores as `peregrm evaluate` on the same replies, and a log that reads well."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from peregrm.evaluation.evaluate import measure_bounds, value_of
from peregrm.evaluation.evaluation import Evaluation
from peregrm.records import Case, Criteria, Reply, Reward
from peregrm.replies import policy_messages
from peregrm.store import read_records, write_records

pytestmark = pytest.mark.slow
pytest.importorskip("inspect_ai", reason="needs the extra eval")

DIMENSIONS = ("resonation", "expression", "reception")
MEASURES = (*DIMENSIONS, "empathy", "arithmetic", "bystander", "total")


class Dataset(NamedTuple):
    folder: Path
    cases: list[Case]

    @property
    def plain(self) -> list[Case]:
        return [case for case in self.cases if not case.flags]


@pytest.fixture
def dataset(case: Case, tmp_path: Path) -> Dataset:
    """Six cases of three users, one of them flagged; no criteria yet."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    fields = case.model_dump(exclude={"id"})
    cases = [
        Case.model_validate({**fields, "user_id": f"u{n % 3}", "query": f"{case.query} ({n})", "flags": flags})
        for n, flags in enumerate([()] * 5 + [("self_harm",)])
    ]
    write_records(folder / "cases.jsonl", cases)
    return Dataset(folder, cases)


@pytest.fixture
def inspect(tmp_path: Path, server: Any) -> Callable[..., Any]:
    """Run a task by Inspect's command and return its log."""

    def run(task: str, model: str, **arguments: object) -> Any:
        logs = tmp_path / "logs" / str(len(list(tmp_path.glob("logs/*"))))
        told = [part for name, value in arguments.items() for part in ("-T", f"{name}={value}")]
        said = command(server, "eval", f"peregrm/{task}", "--model", model, *told, "--log-dir", str(logs))
        found = list(logs.glob("*.eval"))
        assert len(found) == 1, said
        return read(found[0])

    return run


def command(server: Any, *arguments: str) -> str:
    """Run Inspect's command, with the server as the provider `openai-api/local`, and return all it said."""
    base = server.spec.partition("@")[2]
    done = subprocess.run(
        [sys.executable, "-m", "inspect_ai", *arguments, "--display", "plain"],
        env={**os.environ, "LOCAL_API_KEY": "none", "LOCAL_BASE_URL": base},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Unclosed" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def read(path: Path) -> Any:
    from inspect_ai.log import read_eval_log

    return read_eval_log(str(path))


def value(score: Any, name: str) -> float | None:
    number = score.value[name]
    return None if math.isnan(number) else number


def metrics(log: Any, name: str) -> Any:
    (found,) = [score for score in log.results.scores if score.name == name]
    return found


def number(found: Any, name: str) -> float | None:
    read = found.metrics[f"peregrm/{name}"].value
    return None if math.isnan(read) else read


def check_same_as_evaluate(log: Any, out: Path, cases: list[Case]) -> None:
    """Every score, mean and interval of a log is that of an evaluation, to the last bit."""
    rewards = {reward.case_id: reward for reward in read_records(out / "rewards.jsonl", Reward)}
    samples = {sample.id: sample for sample in log.samples}
    assert set(samples) == {case.id for case in cases}
    for case in cases:
        scores = samples[case.id].scores
        reward = rewards.get(case.id)
        assert set(scores) == {"safe_guidance" if case.flags else "reward"}
        if case.flags:
            assert value(scores["safe_guidance"], "safe_guidance") == (None if reward is None else reward.total)
            continue
        for name in MEASURES:
            assert value(scores["reward"], name) == (None if reward is None else value_of(name)(reward))
    figures = Evaluation.model_validate_json((out / "evaluation.json").read_text())
    (policy,) = figures.scores
    for name, estimate in policy.measures:
        found = metrics(log, name)
        assert (found.scored_samples, found.scored_samples + found.unscored_samples) == (estimate.n, estimate.asked)
        assert number(found, "mean") == estimate.mean
        least, most = measure_bounds(name, figures.bystander_weight)  # evaluate ends an interval where the measure ends
        low, high = number(found, "ci95_low"), number(found, "ci95_high")
        cut = (low if low is None else max(low, least), high if high is None else min(high, most))
        assert cut == (estimate.low, estimate.high)
    assert number(metrics(log, "coverage"), "mean") == dict(policy.measures)["total"].coverage
    (flagged,) = figures.flagged
    assert number(metrics(log, "safe_guidance"), "mean") == dict(flagged.measures)["total"].mean


def test_recorded_replies_score_as_evaluate_scores_them(
    here: Any, server: Any, dataset: Dataset, inspect: Callable[..., Any], tmp_path: Path
) -> None:
    texts = ["Say when, and go without him.", "", "<think>what would", None, "<think>hm</think>No.", "Call somebody."]
    rows = [
        {"case_id": case.id, "policy": "mine", "response": text}
        for case, text in zip(dataset.cases, texts, strict=True)
        if text is not None
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    log = inspect("recorded", "none/none", dataset=dataset.folder, replies=path, judge=server.spec, samples=2)
    assert log.status == "success"
    kept = read_records(dataset.folder / "criteria.jsonl", Criteria)
    assert {c.case_id for c in kept} == {dataset.cases[n].id for n in (0, 1, 4)}
    asked = ["evaluate", dataset.folder, path, "--judge", server.spec, "--samples", "2", "-o", tmp_path / "out"]
    ended = here(*asked, "--failure-budget", "1")
    assert ended.code == 0, ended.stderr
    check_same_as_evaluate(log, tmp_path / "out", dataset.cases)
    assert set(kept) <= set(read_records(dataset.folder / "criteria.jsonl", Criteria))

    scores = {sample.id: next(iter(sample.scores.values())) for sample in log.samples}
    good, empty, endless, missing, thinking, _ = (scores[case.id] for case in dataset.cases)
    assert good.answer == texts[0]
    assert (good.reason, empty.reason) == (None, None)
    assert "of 5 (" in good.explanation
    assert "**bystander" in good.explanation
    assert value(empty, "empathy") == pytest.approx(0.2)
    assert (endless.reason, missing.reason) == ("no_response", "no_response")
    assert "still thinking" in endless.explanation
    assert thinking.answer == "No."
    before = len(server.starts())
    again = inspect("recorded", "none/none", dataset=dataset.folder, replies=path, judge=server.spec, samples=2)
    check_same_as_evaluate(again, tmp_path / "out", dataset.cases)
    assert len(server.starts()) == before


def test_a_model_answers_in_a_setting_and_is_scored(
    here: Any, server: Any, dataset: Dataset, inspect: Callable[..., Any], tmp_path: Path
) -> None:
    log = inspect(
        "personalized_empathy",
        "openai-api/local/m",
        dataset=dataset.folder,
        setting="personalized",
        judge=server.spec,
    )
    assert log.status == "success"
    samples = {sample.id: sample for sample in log.samples}
    for case in dataset.cases:
        told = [(message.role, message.content) for message in samples[case.id].input]
        assert told == [(m.role, m.content) for m in policy_messages(case, "personalized")]
    replies = [
        Reply(case_id=case.id, policy="m", text=next(iter(samples[case.id].scores.values())).answer)
        for case in dataset.cases
    ]
    write_records(tmp_path / "m.jsonl", replies)
    before = len(server.starts())
    here("evaluate", dataset.folder, tmp_path / "m.jsonl", "--judge", server.spec, "-o", tmp_path / "out")
    assert len(server.starts()) - before == 2 * len(dataset.plain) + 1  # no criteria: those of the task are used
    check_same_as_evaluate(log, tmp_path / "out", dataset.cases)
    users = {case.id: case.user_id for case in dataset.cases}
    assert {sample.id: sample.metadata["user"] for sample in log.samples} == users
    assert number(metrics(log, "total"), "stderr") is not None


def test_a_judge_that_fails_gives_no_number(
    server: Any, dataset: Dataset, inspect: Callable[..., Any], tmp_path: Path, always: Callable[..., Any]
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"case_id": case.id, "text": "No."}) for case in dataset.cases))
    words = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "I would rather not."}}]}
    broken = always(200, "application/json", json.dumps(words).encode())
    log = inspect("recorded", "none/none", dataset=dataset.folder, replies=path, judge=f"broken@{broken.url}")
    assert log.status == "success"
    for name in MEASURES:
        found = metrics(log, name)
        assert (found.scored_samples, found.unscored_samples) == (0, 5)
        assert all(math.isnan(metric.value) for metric in found.metrics.values())
    assert number(metrics(log, "coverage"), "mean") == 0
    assert {score.reason for sample in log.samples for score in sample.scores.values()} == {"grader_failed"}
    assert not (dataset.folder / "criteria.jsonl").exists()


def test_a_log_is_scored_by_another_judge(
    here: Any, server: Any, dataset: Dataset, inspect: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"case_id": case.id, "text": "Say when."}) for case in dataset.plain))
    log = inspect("recorded", "none/none", dataset=dataset.folder, replies=path, judge=server.spec)
    other = server.spec.replace("scripted@", "other@")
    asked = ["--scorer", "peregrm/reward", "-S", f"dataset={dataset.folder}", "-S", f"judge={other}"]
    said = command(
        server, "score", log.location, "--action", "append", *asked, "--output-file", str(tmp_path / "b.eval")
    )
    assert (tmp_path / "b.eval").exists(), said
    here("evaluate", dataset.folder, path, "--judge", other, "-o", tmp_path / "out")
    rewards = {reward.case_id: reward for reward in read_records(tmp_path / "out" / "rewards.jsonl", Reward)}
    for sample in read(tmp_path / "b.eval").samples:
        if sample.id in rewards:
            first, second = sample.scores.values()
            assert first.value != second.value
            assert value(second, "total") == rewards[sample.id].total
