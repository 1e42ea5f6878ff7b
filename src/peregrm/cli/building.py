"""The flags that `run` and `build` share, each said once, and how a command takes them all as its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from peregrm.cli.options import (
    DEFAULT_OUT,
    BudgetOpt,
    CasesOpt,
    ConfigOpt,
    CriteriaOpt,
    DryOpt,
    EngineOpt,
    FormatOpt,
    GoldOpt,
    HistoriesArg,
    IdsOpt,
    InspectorsOpt,
    JsonOpt,
    JudgeOpt,
    MemoriesOpt,
    ModelOpt,
    OutOpt,
    PersonaOpt,
    QuestionnaireOpt,
    SafetyOpt,
    SelectOpt,
    SkipOpt,
    UserOpt,
    UsersOpt,
)
from peregrm.errors import SettingsError

__all__ = ["Building", "persona_flags", "with_flags_of"]

G = TypeVar("G")


@dataclass(frozen=True)
class Building:
    """What a command that builds cases from histories is told."""

    histories: HistoriesArg = None
    out: OutOpt = DEFAULT_OUT
    format: FormatOpt = "auto"
    user: UserOpt = None
    users: UsersOpt = None
    keep_ids: IdsOpt = None
    model: ModelOpt = None
    judge: JudgeOpt = None
    memories: MemoriesOpt = None
    select: SelectOpt = None
    inspectors: InspectorsOpt = None
    persona: PersonaOpt = None
    questionnaire: QuestionnaireOpt = None
    safety: SafetyOpt = None
    criteria: CriteriaOpt = None
    cases: CasesOpt = None
    failure_budget: BudgetOpt = None
    gold: GoldOpt = None
    skip_bad: SkipOpt = False
    engine: EngineOpt = "local"
    config: ConfigOpt = None
    dry_run: DryOpt = False
    json: JsonOpt = False

    def flags(self) -> dict[str, Any]:
        """Return the settings of `[run]` that were told, by name; None where a flag was not given."""
        names = ("model", "judge", "memories", "select", "inspectors", "safety", "criteria", "cases", "failure_budget")
        return {**{name: getattr(self, name) for name in names}, **persona_flags(self.persona, self.questionnaire)}


def persona_flags(persona: str | None, questionnaire: Path | None) -> dict[str, str | None]:
    """Return the settings that the two flags mean: answers are one way to a persona, and no other way reads them."""
    if questionnaire is None:
        return {"persona": persona}
    if persona not in (None, "questionnaire"):
        raise SettingsError(f"--questionnaire goes with --persona questionnaire, not with --persona {persona}")
    return {"persona": "questionnaire", "questionnaire": str(questionnaire)}


def with_flags_of(group: type[G]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command whose first parameter is a `group`, a dataclass, take the fields of it as flags, before its own."""
    hints = get_type_hints(group, include_extras=True)
    shared = {
        one.name: inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name]
        )
        for one in fields(group)  # type: ignore[arg-type]
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [*shared.values(), *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]

        @wraps(command)
        def taking(**given: Any) -> None:
            command(group(**{name: given.pop(name) for name in shared}), **given)

        taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taking.__annotations__ = {one.name: one.annotation for one in parameters}
        return taking

    return decorate
