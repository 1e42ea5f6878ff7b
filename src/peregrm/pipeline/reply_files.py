"""Cases and replies from the files people have: a run's folder, a file of cases, replies of any policy.

A reply is joined to its case by id. A row without an id is joined by the words of its query where exactly one case has them; position
never counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from peregrm.errors import InputError
from peregrm.pipeline.criteria_files import criteria_name
from peregrm.pipeline.flagging import with_flags
from peregrm.records import Case, Criteria, Reply
from peregrm.replies import reply_from_output
from peregrm.store import index_by, index_by_id, read_records, summarise_validation

__all__ = ["Dataset", "is_of_dataset", "read_dataset", "read_policies", "read_ranked_replies", "read_replies"]

_TEXTS = ("text", "reply", "response", "output")


@dataclass(frozen=True)
class Dataset:
    """Cases by id, in their order, and the criteria that came with them, by case id."""

    cases: dict[str, Case]
    criteria: dict[str, Criteria]


def read_dataset(path: Path, dimensions: str = "empathy") -> Dataset:
    """Read the folder of a run or build, or a file of cases with `criteria.jsonl` and `flags.jsonl` beside it, if any.

    Cases that nobody has looked at for signs of danger are looked at by the rules.
    For another set of `dimensions` than empathy the criteria are those of `peregrm criteria --dimensions`, if there are some.

    Raises `InputError` or `ArtifactError` naming file and line.
    """
    cases_path = path / "cases.jsonl" if path.is_dir() else path
    known = with_flags(read_records(cases_path, Case), cases_path.with_name("flags.jsonl"))
    cases = index_by_id(known, str(cases_path))
    criteria_path = cases_path.with_name(f"{criteria_name(dimensions)}.jsonl")
    if not criteria_path.exists():
        criteria_path = cases_path.with_name("criteria.jsonl")
    criteria = read_records(criteria_path, Criteria) if criteria_path.exists() else []
    by_case = index_by(criteria, lambda c: c.case_id, str(criteria_path))
    return Dataset(cases, {case_id: c for case_id, c in by_case.items() if case_id in cases})


def is_of_dataset(path: Path, beside: Path) -> bool:
    """Tell whether `path` is there, among cases, and without the folder `beside` that a command makes for its own files: not its own."""
    return path.exists() and path.with_name("cases.jsonl").exists() and not beside.exists()


def read_replies(path: Path, cases: Mapping[str, Case]) -> list[Reply]:
    """Read replies, in the order of the cases; see `read_ranked_replies`."""
    return [reply for reply, _ in read_ranked_replies(path, cases)]


def read_policies(paths: Sequence[Path], cases: Mapping[str, Case]) -> list[Reply]:
    """Read the replies of several files as one set; raises `InputError` where one policy answers a case in two of them."""
    replies: dict[tuple[str, str], tuple[Reply, Path]] = {}
    for path in paths:
        for reply in read_replies(path, cases):
            key = (reply.policy, reply.case_id)
            if key in replies:
                raise InputError(f"{path}: {reply.policy!r} answers {reply.case_id} in {replies[key][1]} already")
            replies[key] = (reply, path)
    return [reply for reply, _ in replies.values()]


def read_ranked_replies(path: Path, cases: Mapping[str, Case]) -> list[tuple[Reply, int | None]]:
    """Read replies and their known ranks, if any, 1 for the best, in the order of the cases.

    A line is a reply record, or an object with the id of its case (`case_id` or `query_id`) or its words (`query`), the policy's raw
    output (`text`, `reply`, `response` or `output`) and, if wanted, `policy` and `rank`; or a hand-written case with its `replies`.
    Replies to one case are ordered by their policies' names, so that the order of the lines makes no difference. Raises `InputError`
    naming file and line where a line is none of these, its case does not exist, or one policy answers a case twice; and where there
    are no replies.
    """
    finder = _Finder(cases)
    replies: list[tuple[Reply, int | None]] = []
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        for reply, rank in _replies_of(_row(line, where), finder, path.stem, where):
            key = (reply.case_id, reply.policy)
            if key in seen:
                raise InputError(f"{where}: {reply.policy!r} answers {reply.case_id} again (as on line {seen[key]})")
            seen[key] = number
            replies.append((reply, rank))
    if not replies:
        raise InputError(f"{path}: there are no replies in it")
    order = {case_id: place for place, case_id in enumerate(cases)}
    return sorted(replies, key=lambda pair: (order[pair[0].case_id], pair[0].policy))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = f"; write them first: peregrm reply {path.parent}" if path.name == "replies.jsonl" else ""
        raise InputError(f"{path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: holds half a character (a lone surrogate), as where a text was cut") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: not an object")
    return row


def _replies_of(row: dict[str, Any], finder: _Finder, policy: str, where: str) -> list[tuple[Reply, int | None]]:
    listed = row.get("replies")
    if isinstance(listed, list) and not all(isinstance(one, dict) for one in listed):
        raise InputError(f"{where}: replies: not all of them are objects")
    rows = [{**row, **one} for one in listed] if isinstance(listed, list) else [row]
    return [(_reply(one, finder, policy, where), _rank(one, where)) for one in rows]


def _rank(row: dict[str, Any], where: str) -> int | None:
    rank = row.get("rank")
    if rank is None or (type(rank) is int and rank >= 1):
        return rank
    raise InputError(f"{where}: rank: not a whole number from 1")


def _is_record(row: dict[str, Any]) -> bool:
    """Tell whether a row is what peregrm wrote, its thinking taken off; all else is a policy's raw output."""
    written_here = str(row.get("id", "")).startswith("rep-") and row.keys() <= {*Reply.model_fields, "id"}
    return written_here or row.get("failure") is not None


def _reply(row: dict[str, Any], finder: _Finder, policy: str, where: str) -> Reply:
    case = finder.find(row, where)
    name = row.get("policy", policy)
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: policy: not a name")
    if _is_record(row):
        try:
            return Reply.model_validate(row)
        except ValidationError as error:
            raise InputError(f"{where}: {summarise_validation(error)}") from None
    texts = [name for name in _TEXTS if isinstance(row.get(name), str)]
    others = [name for name in _TEXTS if name in row and name not in texts]
    if others and not texts:
        raise InputError(f"{where}: {others[0]}: no text; a policy that gave none has no line here")
    if len(texts) != 1:
        raise InputError(
            f"{where}: a reply has exactly one of {', '.join(_TEXTS)}; here are: {', '.join(texts) or 'none'}"
        )
    return reply_from_output(case, row[texts[0]], policy=name)


class _Finder:
    """Finds the case a row belongs to."""

    def __init__(self, cases: Mapping[str, Case]) -> None:
        self._by_id = dict(cases)
        self._by_query_id: dict[str, list[Case]] = defaultdict(list)
        self._by_words: dict[str, list[Case]] = defaultdict(list)
        for case in cases.values():
            self._by_words[case.query.strip()].append(case)
            if case.query_id:
                self._by_query_id[case.query_id].append(case)

    def find(self, row: dict[str, Any], where: str) -> Case:
        """Return the case of a row; raises `InputError` where there is none, more than one, or its id and its words name two."""
        case = self._find(row, where)
        if isinstance(row.get("query"), str):
            same_words = self._by_words.get(row["query"].strip(), [])
            if same_words and case not in same_words:
                raise InputError(f"{where}: its id names {case.id}, its query {same_words[0].id}")
        return case

    def _find(self, row: dict[str, Any], where: str) -> Case:
        of_query = self._by_query_id.get(str(row.get("query_id")), [])
        if isinstance(row.get("case_id"), str):
            if row["case_id"] not in self._by_id:
                raise InputError(f"{where}: case_id {row['case_id']!r} is not in the dataset")
            case = self._by_id[row["case_id"]]
            if of_query and case not in of_query:
                raise InputError(f"{where}: case_id and query_id name two cases")
            return case
        if isinstance(row.get("query_id"), str):
            if not of_query:
                raise InputError(f"{where}: query_id {row['query_id']!r} is not in the dataset")
            return self._only(of_query, "query_id", where)
        if not isinstance(row.get("query"), str):
            raise InputError(f"{where}: a reply names its case by case_id, query_id or query")
        return self._only(
            self._same_user(self._by_words.get(row["query"].strip(), []), row.get("user_id")), "query", where
        )

    @staticmethod
    def _only(found: Sequence[Case], key: str, where: str) -> Case:
        if len(found) != 1:
            count = "no case of the dataset has" if not found else f"{len(found)} cases of the dataset have"
            raise InputError(f"{where}: {count} this {key}; name the case by case_id")
        return found[0]

    @staticmethod
    def _same_user(cases: Sequence[Case], user_id: object) -> list[Case]:
        return [case for case in cases if user_id in (None, case.user_id)]
