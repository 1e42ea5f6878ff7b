"""A trained head where a model is expected: it has a name and a file, and answers nothing.

`--judge head` means the head that is shipped, `--judge head:PATH` another file. What judges is `peregrm.reward.heads`; this stands for it
in everything that opens models, counts calls and names judges. The name holds a hash of the file, so a head that was trained again is
another judge. Left out on purpose: knowing what is in the file, which is for the layer that judges with it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from peregrm.errors import InputError, SettingsError
from peregrm.models.base import Completion, Model, Request

__all__ = ["HEAD", "SHIPPED_HEAD", "HeadModel", "head_bytes", "head_name", "head_path", "is_head"]

HEAD = "head"
"""The word for the shipped head."""

PREFIX = f"{HEAD}:"

SHIPPED_HEAD = Path(__file__).resolve().parents[1] / "reward" / "heads" / "data" / "head.json"
"""The head that comes with the package."""

_SHIPPED_NAME = "shipped"
_DIGITS = 8
_HASH = re.compile(rf"@([0-9a-f]{{{_DIGITS}}})$")


def is_head(judge: Model | str) -> bool:
    """Tell whether a judge, or what `--judge` takes, or the name of a judge, is a trained head."""
    name = judge if isinstance(judge, str) else judge.name
    return name == HEAD or name.startswith(PREFIX)


def head_path(spec: str) -> Path:
    """Return the file that `head` or `head:PATH` means, or that the name of a judge in an artifact means.

    A hash at the end is part of the path only where there is such a file. Raises `InputError` where the path is under the home of nobody.
    """
    place = spec.removeprefix(HEAD).removeprefix(":")
    if not _is_file(place):
        place = _HASH.sub("", place)
    return SHIPPED_HEAD if place in ("", _SHIPPED_NAME) else _expanded(place)


def _is_file(place: str) -> bool:
    return bool(_HASH.search(place)) and _expanded(place).is_file()


def _expanded(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise InputError(f"{place}: this head cannot be read: {error}") from None


def head_bytes(spec: str) -> bytes:
    """Return what is in the file of a head.

    Raises `InputError` where there is no such file, or where `spec` names a hash and the file has another one by now.
    """
    path = head_path(spec)
    data = _read(path)
    named = _HASH.search(spec)
    if named and not path.name.endswith(named[0]) and named[1] != _digest(data):
        raise InputError(
            f"{path}: this head has changed since it was named: it was {named[1]} and is {_digest(data)} now"
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: this head cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def head_name(spec: str) -> str:
    """Return the name of the judge in `spec`: `head:shipped@HASH` or `head:PATH@HASH`, with eight digits of the file's SHA-256.

    Raises `InputError` where there is no such file.
    """
    path = head_path(spec)
    return f"{PREFIX}{_SHIPPED_NAME if path == SHIPPED_HEAD else path.absolute()}@{_digest(_read(path))}"


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
