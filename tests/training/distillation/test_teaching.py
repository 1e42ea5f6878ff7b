"""Teaching a judge: the loss, a planted rule learned on users not seen, and a run that was killed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("transformers", reason="training needs transformers")

import peregrm.cli.train_judge  # noqa: E402, F401
from distilled_parts import case_of, reply_of, scored_folder, student  # noqa: E402
from peregrm.cli import main  # noqa: E402
from peregrm.errors import ArtifactError, InputError, SettingsError  # noqa: E402
from peregrm.models.local_judge import LocalJudge, read_taught  # noqa: E402
from peregrm.pipeline.training_judge import JudgeTask, plan_judge, train_judge  # noqa: E402
from peregrm.reward.factory import open_reward  # noqa: E402
from peregrm.reward.options import RewardOptions  # noqa: E402
from peregrm.store import held_alone  # noqa: E402
from peregrm.training.distillation.agreement import CONSTANT, STUDENT  # noqa: E402
from peregrm.training.distillation.card import DistilledCard  # noqa: E402
from peregrm.training.distillation.teaching import lesson_loss  # noqa: E402
from peregrm.training.offline.running import FitSettings  # noqa: E402
from peregrm.training.policies import Lora  # noqa: E402

torch.set_num_threads(1)


def task_of(folder: Path, epochs: float = 8, **changes: Any) -> JudgeTask:
    settings = FitSettings(epochs=epochs, batch=8, at_once=8, learning_rate=0.02, save_every=2)
    return JudgeTask(
        **{
            "scores": (folder / "run",),
            "model": str(folder / "base"),
            "held_out": 0.45,
            "settings": settings,
            "lora": None,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distilled")
    scored_folder(folder / "run", users=26)
    student(folder / "base")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distilled_small")
    scored_folder(folder / "run", users=4, replies=4)
    student(folder / "base")
    return folder


@pytest.fixture(scope="module")
def taught(material: Path) -> tuple[Path, DistilledCard]:
    out = material / "out"
    return out, asyncio.run(train_judge(task_of(material), out))


def test_the_loss_is_least_where_the_means_are_the_teachers() -> None:
    digits = [3, 4, 5, 6, 7]
    right = torch.full((2, 10), -30.0)
    right[0, 5] = 0.0  # a 3
    right[1, 6] = right[1, 7] = 0.0  # half a 4, half a 5
    squared, form = lesson_loss(right, [3.0, 4.5], digits)
    assert float(squared) == pytest.approx(0, abs=1e-6)
    assert float(form) == pytest.approx(0.6931 / 2, abs=1e-3)
    apart = torch.full((1, 10), -30.0)
    apart[0, 3] = apart[0, 7] = 0.0  # half a 1, half a 5: the mean of a 3, and no 3
    squared, form = lesson_loss(apart, [3.0], digits)
    assert float(squared) == pytest.approx(0, abs=1e-6)
    assert float(form) > 20
    elsewhere = torch.zeros((1, 10))
    elsewhere[0, 0] = 50.0  # digits are unlikely
    assert float(lesson_loss(elsewhere, [3.0], digits)[1]) > 20


def test_both_terms_pull_the_mean_to_the_score() -> None:
    logits = torch.zeros((1, 8), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        squared, form = lesson_loss(logits, [3.7], [1, 2, 3, 4, 5])
        optimizer.zero_grad()
        (squared + 0.1 * form).backward()
        optimizer.step()
    chances = logits.detach()[0, 1:6].softmax(dim=-1)
    assert float(chances @ torch.arange(1.0, 6.0)) == pytest.approx(3.7, abs=0.02)
    assert float(chances[2] + chances[3]) > 0.9


@pytest.mark.slow
def test_a_planted_rule_is_learned_on_users_not_seen(taught: tuple[Path, DistilledCard]) -> None:
    out, card = taught
    rows = {(row.measure, row.scorer): row for row in card.agreement}
    student_, constant = rows["resonation", STUDENT], rows["resonation", CONSTANT]
    assert student_.rank.mean is not None
    assert student_.rank.mean > 0.9
    assert student_.icc.mean is not None
    assert student_.icc.mean > 0.8
    assert student_.difference.mean is not None
    assert constant.difference.mean is not None
    assert student_.difference.mean < 0.5 * constant.difference.mean
    assert card.beats(CONSTANT) is True
    assert rows["bystander", STUDENT].rank.mean == pytest.approx(1, abs=0.1)
    assert card.figures["squared_after"] < card.figures["squared_before"]  # type: ignore[operator]
    assert not (out / "checkpoints").exists()
    places = [json.loads(line) for line in (out / "agreement.jsonl").read_text().splitlines()]
    assert len({row["user_id"] for row in places}) == card.unseen[0]
    assert "taught by: teacher" in (out / "card.md").read_text()


@pytest.mark.slow
def test_the_judge_judges_as_it_was_measured(taught: tuple[Path, DistilledCard]) -> None:
    out, card = taught
    reward = open_reward(RewardOptions(judges=(f"local:{out / 'model'}",)))
    row = json.loads((out / "agreement.jsonl").read_text().splitlines()[0])
    case = case_of(row["user_id"])
    replies = [reply_of(case, n % 5 + 1, f"policy-{n}") for n in range(5)]

    async def score() -> list[Any]:
        try:
            return await reward.score(case, replies)
        finally:
            await reward.aclose()

    scored = asyncio.run(score())
    totals = [one.scores["resonation"] for one in scored]
    assert totals == sorted(totals)  # type: ignore[type-var]
    assert scored[0].reward.judge == card.name
    own = next(one for one in scored if one.reply.id == row["reply_id"])
    judged = dict(own.judgements[0].item_scores or ())
    kept = [json.loads(line) for line in (out / "agreement.jsonl").read_text().splitlines()]
    given = [r["student"] for r in kept if r["reply_id"] == row["reply_id"] and r["dimension"] == "resonation"]
    assert list(judged["resonation"]) == pytest.approx(given, abs=1e-3)
    assert read_taught(out / "model").bystander


@pytest.mark.slow
def test_the_same_command_again_changes_nothing(taught: tuple[Path, DistilledCard], material: Path) -> None:
    out, card = taught
    weights = (out / "model" / "model.safetensors").read_bytes()
    again = asyncio.run(train_judge(task_of(material), out))
    assert again == card
    assert (out / "model" / "model.safetensors").read_bytes() == weights
    with pytest.raises(SettingsError, match="another epochs"):
        asyncio.run(train_judge(task_of(material, epochs=3), out))


class Killed(BaseException):
    """As if the process were gone."""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peregrm.training.distillation import teaching

    task = task_of(small, epochs=9)
    asyncio.run(train_judge(task, small / "whole"))
    true = teaching._batch_terms
    looked_at = min(teaching.LOOKED_AT, asyncio.run(plan_judge(task)).learned)
    left = looked_at + 5  # five steps are made, and the last checkpoint is behind the fourth

    def failing(*arguments: Any) -> Any:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        return true(*arguments)

    monkeypatch.setattr(teaching, "_batch_terms", failing)
    with pytest.raises(Killed):
        asyncio.run(train_judge(task, small / "cut"))
    assert not (small / "cut" / "model").exists()
    assert not (small / "cut" / "card.json").exists()
    monkeypatch.setattr(teaching, "_batch_terms", true)
    said: list[str] = []
    asyncio.run(train_judge(task, small / "cut", said.append))
    assert any("checkpoint-4" in line for line in said), said
    whole, cut = ((small / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_an_adapter_is_merged_so_that_the_judge_stands_alone(small: Path) -> None:
    pytest.importorskip("peft", reason="adapters need peft")
    out = small / "lora"
    card = asyncio.run(train_judge(task_of(small, epochs=1, lora=Lora(rank=2, alpha=4)), out))
    assert "merged" in card.method
    assert not (out / "model" / "adapter_config.json").exists()
    judge = LocalJudge(f"local:{out / 'model'}")
    assert judge.taught.teacher == "teacher"
    asyncio.run(judge.aclose())


def test_questions_longer_than_the_model_takes_are_counted(small: Path, tmp_path: Path) -> None:
    student(tmp_path / "base", context=30)
    with pytest.raises(InputError, match="fits its context"):
        asyncio.run(train_judge(task_of(small, model=str(tmp_path / "base")), tmp_path / "out"))


def test_two_trainings_do_not_work_in_one_folder(small: Path, tmp_path: Path) -> None:
    with held_alone(tmp_path), pytest.raises(ArtifactError, match="another command is at work"):
        asyncio.run(train_judge(task_of(small), tmp_path))


def test_one_user_is_no_material(tmp_path: Path) -> None:
    scored_folder(tmp_path / "run", users=1, replies=2)
    with pytest.raises(InputError, match="at least two"):
        asyncio.run(plan_judge(task_of(tmp_path)))


def test_a_dry_run_says_what_would_be_done(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["train", "judge", str(small / "run"), "--model", "nowhere", "-o", str(out), "--dry-run", "--json"])
    assert ended.value.code == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["learned"] + planned["unseen"] == 32
    assert planned["steps"] > 0
    assert not out.exists()
