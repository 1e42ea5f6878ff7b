"""`peregrm train grpo`, `train rloo` and `train ppo`: a policy learns from a reward, batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from peregrm.cli.common import guards_of, made_of, print_planned, say, settings_of, stopped
from peregrm.cli.options import (
    ConfigOpt,
    CriteriaOpt,
    DatasetArg,
    DimensionsOpt,
    DryOpt,
    FlatteryOpt,
    JsonOpt,
    JudgeTemperatureOpt,
    LengthLimitOpt,
    LengthOpt,
    ParrotOpt,
    SamplesOpt,
)
from peregrm.cli.train import scalar_reward, train_app
from peregrm.cli.train_options import EvalOpt, LoraOpt, RankOpt, SaveOpt, SettingOpt

if TYPE_CHECKING:
    from pydantic import BaseModel

    from peregrm.pipeline.training import GroupTraining
    from peregrm.reward.options import RewardOptions
    from peregrm.settings import Settings

__all__: list[str] = []

T = TypeVar("T", bound="BaseModel")

PolicyOpt = Annotated[
    str,
    typer.Option(
        "--model", help="The policy: embedded, gguf:PATH, a folder (of weights or of an adapter), or a name on a hub."
    ),
]
JudgesOpt = Annotated[
    list[str],
    typer.Option(
        "--judge",
        help="The judge: NAME@BASE_URL, head, head:PATH, local:DIR, embedded, gguf:PATH, a name of the settings, or scalar:PATH. "
        "Several are pooled.",
    ),
]
FolderOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run: checkpoints, log, policy.")]
RewardOpt = Annotated[str, typer.Option("--reward", help="What scores: `peregrm compare --help` has the names.")]
RolloutsOpt = Annotated[int, typer.Option("--rollouts", min=2, help="Replies to each prompt.")]
BatchOpt = Annotated[int, typer.Option("--batch", min=1, help="Prompts a step.")]
AtOnceOpt = Annotated[
    int | None,
    typer.Option(
        "--at-once", min=1, help="Replies in memory at once for gradients; a divisor of rollouts x batch. Default: 8."
    ),
]
EpochsOpt = Annotated[int, typer.Option("--epochs", min=1, help="How often every prompt is used.")]
RateOpt = Annotated[
    float | None,
    typer.Option("--learning-rate", help="Default: 1e-6 for all weights, ten times that for an adapter."),
]
UpdatesOpt = Annotated[
    int | None,
    typer.Option("--updates", min=1, help="Updates on the same replies, with ppo alone. Default: 4 there, else 1."),
]
KlOpt = Annotated[float, typer.Option("--kl", min=0, help="Weight of the divergence from the policy as it began.")]
TokensOpt = Annotated[int, typer.Option("--max-new-tokens", min=1, help="The most tokens of a reply.")]
TemperatureOpt = Annotated[float, typer.Option("--temperature", min=0.01, max=2, help="Of the replies trained on.")]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Of the order of prompts and of every draw.")]
StepsOpt = Annotated[
    int | None,
    typer.Option("--max-steps", min=1, help="Steps in all, in place of epochs; a finished run goes on with more."),
]
HeldOutOpt = Annotated[
    str | None,
    typer.Option("--held-out-judge", help="Another judge, who reads replies to users that are not trained on."),
]
WaitOpt = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait for a judge that went away, before doing without it.")
]
FailuresOpt = Annotated[
    float,
    typer.Option("--failure-budget", min=0, max=1, help="Stop when more than this share of replies has no reward."),
]
ReportOpt = Annotated[
    str, typer.Option("--report-to", help="tensorboard, trackio or none, besides console and log.jsonl.")
]


def _group(
    context: typer.Context,
    dataset: DatasetArg,
    model: PolicyOpt,
    judge: JudgesOpt,
    out: FolderOpt,
    reward: RewardOpt = "shared",
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    dimensions: DimensionsOpt = "empathy",
    length_limit: LengthLimitOpt = None,
    length_penalty: LengthOpt = 0.0,
    parroting_penalty: ParrotOpt = 0.0,
    sycophancy_penalty: FlatteryOpt = 0.0,
    setting: SettingOpt = "memories",
    rollouts: RolloutsOpt = 8,
    batch: BatchOpt = 8,
    at_once: AtOnceOpt = None,
    epochs: EpochsOpt = 1,
    learning_rate: RateOpt = None,
    updates: UpdatesOpt = None,
    kl: KlOpt = 0.001,
    max_new_tokens: TokensOpt = 1024,
    temperature: TemperatureOpt = 1.0,
    lora: LoraOpt = False,
    rank: RankOpt = 16,
    seed: SeedOpt = 0,
    max_steps: StepsOpt = None,
    save_every: SaveOpt = 50,
    eval_every: EvalOpt = 50,
    held_out_judge: HeldOutOpt = None,
    wait: WaitOpt = 1800.0,
    failure_budget: FailuresOpt = 0.2,
    report_to: ReportOpt = "none",
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.training import GroupTraining
    from peregrm.training.grpo.settings import GroupSettings, Pace

    settings = settings_of(config, samples=samples, judge_temperature=judge_temperature, criteria=criteria)
    name, judges = scalar_reward(reward, judge)
    guards = guards_of(length_limit, length_penalty, parroting_penalty, sycophancy_penalty)
    options = reward_options(settings, judges, name, dataset).model_copy(
        update={"dimensions": dimensions, "guards": guards}
    )
    fields = {
        "algorithm": context.info_name,
        "updates": updates or (4 if context.info_name == "ppo" else 1),
        "setting": setting,
        "rollouts": rollouts,
        "batch": batch,
        "at_once": at_once or _divisor(rollouts * batch),
        "epochs": epochs,
        "learning_rate": _usual_rate(model, lora=lora) if learning_rate is None else learning_rate,
        "kl": kl,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "lora": {"rank": rank, "alpha": 2 * rank} if lora else None,
        "seed": seed,
    }
    pace = {
        "max_steps": max_steps,
        "save_every": save_every,
        "eval_every": eval_every,
        "wait_s": wait,
        "failure_budget": failure_budget,
        "report_to": report_to,
    }
    asked = GroupTraining(model, options, made_of(GroupSettings, **fields), made_of(Pace, **pace), held_out_judge)
    _warn(options)
    _run(dataset, asked, settings, out, dry_run=dry_run, as_json=json_)


def _usual_rate(model: str, *, lora: bool) -> float:
    return 1e-5 if lora or (Path(model) / "adapter_config.json").exists() else 1e-6


def _divisor(replies: int, most: int = 8) -> int:
    """Return the largest divisor of the replies of a step that is not over `most`."""
    return next(count for count in range(min(most, replies), 0, -1) if replies % count == 0)


def _warn(options: RewardOptions) -> None:
    """Say what whoever trains on these judges should know."""
    from peregrm.models.heads import is_head
    from peregrm.reward.heads.words import head_words

    if "embedded" in options.judges:
        say(
            "The judge is the small embedded model: its scores carry no meaning, and what is trained on them is good for trying out alone."
        )
    for judge in filter(is_head, options.judges):
        say(head_words(judge))


def _print_plan(dataset: Path, asked: GroupTraining, settings: Settings, *, as_json: bool) -> None:
    import json

    from peregrm.pipeline.training_plan import plan_group

    plan = plan_group(dataset, asked, settings)
    if as_json:
        calls = [row._asdict() for row in plan.calls]
        typer.echo(
            json.dumps({**plan.model_dump(), "calls": calls, "memory_peak": plan.training.memory.peak}, indent=1)
        )
        return
    for line in (*plan.told, *plan.training.lines()):
        typer.echo(line)
    print_planned(list(plan.calls), as_json=False)


def _run(dataset: Path, asked: GroupTraining, settings: Settings, out: Path, *, dry_run: bool, as_json: bool) -> None:
    from peregrm.pipeline.training import train_group

    if dry_run:
        _print_plan(dataset, asked, settings, as_json=as_json)
        return
    with stopped(f"The same command goes on from the last checkpoint in {out}; no judge's call is repeated."):
        done = train_group(dataset, asked, settings, out=out, say=say)
    if as_json:
        typer.echo(done.model_dump_json(indent=1))
        return
    typer.echo(
        f"{done.policy}: {done.steps} steps over {done.prompts} prompts; the figures of each: {out / 'log.jsonl'}"
    )


for _name, _words in {
    "grpo": "Train a policy on a reward with GRPO: replies to a prompt are compared with one another.",
    "rloo": "Train a policy on a reward with RLOO: each reply is compared with the mean of the others.",
    "ppo": "Train a policy on a reward with PPO: each token is compared with what a critic expects; usually --judge scalar:PATH.",
}.items():
    _more = " After a stop the same command goes on from the last checkpoint and repeats no judge's call. The defaults are the paper's."
    train_app.command(_name, help=_words + _more)(_group)
