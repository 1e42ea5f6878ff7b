"""What participants are shown, and the key to it, in two files: the page is served from the first alone.

Cases and replies carry random ids of their own. The key says which case and which policy each of them is. Left out on purpose: the users'
ids, which are in neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from peregrm.errors import InputError
from peregrm.records import Part
from peregrm.store import read_one, replace_text
from peregrm.study.plan import KEY_FILE, MATERIAL_FILE

__all__ = ["BlindCase", "Key", "KeyEntry", "Material", "Place", "read_key", "read_material", "write_material"]

P = TypeVar("P", bound=BaseModel)


class BlindCase(Part):
    """One case as it is read: `person` says who the user is. `replies` are texts by id, in no telling order."""

    id: str
    language: str
    situation: str
    person: str
    query: str
    replies: dict[str, str]


class Place(Part):
    """One case in one participant's order, by ids: the case and the replies that stand first and second."""

    case: str
    first: str
    second: str


class Material(Part):
    """All that the page needs. `about` is what the people who run the study say of it; `slots` what each participant sees, in order."""

    title: str
    contact: str
    about: str = ""
    choice: str
    participants: int
    cases: tuple[BlindCase, ...]
    slots: tuple[tuple[Place, ...], ...]


class KeyEntry(Part):
    """Which policy wrote a reply, and the reply's own id in the dataset."""

    policy: str
    reply_id: str


class Key(Part):
    """Replies by their blind ids, and the dataset's ids of cases by their blind ones."""

    replies: dict[str, KeyEntry]
    cases: dict[str, str]


def write_material(folder: Path, material: Material, key: Key) -> None:
    """Write both files."""
    replace_text(folder / MATERIAL_FILE, material.model_dump_json(indent=1) + "\n")
    replace_text(folder / KEY_FILE, key.model_dump_json(indent=1) + "\n")


def read_material(folder: Path) -> Material:
    """Read what the page is served from. Raises `InputError` or `ArtifactError`."""
    return _read(folder / MATERIAL_FILE, Material)


def read_key(folder: Path) -> Key:
    """Read the key. Raises `InputError` or `ArtifactError`."""
    return _read(folder / KEY_FILE, Key)


def _read(path: Path, kind: type[P]) -> P:
    try:
        return read_one(path, kind)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `peregrm study new` makes a study") from None
