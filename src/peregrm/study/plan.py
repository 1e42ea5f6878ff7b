"""The study's plan, which is its pre-registration: what is asked, of how many, and how it will be judged, fixed before the first answer.

It is written once and hashed; every participant's row carries the hash they agreed under, and the analysis refuses a plan that is not the
one it was. Left out on purpose: a command that changes a plan. Another plan is another study.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from peregrm.errors import ArtifactError, InputError
from peregrm.records import Part
from peregrm.store import replace_text, summarise_validation

__all__ = [
    "KEY_FILE",
    "MATERIAL_FILE",
    "OUTCOMES",
    "PLAN_FILE",
    "SCALE",
    "Assumed",
    "Exclusions",
    "Outcome",
    "Plan",
    "file_hash",
    "plan_hash",
    "read_plan",
    "write_plan",
]

PLAN_FILE = "plan.json"
MATERIAL_FILE = "material.json"
KEY_FILE = "key.json"

SCALE = (1, 7)
"""The ends of every rating: not at all, completely."""


class Outcome(Part):
    """One statement that is rated about each reply."""

    name: str
    statement: str


OUTCOMES = (
    Outcome(name="understood", statement="It understood me."),
    Outcome(name="fits", statement="It fits me."),
    Outcome(name="satisfied", statement="I would be satisfied with it."),
    Outcome(name="go_on", statement="I would go on talking with it."),
)
"""The four ratings, in the order in which they are asked."""


class Exclusions(Part):
    """Who is left out of the analysis, decided before anybody has answered.

    Left out are participants who answered fewer than `min_answers` cases, whose median time on a case is below `min_seconds`, or (with
    `straight_lining`) who gave every reply of two or more cases the same number on every statement.
    """

    min_answers: Annotated[int, Field(ge=1)]
    min_seconds: Annotated[float, Field(ge=0)] = 8.0
    straight_lining: bool = True


class Assumed(Part):
    """What the planned number of participants rests on, and the power it gives, 0 to 1.

    `effect` is the mean difference of two ratings over the standard deviation of such differences, `choice_share` how often A is
    chosen over B, `icc` the share of the variance that lies between participants, `case_icc` that between cases. `power_ratings` is of one
    statement at alpha over the number of statements (the most that Holm's correction can ask), `power_choice` of the choice at alpha.
    """

    effect: float
    choice_share: float
    icc: float
    case_icc: float
    power_ratings: float
    power_choice: float


class Plan(Part):
    """What was decided before the first answer. The words are for people; the analysis reads the numbers."""

    version: int = 1
    title: str
    contact: str
    created: str
    policies: tuple[str, str]
    """A and B. Which of them wrote which reply stands in the key, not here."""

    hypotheses: tuple[str, ...]
    outcomes: tuple[Outcome, ...] = OUTCOMES
    choice: str = "If you could have only one of the two, which would you take?"
    analysis: tuple[str, ...]
    stopping: str
    exclusions: Exclusions
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    participants: Annotated[int, Field(ge=2)]
    per_participant: Annotated[int, Field(ge=1)]
    cases: Annotated[int, Field(ge=1)]
    assumed: Assumed
    left_out: dict[str, int]
    """Cases that could not be used, by reason."""

    seed: int
    material_sha256: str
    key_sha256: str


def plan_hash(plan: Plan) -> str:
    """Return the SHA-256 of the plan as canonical JSON, in hex: what is registered."""
    text = json.dumps(plan.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex. Raises `InputError` where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `peregrm study new` makes a study") from None


def write_plan(folder: Path, plan: Plan) -> str:
    """Write the plan with its hash and return the hash."""
    digest = plan_hash(plan)
    text = json.dumps({"sha256": digest, "plan": plan.model_dump(mode="json")}, ensure_ascii=False, indent=1)
    replace_text(folder / PLAN_FILE, text + "\n")
    return digest


def read_plan(folder: Path) -> tuple[Plan, str]:
    """Read the plan of a study and return it with its hash.

    Raises `InputError` where there is none, and `ArtifactError` where plan, material or key are not those that were hashed.
    """
    path = folder / PLAN_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        plan = Plan.model_validate(stored["plan"])
        digest = stored["sha256"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `peregrm study new` makes a study") from None
    except ValidationError as error:
        raise ArtifactError(f"{path}: damaged: {summarise_validation(error)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged: {error}") from None
    if plan_hash(plan) != digest:
        raise ArtifactError(
            f"{path}: the plan was changed after it was frozen: its hash is {plan_hash(plan)}, not {digest}"
        )
    for name, expected in ((MATERIAL_FILE, plan.material_sha256), (KEY_FILE, plan.key_sha256)):
        if file_hash(folder / name) != expected:
            raise ArtifactError(f"{folder / name}: not the file that the plan was frozen with")
    return plan, digest
