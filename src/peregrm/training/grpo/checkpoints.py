"""Checkpoints: the newest are kept, and one that cannot be written is taken away; the one before it stands, and the error says why.

Libraries report a full disk in their own ways (torch as a `RuntimeError` without a word of disks, safetensors as an error of its own), so
the disk itself is asked. safetensors is imported inside.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from peregrm.errors import ArtifactError, TrainingStopped
from peregrm.text import error_line
from peregrm.training.careful import last_checkpoint
from peregrm.training.policies import training_library

__all__ = ["keep_newest", "naming_checkpoint", "written_or_gone"]

_FULL_BYTES = 2**20
"""With less left than this a disk is full: where a write failed, some bytes are always left."""


def keep_newest(folder: Path, count: int) -> None:
    """Delete all checkpoints in a folder but the newest ones, which must be whole."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in found[:-count]:
        shutil.rmtree(path)


def written_or_gone(checkpoints: Path, write: Callable[[], None], what: str = "a checkpoint") -> None:
    """Let `write` write something, by default one of the `checkpoints` beside those that are there.

    Raises `TrainingStopped` where that fails, naming the newest whole checkpoint; a half one is gone then.
    """
    errors = (OSError, RuntimeError, ValueError, training_library("safetensors").SafetensorError)
    try:
        write()
    except errors as error:
        raise _stopped(checkpoints, error, f"{what} could not be written") from error


@contextmanager
def naming_checkpoint(checkpoints: Path) -> Iterator[None]:
    """Where any other file of a training fails, as a log or a ledger on a full disk, raise `TrainingStopped` as `written_or_gone` does."""
    try:
        yield
    except (OSError, ArtifactError) as error:
        full = _is_full(checkpoints, error)
        if (
            not full and getattr(error, "filename", None) is None
        ):  # a connection, or a file that says itself what is wrong with it
            raise
        raise _stopped(checkpoints, error, f"a file could not be {'written' if full else 'read or written'}") from error


def _stopped(checkpoints: Path, error: BaseException, what: str) -> TrainingStopped:
    before = last_checkpoint(checkpoints)
    stands = f"{before} stands: the same command goes on from there" if before else "There is no checkpoint yet"
    why = "the disk is full" if _is_full(checkpoints, error) else error_line(error)
    return TrainingStopped(f"{checkpoints.parent}: {what}: {why}. {stands}")


def _is_full(checkpoints: Path, error: BaseException) -> bool:
    said = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    told = any(words in str(error) for words in ("No space left", "disk is full"))
    return said or told or shutil.disk_usage(checkpoints.parent).free < _FULL_BYTES
