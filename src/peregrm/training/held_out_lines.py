"""The lines of `held_out.jsonl`: what judges said of a policy in training on cases it does not train on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from peregrm.errors import ArtifactError
from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part
from peregrm.store import summarise_validation

__all__ = ["HELD_OUT", "HELD_OUT_REPLIES", "CaseTotal", "HeldOutLine", "Role", "policy_at", "read_held_out"]

HELD_OUT = "held_out.jsonl"
HELD_OUT_REPLIES = "held_out_replies.jsonl"

Role = Literal["held-out", "training"]


class CaseTotal(Part):
    """The total of the reply to one case, None where there is none."""

    case_id: str
    user_id: str
    total: float | None


class HeldOutLine(Part):
    """What one judge says of the policy after `step` steps.

    `role` tells the judge that has no part in training from the training judge reading the same replies. `measures` are means with 95 %
    intervals clustered by user: `total`, `empathy` and dimensions on the reward's own scale (flagged cases apart, as `flagged_total`), and
    the plain measures, which are the same for both judges. `failures` counts replies without a total by kind.
    """

    step: int
    role: Role
    judge: str
    method: str
    cases: int
    measures: tuple[tuple[str, Estimate], ...]
    totals: tuple[CaseTotal, ...]
    failures: tuple[tuple[str, int], ...] = ()
    writing_seconds: float
    judging_seconds: float

    def measure(self, name: str) -> Estimate | None:
        """Return one measure; None where it was not taken."""
        return dict(self.measures).get(name)


def policy_at(step: int) -> str:
    """Return the name of the policy after so many steps."""
    return f"step-{step}"


def read_held_out(folder: Path) -> list[HeldOutLine]:
    """Read `held_out.jsonl` back; an empty list where there is none. Raises `ArtifactError` naming a damaged line."""
    path = folder / HELD_OUT
    lines = []
    for number, text in enumerate(path.read_text("utf-8").splitlines() if path.exists() else (), start=1):
        try:
            lines.append(HeldOutLine.model_validate_json(text))
        except ValidationError as error:
            raise ArtifactError(f"{path}:{number}: {summarise_validation(error)}") from None
    return lines
