"""Artifacts on disk: JSON Lines of records, replaced atomically and joined by id.

A run's directory holds one file a stage. Files are written whole, in a deterministic order, so that the same input and the same
model replies give the same bytes; what makes a killed run cheap to repeat is the call cache (`peregrm.models.cache`), not partial
files. `Workspace` remembers the hash of every file it wrote: a file that somebody edited afterwards is theirs, is kept, and feeds
the stages after it. Left out on purpose: databases and partial appends.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from peregrm.errors import ArtifactError, InputError, PeregrmError
from peregrm.records import Record

__all__ = [
    "Workspace",
    "first_of",
    "held_alone",
    "index_by",
    "index_by_id",
    "join",
    "read_one",
    "read_records",
    "replace_bytes",
    "replace_text",
    "summarise_validation",
    "write_records",
]

R = TypeVar("R", bound=Record)
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def replace_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader, or a kill at any moment, sees the old file or the new one, never a part."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write `data` to `path` as `replace_text` does; `mode` is who may read and write it, less what the process never allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk names no file
        raise


@contextmanager
def held_alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, for this command: two that write the same files take each other's for edited ones.

    It is let go when the process ends, however it does. Where system or file system have no such locks nothing is held. Raises
    `ArtifactError` where another command holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"{folder}: another command is at work here: wait for it, or name another folder"
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def write_records(path: Path, records: Iterable[BaseModel]) -> int:
    """Replace `path` by one JSON line a record, in the order given; return how many."""
    text = _lines(records)
    replace_text(path, text)
    return text.count("\n")


def _lines(records: Iterable[BaseModel]) -> str:
    return "".join(record.model_dump_json() + "\n" for record in records)


def summarise_validation(error: ValidationError) -> str:
    """Say in one line what is wrong with a record: the first problem and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"]) or "record"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {first['msg'].lower()}{more}"


def read_records(path: Path, record_type: type[R]) -> list[R]:
    """Read a JSONL artifact.

    Raises `InputError` where the file cannot be read and `ArtifactError`, naming file and line, where a line is damaged or two
    lines hold the same record.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark in front of what they save
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage that writes it first") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    records: list[R] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = record_type.model_validate_json(line)
        except ValidationError as error:
            raise ArtifactError(f"{path}:{number}: {summarise_validation(error)}") from None
        if record.id in seen:
            raise ArtifactError(f"{path}:{number}: the same record as line {seen[record.id]} ({record.id})")
        seen[record.id] = number
        records.append(record)
    return records


def read_one(path: Path, kind: type[M], wrong: type[PeregrmError] = ArtifactError, what: str = "damaged") -> M:
    """Read a file that holds one object as JSON. Raises `wrong`, saying `what`, where it holds none; `OSError` where it cannot be read."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise wrong(f"{path}: {what}: {summarise_validation(error)}") from None
    except UnicodeDecodeError:
        raise wrong(f"{path}: {what}: not UTF-8 text") from None


def index_by_id(records: Iterable[R], what: str) -> dict[str, R]:
    """Return records by their id; two with one id are an `ArtifactError`."""
    index: dict[str, R] = {}
    for record in records:
        if record.id in index:
            raise ArtifactError(f"{what}: {record.id} occurs twice")
        index[record.id] = record
    return index


def index_by(records: Iterable[R], key: Callable[[R], str], what: str) -> dict[str, R]:
    """Return records by the id of their parent, of which each has one; two for one parent are an `ArtifactError`."""
    index: dict[str, R] = {}
    for record in records:
        if key(record) in index:
            raise ArtifactError(f"{what}: two for {key(record)}: {index[key(record)].id} and {record.id}")
        index[key(record)] = record
    return index


def join(keys: Sequence[str], values: Mapping[str, T], what: str) -> list[T]:
    """Return the value of every key, in the order of `keys`.

    Raises `ArtifactError` naming the ids where a key is repeated, has no value, or a value has no key: nothing is ever dropped or
    shifted silently.
    """
    if len(set(keys)) != len(keys):
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise ArtifactError(f"{what}: asked for twice: {first_of(twice)}")
    missing = [key for key in keys if key not in values]
    extra = sorted(set(values) - set(keys))
    if missing or extra:
        parts = [f"missing {first_of(missing)}"] if missing else []
        parts += [f"without a parent {first_of(extra)}"] if extra else []
        raise ArtifactError(f"{what}: {'; '.join(parts)}")
    return [values[key] for key in keys]


def first_of(ids: Sequence[str], most: int = 5) -> str:
    """Return the first ids and how many more there are."""
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


class Workspace:
    """The directory of one run and the stages' files in it.

    `manifest.json` holds the SHA-256 of each artifact as it was written here. It is written before the artifact, with the old hash
    beside the new one, and again after it: a kill between any two steps leaves no file that looks edited.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._manifest_path = root / "manifest.json"
        self._hashes: dict[str, list[str]] = {}
        if self._manifest_path.exists():
            try:
                stored = json.loads(self._manifest_path.read_text(encoding="utf-8"))["sha256"]
                self._hashes = {name: [str(digest) for digest in digests] for name, digests in stored.items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                raise ArtifactError(f"{self._manifest_path}: damaged; delete it to rebuild every stage") from None

    def path(self, name: str) -> Path:
        """Return the path of the artifact `name`, which need not exist."""
        return self.root / name

    def is_edited(self, name: str) -> bool:
        """Tell whether the artifact exists and differs from what was last written here."""
        digest = self._digest(name)
        return digest is not None and name in self._hashes and digest not in self._hashes[name]

    def write(self, name: str, records: Iterable[BaseModel]) -> None:
        """Write one artifact, a line a record, and remember its hash."""
        self.write_text(name, _lines(records))

    def write_text(self, name: str, text: str) -> None:
        """Write one artifact and remember its hash."""
        new = _sha256(text.encode("utf-8"))
        known = self._hashes.get(name, [])
        old = [digest for digest in (self._digest(name),) if digest in known and digest != new]
        self._remember(name, [*old, new])
        replace_text(self.path(name), text)
        self._remember(name, [new])

    def read(self, name: str, record_type: type[R]) -> list[R]:
        """Read one artifact."""
        return read_records(self.path(name), record_type)

    def read_if_there(self, name: str, record_type: type[R]) -> list[R]:
        """Read one artifact; nothing where there is no such file."""
        return self.read(name, record_type) if self.path(name).exists() else []

    def _digest(self, name: str) -> str | None:
        """Return the hash of the artifact as it stands, or None where there is none."""
        try:
            return _sha256(self.path(name).read_bytes())
        except FileNotFoundError:
            return None

    def _remember(self, name: str, digests: list[str]) -> None:
        if self._hashes.get(name) != digests:
            self._hashes[name] = digests
            ordered = dict(sorted(self._hashes.items()))
            replace_text(self._manifest_path, json.dumps({"sha256": ordered}, indent=1) + "\n")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
