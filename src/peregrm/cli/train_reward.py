"""`peregrm train reward`: a scalar reward model learns from pairs of replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peregrm.cli.common import say, stopped
from peregrm.cli.options import DryOpt, JsonOpt
from peregrm.cli.train import LicenceOpt, PairsArg, train_app
from peregrm.cli.train_offline import RateOpt, fit_of, lora_of
from peregrm.cli.train_options import AtOnceOpt, BatchOpt, EpochsOpt, LoraOpt, RankOpt, SaveOpt

__all__: list[str] = []

StartOpt = Annotated[
    str,
    typer.Option(
        "--model",
        help="The weights to begin with: embedded, gguf:PATH, a folder (also of an adapter), or a name on a hub.",
    ),
]
SeedOpt = Annotated[int, typer.Option("--seed", min=0, help="Of the order of examples, and of weights that are new.")]
ModelOutOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder of the training: model, card, log.")]


@train_app.command("reward")
def reward(
    pairs: PairsArg,
    model: StartOpt,
    out: ModelOutOpt,
    licence: LicenceOpt = "not stated",
    epochs: EpochsOpt = 1.0,
    learning_rate: RateOpt = None,
    batch: BatchOpt = 16,
    at_once: AtOnceOpt = 4,
    lora: LoraOpt = False,
    rank: RankOpt = 16,
    save_every: SaveOpt = 50,
    seed: SeedOpt = 0,
    dry_run: DryOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Train a scalar reward model on pairs (Bradley-Terry), and say what it gets right on users it has not seen.

    The result is used as `--reward scalar --judge scalar:DIR/model` (`peregrm score`: `--mode scalar`). Stop it at any point: the same
    command goes on where it was.
    """
    from peregrm.training.offline.reward_card import card_lines
    from peregrm.training.offline.reward_model import plan_reward, train_reward_model
    from peregrm.training.offline.running import FitSettings
    from peregrm.training.pairs import read_material
    from peregrm.training.policies import load_policy, outline_policy

    settings = fit_of(
        FitSettings,
        epochs=epochs,
        learning_rate=learning_rate,
        batch=batch,
        at_once=at_once,
        save_every=save_every,
        seed=seed,
    )
    material = read_material(pairs)
    if dry_run:
        plan = plan_reward(outline_policy(model), material, lora_of(lora, rank), settings)
        typer.echo(plan.model_dump_json(indent=1) if json_ else "\n".join(plan.lines()))
        return
    policy = load_policy(model, precision="auto" if lora else "float32")
    with stopped("The same command goes on from the last checkpoint."):
        card = train_reward_model(policy, material, lora_of(lora, rank), settings, out, licence, say)
    typer.echo(card.model_dump_json(indent=1) if json_ else "\n".join(card_lines(card)))
    say(f"Use it as --reward scalar (in `peregrm score`: --mode scalar) --judge scalar:{out / 'model'}")
