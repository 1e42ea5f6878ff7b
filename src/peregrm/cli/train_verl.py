"""The command that writes a launch of GRPO on verl, for more than one machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.common import guards_of, print_planned, say, settings_of
from peregrm.cli.options import (
    ConfigOpt,
    CriteriaOpt,
    DatasetArg,
    DryOpt,
    FlatteryOpt,
    JsonOpt,
    JudgeTemperatureOpt,
    LengthLimitOpt,
    LengthOpt,
    ParrotOpt,
    SamplesOpt,
)
from peregrm.cli.train import train_app
from peregrm.cli.train_options import EvalOpt, LoraOpt, RankOpt, SaveOpt, SettingOpt

if TYPE_CHECKING:
    from peregrm.pipeline.verl_training import LaunchPlan

__all__: list[str] = []

PolicyOpt = Annotated[
    str, typer.Option("--model", help="The policy: a folder of transformers weights, or a hub's name.")
]
JudgeOpt = Annotated[
    str, typer.Option("--judge", help="Who judges while training, named like --model of other commands.")
]
FolderOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the launch, at the same path on all nodes.")]
HeldOutOpt = Annotated[
    str | None,
    typer.Option("--held-out-judge", help="Another judge for the validation prompts, so that over-optimisation shows."),
]
RewardOpt = Annotated[
    str,
    typer.Option(
        "--reward", help="shared, paper, or a rival that judges replies one by one: perm, rlpa, holistic, ..."
    ),
]
NodesOpt = Annotated[int, typer.Option("--nodes", min=1, help="Machines.")]
GpusOpt = Annotated[int, typer.Option("--gpus-per-node", min=1, help="GPUs of each.")]
TensorOpt = Annotated[
    int, typer.Option("--tensor-parallel", min=1, help="GPUs that hold one copy of the policy while it writes.")
]
RolloutsOpt = Annotated[int, typer.Option("--rollouts", min=2, help="Replies to each prompt: the group.")]
BatchOpt = Annotated[int, typer.Option("--batch", min=1, help="Prompts a step.")]
RateOpt = Annotated[float, typer.Option("--learning-rate", min=0, help="Of the optimizer.")]
KlOpt = Annotated[float, typer.Option("--kl", min=0, help="Coefficient of the KL penalty in the loss.")]
TokensOpt = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens of a reply, thinking included.")]
EpochsOpt = Annotated[int, typer.Option("--epochs", min=1, help="Times that every prompt is used.")]
TemperatureOpt = Annotated[float, typer.Option("--temperature", min=0, help="Of the policy while training.")]
NoReplyOpt = Annotated[
    float | None,
    typer.Option("--no-reply-score", help="Reward of an output whose thinking never ended. Default: it has none."),
]
DeadlineOpt = Annotated[float, typer.Option("--deadline", min=1, max=299, help="Seconds for the reward of one reply.")]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Order of the prompts, and the judge's draws.")]


@train_app.command("verl")
def verl(
    dataset: DatasetArg,
    model: PolicyOpt,
    judge: JudgeOpt,
    out: FolderOpt,
    held_out_judge: HeldOutOpt = None,
    reward: RewardOpt = "shared",
    setting: SettingOpt = "memories",
    nodes: NodesOpt = 1,
    gpus_per_node: GpusOpt = 8,
    tensor_parallel: TensorOpt = 1,
    rollouts: RolloutsOpt = 8,
    batch: BatchOpt = 8,
    learning_rate: RateOpt = 1e-6,
    kl: KlOpt = 0.001,
    max_new_tokens: TokensOpt = 1024,
    epochs: EpochsOpt = 1,
    temperature: TemperatureOpt = 1.0,
    lora: LoraOpt = False,
    rank: RankOpt = 16,
    save_every: SaveOpt = 20,
    eval_every: EvalOpt = 20,
    no_reply_score: NoReplyOpt = None,
    deadline: DeadlineOpt = 240.0,
    seed: SeedOpt = 0,
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    length_limit: LengthLimitOpt = None,
    length_penalty: LengthOpt = 0.0,
    parroting_penalty: ParrotOpt = 0.0,
    sycophancy_penalty: FlatteryOpt = 0.0,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Write a launch of GRPO on verl 0.9: configuration, prompts, reward and start script for N nodes. Nothing is trained here.

    Needs the policy's tokenizer (transformers), no GPU and no verl. Defaults are the paper's settings.
    """
    import asyncio

    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.verl_training import (
        check_validation_judge,
        launch_rows,
        placed_judge,
        plan_launch,
        settings_text,
    )
    from peregrm.training.rows import STATED
    from peregrm.training.verl_launch import check_launch, check_rows, make_launch, write_launch

    stated = next((known for known in STATED if known == setting), None)
    if stated is None:
        raise typer.BadParameter(f"one of {', '.join(STATED)}", param_hint="--setting")
    flags = {"samples": samples, "judge_temperature": judge_temperature, "criteria": criteria, "seed": seed}
    settings = settings_of(config, **flags)
    guards = guards_of(length_limit, length_penalty, parroting_penalty, sycophancy_penalty)
    options = reward_options(settings, [placed_judge(judge)], reward, dataset).model_copy(update={"guards": guards})
    launch = make_launch(
        model=model,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        tensor_parallel=tensor_parallel,
        rollouts=rollouts,
        batch=batch,
        learning_rate=learning_rate,
        kl=kl,
        max_new_tokens=max_new_tokens,
        epochs=epochs,
        temperature=temperature,
        lora_rank=rank if lora else 0,
        save_every=save_every,
        eval_every=eval_every,
        seed=seed,
        held_out_judge=placed_judge(held_out_judge) if held_out_judge else None,
        no_reply_score=no_reply_score,
        deadline_s=deadline,
    )
    check_launch(launch, options)
    needed = settings_text(options, launch, settings)
    warned = check_validation_judge(options, launch, settings)
    rows, told = launch_rows(dataset, launch, stated)
    check_rows(rows, launch)
    for line in (*warned, *told):
        say(line)
    plan = asyncio.run(plan_launch(rows, launch, options, settings))
    if not dry_run:
        write_launch(out, rows, launch, options, needed)
    _print_plan(plan, as_json=json_)
    if not dry_run:
        say(f"Launch: {out}. Start it with {out / 'run.sh'}; {out / 'README.md'} says how on several nodes.")


def _print_plan(plan: LaunchPlan, *, as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps({**plan._asdict(), "calls": [row._asdict() for row in plan.calls]}, indent=1))
        return
    typer.echo(
        f"{plan.steps} steps: {plan.prompts} prompts, {plan.replies} replies; {plan.validations} validations with "
        f"{plan.validation_replies} replies in all; the policy reads and writes {plan.policy_tokens:,} tokens at most"
    )
    print_planned(plan.calls, as_json=False)
