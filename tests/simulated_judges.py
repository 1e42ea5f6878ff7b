"""Judges of known noise, sense of the person and love of places, and cases of many users for them to judge."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peregrm.mapping import NoProgress
from peregrm.pipeline.material import Material
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validity.context import Context
from peregrm.records import Case, Failure, Memory, Persona, Reply, Reward, Trait
from peregrm.reward.base import RewardModel, Scored, as_replies
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings

__all__ = ["DIMENSIONS", "SimulatedContext", "SimulatedJudge", "context_of", "many_cases", "replies_to"]

DIMENSIONS = ("resonation", "expression", "reception")
WORTH = {"personalized": 0.8, "generic": 0.6, "cold": 0.4}


@dataclass(frozen=True)
class SimulatedJudge:
    """Scores a reply by its policy; `sense` is what one for another user loses, `first` what the first place gains over the last."""

    noise: float = 0.0
    sense: float = 0.0
    sense_of_generic: float = 0.0
    first: float = 0.0
    fails: float = 0.0
    constant: bool = False
    seed: int = 0
    method: str = "simulated"
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        group = as_replies(case, replies)
        self.asked.append((case.id, self.seed))
        return [self._scored(case, reply, n / max(1, len(group) - 1)) for n, reply in enumerate(group)]

    def _scored(self, case: Case, reply: Reply, place: float) -> Scored:
        chance = random.Random(f"{self.seed} {case.id} {reply.text}")
        setting, written_for = reply.policy, reply.text.rpartition(" ")[2]
        fits = case.user_id == written_for and bool(case.persona.profile)
        loss = 0.0 if fits else self.sense if setting == "personalized" else self.sense_of_generic
        level = 0.5 if self.constant else WORTH[setting] - loss + self.first * (1 - place)
        values = {name: level + chance.gauss(0, self.noise) for name in DIMENSIONS}
        failed = chance.random() < self.fails
        empathy = None if failed else sum(values.values()) / len(values)
        return Scored(
            reply,
            Reward(
                case_id=case.id,
                reply_id=reply.id,
                policy=reply.policy,
                judge="simulated",
                method=self.method,
                scores=tuple((name, None if failed else value) for name, value in values.items()),
                empathy=empathy,
                bystander=None,
                total=empathy,
                coverage=float(not failed),
                judgement_ids=(),
                failure=Failure(stage="judge", kind="unparsable", reason="planted") if failed else None,
            ),
        )

    async def aclose(self) -> None:
        return None


@dataclass(frozen=True)
class SimulatedContext(Context):
    """Opens simulated judges: the first for judge 0, others in their order."""

    simulated: tuple[SimulatedJudge, ...] = ()

    def open(self, judge: int = 0, **changes: Any) -> RewardModel:
        return replace(self.simulated[judge], seed=changes.get("seed", self.options.seed) + 7 * judge)


def many_cases(users: int, cases: int, language: str = "en") -> list[Case]:
    """Return cases of users who are known by words of their own."""
    found = []
    for user in range(users):
        name = f"{language}{user:02}"
        memory = Memory(user_id=name, label="Possessions/Pet", type="direct", value=f"has a dog {name}", method="test")
        persona = Persona(
            user_id=name,
            history_id=f"his-{name}",
            profile=f"The person {name}.",
            traits=(Trait(text=f"Is like {name}.", memory_ids=(memory.id,)),),
            is_deep=True,
            gate_reason="known",
            method="test",
        )
        found += [
            Case(
                user_id=name,
                language=language,
                category="emotional_support",
                persona=persona,
                memories=(memory,),
                relevant_memory_ids=(memory.id,),
                situation=f"Situation {number} of {name}.",
                query=f"What now, {number}?",
            )
            for number in range(cases)
        ]
    return found


def replies_to(case: Case, policies: Sequence[str] = tuple(WORTH)) -> list[Reply]:
    return [Reply(case_id=case.id, policy=policy, text=f"A {policy} word for {case.user_id}") for policy in policies]


def context_of(out: Path, judges: Sequence[SimulatedJudge], cases: Sequence[Case], **fields: Any) -> SimulatedContext:
    replies = [reply for case in cases for reply in replies_to(case)]
    usual: dict[str, Any] = {
        "material": Material(Dataset({case.id: case for case in cases}, {}), replies, {}),
        "options": RewardOptions(judges=tuple(f"judge-{n}" for n in range(len(judges)))),
        "settings": Settings(),
        "judges": (None,) * len(judges),
        "pairs": (),
        "ratings": (),
        "cases": 1000,
        "seed": 0,
        "out": out,
        "progress": NoProgress(),
        "simulated": tuple(judges),
    }
    return SimulatedContext(**{**usual, **fields})
