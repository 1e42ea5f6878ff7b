"""A scalar reward model trained on pairs: it learns what can be learned, and judges users it has not seen as it was trained to."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from offline_parts import LORA, WORDS, quiet, same_weights, stopping
from peregrm.dataset.output.splits import split_users
from peregrm.errors import ArtifactError, InputError
from peregrm.reward.options import RewardOptions
from peregrm.reward.rivals.scalar import Scalar
from peregrm.store import held_alone
from peregrm.training.offline.preferences import case_of_group, divided
from peregrm.training.pairs import read_material
from peregrm.training.policies import Lora, Policy, load_policy

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("trl", reason="training needs trl")

from peregrm.training.head_measures import ALL, LONGER_WINS, SHORTER  # noqa: E402
from peregrm.training.offline.classifier import classifier_of, logits_of  # noqa: E402
from peregrm.training.offline.reward_card import RewardCard  # noqa: E402
from peregrm.training.offline.reward_model import TOO_LONG, plan_reward, train_reward_model  # noqa: E402
from peregrm.training.offline.running import FitSettings  # noqa: E402
from training.conftest import tiny_policy  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft asks transformers the old way

SETTINGS = FitSettings(epochs=4, learning_rate=0.02, batch=8, at_once=4, save_every=5)


def pairs_file(path: Path, users: int = 20, **changes: object) -> Path:
    """Write pairs of which the better reply says `good`; either may be the longer one."""
    chance = random.Random(3)
    rows = []
    for n in range(3 * users):
        good, bad = ([*chance.choices(WORDS[:12], k=chance.randint(3, 9)), word] for word in ("good", "not"))
        chance.shuffle(good)
        chance.shuffle(bad)
        better = chance.choice("ab")
        texts = {better: " ".join(good), "ab".replace(better, ""): " ".join(bad)}
        context = [{"role": "user", "content": f"hello my friend {WORDS[n % 12]} {WORDS[n % 7]}"}]
        rows.append(
            {"id": f"p{n}", "context": context, **texts, "better": better, "user": f"user{n % users}", **changes}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def base(folder: Path, context: int = 512) -> Policy:
    torch.set_num_threads(1)
    path = folder if folder.exists() else tiny_policy(folder, WORDS, context=context)
    return load_policy(str(path), device="cpu")


def train(folder: Path, out: Path, tell: object = quiet, lora: Lora | None = None, context: int = 512) -> RewardCard:
    rate = {"learning_rate": 0.05, "epochs": 6} if lora else {}
    material = read_material([pairs_file(folder / "pairs.jsonl")])
    policy = base(folder / "base", context)
    settings = SETTINGS.model_copy(update=rate)
    return train_reward_model(policy, material, lora, settings, out, "CC0", tell)  # type: ignore[arg-type]


@pytest.mark.parametrize("lora", [None, LORA])
async def test_it_orders_pairs_of_users_it_has_not_seen_and_judges_as_it_was_trained(
    lora: Lora | None, tmp_path: Path
) -> None:
    card = train(tmp_path, tmp_path / "out", lora=lora)
    measured = {one.name: one for one in card.measured}
    assert measured[ALL].mean is not None
    assert measured[ALL].mean >= 0.9
    assert measured[ALL].users == card.held_out_users == 4
    assert {measured[name].n for name in (ALL, LONGER_WINS)} == {card.held_out_pairs} == {12}
    assert measured[LONGER_WINS].mean is not None
    assert 0.1 < measured[LONGER_WINS].mean < 0.9
    assert SHORTER in measured
    assert card.fitted.last_loss < 0.3 < card.fitted.first_loss
    assert "CC0" in (tmp_path / "out" / "model" / "README.md").read_text()
    parts = divided(read_material([tmp_path / "pairs.jsonl"]))
    assert not {one.case.user_id for one in parts.train} & {one.case.user_id for one in parts.held_out}
    judge = Scalar(RewardOptions(reward="scalar"), f"scalar:{tmp_path / 'out' / 'model'}")
    right = []
    for pair in parts.held_out:
        better, worse = await judge.score(pair.case, [pair.better, pair.worse])
        assert better.total is not None
        assert worse.total is not None
        right.append(better.total > worse.total)
    await judge.aclose()
    assert sum(right) / len(right) == pytest.approx(measured[ALL].mean, abs=1e-3)


@pytest.mark.parametrize("lora", [None, pytest.param(LORA, marks=pytest.mark.slow)])
def test_a_run_stopped_in_the_middle_ends_with_the_same_weights(lora: Lora | None, tmp_path: Path) -> None:
    whole = train(tmp_path, tmp_path / "whole", lora=lora)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tmp_path / "parts", stopping(12), lora=lora)
    parts = train(tmp_path, tmp_path / "parts", lora=lora)
    assert same_weights(tmp_path / "whole" / "model", tmp_path / "parts" / "model")
    assert parts.measured == whole.measured
    assert train(tmp_path, tmp_path / "parts", stopping(0), lora=lora) == parts  # nothing is left to do


def test_two_trainings_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with held_alone(tmp_path / "out"), pytest.raises(ArtifactError, match="another command is at work"):
        train(tmp_path, tmp_path / "out")


def test_what_is_too_long_or_no_pair_is_left_out_and_counted(tmp_path: Path) -> None:
    file = pairs_file(tmp_path / "pairs.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["a"] = "you " * 600
    rows[1]["dimension"] = "reception"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = plan_reward(base(tmp_path / "base"), read_material([file]), None, SETTINGS)
    assert plan.left_out == {TOO_LONG: 1, "pairs of single dimensions": 1}
    assert plan.pairs + plan.held_out_pairs == 58
    assert plan.longest <= 512
    assert plan.trained_parameters == plan.parameters
    with pytest.raises(InputError, match="too few pairs fit it"):
        plan_reward(base(tmp_path / "small", context=16), read_material([file]), None, SETTINGS)
    with pytest.raises(InputError, match="3 users are too few"):
        divided(read_material([pairs_file(tmp_path / "few.jsonl", users=3)]))


def test_a_case_shows_what_the_material_knows() -> None:
    """Hand-written cases have labelled memories, from which a run without a model makes a persona; free texts have none."""
    material = read_material([Path(__file__).parents[2] / "examples" / "gold.jsonl"])
    group = material.groups[0]
    case = case_of_group(group)
    assert case.query == group.moment.query
    assert [memory.value for memory in case.memories] == [known.text for known in group.moment.known]
    assert case.persona.profile
    bare = case_of_group(type(group)(0, "u", group.moment._replace(known=()), ("a", "b"), ()))
    assert not bare.persona.profile
    assert not bare.memories


def test_users_are_divided_as_datasets_are(tmp_path: Path) -> None:
    parts = divided(read_material([pairs_file(tmp_path / "pairs.jsonl")]))
    splits = split_users(f"user{n}" for n in range(20)).splits
    assert {one.case.user_id for one in parts.train} == {user for user, split in splits.items() if split == "train"}


def test_a_new_head_beside_an_adapter_is_trained_in_float32(tmp_path: Path) -> None:
    """In bfloat16 a step of 1e-4 is lost on a weight of 1."""
    path = tiny_policy(tmp_path / "base", WORDS)
    made = classifier_of(load_policy(str(path), device="cpu", precision="bfloat16"), LORA, seed=0)
    head = [value for name, value in made.model.named_parameters() if "score" in name and value.requires_grad]
    assert [value.dtype for value in head] == [torch.float32]
    assert made.model.dtype == torch.bfloat16
    assert len(logits_of(made, [[1, 2, 3], [4, 5]])) == 2
    made.model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert head[0].grad is not None
    material = read_material([pairs_file(tmp_path / "pairs.jsonl", users=8)])
    policy = load_policy(str(path), device="cpu", precision="bfloat16")
    settings = SETTINGS.model_copy(update={"epochs": 1})
    card = train_reward_model(policy, material, LORA, settings, tmp_path / "out", "CC0", quiet)
    assert card.fitted.steps == 3
