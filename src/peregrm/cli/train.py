"""`peregrm train ...`: what is learned from data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import say
from peregrm.cli.options import JsonOpt

if TYPE_CHECKING:
    from peregrm.reward.heads.head import Measured

__all__ = ["scalar_reward", "train_app"]

train_app = typer.Typer(help="Train judges and policies.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")

PairsArg = Annotated[
    list[Path],
    typer.Argument(help="Pairs (.jsonl, .jsonl.gz), gold.jsonl with memories.jsonl beside it, or folders of them."),
]
HeadOpt = Annotated[Path, typer.Option("--out", "-o", help="The file of the head (JSON).")]
LicenceOpt = Annotated[str, typer.Option("--licence", help="Licence of the training data; it is kept on the card.")]
PeopleOpt = Annotated[
    bool, typer.Option("--by-people", help="People ordered the pairs of the pairs files: the head's card says so.")
]


def scalar_reward(reward: str, judges: list[str]) -> tuple[str, list[str]]:
    """Return reward and judges; a classifier is named as a judge, `scalar:PATH`, and is a reward of its own."""
    named = [judge.removeprefix("scalar:") for judge in judges if judge.startswith("scalar:")]
    if not named:
        return reward, judges
    if len(named) < len(judges) or reward not in ("shared", "scalar"):
        raise typer.BadParameter(
            "scalar:PATH is a reward of its own: no other --reward and no other judge goes with it"
        )
    return "scalar", named


@train_app.command("judge-head")
def judge_head(
    pairs: PairsArg,
    out: HeadOpt,
    licence: LicenceOpt = "not stated",
    by_people: PeopleOpt = False,
    json_: JsonOpt = False,
) -> None:
    """Train a small judge on pairs of replies, cross-fitted by user, and say what it got right on users it had not seen.

    The file is used as `--judge head:FILE`. The same input gives the same file. No GPU and no model server: MiniLM embeddings, a linear
    head, minutes on a laptop.
    """
    from peregrm.models.embeddings import Embedder
    from peregrm.training.judge_head import check_place, train_head, write_head
    from peregrm.training.pairs import read_material

    check_place(out)
    head = train_head(read_material(pairs, by_people=by_people), Embedder(), licence, say)
    write_head(head, out)
    if json_:
        typer.echo(head.card.model_dump_json(indent=1))
        return
    typer.echo(
        f"{out}: {head.card.pairs} pairs of {head.card.users} users, {head.card.folds} folds; on users not seen in training:"
    )
    apart = {(one.name, one.of): one for one in head.card.measured}
    for one in sorted((one for one in head.card.measured if one.of == "all"), key=lambda one: one.name):
        others = apart.get((one.name, "others"))
        besides = f"; {_figure(others)} on the {others.users} users not read for the word lists" if others else ""
        typer.echo(f"  {_figure(one)}  {one.name} (n = {one.n}, {one.users} users{besides})")
    for reason, count in head.card.left_out.items():
        typer.echo(f"  left out: {count} {reason}")


def _figure(one: Measured) -> str:
    interval = "no interval" if one.low is None else f"{one.low:.2f} to {one.high:.2f}"
    return f"{one.mean:.2f} [{interval}]" if one.mean is not None else "not known"
