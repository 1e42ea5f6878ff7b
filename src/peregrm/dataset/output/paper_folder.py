"""A folder's dataset out into the paper's files, one set a language, and such files back into a folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from peregrm.dataset.output.paper_export import criteria_rows, final_rows, prediction_rows
from peregrm.dataset.output.paper_files import json_text
from peregrm.dataset.output.paper_import import read_criteria_file, read_final, read_predictions
from peregrm.dataset.safety import look_at
from peregrm.errors import InputError
from peregrm.records import Case, Criteria, History, Query, Record, Reply, Situation
from peregrm.store import Workspace, index_by, index_by_id, replace_text

__all__ = ["export_paper", "import_paper"]


def export_paper(workspace: Workspace, out: Path) -> dict[str, int]:
    """Write `final_LANG.json` and, where there are any, `criteria_LANG.json` and `predictions_LANG_POLICY.json`; return their records.

    Raises `InputError` and `ArtifactError` as reading the artifacts does, and where a policy answered a case twice.
    """
    cases = workspace.read("cases.jsonl", Case)
    histories = index_by(
        workspace.read_if_there("histories.jsonl", History), lambda history: history.user_id, "histories"
    )
    situation_by_id = index_by_id(workspace.read_if_there("situations.jsonl", Situation), "situations")
    situations = {
        query.id: situation_by_id[query.situation_id]
        for query in workspace.read_if_there("queries.jsonl", Query)
        if query.situation_id in situation_by_id
    }
    criteria = index_by(workspace.read_if_there("criteria.jsonl", Criteria), lambda one: one.case_id, "criteria")
    by_policy: dict[str, list[Reply]] = {}
    for reply in workspace.read_if_there("replies.jsonl", Reply):
        by_policy.setdefault(reply.policy, []).append(reply)
    replies = {
        policy: index_by(some, lambda reply: reply.case_id, f"replies of {policy}")
        for policy, some in by_policy.items()
    }
    files: dict[str, list[dict[str, object]]] = {}
    for language in sorted({case.language for case in cases}):
        rows, places = final_rows([case for case in cases if case.language == language], histories, situations)
        files[f"final_{language}.json"] = rows
        if criteria:
            files[f"criteria_{language}.json"] = criteria_rows(places, criteria)
        for policy, by_case in sorted(replies.items()):
            files[f"predictions_{language}_{_slug(policy)}.json"] = prediction_rows(places, by_case)
    for name, rows in files.items():
        replace_text(out / name, json_text(rows))
    return {name: len(rows) for name, rows in files.items()}


def _slug(policy: str) -> str:
    """Return a policy's name as part of a file name, with a few digits of its hash where it had to be changed."""
    slug = re.sub(r"[^\w.-]+", "-", policy, flags=re.ASCII).strip(".-")[:60]
    return slug if slug == policy else f"{slug}-{hashlib.sha256(policy.encode()).hexdigest()[:6]}".lstrip("-")


def import_paper(
    final: Path, out: Path, *, criteria: Path | None = None, predictions: Sequence[tuple[str, Path]] = ()
) -> tuple[dict[str, int], dict[str, int]]:
    """Write `cases.jsonl` and, where given, `criteria.jsonl` and `replies.jsonl` into a folder of their own.

    `predictions` are pairs of a policy's name and its file. Returns the records of each file, and what was mended on reading, by reason.
    Cases without flags of their own are looked at for signs of danger by the rules.
    Raises `InputError` for files that cannot be read or do not belong together, and where `out` holds cases already.
    """
    if (out / "cases.jsonl").exists():
        raise InputError(f"{out}: holds cases already; name another folder")
    twice = [policy for policy, n in Counter(policy for policy, _ in predictions).items() if n > 1]
    if twice:
        raise InputError(f"two files of predictions of {twice[0]!r}")
    known = read_final(final)
    written: dict[str, Sequence[Record]] = {"cases.jsonl": [look_at(place.case) for place in known.places]}
    if criteria is not None:
        written["criteria.jsonl"] = read_criteria_file(criteria, known)
    if predictions:
        replies = [reply for policy, path in predictions for reply in read_predictions(path, known, policy=policy)]
        order = {place.case.id: number for number, place in enumerate(known.places)}
        replies.sort(key=lambda reply: order[reply.case_id])
        written["replies.jsonl"] = replies
    workspace = Workspace(out)
    for name, records in written.items():
        workspace.write(name, records)
    return {name: len(records) for name, records in written.items()}, known.notes
