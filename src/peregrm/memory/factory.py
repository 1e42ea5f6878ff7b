"""From a name to a memory store: what `--memory` and `--store` accept.

A store's module is imported when it is opened. A new store is one line in `STORES` and a class with `open(Options)`. Left out on
purpose: stores of other packages by entry point; whoever has one builds it and hands it over as a `MemoryStore`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from peregrm.errors import SettingsError

if TYPE_CHECKING:
    from peregrm.memory.base import MemoryStore
    from peregrm.memory.embedding import Embeds
    from peregrm.models.base import Model

__all__ = ["STORES", "Options", "asks_model", "open_store", "store_names"]

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
    `memoryos`) or the URL of a server (`letta`); for `mem0` and `memoryos` `path` is a folder.
    """

    path: Path | None = None
    model: Model | None = None
    embedder: Embeds | None = None
    at: str | None = None


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
) -> MemoryStore:
    """Open the store called `name`; the fields of `Options` say what the rest is.

    Raises:
        SettingsError: There is no such store; it needs a model and got none; or it asks none and got one.
        DependencyError: A package or model file it needs is not installed.
        ArtifactError: The file is damaged or the database of another program.
    """
    kind = _kind(name)
    options = Options(None if path is None else Path(path), model, embedder, at)
    if kind.needs_model and model is None:
        raise SettingsError(f"the memory store {name} asks a language model: name one")
    if not kind.needs_model and model is not None:
        raise SettingsError(f"the memory store {name} asks no language model: leave the model out")
    return cast("MemoryStore", kind.open(options))


def asks_model(name: str) -> bool:
    """Tell whether the store called `name` asks a language model; raises `SettingsError` where there is no such store."""
    return bool(_kind(name).needs_model)


def _kind(name: str) -> Any:
    if name not in STORES:
        raise SettingsError(f"there is no memory store {name!r}; there is: {', '.join(store_names())}")
    module, _, attribute = STORES[name].partition(":")
    return getattr(import_module(module), attribute)
