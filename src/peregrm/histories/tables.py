"""The rows of Parquet and Arrow files as JSON values; needs `pyarrow` (extra `data`), which is imported when asked.

Arrow files are those of Hugging Face datasets: streams as `save_to_disk` writes them, or files with a footer. Times
become ISO 8601 texts; bytes, which no format reads, become null. A column that holds the fields of its items as lists
(`{"role": [...], "content": [...]}`, as that library stores a sequence) becomes a list of objects. Left out on
purpose: the `datasets` package itself, which this does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from peregrm.errors import DependencyError, InputError
from peregrm.extras import install
from peregrm.histories.base import one_line

__all__ = ["Table", "table_kind", "table_rows"]

Table = Literal["parquet", "arrow file", "arrow stream"]

_MAGIC: dict[bytes, Table] = {b"PAR1": "parquet", b"ARRO": "arrow file", b"\xff\xff\xff\xff": "arrow stream"}
_ROWS_AT_ONCE = 64
_HEAVY = {"openai_moderation", "detoxify_moderation"}  # most of the bytes of published logs, and read by no format


def table_kind(head: bytes) -> Table | None:
    """Return what the first bytes of a file say it is, or None for anything else than a table."""
    return _MAGIC.get(head[:4])


def table_rows(path: Path, kind: Table, where: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, a few in memory at a time.

    Raises DependencyError without pyarrow, InputError for a damaged file.
    """
    arrow = _load("pyarrow")
    number = 0
    try:
        for batch in _parquet_batches(path) if kind == "parquet" else _arrow_batches(arrow, path, kind):
            lists = [name for name in batch.schema.names if _holds_lists(arrow, batch.schema.field(name).type)]
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                for row in batch.slice(start, _ROWS_AT_ONCE).to_pylist():
                    number += 1
                    yield {
                        name: _items(_plain(value)) if name in lists else _plain(value) for name, value in row.items()
                    }
    except (arrow.ArrowException, OSError, ValueError) as error:
        after = f" after record {number}" if number else ""
        raise InputError(
            f"{where}: damaged {kind.split()[0].title()} data{after}: {one_line(str(error), 120)}"
        ) from error


def _load(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"Parquet and Arrow files need pyarrow, which is not installed: {install('data')}"
        ) from error


def _parquet_batches(path: Path) -> Iterator[Any]:
    parquet = _load("pyarrow.parquet")
    with closing(parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)) as file:
        columns = [name for name in file.schema_arrow.names if name not in _HEAVY]
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns, use_threads=False)


def _arrow_batches(arrow: Any, path: Path, kind: Table) -> Iterator[Any]:
    ipc = _load("pyarrow.ipc")
    with arrow.OSFile(str(path), "rb") as file:
        if kind == "arrow stream":
            with ipc.open_stream(file) as batches:
                for batch in batches:
                    yield _without_heavy(batch)
            return
        with ipc.open_file(file) as reader:
            for index in range(reader.num_record_batches):
                yield _without_heavy(reader.get_batch(index))


def _without_heavy(batch: Any) -> Any:
    return batch.select([name for name in batch.schema.names if name not in _HEAVY])


def _holds_lists(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if not types.is_struct(kind) or kind.num_fields == 0:
        return False
    fields = [kind.field(index).type for index in range(kind.num_fields)]
    return all(types.is_list(each) or types.is_large_list(each) for each in fields)


def _items(value: Any) -> Any:
    """Return a list of objects for an object of equally long lists; anything else as it is."""
    if not isinstance(value, dict) or not all(isinstance(each, list) for each in value.values()):
        return value
    if len({len(each) for each in value.values()}) != 1:
        return value
    return [dict(zip(value, item, strict=True)) for item in zip(*value.values(), strict=True)]


def _plain(value: Any) -> Any:
    """Return a value of JSON's types."""
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, Decimal) else None
