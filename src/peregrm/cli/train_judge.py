"""`peregrm train judge`: a small judge learns from the judgements of a strong one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peregrm.cli.common import say, stopped
from peregrm.cli.options import DimensionsOpt, DryOpt, JsonOpt
from peregrm.cli.train import train_app
from peregrm.cli.train_offline import fit_of

__all__: list[str] = []

ScoresArg = Annotated[
    list[Path],
    typer.Argument(help="Rewards that `peregrm score` wrote (.jsonl), or folders of runs, scorings and evaluations."),
]
StudentOpt = Annotated[
    str, typer.Option("--model", help="The weights to begin with: embedded, gguf:PATH, a folder, or a name on a hub.")
]
OutOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the judge: model, card, log.")]
TeacherOpt = Annotated[
    str | None, typer.Option("--teacher", help="Whose judgements, by the name they carry, where there are several.")
]
HeldOutOpt = Annotated[
    float, typer.Option("--held-out", min=0.01, max=0.9, help="Share of users that are only measured on.")
]
EpochsOpt = Annotated[float, typer.Option("--epochs", min=0.01, help="How often every question is seen.")]
RateOpt = Annotated[
    float | None,
    typer.Option("--learning-rate", help="The highest one. Default: 2e-4 for an adapter, 2e-5 for all weights."),
]
BatchOpt = Annotated[int, typer.Option("--batch", min=1, help="Questions a step.")]
AtOnceOpt = Annotated[int, typer.Option("--at-once", min=1, help="Questions in memory at once; divides the batch.")]
RankOpt = Annotated[int, typer.Option("--rank", min=0, help="Rank of the adapter (LoRA); 0 trains all weights.")]
SaveOpt = Annotated[int, typer.Option("--save-every", min=1, help="Steps between two checkpoints.")]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Of the split by user and of the order of questions.")]


@train_app.command("judge")
def judge(
    scores: ScoresArg,
    model: StudentOpt,
    out: OutOpt,
    teacher: TeacherOpt = None,
    dimensions: DimensionsOpt = "empathy",
    held_out: HeldOutOpt = 0.2,
    epochs: EpochsOpt = 3.0,
    learning_rate: RateOpt = None,
    batch: BatchOpt = 8,
    at_once: AtOnceOpt = 1,
    rank: RankOpt = 16,
    save_every: SaveOpt = 50,
    seed: SeedOpt = 0,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Teach a small model to give the judgements of a strong judge, and say how far it does on users it has not seen.

    The result is used as `--judge local:DIR/model`. It judges in the shared mode, without reasons. Stop it at any point: the same command
    goes on where it was.
    """
    import asyncio

    from peregrm.pipeline.training_judge import JudgeTask, plan_judge, train_judge
    from peregrm.training.distillation.card import card_lines
    from peregrm.training.offline.running import FitSettings
    from peregrm.training.policies import Lora

    settings = fit_of(
        FitSettings,
        epochs=epochs,
        learning_rate=learning_rate,
        batch=batch,
        at_once=at_once,
        save_every=save_every,
        seed=seed,
    )
    task = JudgeTask(
        scores=tuple(scores),
        model=model,
        teacher=teacher,
        dimensions=dimensions,
        held_out=held_out,
        settings=settings,
        lora=Lora(rank=rank, alpha=2 * rank) if rank else None,
    )
    if dry_run:
        planned = asyncio.run(plan_judge(task))
        if json_:
            typer.echo(planned.model_dump_json(indent=1))
            return
        typer.echo(
            f"learn from {planned.teacher}: {planned.learned} questions of {planned.learned_users} users, {planned.steps} steps, about "
            f"{planned.training_tokens:,} tokens, the longest question about {planned.longest_tokens:,}; measure on {planned.unseen} "
            f"questions of {planned.unseen_users} users. No judge is asked: 0 calls, no cost."
        )
        for reason, count in planned.left_out.items():
            typer.echo(f"left out: {count} {reason}")
        return
    with stopped("The same command goes on from the last checkpoint."):
        card = asyncio.run(train_judge(task, out, say))
    if json_:
        typer.echo(card.model_dump_json(indent=1))
        return
    typer.echo("\n".join(card_lines(card)))
    say(f"Use it as --judge local:{out / 'model'}")
