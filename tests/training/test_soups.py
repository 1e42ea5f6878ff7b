"""Mixtures of adapters: exact, and gone again; and a soup from a dataset, killed in between."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("peft", reason="adapters need peft")

import peregrm.cli.train_soups  # noqa: E402, F401
from distilled_parts import judge_folder  # noqa: E402
from offline_parts import WORDS  # noqa: E402
from people_parts import LETTERS, person  # noqa: E402
from peregrm.cli import main  # noqa: E402
from peregrm.errors import ArtifactError, InputError, SettingsError  # noqa: E402
from peregrm.pipeline.publish import ExportOptions, save_options  # noqa: E402
from peregrm.pipeline.reply_files import read_dataset, read_policies  # noqa: E402
from peregrm.pipeline.training_material import training_cases  # noqa: E402
from peregrm.pipeline.training_soups import SoupTask, train_soups  # noqa: E402
from peregrm.settings import load_settings  # noqa: E402
from peregrm.store import held_alone, write_records  # noqa: E402
from peregrm.training.offline.samples import SampleSettings  # noqa: E402
from peregrm.training.policies import Lora, load_policy, save_policy  # noqa: E402
from peregrm.training.rows import prompt_rows  # noqa: E402
from peregrm.training.soups import Soup, soup_replies  # noqa: E402
from training.conftest import tiny_policy  # noqa: E402

torch.set_num_threads(1)
LORA = Lora(rank=4, alpha=8)


def adapter(base: Path, folder: Path, seed: int) -> Path:
    """Write an adapter with random weights in both of its halves."""
    policy = load_policy(str(base), lora=LORA, device="cpu")
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    save_policy(policy, folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_policy(tmp_path_factory.mktemp("soup") / "base", WORDS)


@pytest.fixture(scope="module")
def adapters(base: Path) -> list[Path]:
    return [adapter(base, base.parent / f"adapter-{seed}", seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def soup(adapters: list[Path]) -> Soup:
    return Soup(adapters, device="cpu")


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(6, 16)[None]).logits


def test_the_whole_weight_is_that_adapter_bit_for_bit(soup: Soup, adapters: list[Path], base: Path) -> None:
    for place, folder in enumerate(adapters):
        alone = logits(load_policy(str(folder), device="cpu", trainable=False).model)
        with soup.mixed([float(place == n) for n in range(2)]) as policy:
            assert torch.equal(logits(policy.model), alone)
    with soup.plain() as policy:
        assert torch.equal(logits(policy.model), logits(load_policy(str(base), device="cpu").model))


def test_a_mixture_is_the_sum_of_the_changes(soup: Soup, adapters: list[Path], base: Path) -> None:
    """Against weights that are changed by hand; peft's own linear mixture is none of it."""
    weights = (0.3, 0.7)
    by_hand = load_policy(str(base), device="cpu").model
    merged = [load_policy(str(path), device="cpu", trainable=False).model.merge_and_unload() for path in adapters]
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            changes = [dict(model.named_parameters())[name] - parameter for model in merged]
            parameter.add_(sum(weight * change for weight, change in zip(weights, changes, strict=True)))
    with soup.mixed(weights) as policy:
        assert torch.allclose(logits(policy.model), logits(by_hand), atol=1e-4)
    model = soup.policy.model
    assert "soup" not in model.peft_config
    model.add_weighted_adapter(soup.names, list(weights), "linear", combination_type="linear")
    model.set_adapter("linear", inference_mode=True)
    assert not torch.allclose(logits(model), logits(by_hand), atol=1e-2)
    model.set_adapter("default", inference_mode=True)
    model.delete_adapter("linear")


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.6), (-0.5, 1.5), (0.2, 0.2, 0.6)])
def test_weights_that_are_none_are_refused(soup: Soup, weights: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="with the sum 1"), soup.mixed(weights):
        pass


def test_adapters_on_other_weights_are_refused(adapters: list[Path], tmp_path: Path) -> None:
    other = adapter(tiny_policy(tmp_path / "base", WORDS, seed=5), tmp_path / "other", 3)
    with pytest.raises(SettingsError, match="an adapter on"):
        Soup([adapters[0], other], device="cpu")
    with pytest.raises(SettingsError, match="holds no adapter"):
        Soup([tmp_path / "base"], device="cpu")
    with pytest.raises(SettingsError, match="at least one"):
        Soup([])


def test_each_user_is_answered_by_their_own_mixture(soup: Soup) -> None:
    cases = [person(f"user-{n}", "hello") for n in range(4)]
    rows = prompt_rows(cases, soup.policy.tokenizer, setting="generic", room=400).rows
    weights = {f"user-{n}": (1.0, 0.0) if n % 2 else (0.4, 0.6) for n in range(4)}
    mixed = soup_replies(soup, rows, lambda row: weights[row.case.user_id], name="soup", max_new_tokens=8)
    assert [one.case for one in mixed] == cases
    assert all(one.reply.policy == "soup" for one in mixed)
    again = soup_replies(soup, rows[:1], lambda row: (0.4, 0.6), name="soup", max_new_tokens=8)
    assert again[0].reply.text == mixed[0].reply.text


def dataset(folder: Path, users: int = 12) -> Path:
    kinds = ("blunt words and no fuss", "gentle and slow, with warmth")
    cases = [person(f"user-{n:02}", f"{kinds[n % 2]}, {n}") for n in range(users)]
    write_records(folder / "cases.jsonl", cases)
    save_options(folder, ExportOptions(shares=(0.7, 0.0, 0.3)))
    return folder


class Killed(BaseException):
    """As if the process were gone."""


def test_a_soup_is_made_of_a_dataset_and_goes_on_where_it_was(base: Path, tmp_path: Path) -> None:
    source = dataset(tmp_path / "data")
    trained: list[list[str]] = []

    def trainer(fail_at: int | None = None) -> Callable[[Path, Path], Path]:
        def train(cases: Path, out: Path) -> Path:
            folder = out / "policy"
            if folder.exists():
                return folder
            users = sorted({case.user_id for case in training_cases(cases).train})
            if fail_at is not None and len(trained) == fail_at:
                raise Killed
            trained.append(users)
            return adapter(base, folder, random.Random(str(users)).randrange(1000))

        return train

    drawn = SampleSettings(setting="generic", samples=2, max_new_tokens=8)
    task = SoupTask(source, clusters=2, drawn=drawn)
    out = tmp_path / "soup"
    with pytest.raises(Killed):
        train_soups(task, out, (trainer(2), trainer(2)), embedding=LETTERS)
    assert len(trained) == 2
    assert not (out / "replies").exists()
    assert not (out / "soup.json").exists()
    card = train_soups(task, out, (trainer(), trainer()), embedding=LETTERS)
    split = training_cases(source)
    assert trained[0] == sorted(case.user_id for case in split.train)
    assert sorted(trained[1] + trained[2]) == trained[0]
    assert [{int(user[-2:]) % 2 for user in users} for users in trained[1:]] in ([{0}, {1}], [{1}, {0}])
    assert card.weights.keys() == {case.user_id for case in split.test}
    assert all(sum(weights) == pytest.approx(1) for weights in card.weights.values())
    replies = read_policies([Path(path) for path in card.replies], read_dataset(Path(card.unseen)).cases)
    assert {reply.policy for reply in replies} == {"soup", "single", "base"}
    assert {reply.case_id for reply in replies} == {case.id for case in split.test}
    before = [Path(path).read_bytes() for path in card.replies]
    assert train_soups(task, out, (trainer(), trainer()), embedding=LETTERS) == card
    assert [Path(path).read_bytes() for path in card.replies] == before
    with pytest.raises(SettingsError, match="another soup"):
        train_soups(SoupTask(source, clusters=1, drawn=drawn), out, (trainer(), trainer()), embedding=LETTERS)


def test_two_soups_are_not_made_in_one_folder(tmp_path: Path) -> None:
    def never(cases: Path, out: Path) -> Path:
        raise AssertionError("nothing is trained")

    task = SoupTask(dataset(tmp_path / "data"), clusters=2, drawn=SampleSettings())
    with held_alone(tmp_path / "out"), pytest.raises(ArtifactError, match="another command is at work"):
        train_soups(task, tmp_path / "out", (never, never), embedding=LETTERS)


def test_without_users_to_answer_there_is_no_soup(tmp_path: Path) -> None:
    source = dataset(tmp_path / "data", users=2)
    save_options(source, ExportOptions(shares=(1.0, 0.0, 0.0)))

    def never(cases: Path, out: Path) -> Path:
        raise AssertionError("nothing is trained")

    task = SoupTask(source, clusters=1, drawn=SampleSettings())
    with pytest.raises(InputError, match="no user is left"):
        train_soups(task, tmp_path / "out", (never, never), embedding=LETTERS)


def test_a_dry_run_by_grpo_plans_grpo(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = dataset(tmp_path / "data")
    judge = "qwen@http://127.0.0.1:9/v1"
    asked = ["train", "soups", str(source), "--model", str(base), "--judge", judge, "-o", str(tmp_path / "soup")]
    drawn = ["--rollouts", "2", "--max-new-tokens", "8", "--setting", "generic", "--batch", "4", "--at-once", "8"]

    def planned(*more: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*asked, "--clusters", "2", *drawn, "--by", "grpo", "--dry-run", *more])
        assert ended.value.code == 0
        return capsys.readouterr().out

    plan = json.loads(planned("--json"))
    assert plan["single"]["steps"] == -(-plan["single"]["prompts"] // 4)
    calls = {row["purpose"]: row["calls"] for row in plan["calls"]}
    assert calls["judge"] == pytest.approx(2 * plan["single"]["replies"], abs=2)
    assert "the single adapter, by grpo" in planned()
    assert not (tmp_path / "soup").exists()


def test_the_failure_budget_reaches_grpo() -> None:
    from peregrm.cli import train_soups as command

    settings = load_settings(None, {"failure_budget": 0.05})
    fit = {"epochs": 1.0, "learning_rate": None, "batch": 4, "at_once": 2, "save_every": 5, "seed": 0}
    task = SoupTask(Path("data"), 2, SampleSettings(setting="generic", samples=2))
    offline = command._offline(task, "embedded", ["head"], fit, 4, settings)
    assert command._groups(offline, fit, settings).pace.failure_budget == 0.05


@pytest.mark.slow
def test_the_command_makes_a_soup_by_sft(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = judge_folder(tmp_path / "judge")
    source = dataset(tmp_path / "data")
    out = tmp_path / "soup"
    drawn = ["--rollouts", "2", "--max-new-tokens", "8", "--setting", "generic", "--batch", "4", "--at-once", "2"]
    asked = ["train", "soups", str(source), "--model", str(base), "--judge", f"local:{judge}", "-o", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--clusters", "2", *drawn, "--json"])
    assert ended.value.code == 0
    card = json.loads(capsys.readouterr().out)
    assert len(card["adapters"]) == 2
    assert all((Path(folder) / "adapter_config.json").exists() for folder in [*card["adapters"], card["single"]])
    best = [json.loads(line) for line in (out / "clusters" / "0" / "cases" / "best.jsonl").read_text().splitlines()]
    chosen = [json.loads(line) for line in (out / "single" / "training" / "chosen.jsonl").read_text().splitlines()]
    assert {reply["id"] for reply in best} < {row["best"] for row in chosen}
    replies = read_policies([Path(path) for path in card["replies"]], read_dataset(source).cases)
    assert {reply.policy for reply in replies} == {"soup", "single", "base"}
