"""The answers with the blind resolved, a row a submitted page, and their export."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from peregrm.errors import ArtifactError, InputError
from peregrm.records import Part
from peregrm.store import replace_text
from peregrm.study.answers import ANSWERS_FILE, Answer, Answers, Arm, Participant
from peregrm.study.material import Key, read_key
from peregrm.study.plan import OUTCOMES, Plan, read_plan

__all__ = ["Row", "read_all", "read_rows", "resolve", "write_rows"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Row(Part):
    """One answer, by policy: `a` and `b` are the ratings of policy A's and B's reply by statement, 1 to 7.

    `number` is the place in the participant's order, from 1. `chosen` is a, b or none. `a_first` says that A's reply stood first.
    `seconds` is the time since the page was opened, None where that is not known. In the arm `own` the case is the participant's own.
    """

    participant: str
    arm: Arm
    number: int
    case: str
    policy_a: str
    policy_b: str
    a_first: bool
    a: dict[str, int]
    b: dict[str, int]
    chosen: str
    seconds: float | None
    day: str
    comment: str


def read_rows(folder: Path) -> list[Row]:
    """Return all answers of a study, by participant and place. Raises `InputError` or `ArtifactError`."""
    plan, _ = read_plan(folder)
    return read_all(folder, plan)[0]


def read_all(folder: Path, plan: Plan) -> tuple[list[Row], list[Participant]]:
    """Return all answers and all who agreed to take part. Raises `InputError` where nobody has been asked, or `ArtifactError`."""
    if not (folder / ANSWERS_FILE).exists():
        raise InputError(f"{folder / ANSWERS_FILE}: no such file: `peregrm study serve` gathers the answers")
    key = read_key(folder)
    with Answers(folder) as answers:
        told, people = answers.all_answers(), answers.participants()
        settings = {blind: setting for one in answers.own_rounds() for blind, setting, _ in one.replies}
    return resolve(told, plan, key, settings), people


def resolve(told: Sequence[Answer], plan: Plan, key: Key, own: Mapping[str, str]) -> list[Row]:
    """Return answers as rows; `own` holds the settings of replies to own histories by their blind ids.

    Raises `ArtifactError` where a reply is not in the key.
    """
    return [_row(answer, plan, key, own) for answer in told]


def _row(answer: Answer, plan: Plan, key: Key, own: Mapping[str, str]) -> Row:
    if answer.arm == "own":
        policy_a, policy_b = "personalized", "generic"
        by = {blind: own.get(blind) for blind in (answer.first, answer.second)}
        case = answer.case_id
    else:
        policy_a, policy_b = plan.policies
        entries = {blind: key.replies.get(blind) for blind in (answer.first, answer.second)}
        by = {blind: entry.policy if entry else None for blind, entry in entries.items()}
        case = key.cases.get(answer.case_id, "")
    if {by[answer.first], by[answer.second]} != {policy_a, policy_b} or not case:
        raise ArtifactError(f"the answer {answer.number} of {answer.pid} is about replies that are not in the key")
    a_first = by[answer.first] == policy_a
    first, second = ({one.name: side[one.name] for one in OUTCOMES} for side in answer.ratings)
    chosen = {"none": "none", "first": "a" if a_first else "b", "second": "b" if a_first else "a"}[answer.choice]
    return Row(
        participant=answer.pid,
        arm=answer.arm,
        number=answer.number,
        case=case,
        policy_a=policy_a,
        policy_b=policy_b,
        a_first=a_first,
        a=first if a_first else second,
        b=second if a_first else first,
        chosen=chosen,
        seconds=answer.seconds,
        day=answer.day,
        comment=answer.comment,
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as JSON Lines, or as CSV where the file's name ends so."""
    flat = [_flat(row) for row in rows]
    if path.suffix == ".jsonl":
        replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in flat))
        return
    table = io.StringIO()
    writer = csv.DictWriter(table, list(_flat(_EMPTY)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in flat)
    replace_text(path, table.getvalue())


def _flat(row: Row) -> dict[str, object]:
    ratings = {
        f"{side}_{one.name}": values.get(one.name) for side, values in (("a", row.a), ("b", row.b)) for one in OUTCOMES
    }
    chosen = {"a": row.policy_a, "b": row.policy_b}.get(row.chosen, "")
    fields = row.model_dump(exclude={"a", "b", "chosen", "comment"})
    return {**fields, **ratings, "chosen": row.chosen, "chosen_policy": chosen, "comment": row.comment}


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_EMPTY = Row(
    participant="", arm="cases", number=0, case="", policy_a="", policy_b="", a_first=True, a={}, b={}, chosen="none",
    seconds=None, day="", comment="",
)  # fmt: skip
