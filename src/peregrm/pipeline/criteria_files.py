"""Criteria to read and to edit: out of a run into one TOML file, and back, checked.

What comes back stands as edited by hand: later commands keep it and judge by it. A run has one file of criteria for each set of
dimensions they were written for.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from peregrm.dimensions import EMPATHY, Dimension
from peregrm.errors import InputError
from peregrm.records import Case, Criteria, Criterion
from peregrm.reward.criteria import check_criteria
from peregrm.store import replace_text, summarise_validation, write_records

__all__ = ["criteria_name", "criteria_text", "read_edited", "replace_criteria", "write_editable"]

_HEAD = """\
# Criteria to edit. For each case and dimension: 4 to 6 criteria, each a sentence one can find or miss in a reply's text, with whole
# weights in percent that sum to 100. A criterion must not reward the mere mention of a memory. Delete the cases you do not change.
"""


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    weight: int
    text: str


def criteria_name(dimensions: str) -> str:
    """Return what the criteria for a set of dimensions are called in a run: `criteria`, for others than empathy `criteria.humour`."""
    return "criteria" if dimensions == "empathy" else f"criteria.{Path(dimensions).stem}"


def criteria_text(case: Case, criteria: Criteria) -> str:
    """Return one case's criteria to be read."""
    lines = [
        f"{case.id}  {case.user_id}, {case.category}; criteria {criteria.id} ({criteria.method})",
        f"  {case.query}",
    ]
    if criteria.failure is not None:
        lines.append(f"  none: {criteria.failure.reason}")
    for name, items in criteria.items:
        lines += [f"  {name}", *(f"    {item.weight:3} %  {item.text}" for item in items)]
    return "\n".join(lines)


def write_editable(path: Path, cases: Mapping[str, Case], criteria: Iterable[Criteria]) -> int:
    """Write criteria as TOML with the situation and the query of each case as comments; return the number of cases.

    Criteria that failed are a comment, to be filled in or left; flagged cases are left out, for safe guidance is the same for all.
    Raises `InputError` where there is such a file: it may hold edits.
    """
    if path.exists():
        raise InputError(f"{path}: is there already and may hold edits; name another file")
    blocks = [_block(cases[one.case_id], one) for one in criteria if not cases[one.case_id].flags]
    replace_text(path, _HEAD + "".join(blocks))
    return len(blocks)


def _block(case: Case, criteria: Criteria) -> str:
    lines = ["", f"[{case.id}]", f"# situation: {_line(case.situation)}", f"# query: {_line(case.query)}"]
    for name, items in criteria.items:
        rows = [f"    {{ weight = {item.weight}, text = {_string(item.text)} }}," for item in items]
        lines += [f"{name} = [", *rows, "]"]
    if criteria.failure is not None:
        lines[1] = f"# [{case.id}]"
        lines.append(f"# there are no criteria: {_line(criteria.failure.reason)}")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _string(text: str) -> str:
    """Return a TOML basic string: JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_edited(path: Path, cases: Mapping[str, Case], dimensions: Sequence[Dimension] = EMPATHY) -> list[Criteria]:
    """Read edited criteria for these dimensions.

    Raises `InputError` naming the file, the case and what is wrong: no TOML, an unknown case, other dimensions, weights that do not sum
    to 100, too few or too many criteria, one that rewards the mere mention of a memory, one that occurs twice.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: cannot be read: nested too deeply") from None
    edited = [_edited(case_id, table, cases, f"{path}: {case_id}") for case_id, table in document.items()]
    wanted = [dimension.name for dimension in dimensions]
    for criteria in edited:
        where = f"{path}: {criteria.case_id}"
        if cases[criteria.case_id].flags:
            raise InputError(f"{where}: the case is flagged, and judged by the criteria of safe guidance alone")
        if [name for name, _ in criteria.items] != wanted:
            raise InputError(
                f"{where}: these are criteria for other dimensions, or in another order, than {', '.join(wanted)}"
            )
    return edited


def _edited(case_id: str, table: Any, cases: Mapping[str, Case], where: str) -> Criteria:
    if case_id not in cases:
        raise InputError(f"{where}: there is no such case")
    if not isinstance(table, dict) or not all(isinstance(rows, list) for rows in table.values()):
        raise InputError(f"{where}: not a table of dimensions, each a list of criteria")
    try:
        rows = {name: [_Row.model_validate(row) for row in found] for name, found in table.items()}
        criteria = Criteria(
            case_id=case_id,
            method="hand",
            items=tuple(
                (name, tuple(Criterion(text=row.text, weight=row.weight) for row in found))
                for name, found in rows.items()
            ),
        )
    except ValidationError as error:
        raise InputError(f"{where}: {summarise_validation(error)}") from None
    wrong = check_criteria([(name, [item.text for item in items]) for name, items in criteria.items])
    if wrong is not None:
        raise InputError(f"{where}: {wrong}")
    return criteria


def replace_criteria(path: Path, before: Iterable[Criteria], edited: Iterable[Criteria]) -> int:
    """Write `before` with the edited ones in place of those of the same case, and those of other cases after them; return how many changed.

    Raises `InputError` where an edited set is for other dimensions than the one it replaces.
    """
    new = {one.case_id: one for one in edited}
    rows: list[Criteria] = []
    changed = 0
    for one in before:
        other = new.get(one.case_id, one)
        if one.items and [name for name, _ in one.items] != [name for name, _ in other.items]:
            raise InputError(
                f"{path}: {one.case_id}: the edited criteria are for other dimensions, or in another order"
            )
        same = other.items == one.items
        changed += not same
        rows.append(one if same else other)
    added = [one for one in new.values() if one.case_id not in {row.case_id for row in rows}]
    write_records(path, [*rows, *added])
    return changed + len(added)
