"""What a built dataset is handed on as, and looking into it: export, import, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peregrm.cli.app import app
from peregrm.cli.common import say
from peregrm.cli.options import DEFAULT_OUT, DirArg, JsonOpt
from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.pipeline.publish import ExportOptions

__all__: list[str] = []

_ToOpt = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for the files. Default for `dataset`: the folder itself.")
]
_AsOpt = Annotated[
    str, typer.Option("--as", help="dataset (Parquet and card) or paper (the JSON of arXiv 2606.00728).")
]
_TitleOpt = Annotated[str | None, typer.Option("--title", help="Title of the card; kept for later builds.")]
_LicenceOpt = Annotated[
    str | None, typer.Option("--license", help="Licence of the dataset for the card, such as cc-by-4.0; kept.")
]
_SplitsOpt = Annotated[
    str | None, typer.Option("--splits", help="Shares of users in train, validation, test: 80,10,10; kept.")
]
_SeedOpt = Annotated[int | None, typer.Option("--split-seed", min=0, help="Another division of users; kept.")]
_FlaggedOpt = Annotated[
    bool | None,
    typer.Option("--flagged-in-train/--flagged-apart", help="Whether flagged cases may stand in train; kept."),
]
_FinalArg = Annotated[Path, typer.Argument(help="Final file (list of sessions with persona, queries, memories).")]
_IntoOpt = Annotated[Path, typer.Option("--out", "-o", help="Folder for the cases; must hold none.")]
_CriteriaOpt = Annotated[Path | None, typer.Option("--criteria", help="Criteria file that belongs to the final file.")]
_PredictionsOpt = Annotated[
    list[str] | None,
    typer.Option("--predictions", help="POLICY=FILE: replies in the order of the final file; several are allowed."),
]
_IdArg = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="User, or any record's id or the beginning of it. Default: a list.")
]
_HtmlOpt = Annotated[Path | None, typer.Option("--html", help="Write a page that needs nothing else to this file.")]
_TurnsOpt = Annotated[bool, typer.Option("--turns", help="All turns, not only those that memories rest on.")]


@app.command()
def export(
    directory: DirArg = DEFAULT_OUT,
    out: _ToOpt = None,
    as_: _AsOpt = "dataset",
    title: _TitleOpt = None,
    licence: _LicenceOpt = None,
    splits: _SplitsOpt = None,
    split_seed: _SeedOpt = None,
    flagged: _FlaggedOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Write a build as Parquet files split by user with a dataset card, or as the paper's JSON files. No model is asked."""
    from peregrm.store import Workspace

    workspace = Workspace(directory)
    if as_ == "paper":
        from peregrm.dataset.output.paper_folder import export_paper

        if out is None:
            raise SettingsError("name a folder for the paper's files: --out")
        _print_files(export_paper(workspace, out), out, json_)
        return
    if as_ != "dataset":
        raise SettingsError(f"--as is dataset or paper, not {as_!r}")
    from peregrm.pipeline.publish import publish, save_options
    from peregrm.pipeline.session import load_config

    options = _options(directory, title, licence, splits, split_seed, flagged)
    config = load_config(directory) if (directory / "run.json").exists() else None
    counts = publish(workspace, config, options=options, to=out, say=say)
    save_options(directory, options)
    _print_files(counts, (out or directory) / "cases.parquet", json_)


def _options(
    directory: Path,
    title: str | None,
    licence: str | None,
    splits: str | None,
    seed: int | None,
    flagged: bool | None,
) -> ExportOptions:
    from peregrm.dataset.output.splits import check_shares
    from peregrm.pipeline.publish import load_options

    said: dict[str, object] = {"title": title, "licence": licence, "seed": seed}
    if flagged is not None:
        said["withhold"] = not flagged
    if splits is not None:
        try:
            said["shares"] = check_shares(tuple(float(part) / 100 for part in splits.split(",")))
        except ValueError:
            raise SettingsError(f"--splits is three percentages such as 80,10,10, not {splits!r}") from None
    return load_options(directory).model_copy(update={name: value for name, value in said.items() if value is not None})


@app.command("import")
def import_(
    final: _FinalArg,
    out: _IntoOpt,
    criteria: _CriteriaOpt = None,
    predictions: _PredictionsOpt = None,
    json_: JsonOpt = False,
) -> None:
    """Read the paper's JSON files into a folder: cases, and criteria and replies where they are given. No model is asked.

    What its records hold beyond a case (the conversation, topics, the reasoning, ids of their own) is not taken over, so an export of the
    folder gives back the cases and not the same file.
    """
    from peregrm.dataset.output.paper_folder import import_paper

    pairs = [_policy_and_file(one) for one in predictions or ()]
    counts, notes = import_paper(final, out, criteria=criteria, predictions=pairs)
    for reason, count in notes.items():
        say(f"{reason}: {count}")
    _print_files(counts, out, json_)


def _policy_and_file(said: str) -> tuple[str, Path]:
    policy, sign, path = said.partition("=")
    if not (policy and sign and path):
        raise SettingsError(f"--predictions is POLICY=FILE, not {said!r}")
    return policy, Path(path)


def _print_files(counts: dict[str, int], folder: Path, as_json: bool) -> None:
    import json

    if as_json:
        typer.echo(json.dumps(counts, indent=1))
        return
    for name, count in counts.items():
        typer.echo(f"{count:6} {folder / name}")


@app.command()
def show(
    directory: DirArg = DEFAULT_OUT,
    record: _IdArg = None,
    html: _HtmlOpt = None,
    turns: _TurnsOpt = False,
) -> None:
    """Show one user's way from turns over memories, persona and situations to queries and cases; without an id, list the users."""
    from peregrm.dataset.output.chain import find_chain, list_users, read_chains
    from peregrm.dataset.output.page import page
    from peregrm.dataset.output.show import chain_text, users_text
    from peregrm.pipeline.flagging import read_flags
    from peregrm.records import Case
    from peregrm.store import Workspace, replace_text

    workspace = Workspace(directory)
    cases = workspace.read_if_there("cases.jsonl", Case)
    chains = read_chains(workspace, read_flags(workspace, cases))
    shown = chains if record is None else [find_chain(chains, record)]
    if html is not None:
        title = directory.absolute().name if record is None else f"{shown[0].user_id} in {directory.absolute().name}"
        replace_text(html, page(shown, title, with_list=record is None))
        typer.echo(f"{html}")
        return
    text = users_text(list_users(shown)) if record is None else chain_text(shown[0], all_turns=turns)
    typer.echo(text.rstrip())
