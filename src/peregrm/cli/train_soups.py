"""`peregrm train soups`: an adapter for each kind of user, mixed for each user."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peregrm.cli.common import made_of, print_planned, say, settings_of, stopped, with_bars
from peregrm.cli.options import (
    BudgetOpt,
    ConfigOpt,
    CriteriaOpt,
    DatasetArg,
    DryOpt,
    JsonOpt,
    JudgeTemperatureOpt,
    SamplesOpt,
)
from peregrm.cli.train import train_app
from peregrm.cli.train_offline import SeedOpt, fit_of
from peregrm.cli.train_options import AtOnceOpt, BatchOpt, EpochsOpt, PolicyOpt, SaveOpt, SettingOpt

if TYPE_CHECKING:
    from peregrm.pipeline.plan import PlannedCalls
    from peregrm.pipeline.training_offline import OfflineTask
    from peregrm.pipeline.training_soups import SoupTask
    from peregrm.settings import Settings

__all__: list[str] = []

JudgesOpt = Annotated[
    list[str], typer.Option("--judge", help="Who scores the replies, named like --model; several are pooled.")
]
OutOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the soup: clusters, adapters, replies.")]
ClustersOpt = Annotated[int, typer.Option("--clusters", min=1, help="How many kinds of users, and so adapters.")]
SharpnessOpt = Annotated[
    float,
    typer.Option("--sharpness", min=0, max=1000, help="How much the nearest cluster counts; 0: all count the same."),
]
ByOpt = Annotated[
    str, typer.Option("--by", help="How an adapter is trained: sft (on the best of several replies) or grpo.")
]
RolloutsOpt = Annotated[int, typer.Option("--rollouts", min=2, help="Replies the policy writes to each case.")]
NewTokensOpt = Annotated[int, typer.Option("--max-new-tokens", min=1, help="The most tokens of a reply.")]
TemperatureOpt = Annotated[float, typer.Option("--temperature", min=0.01, max=2, help="Of the replies.")]
RankOpt = Annotated[int, typer.Option("--rank", min=1, help="Rank of the adapters.")]
RateOpt = Annotated[float | None, typer.Option("--learning-rate", help="The highest one. Default: 1e-4, by grpo 1e-5.")]


@train_app.command("soups")
def soups(
    dataset: DatasetArg,
    model: PolicyOpt,
    judge: JudgesOpt,
    out: OutOpt,
    clusters: ClustersOpt,
    sharpness: SharpnessOpt = 4.0,
    by: ByOpt = "sft",
    samples: SamplesOpt = None,
    judge_temperature: JudgeTemperatureOpt = None,
    criteria: CriteriaOpt = None,
    failure_budget: BudgetOpt = None,
    rollouts: RolloutsOpt = 8,
    setting: SettingOpt = "memories",
    temperature: TemperatureOpt = 1.0,
    max_new_tokens: NewTokensOpt = 1024,
    epochs: EpochsOpt = 1.0,
    learning_rate: RateOpt = None,
    batch: BatchOpt = 8,
    at_once: AtOnceOpt = 4,
    rank: RankOpt = 16,
    save_every: SaveOpt = 50,
    seed: SeedOpt = 0,
    config: ConfigOpt = None,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Cluster users by the kind of reply that suits them, train an adapter for each cluster, and mix them for each user.

    Users who are not trained on are answered by the soup, by one adapter for everybody and by the bare policy; `peregrm evaluate` compares
    the three.
    """
    from peregrm.errors import SettingsError
    from peregrm.pipeline.training_soups import SoupTask
    from peregrm.training.offline.samples import SampleSettings
    from peregrm.training.rows import STATED

    if by not in ("sft", "grpo"):
        raise SettingsError(f"--by is sft or grpo, not {by!r}")
    if setting not in STATED:
        raise SettingsError(f"training knows the settings {', '.join(STATED)}, not {setting!r}")
    settings = settings_of(
        config, samples=samples, judge_temperature=judge_temperature, criteria=criteria, failure_budget=failure_budget
    )
    drawn = made_of(
        SampleSettings,
        setting=setting,
        samples=rollouts,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    task = SoupTask(dataset, clusters, drawn, sharpness, seed)
    fit = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch": batch,
        "at_once": at_once,
        "save_every": save_every,
        "seed": seed,
    }
    # by GRPO `at_once` divides the replies of a step, and no examples are learned
    offline = _offline(task, model, judge, fit if by == "sft" else {**fit, "at_once": 1}, rank, settings)
    if dry_run:
        _print_plan(task, by, offline, fit, settings, as_json=json_)
        return
    _run(task, by, offline, fit, settings, out, as_json=json_)


def _offline(
    task: SoupTask, model: str, judges: list[str], fit: dict[str, Any], rank: int, settings: Settings
) -> OfflineTask:
    from peregrm.pipeline.asked import reward_options
    from peregrm.pipeline.training_offline import OfflineTask
    from peregrm.training.offline.running import FitSettings
    from peregrm.training.policies import Lora

    return OfflineTask(
        dataset=task.dataset,
        model=model,
        reward=reward_options(settings, judges, "shared", task.dataset),
        samples=task.drawn,
        settings=fit_of(FitSettings, **fit),
        lora=Lora(rank=rank, alpha=2 * rank),
    )


def _print_plan(
    task: SoupTask, by: str, offline: OfflineTask, fit: dict[str, Any], settings: Settings, *, as_json: bool
) -> None:
    import json

    from peregrm.pipeline.training_material import training_cases
    from peregrm.pipeline.training_offline import plan_offline
    from peregrm.pipeline.training_plan import plan_group
    from peregrm.pipeline.training_soups import cluster_users

    strategies = cluster_users(task, training_cases(task.dataset))
    plan: Any
    if by == "sft":
        plan, calls = plan_offline(offline, settings, partial(with_bars, counting=True))
    else:  # the clusters are judged apart from the single adapter, on as many cases
        planned = plan_group(task.dataset, _groups(offline, fit, settings), settings)
        plan, calls = planned.training, [_twice(row) for row in planned.calls]
    sizes = [len(cluster.users) for cluster in strategies.clusters]
    if as_json:
        rows = [row._asdict() for row in calls]
        typer.echo(json.dumps({"clusters": sizes, "single": plan.model_dump(), "calls": rows}, indent=1))
        return
    typer.echo("\n".join([*strategies.lines(), f"the single adapter, by {by}:", *plan.lines()]))
    typer.echo(
        f"then {len(sizes)} adapters on the cases of {', '.join(map(str, sizes))} users, which together take about as many steps again"
    )
    print_planned(calls, as_json=False)


def _twice(row: PlannedCalls) -> PlannedCalls:
    return row._replace(
        calls=2 * row.calls,
        input_tokens=2 * row.input_tokens,
        output_tokens=2 * row.output_tokens,
        cost=None if row.cost is None else 2 * row.cost,
    )


def _run(
    task: SoupTask,
    by: str,
    offline: OfflineTask,
    fit: dict[str, Any],
    settings: Settings,
    out: Path,
    *,
    as_json: bool,
) -> None:
    from peregrm.pipeline.training_soups import by_groups, by_sft, train_soups

    trainers = (
        by_sft(offline, settings, with_bars, say)
        if by == "sft"
        else by_groups(_groups(offline, fit, settings), settings, say)
    )
    with stopped("Nothing that is written is lost: the same command goes on where it was."):
        card = train_soups(task, out, trainers, say)
    if as_json:
        typer.echo(card.model_dump_json(indent=1))
        return
    typer.echo(f"{len(card.adapters)} adapters, of {', '.join(map(str, card.sizes))} users")
    for user, weights in card.weights.items():
        typer.echo(f"  {user}: {', '.join(f'{weight:.2f}' for weight in weights)}")
    typer.echo(f"Compare them: peregrm evaluate {card.unseen} {' '.join(card.replies)}")


def _groups(offline: OfflineTask, fit: dict[str, Any], settings: Settings) -> Any:
    from peregrm.errors import SettingsError
    from peregrm.pipeline.training import GroupTraining
    from peregrm.training.grpo.settings import GroupSettings, Pace

    if offline.reward is None or offline.lora is None:
        raise SettingsError("group training of a soup needs a judge and an adapter")
    if fit["epochs"] != int(fit["epochs"]):
        raise SettingsError("with --by grpo, --epochs is a whole number")
    asked = made_of(
        GroupSettings,
        setting=offline.samples.setting,
        rollouts=offline.samples.samples,
        batch=fit["batch"],
        epochs=int(fit["epochs"]),
        learning_rate=1e-5 if fit["learning_rate"] is None else fit["learning_rate"],
        max_new_tokens=offline.samples.max_new_tokens,
        temperature=offline.samples.temperature,
        at_once=fit["at_once"],
        lora=offline.lora,
        seed=fit["seed"],
    )
    pace = Pace(save_every=fit["save_every"], failure_budget=settings.run.failure_budget)
    return GroupTraining(offline.model, offline.reward, asked, pace)
