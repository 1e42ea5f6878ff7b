"""A trained head where a model is expected: it has a name and a file, and answers nothing.

`--judge head` means the head that is shipped, `--judge head:PATH` another file. What judges is `peregrm.reward.heads`; this stands for it
in everything that opens models, counts calls and names judges. The name holds a hash of the file, so a head that was trained again is
another judge. Left out on purpose: reading the file, which is for the layer that knows what is in it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from peregrm.errors import InputError, SettingsError
from peregrm.models.base import Completion, Model, Request

__all__ = ["HEAD", "SHIPPED_HEAD", "HeadModel", "head_name", "head_path", "is_head"]

HEAD = "head"
"""The word for the shipped head."""

PREFIX = f"{HEAD}:"

SHIPPED_HEAD = Path(__file__).resolve().parents[1] / "reward" / "heads" / "data" / "head.json"
"""The head that comes with the package."""

_SHIPPED_NAME = "shipped"


def is_head(judge: Model | str) -> bool:
    """Tell whether a judge, or what `--judge` takes, or the name of a judge, is a trained head."""
    name = judge if isinstance(judge, str) else judge.name
    return name == HEAD or name.startswith(PREFIX)


def head_path(spec: str) -> Path:
    """Return the file that `head` or `head:PATH` means, or that the name of a judge in an artifact means."""
    place = spec.removeprefix(HEAD).removeprefix(":")
    place, at, digest = place.rpartition("@")
    if not at or len(digest) != _DIGITS:
        place = spec.removeprefix(HEAD).removeprefix(":")
    return SHIPPED_HEAD if place in ("", _SHIPPED_NAME) else Path(place).expanduser()


_DIGITS = 8


def head_name(spec: str) -> str:
    """Return the name of the judge in `spec`: `head:shipped@HASH` or `head:PATH@HASH`, with eight digits of the file's SHA-256.

    Raises `InputError` where there is no such file.
    """
    path = head_path(spec)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    except OSError as error:
        raise InputError(f"{path}: this head cannot be read: {error.strerror or error}") from None
    return f"{PREFIX}{_SHIPPED_NAME if path == SHIPPED_HEAD else path.absolute()}@{digest}"


class HeadModel:
    """Stands for the head that `spec` means. Raises `InputError` where its file is not there."""

    concurrency = 2

    def __init__(self, spec: str) -> None:
        self.path = head_path(spec)
        self.name = head_name(spec)

    async def complete(self, request: Request) -> Completion:
        """Raise `SettingsError`: a head judges replies and does nothing else."""
        raise SettingsError(
            f"{self.name}: a trained head judges replies and cannot be asked anything else ({request.purpose or 'a question'}): "
            "name a model for that"
        )

    async def aclose(self) -> None:
        """There is nothing to free."""
