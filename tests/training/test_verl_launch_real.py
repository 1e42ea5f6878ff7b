"""The folder of a launch against verl itself: its schema, its validation, its dataset, its reward loop. On a CPU, without vLLM.

Skipped where verl is not installed (`scripts/test --verl` installs what these tests need).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import InputError
from peregrm.pipeline.verl_training import launch_rows
from peregrm.records import Case
from peregrm.reward.adapters.common import Unscored, close_scorers
from peregrm.reward.options import RewardOptions
from peregrm.store import write_records
from peregrm.training.verl_check import check_prompts, main
from peregrm.training.verl_launch import Launch, make_launch, policy_tokenizer, write_launch
from verl_parts import cases_of, judge_at, rows_of

MISSING = [
    name
    for name in ("verl", "torch", "ray", "hydra", "omegaconf", "tensordict", "datasets", "transformers", "pyarrow")
    if importlib.util.find_spec(name) is None
]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("default"),  # those of torch and verl are not ours
]

WORDS = ["i", "you", "feel", "sorry", "that", "is", "hard", "the", "a", "to"]
THEIRS = "" if MISSING else str(Path(importlib.util.find_spec("verl").submodule_search_locations[0]) / "trainer/config")
HOSTILE = 'it\'s a "launch" {x} = [1]'


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """A policy of a few thousand random weights, whose tokenizer is a real one."""
    return tiny(tmp_path_factory.mktemp("policy") / "tiny", WORDS, context=2048)


@pytest.fixture(scope="module")
def tiny() -> Any:
    """The maker of small policies that the other training tests use."""
    spec = importlib.util.spec_from_file_location("training_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiny_policy


@pytest.fixture(autouse=True)
def _hydra_is_clear() -> Iterator[None]:
    yield
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()


def launch(policy: Path, **changes: Any) -> Launch:
    return make_launch(**{"model": str(policy), "gpus_per_node": 8, "max_new_tokens": 64, **changes})


def composed(folder: Path, *changes: str) -> Any:
    """Compose the configuration of a launch on top of verl's own."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(folder), version_base=None):
        return compose("grpo", overrides=[f"hydra.searchpath=['file://{THEIRS}']", *changes])


def validated(config: Any) -> None:
    """Do what verl does before it starts Ray, and what its trainer does with each part of the configuration."""
    from omegaconf import OmegaConf
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    assert need_reference_policy(config)
    assert not need_critic(config)
    validate_config(config=config, use_reference_policy=True, use_critic=False)
    OmegaConf.resolve(config)
    for part in (
        config.actor_rollout_ref.actor,
        config.actor_rollout_ref.rollout,
        config.algorithm,
    ):
        omega_conf_to_dataclass(part)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nodes": 4, "tensor_parallel": 2},
        {"rollouts": 16, "batch": 4, "epochs": 2, "learning_rate": 2e-5, "kl": 0.0},
    ],
)
def test_verl_takes_the_configuration(case: Case, tmp_path: Path, policy: Path, changes: dict[str, Any]) -> None:
    asked = launch(policy, **changes)
    write_launch(tmp_path, rows_of(case), asked, RewardOptions(judges=("m@http://127.0.0.1:9/v1",)))
    config = composed(tmp_path)
    validated(config)
    assert config.algorithm.adv_estimator == "grpo"
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (actor.optim.lr, actor.kl_loss_coef, actor.kl_loss_type) == (asked.learning_rate, asked.kl, "low_var_kl")
    assert (rollout.n, rollout.name, rollout.tensor_model_parallel_size) == (
        asked.rollouts,
        "vllm",
        asked.tensor_parallel,
    )
    assert (rollout.prompt_length, rollout.response_length) == (config.data.max_prompt_length, 64)
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (asked.nodes, 8)
    assert config.trainer.default_local_dir == f"{tmp_path}/checkpoints"


def test_nothing_of_a_launch_is_unknown_to_verl(case: Case, tmp_path: Path, policy: Path) -> None:
    """A misspelt key would be taken in silence: every key of ours is one of verl's, but for the reward's own and the folder."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    write_launch(
        tmp_path, rows_of(case), launch(policy, lora_rank=8), RewardOptions(judges=("m@http://127.0.0.1:9/v1",))
    )
    with initialize_config_dir(THEIRS, version_base=None):
        theirs = compose("ppo_trainer")

    def unknown(ours: Any, known: Any, path: str = "") -> Iterator[str]:
        for key, value in ours.items():
            here = f"{path}{key}"
            if key not in known.keys():  # noqa: SIM118 - `in` is false for what must be given
                yield here
            elif isinstance(value, dict):
                yield from unknown(value, OmegaConf.select(theirs, here) or {}, f"{here}.")

    ours = OmegaConf.to_container(OmegaConf.load(tmp_path / "grpo.yaml"), resolve=False)
    assert isinstance(ours, dict)
    ours.pop("defaults")
    assert list(unknown(ours, theirs)) == ["peregrm", "reward.custom_reward_function.reward_kwargs"]


def test_a_moved_launch_means_the_place_it_is_at(case: Case, tmp_path: Path, policy: Path) -> None:
    """As run.sh says it: quotes in the name are for hydra, braces and dollars for nobody."""
    write_launch(tmp_path / "old", rows_of(case), launch(policy), RewardOptions(judges=("m@http://127.0.0.1:9/v1",)))
    moved = tmp_path / HOSTILE
    quoted = str(moved).replace("\\", "\\\\").replace("'", "\\'")
    config = composed(tmp_path / "old", f"peregrm.folder='{quoted}'")
    assert config.data.train_files == f"{moved}/train.parquet"
    assert config.reward.custom_reward_function.path == f"{moved}/reward.py"


def test_hostile_text_is_no_interpolation(case: Case, tmp_path: Path) -> None:
    judge = "a\"b'${oc.env:HOME}\\${x}\n小@http://127.0.0.1:9/v1"
    write_launch(tmp_path, rows_of(case), make_launch(model="a${b}c"), RewardOptions(judges=(judge,)))
    config = composed(tmp_path)
    assert config.actor_rollout_ref.model.path == "a${b}c"
    assert config.reward.custom_reward_function.reward_kwargs.judge == judge


def test_verls_dataset_reads_every_prompt_whole(case: Case, tmp_path: Path, policy: Path) -> None:
    from verl.trainer.ppo.utils import create_rl_dataset

    write_records(tmp_path / "cases.jsonl", cases_of(case, 30))
    rows, told = launch_rows(tmp_path, launch(policy))
    assert told == []
    write_launch(tmp_path / "out", rows, launch(policy), RewardOptions(judges=("m@http://127.0.0.1:9/v1",)))
    config = composed(tmp_path / "out", f"+data.cache_dir={tmp_path}/cache")
    tokenizer, context = policy_tokenizer(str(policy))
    assert context == 2048
    for name, part in (("train", rows.train), ("val", rows.validation)):
        dataset = create_rl_dataset(
            [config.data[f"{name}_files"]], config.data, tokenizer, None, is_train=name == "train"
        )
        assert len(dataset) == len(part.rows)
        for row, known in zip(dataset, part.rows, strict=True):
            assert row["raw_prompt"] == known.chat
            ids = tokenizer.apply_chat_template(
                row["raw_prompt"], add_generation_prompt=True, tokenize=True, return_dict=False
            )
            assert len(ids) == known.tokens <= config.data.max_prompt_length
    assert not {r.case.user_id for r in rows.train.rows} & {r.case.user_id for r in rows.validation.rows}
    assert check_prompts(tmp_path / "out") == (len(rows.all), rows.longest)


def test_a_prompt_that_verl_would_cut_stops_the_launch(
    case: Case, tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(case)  # counted by another tokenizer, which makes fewer tokens of them
    options = RewardOptions(judges=("m@http://127.0.0.1:9/v1",))
    write_launch(tmp_path, rows, launch(policy), options)
    config = tmp_path / "grpo.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace(f"max_prompt_length: {rows.prompt_length}", "max_prompt_length: 40"))
    with pytest.raises(InputError, match=r"train.parquet:0: \d+ tokens"):
        check_prompts(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "cut off the beginning" in capsys.readouterr().err
    write_launch(
        tmp_path, rows_of(case, policy_tokenizer(str(policy))[0]), launch(policy, max_new_tokens=5000), options
    )
    with pytest.raises(InputError, match="takes 2048"):
        check_prompts(tmp_path)


def row_of(worker: Any, row: dict[str, Any], reply: str) -> Any:
    """Build what verl's agent loop sends to the reward worker for one reply."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    prompt, said = torch.tensor([[1, 2]]), torch.tensor([worker.input_tokenizer(reply)["input_ids"]])
    ids = torch.cat([prompt, said], dim=1)
    batch = {"prompts": prompt, "responses": said, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    rest = {
        name: np.array([value]) for name, value in row.items() if name in ("data_source", "reward_model", "extra_info")
    }
    extra = {"__num_turns__": np.array([2]), "tool_extra_fields": np.array([{}], dtype=object)}
    return DataProto(batch=TensorDict(batch, batch_size=1), non_tensor_batch={**rest, **extra})


async def test_the_reward_goes_through_verls_reward_loop(case: Case, tmp_path: Path, tiny: Any) -> None:
    """Its worker, its manager, its loading of our file; one reply of a group is lost with its judge, and the others are scored."""
    from omegaconf import OmegaConf
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker, migrate_legacy_reward_impl
    from verl.trainer.ppo.utils import create_rl_dataset

    policy = tiny(tmp_path / "tiny", [*WORDS, "lost"], context=2048)
    rows = rows_of(case, policy_tokenizer(str(policy))[0], room=1900)
    asked: list[str] = []
    async with judge_at(asked) as url:
        options = RewardOptions(judges=(f"m@{url}",), cache=None)
        write_launch(tmp_path / "out", rows, launch(policy, held_out_judge=f"other@{url}", deadline_s=5), options)
        config = migrate_legacy_reward_impl(composed(tmp_path / "out", f"+data.cache_dir={tmp_path}/cache"))
        OmegaConf.resolve(config)
        worker = RewardLoopWorker(config)
        dataset = create_rl_dataset([config.data.train_files], config.data, worker.input_tokenizer, None)
        group = ["that is hard", "i feel sorry", "all is lost", "you feel that"]
        import openai  # noqa: F401 - takes seconds of the first deadline

        results = await asyncio.gather(
            *(worker.compute_score(row_of(worker, dataset[0], reply)) for reply in group), return_exceptions=True
        )
        held_out = create_rl_dataset([config.data.val_files], config.data, worker.input_tokenizer, None)
        assert set(asked) == {"m"}
        validation = [await worker.compute_score(row_of(worker, one, "that is hard")) for one in held_out]
        assert asked[-1] == "other"
        await close_scorers()
    lost = results.pop(2)
    assert isinstance(lost, Unscored)
    assert lost.failure.kind == "deadline"
    for result in [*results, *validation]:
        assert 0 < result["reward_score"] <= 1
        assert result["reward_extra_info"]["judge_failed"] == 0
    assert [one["reward_extra_info"]["flagged"] for one in validation] == [0, 1]
    kept = [json.loads(line) for line in (tmp_path / "out" / "rewards.jsonl").read_text().splitlines()]
    assert sorted(one["judge_failed"] for one in kept) == [0, 0, 0, 0, 0, 1]
    assert [one["score"] for one in kept if one["judge_failed"]] == [None]
    assert [one["split"] for one in kept] == ["train"] * 4 + ["validation"] * 2


def test_our_deadline_is_under_verls(case: Case, tmp_path: Path, policy: Path) -> None:
    import inspect

    from verl.experimental.reward_loop.reward_manager.limited import RateLimitedRewardManager

    from peregrm.training.verl_launch import VERL_GIVES_UP_S

    assert f'"timeout", {VERL_GIVES_UP_S}' in inspect.getsource(RateLimitedRewardManager)
    write_launch(tmp_path, rows_of(case), launch(policy), RewardOptions(judges=("m@http://127.0.0.1:9/v1",)))
    assert composed(tmp_path).reward.custom_reward_function.reward_kwargs.deadline_s < VERL_GIVES_UP_S


@pytest.mark.slow
def test_verls_own_command_line_composes_the_same(case: Case, tmp_path: Path, policy: Path) -> None:
    """The words of run.sh, with `--cfg job`: verl prints the configuration and stops."""
    from omegaconf import OmegaConf

    folder = tmp_path / HOSTILE
    write_launch(folder, rows_of(case), launch(policy), RewardOptions(judges=("m@http://127.0.0.1:9/v1",)))
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-dir", str(folder), "--config-name", "grpo"]
    done = subprocess.run(
        [*command, f"peregrm.folder='{quoted}'", "trainer.total_epochs=2", "--cfg", "job", "--resolve"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    config = OmegaConf.create(done.stdout)
    assert config.trainer.total_epochs == 2
    assert config.data.train_files == f"{folder}/train.parquet"
    assert config.actor_rollout_ref.rollout.n == 8


def test_the_command_writes_the_launch_and_says_what_it_asks_for(
    case: Case, tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    importlib.import_module("peregrm.cli.train_verl")  # adds the command
    from peregrm.cli import main as peregrm

    write_records(tmp_path / "cases.jsonl", cases_of(case, 30))
    out = tmp_path / "out"
    words = [
        "train",
        "verl",
        str(tmp_path),
        "--model",
        str(policy),
        "--judge",
        "m@http://127.0.0.1:9/v1",
        "-o",
        str(out),
    ]

    def ended(*more: str) -> Any:
        with pytest.raises(SystemExit) as end:
            peregrm([*words, "--max-new-tokens", "64", "--json", *more])
        assert not end.value.code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    planned = ended("--dry-run")
    assert not out.exists()
    assert planned["replies"] == planned["steps"] * 64
    assert {row["purpose"] for row in planned["calls"]} >= {"training: judge", "validation: judge"}
    assert ended() == planned
    config = composed(out, "trainer.total_epochs=1")
    validated(config)
    assert planned["steps"] == planned["prompts"] // 8
    with pytest.raises(SystemExit) as end:
        peregrm([*words, "--nodes", "3"])
    assert end.value.code == 1
    assert "cannot share" in capsys.readouterr().err
