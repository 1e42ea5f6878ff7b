"""From a name to a memory store: what `--memory` and `--store` accept.

A store's module is imported when it is opened. A new store is one line in `STORES` and a class with `open(Options)`, which says in
`opened_with` what parts of the options it is made from, and in `place` what `at` is to it. Left out on purpose: stores of other packages
by entry point; whoever has one builds it and hands it over as a `MemoryStore`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.memory.base import MemoryStore
    from peregrm.memory.embedding import Embeds
    from peregrm.models.base import Model

__all__ = [
    "STORES",
    "Options",
    "asks_model",
    "check_place",
    "is_elsewhere",
    "is_server",
    "open_fitting",
    "open_store",
    "store_names",
]

STORES: dict[str, str] = {
    "default": "peregrm.memory.default:DefaultStore",
    "recent": "peregrm.memory.plain:RecentStore",
    "whole": "peregrm.memory.plain:WholeStore",
    "bm25": "peregrm.memory.plain:Bm25Store",
    "minilm": "peregrm.memory.plain:MiniLmStore",
    "two_tier": "peregrm.memory.two_tier:TwoTierStore",
    "linked": "peregrm.memory.linked:LinkedStore",
    "levels": "peregrm.memory.levels:LevelsStore",
    "mem0": "peregrm.memory.mem0_store:Mem0Store",
    "amem": "peregrm.memory.amem:AMemStore",
    "memoryos": "peregrm.memory.memoryos:MemoryOsStore",
    "letta": "peregrm.memory.letta:LettaStore",
}
"""Each store by its name: module and class."""


class Options(NamedTuple):
    """What a store may be opened with. Those that do not need a part ignore it, but for `model`, which `open_store` checks.

    `path` is the SQLite file of the store, made if it does not exist; None keeps notes in memory only. `model` is asked by stores that
    need one. `embedder` replaces the offline MiniLM embeddings. `at` says where a system of others is: the folder of a checkout (`amem`,
    `memoryos`) or the URL of a server (`letta`); for `mem0` and `memoryos` `path` is a folder. `passing` asks a store on a server for notes
    that live as long as the store and meet none from before.
    """

    path: Path | None = None
    model: Model | None = None
    embedder: Embeds | None = None
    at: str | None = None
    passing: bool = False


def store_names() -> list[str]:
    """Return the names of all stores, the default first."""
    return list(STORES)


def open_store(
    name: str = "default",
    path: str | Path | None = None,
    *,
    model: Model | None = None,
    embedder: Embeds | None = None,
    at: str | None = None,
    passing: bool = False,
) -> MemoryStore:
    """Open the store called `name`; the fields of `Options` say what the rest is.

    Raises:
        SettingsError: There is no such store; it needs a model and got none; or it asks none and got one.
        DependencyError: A package or model file it needs is not installed.
        ArtifactError: The file is damaged or the database of another program.
    """
    kind = _kind(name)
    options = Options(None if path is None else Path(path), model, embedder, at, passing)
    asks = "model" in kind.opened_with
    if asks and model is None:
        raise SettingsError(f"the memory store {name} asks a language model: name one")
    if not asks and model is not None:
        raise SettingsError(f"the memory store {name} asks no language model: leave the model out")
    return cast("MemoryStore", kind.open(options))


def asks_model(name: str) -> bool:
    """Tell whether the store called `name` asks a language model; raises `SettingsError` where there is no such store."""
    return "model" in _kind(name).opened_with


def is_elsewhere(name: str) -> bool:
    """Tell whether the store called `name` is a system of others that has to be pointed at; raises as `asks_model` does."""
    return "at" in _kind(name).opened_with


def is_server(name: str) -> bool:
    """Tell whether the store called `name` keeps its notes on a server, which even a store that asks no model writes to."""
    return "passing" in _kind(name).opened_with


def open_fitting(name: str, offered: Options) -> MemoryStore:
    """Open the store called `name` with those parts of `offered` that it is made from. Raises what `open_store` raises."""
    parts = _kind(name).opened_with
    return open_store(name, **{part: value for part, value in offered._asdict().items() if part in parts})


def check_place(names: Sequence[str], at: str | None) -> None:
    """Raise `SettingsError` where one of these stores is somewhere and nobody said where, where several are, or where none is."""
    placed = [name for name in names if is_elsewhere(name)]
    if at is not None and len(placed) > 1:
        raise SettingsError(
            f"--memory-at names one place, and {' and '.join(placed)} want one each: one command for each"
        )
    if at is not None and not placed:
        known = ", ".join(name for name in STORES if is_elsewhere(name))
        raise SettingsError(f"--memory-at says where a store of others is ({known}); none was asked for")
    for name in placed:
        if at is None:
            raise SettingsError(f"the memory store {name} needs {_kind(name).place}: name it with --memory-at")


def _kind(name: str) -> Any:
    if name not in STORES:
        raise SettingsError(f"there is no memory store {name!r}; there is: {', '.join(store_names())}")
    module, _, attribute = STORES[name].partition(":")
    return getattr(import_module(module), attribute)
