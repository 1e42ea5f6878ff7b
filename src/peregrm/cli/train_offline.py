"""`peregrm train sft` and `dpo`: a policy learns from the best of several replies to each case."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from peregrm.cli.common import made_of, say, settings_of, stopped, with_bars
from peregrm.cli.options import (
    BudgetOpt,
    ConfigOpt,
    CriteriaOpt,
    DatasetArg,
    DimensionsOpt,
    DryOpt,
    JsonOpt,
    JudgeTemperatureOpt,
    SamplesOpt,
)
from peregrm.cli.train import scalar_reward, train_app
from peregrm.cli.train_options import (
    AtOnceOpt,
    BatchOpt,
    EpochsOpt,
    LoraOpt,
    PolicyOpt,
    RankOpt,
    SaveOpt,
    SettingOpt,
)
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.pipeline.training_offline import OfflineTask
    from peregrm.settings import Settings
    from peregrm.training.offline.running import FitSettings
    from peregrm.training.policies import Lora

__all__ = [
    "RateOpt",
    "SeedOpt",
    "fit_of",
    "lora_of",
]

F = TypeVar("F", bound="FitSettings")

JudgesOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help="Who scores the replies; several are pooled. None: with --replies that have ranks, or one a case.",
    ),
]
RewardOpt = Annotated[
    str, typer.Option("--reward", help="The reward replies are scored by: `peregrm compare --help` lists them.")
]
OutOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the training: replies, scores, log, policy.")]
RepliesOpt = Annotated[
    Path | None, typer.Option("--replies", help="JSONL of replies by anybody, instead of the policy's own.")
]
RolloutsOpt = Annotated[int, typer.Option("--rollouts", min=1, help="Replies the policy writes to each case.")]
TemperatureOpt = Annotated[float, typer.Option("--temperature", min=0.01, max=2, help="Of the policy's replies.")]
NewTokensOpt = Annotated[int, typer.Option("--max-new-tokens", min=1, help="The most tokens of a reply.")]
RateOpt = Annotated[
    float | None,
    typer.Option("--learning-rate", help="The highest one. Default: 1e-5 (dpo: 1e-6); ten times that for an adapter."),
]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Of the replies, the order of examples, a new adapter.")]
BetaOpt = Annotated[
    float | None,
    typer.Option(
        "--beta", min=0.0001, help="With dpo alone: what moving away from the policy as it was costs. Default: 0.1."
    ),
]


def _best(
    context: typer.Context,
    dataset: DatasetArg,
    model: PolicyOpt,
    out: OutOpt,
    judge: JudgesOpt = None,
    reward: RewardOpt = "shared",
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    dimensions: DimensionsOpt = "empathy",
    failure_budget: BudgetOpt = None,
    replies: RepliesOpt = None,
    rollouts: RolloutsOpt = 8,
    setting: SettingOpt = "memories",
    temperature: TemperatureOpt = 1.0,
    max_new_tokens: NewTokensOpt = 1024,
    beta: BetaOpt = None,
    epochs: EpochsOpt = 1.0,
    learning_rate: RateOpt = None,
    batch: BatchOpt = 16,
    at_once: AtOnceOpt = 4,
    lora: LoraOpt = False,
    rank: RankOpt = 16,
    save_every: SaveOpt = 50,
    seed: SeedOpt = 0,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    from peregrm.training.offline.dpo import DPOSettings
    from peregrm.training.offline.running import FitSettings

    if context.info_name == "sft" and beta is not None:
        raise SettingsError("--beta belongs to dpo")
    own = {} if beta is None else {"beta": beta}
    settings = settings_of(
        config,
        samples=samples,
        judge_temperature=judge_temperature,
        criteria=criteria,
        failure_budget=failure_budget,
    )
    fit = fit_of(
        DPOSettings if context.info_name == "dpo" else FitSettings,
        epochs=epochs,
        learning_rate=learning_rate,
        batch=batch,
        at_once=at_once,
        save_every=save_every,
        seed=seed,
        **own,
    )
    given = {"dataset": dataset, "model": model, "replies": replies, "settings": fit, "lora": lora_of(lora, rank)}
    drawn = {"setting": setting, "samples": rollouts, "temperature": temperature, "max_new_tokens": max_new_tokens}
    task = _task(given, drawn, (reward, judge, dimensions), settings)
    _run(task, settings, out, dry_run=dry_run, as_json=json_)


def lora_of(wanted: bool, rank: int) -> Lora | None:
    """Return the adapter that is asked for; None where all weights are trained."""
    from peregrm.training.policies import Lora

    return Lora(rank=rank, alpha=2 * rank) if wanted else None


def fit_of(kind: type[F], **fields: Any) -> F:
    """Return the settings of a fit made of flags; raises `SettingsError` where one makes no sense."""
    made = made_of(kind, **fields)
    if made.batch % made.at_once:
        raise SettingsError(f"--at-once {made.at_once} does not divide --batch {made.batch}")
    return made


def _task(
    given: dict[str, Any],
    drawn: dict[str, Any],
    reward: tuple[str, list[str] | None, str],
    settings: Settings,
) -> OfflineTask:
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.training_offline import OfflineTask
    from peregrm.training.offline.samples import SampleSettings
    from peregrm.training.rows import STATED

    if drawn["setting"] not in STATED:
        raise SettingsError(f"training knows the settings {', '.join(STATED)}, not {drawn['setting']!r}")
    name, judges, dimensions = reward
    options = None
    if judges:
        name, judges = scalar_reward(name, judges)
        options = reward_options(settings, judges, name, given["dataset"]).model_copy(update={"dimensions": dimensions})
    return OfflineTask(**given, samples=made_of(SampleSettings, **drawn, seed=given["settings"].seed), reward=options)


def _run(task: OfflineTask, settings: Settings, out: Path, *, dry_run: bool, as_json: bool) -> None:
    from peregrm.pipeline.training_offline import POLICY, plan_offline, train_offline

    if dry_run:
        plan, calls = plan_offline(task, settings, partial(with_bars, counting=True))
        if as_json:
            import json

            typer.echo(json.dumps({**plan.model_dump(), "calls": [row._asdict() for row in calls]}, indent=1))
            return
        typer.echo("\n".join(plan.lines()))
        if calls:
            from peregrm.cli.common import print_planned

            print_planned(calls, as_json=False)
        return
    with stopped("Nothing that is written is lost: the same command goes on where it was."):
        done = train_offline(task, settings, out, with_bars, say)
    if as_json:
        typer.echo(done.model_dump_json(indent=1))
        return
    typer.echo(f"{done.steps} steps, loss {done.first_loss:.4f} to {done.last_loss:.4f}, {done.seconds:.0f} s")
    for name, value in done.figures.items():
        typer.echo(f"  {name.replace('_', ' ')}: {value:.4f}")
    typer.echo(f"The policy: {out / POLICY}")


for _name, _end in {
    "sft": "train it on the best of each (best-of-n).",
    "dpo": "train it to prefer the best of each to the worst.",
}.items():
    train_app.command(_name, help=f"Let a policy write several replies to each case, score them, and {_end}")(_best)
