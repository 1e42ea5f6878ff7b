"""Options that mean the same in several `peregrm train` commands."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AtOnceOpt",
    "BatchOpt",
    "EpochsOpt",
    "EvalOpt",
    "LoraOpt",
    "PolicyOpt",
    "RankOpt",
    "SaveOpt",
    "SettingOpt",
]

PolicyOpt = Annotated[
    str,
    typer.Option("--model", help="The policy: embedded, gguf:PATH, a folder (also of an adapter), or a name on a hub."),
]
SettingOpt = Annotated[
    str, typer.Option("--setting", help="What the policy is shown of the user: generic, memories or personalized.")
]
EpochsOpt = Annotated[float, typer.Option("--epochs", min=0.01, max=1000, help="How often every example is seen.")]
BatchOpt = Annotated[int, typer.Option("--batch", min=1, help="Examples a step.")]
AtOnceOpt = Annotated[int, typer.Option("--at-once", min=1, help="Examples in memory at once; divides the batch.")]
LoraOpt = Annotated[bool, typer.Option("--lora/--full", help="Train a low-rank adapter, or all weights.")]
RankOpt = Annotated[int, typer.Option("--rank", min=1, help="Rank of the adapter, with --lora.")]
SaveOpt = Annotated[int, typer.Option("--save-every", min=1, help="Steps between two checkpoints.")]
EvalOpt = Annotated[int, typer.Option("--eval-every", min=1, help="Steps between two held-out evaluations.")]
