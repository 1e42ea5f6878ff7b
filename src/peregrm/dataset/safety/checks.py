"""What was said of one case by rules and by a model, side by side, so that it can be seen where they disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from peregrm.dataset.safety.flags import Flag
from peregrm.dataset.safety.model import Judged
from peregrm.records import Failure, Record

__all__ = ["SafetyCheck", "compare", "describe_checks"]


class SafetyCheck(Record):
    """How one case was looked at.

    `rules` and `model` are the kinds of danger each found. `model` is None where no model was asked (then `judge` is None too) or its
    answer could not be used (then `failure` says why). `disagreed` names the kinds that only one of the two found.
    """

    id_prefix: ClassVar[str] = "saf"

    case_id: str
    rules: tuple[str, ...]
    model: tuple[str, ...] | None = None
    judge: str | None = None
    disagreed: tuple[str, ...] = ()
    failure: Failure | None = None


def compare(case_id: str, rules: Sequence[Flag], judged: Judged | None, *, judge: str) -> SafetyCheck:
    """Return the check of a case by its rules' flags and the model's, None where none was asked; `judge` is the model's name."""
    by_rules = {flag.kind for flag in rules}
    if judged is None:
        return SafetyCheck(case_id=case_id, rules=tuple(sorted(by_rules)))
    by_model = None if judged.failure is not None else {flag.kind for flag in judged.flags}
    return SafetyCheck(
        case_id=case_id,
        rules=tuple(sorted(by_rules)),
        model=None if by_model is None else tuple(sorted(by_model)),
        judge=judge,
        disagreed=() if by_model is None else tuple(sorted(by_rules ^ by_model)),
        failure=judged.failure,
    )


def describe_checks(checks: Sequence[SafetyCheck]) -> str:
    """Say in one or two sentences who looked at how many cases and where they disagree; nothing where nobody did."""
    asked = [check for check in checks if check.judge is not None]
    if not asked:
        return f"Rules alone looked at the {len(checks)} cases." if checks else ""
    judges = ", ".join(sorted({check.judge for check in asked if check.judge is not None}))
    failed = sum(check.failure is not None for check in asked)
    apart = [check for check in asked if check.disagreed]
    kinds = Counter(kind for check in apart for kind in check.disagreed)
    said = ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))
    return (
        f"Rules looked at {len(checks)} cases and the model {judges} at {len(asked)}, of which {failed} without a usable answer "
        f"count as flagged. They disagree on {len(apart)} cases{f' ({said})' if said else ''}; the flag of either is enough."
    )
