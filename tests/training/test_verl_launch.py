"""The folder of a verl launch, without verl: what is in it, that nothing in it is cut or made up, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from peregrm.errors import ArtifactError, InputError, SettingsError
from peregrm.pipeline.verl_training import check_validation_judge, placed_judge, plan_launch, settings_text
from peregrm.records import Case
from peregrm.reward.adapters.common import Unscored, close_scorers
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings, load_settings
from peregrm.store import held_alone
from peregrm.training.verl_launch import FILES, Launch, LaunchRows, _yaml, check_launch, make_launch, write_launch
from verl_parts import judge_at, rows_of

pytest.importorskip("pyarrow", reason="rows are written with pyarrow")

OPTIONS = RewardOptions(judges=("qwen@http://127.0.0.1:9/v1",))


def launch(**changes: Any) -> Launch:
    return make_launch(**{"model": "some/policy", **changes})


def written(folder: Path, rows: LaunchRows, options: RewardOptions = OPTIONS, **changes: Any) -> dict[str, Any]:
    write_launch(folder, rows, launch(**changes), options)
    return yaml.safe_load((folder / "grpo.yaml").read_text(encoding="utf-8"))


def test_the_papers_settings_are_the_defaults(case: Case, tmp_path: Path) -> None:
    config = written(tmp_path, rows_of(case))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES)
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert config["algorithm"] == {"adv_estimator": "grpo", "use_kl_in_reward": False}
    assert (rollout["n"], config["data"]["train_batch_size"], actor["ppo_mini_batch_size"]) == (8, 8, 8)
    assert float(actor["optim"]["lr"]) == 1e-6
    assert (actor["use_kl_loss"], actor["kl_loss_coef"], actor["kl_loss_type"]) == (True, 0.001, "low_var_kl")
    assert (config["data"]["max_response_length"], config["trainer"]["total_epochs"]) == (1024, 1)
    assert rollout["name"] == "vllm"
    assert config["reward"]["num_workers"] == 1
    assert config["reward"]["reward_manager"]["name"] == "naive"
    kwargs = config["reward"]["custom_reward_function"]["reward_kwargs"]
    assert kwargs["deadline_s"] < 300
    assert kwargs["on_failure"] == "raise"


def test_no_prompt_is_cut_filtered_or_changed(case: Case, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    rows = rows_of(case)
    config = written(tmp_path, rows)
    assert max(row.tokens for row in rows.all) <= config["data"]["max_prompt_length"] <= rows.room
    assert config["data"]["filter_overlong_prompts"] is False
    assert config["data"]["truncation"] == "error"
    length = config["data"]["max_prompt_length"] + 1024
    rollout, actor = config["actor_rollout_ref"]["rollout"], config["actor_rollout_ref"]["actor"]
    assert rollout["max_model_len"] == length <= actor["ppo_max_token_len_per_gpu"]
    for name, part in (("train", rows.train), ("validation", rows.validation)):
        table = parquet.read_table(tmp_path / f"{name}.parquet").to_pylist()
        assert [row["prompt"] for row in table] == [row.chat for row in part.rows]
        assert [Case.model_validate_json(row["extra_info"]["case"]) for row in table] == [r.case for r in part.rows]
        assert [row["reward_model"]["ground_truth"] for row in table] == [r.case.id for r in part.rows]
        assert {row["extra_info"]["split"] for row in table} == {name}
    assert [row["data_source"] for row in table] == ["peregrm", "peregrm-flagged"]


def test_the_prompt_length_is_never_above_the_room(case: Case, tmp_path: Path) -> None:
    rows = rows_of(case)
    tight = rows_of(case, room=rows.longest)
    assert written(tmp_path, tight)["data"]["max_prompt_length"] == rows.longest


def test_what_was_left_out_is_said(case: Case, tmp_path: Path) -> None:
    rows = rows_of(case, room=rows_of(case).longest - 1, train=9)
    write_launch(tmp_path, rows, launch(), OPTIONS)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "had no room for" in readme
    assert "1 of 9 prompts" in readme


@settings(max_examples=30)
@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("\\${}'\"\n:#"), max_size=40))
def test_any_text_is_one_yaml_value_without_interpolations(text: str) -> None:
    value = yaml.safe_load(f"key: {_yaml(text)}\n")["key"]
    escaped = re.compile(r"(\\*)\\\$\{")
    assert escaped.sub(lambda found: found[1][: len(found[1]) // 2] + "${", value) == text
    assert "${" not in escaped.sub("", value)


def test_an_adapter_is_no_plain_model(case: Case, tmp_path: Path) -> None:
    whole, adapter = (
        written(tmp_path / str(rank), rows_of(case), lora_rank=rank)["actor_rollout_ref"] for rank in (0, 8)
    )
    assert (adapter["model"]["lora_rank"], adapter["rollout"]["load_format"]) == (8, "safetensors")
    assert "lora_rank" not in whole["model"]
    saved = [part["actor"]["checkpoint"]["save_contents"] for part in (whole, adapter)]
    assert ["hf_model" in contents for contents in saved] == [True, False]
    assert "model_merger" in (tmp_path / "8" / "README.md").read_text(encoding="utf-8")


def test_hostile_names_stay_names(case: Case, tmp_path: Path) -> None:
    model = 'x": {y}\n# `${oc.env:HOME}` | <b>'
    folder = tmp_path / 'it\'s `a` {{ folder }} "x" & #'
    config = written(folder, rows_of(case), RewardOptions(judges=(f"{model}@http://127.0.0.1:9/v1",)), model=model)
    assert config["actor_rollout_ref"]["model"]["path"] == model.replace("${", "\\${")
    assert config["peregrm"]["folder"] == str(folder)
    assert "`${oc.env:HOME}`" not in (folder / "README.md").read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(folder / "run.sh")], check=False).returncode == 0


@pytest.mark.parametrize("nodes", [1, 2])
def test_run_sh_checks_starts_ray_and_hands_on(case: Case, tmp_path: Path, nodes: int) -> None:
    """With stand-ins for `ray` and `python` that write down what they were asked, each a line in one write: they run
    at the same time."""
    folder, log = tmp_path / "it's a launch", tmp_path / "log"
    write_launch(folder, rows_of(case), launch(nodes=nodes, gpus_per_node=4), OPTIONS)
    for name in ("ray", "python"):
        stub = tmp_path / name
        stub.write_text(
            "#!/bin/bash\n"
            f'case "$*" in *--head*) trap "echo ray ended >>\'{log}\'; exit" TERM;; esac\n'
            f"line=$(printf '%s|' {name} \"$@\"); printf '%s\\n' \"$line\" >>'{log}'\n"
            'case "$*" in\n*main_ppo*) exit 7;;\n*--head*) while :; do sleep 0.05; done;;\n'
            f"'- '*) until grep -q -e --head '{log}'; do sleep 0.05; done;;\nesac\n"
        )
        stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "python"}

    def called(*arguments: str, **more: str) -> tuple[int, list[str]]:
        log.write_text("")
        done = subprocess.run([folder / "run.sh", *arguments], env={**environment, **more}, check=False, cwd=tmp_path)
        return done.returncode, log.read_text().splitlines()

    code, calls = called("trainer.total_epochs=2")
    assert code == 7
    assert calls[0] == f"python|-m|peregrm.training.verl_check|{folder}|"
    assert sorted(calls[1:3]) == [
        f"python|-|{nodes}|600|",
        "ray|start|--head|--port=6379|--num-gpus=4|--disable-usage-stats|--block|",
    ]
    quoted = str(folder).replace("'", "\\'")
    words = ["-m", "verl.trainer.main_ppo", "--config-dir", str(folder), "--config-name", "grpo"]
    asked = ["python", *words, f"peregrm.folder='{quoted}'", "trainer.total_epochs=2", ""]
    assert calls[3:] == ["|".join(asked), "ray ended"]
    code, calls = called("join", "10.0.0.1")
    assert (code, calls) == (0, ["ray|start|--address=10.0.0.1:6379|--num-gpus=4|--disable-usage-stats|--block|"])


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"nodes": 3}, OPTIONS),
        ({"gpus_per_node": 4, "tensor_parallel": 3}, OPTIONS),
        ({}, OPTIONS.model_copy(update={"reward": "listwise"})),
        ({}, OPTIONS.model_copy(update={"judges": ("a", "b")})),
    ],
)
def test_what_verl_cannot_do_is_refused(changes: dict[str, Any], options: RewardOptions) -> None:
    with pytest.raises(SettingsError):
        check_launch(launch(**changes), options)


@pytest.mark.parametrize("wrong", [{"deadline_s": 300.0}, {"learning_rate": 0.0}, {"rollouts": 1}, {"epoch": 3}])
def test_settings_out_of_range_are_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        launch(**wrong)


def test_a_launch_with_too_little_or_begun_or_of_no_name_is_refused(case: Case, tmp_path: Path) -> None:
    rows = rows_of(case)
    with pytest.raises(InputError, match="less than one batch"):
        write_launch(tmp_path, rows_of(case, train=7), launch(), OPTIONS)
    with pytest.raises(InputError, match="validation"):
        write_launch(tmp_path, LaunchRows(rows.train, rows.validation._replace(rows=[]), 3000), launch(), OPTIONS)
    with pytest.raises(InputError, match="control characters"):
        write_launch(tmp_path / "a$b", rows, launch(), OPTIONS)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="begun"):
        write_launch(tmp_path, rows, launch(), OPTIONS)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]


def test_two_commands_do_not_write_into_one_folder(case: Case, tmp_path: Path) -> None:
    with held_alone(tmp_path), pytest.raises(ArtifactError, match="another command is at work"):
        write_launch(tmp_path, rows_of(case), launch(), OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["grpo", "rloo", "ppo", "sft", "dpo", "soups", "verl"])
def test_policies_are_shown_what_the_papers_is_unless_another_setting_is_asked_for(name: str) -> None:
    from typer.main import get_command

    from peregrm.cli import app

    (setting,) = [one for one in get_command(app).commands["train"].commands[name].params if one.name == "setting"]  # type: ignore[attr-defined]
    assert setting.default == "memories"


def test_half_a_launch_cannot_be_started(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_launch(tmp_path, rows_of(case), launch(), OPTIONS)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("peregrm.training.verl_launch.replace_bytes", full)
    with pytest.raises(OSError, match="no space"):
        write_launch(tmp_path, rows_of(case), launch(), OPTIONS)
    assert not (tmp_path / "run.sh").exists()


def test_judges_keep_their_meaning_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert placed_judge("head:my/head.json") == f"head:{tmp_path}/my/head.json"
    assert placed_judge("head") == "head"
    assert placed_judge("m@http://127.0.0.1:9/v1") == "m@http://127.0.0.1:9/v1"
    Path("peregrm.toml").write_text('[models.big]\nmodel = "qwen"\nbase_url = "http://127.0.0.1:9/v1"\n')
    known = load_settings()
    named = OPTIONS.model_copy(update={"judges": ("big",)})
    assert settings_text(named, launch(), known) is not None
    assert settings_text(OPTIONS, launch(held_out_judge="big"), known) is not None
    assert settings_text(OPTIONS, launch(), known) is None
    with pytest.raises(SettingsError):
        settings_text(OPTIONS, launch(held_out_judge="nobody"), known)


def test_the_settings_file_of_a_launch_holds_its_judges_alone(case: Case, tmp_path: Path) -> None:
    whole = tmp_path / "mine.toml"
    whole.write_text(
        '# private\n[run]\nseed = 3\n[models.big]\nmodel = "q\\"wen"\nbase_url = ["http://127.0.0.1:9/v1", "http://127.0.0.1:8/v1"]\n'
        "rpm = 7\ninput_price = 1e-5\nextra_body = { a = { b = [true, 1.5, 'x'] }, when = 2026-11-22 }\n"
        '[models.other]\nmodel = "secret"\nbase_url = "http://127.0.0.1:7/v1"\n'
    )
    known = load_settings(whole)
    named = OPTIONS.model_copy(update={"judges": ("big",)})
    needed = settings_text(named, launch(), known)
    folder = tmp_path / "launch"
    write_launch(folder, rows_of(case), launch(), named, needed)
    path = folder / "peregrm.toml"
    assert "secret" not in path.read_text()
    assert "private" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    kept = load_settings(path).models
    assert kept.keys() == {"big"}
    assert kept["big"].model_dump(exclude={"extra_body"}) == known.models["big"].model_dump(exclude={"extra_body"})
    assert kept["big"].extra_body == known.models["big"].extra_body
    write_launch(folder, rows_of(case), launch(), OPTIONS)
    assert not path.exists(), "the judges of an earlier launch are gone"
    path.write_text("[run]\n")
    with pytest.raises(InputError, match="belongs to no launch"):
        write_launch(folder, rows_of(case), launch(), OPTIONS)
    assert path.read_text() == "[run]\n"


def test_the_judge_of_validation_is_another_one() -> None:
    with pytest.raises(SettingsError, match="name a different one"):
        check_validation_judge(OPTIONS, launch(held_out_judge=OPTIONS.judges[0]), Settings())
    (warning,) = check_validation_judge(OPTIONS, launch(held_out_judge="qwen@http://127.0.0.1:8/v1"), Settings())
    assert "may be that of the training judge" in warning
    assert check_validation_judge(OPTIONS, launch(), Settings()) == []
    scalar = OPTIONS.model_copy(update={"reward": "scalar", "judges": ("scalar:/a",)})
    with pytest.raises(SettingsError, match="name a different one"):
        check_validation_judge(scalar, launch(held_out_judge="scalar:/a"), Settings())


async def test_a_plan_counts_every_reply_and_asks_nobody(case: Case) -> None:
    rows = rows_of(case, train=17)
    plan = await plan_launch(
        rows, launch(epochs=3, eval_every=4, held_out_judge="big@http://127.0.0.1:9/v1"), OPTIONS, Settings()
    )
    assert (plan.steps, plan.prompts, plan.replies) == (6, 17, 6 * 64)
    assert (plan.validations, plan.validation_replies) == (3, 6)
    calls = {(row.purpose, row.model.split("@")[0]): row.calls for row in plan.calls}
    assert calls["training: judge", "qwen"] == 3 * 17 * 8
    assert calls["training: criteria", "qwen"] == 3 * 17
    assert calls["validation: bystander", "big"] == 3 * 2 - 3  # the flagged one is judged by safe guidance alone


def reward_file(folder: Path) -> Any:
    """Load the reward file of a launch by its path, as verl does."""
    spec = importlib.util.spec_from_file_location("custom_reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_reward_file_scores_fails_and_writes_it_all_down(case: Case, tmp_path: Path) -> None:
    rows = rows_of(case)
    asked: list[str] = []
    async with judge_at(asked) as url:
        options = RewardOptions(judges=(f"m@{url}",), criteria="fixed", samples=1)
        kwargs = written(tmp_path, rows, options, held_out_judge=f"other@{url}")["reward"]["custom_reward_function"][
            "reward_kwargs"
        ]
        log = tmp_path / "rewards.jsonl"
        kwargs.update({"log": str(log), "cache": None, "deadline_s": 60})
        score = reward_file(tmp_path).compute_score

        async def row(text: str, split: str = "train", **more: object) -> dict[str, Any]:
            info = {"case": case.model_dump_json(), "split": split, "num_turns": 2}
            return await score(
                data_source="peregrm", solution_str=text, ground_truth=case.id, extra_info=info, **{**kwargs, **more}
            )

        good = await row("That is hard, and it is the second time.")
        assert 0 < good["score"] <= 1
        assert good["judge_failed"] == 0
        with pytest.raises(Unscored, match="deadline"):
            await row("All is lost.", deadline_s=0.5)
        with pytest.raises(Unscored, match="unclosed_thinking"):
            await row("<think>hm")
        with pytest.raises(Unscored, match="unclosed_thinking"):
            await row("hm, where the template opened it", opened="<think>")
        assert set(asked) == {"m"}
        await row("Fine.", "validation")
        assert asked[-1] == "other"
        with pytest.raises(InputError, match="no case"):
            await score("peregrm", "Fine.", case.id, {}, **kwargs)
        with pytest.raises(SettingsError):
            await score("peregrm", "Fine.", case.id, {"case": case.model_dump_json()}, **{**kwargs, "sampels": 2})
        await close_scorers()
    kept = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(one["judge_failed"], one["no_reply"]) for one in kept[:5]] == [(0, 0), (1, 0), (0, 1), (0, 1), (0, 0)]
    assert [one["score"] is None for one in kept] == [False, True, True, True, False, True]
    assert kept[0]["resonation"] == good["resonation"]
    assert kept[5]["failure"] == "SettingsError"
    assert {one["case_id"] for one in kept} == {case.id}


async def test_the_launchs_own_settings_file_counts(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "where ray started"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    async with judge_at() as url:
        toml = f'[models.big]\nmodel = "qwen"\nbase_url = "{url}"\n'
        write_launch(tmp_path / "launch", rows_of(case), launch(), RewardOptions(judges=("big",)), toml)
        score = reward_file(tmp_path / "launch").compute_score
        info = {"case": case.model_dump_json()}
        answer = await score("peregrm", "That is hard.", case.id, info, judge="big", criteria="fixed")
        await close_scorers()
    assert answer["score"] > 0
