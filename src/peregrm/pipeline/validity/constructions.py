"""The same cases made in other ways: personas from another source, memories found or chosen in another way.

Situation and query stay as they are, for they are what the replies answer; persona, memories and with them the criteria change. A case
whose user has no such persona has no such construction. Left out on purpose: new situations and queries from other memories, whose replies
would have to be new as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peregrm.dataset.bigfive import infer_big_five
from peregrm.dataset.extractive.persona import group_persona
from peregrm.dataset.gold import read_gold
from peregrm.dataset.persona import infer_persona_with_model
from peregrm.dataset.questionnaire import Answers, persona_from_answers, self_reports
from peregrm.dataset.questionnaire_files import read_questionnaire
from peregrm.dataset.traits import Described
from peregrm.evaluation.validity.stability import SESSIONS, TURNS
from peregrm.mapping import map_in_order
from peregrm.pipeline.session import sample
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.halves import split_history
from peregrm.pipeline.validity.personas import Made, Maker
from peregrm.records import Case, History, Memory

__all__ = ["BASE", "Constructions", "case_under", "make_constructions"]

BASE = "as built"


@dataclass
class Constructions:
    """Constructions by name, each with what it makes of a user (None: nothing can be made), and notes on those that could not be made."""

    made: dict[str, dict[str, Made]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def case_under(case: Case, made: Made) -> Case:
    """Return the case as if this were what is known of its user; memories that rest on the same words stay relevant."""
    words = [e.quote for m in case.memories if m.id in case.relevant_memory_ids for e in m.evidence if e.quote]

    def bears(memory: Memory) -> bool:
        own = [e.quote for e in memory.evidence if e.quote]
        return memory.id in case.relevant_memory_ids or any(a in b or b in a for a in own for b in words)

    nobody = case.persona.model_copy(update={"profile": "", "traits": (), "topics": (), "method": "none"})
    return case.model_copy(
        update={
            "persona": made.persona or nobody,
            "memories": made.memories,
            "relevant_memory_ids": tuple(memory.id for memory in made.memories if bears(memory)),
        }
    )


async def make_constructions(
    context: Context, maker: Maker, cases: Sequence[Case], histories: Sequence[History]
) -> Constructions:
    """Make every construction that these cases, the settings and the judge allow."""
    found = Constructions()
    by_user = {case.user_id: case for case in cases}
    known = {history.user_id: history for history in histories}
    _questionnaire(context, by_user, found)
    await _by_model(context, maker, by_user, found)
    _curated(by_user, known, found)
    await _halves(context, maker, by_user, known, found)
    return found


def _stand_in(case: Case) -> History:
    """Return a history without sessions that carries what a persona needs: whose it is and in which language."""
    return History(user_id=case.user_id, language=case.language, sessions=())


def _questionnaire(context: Context, cases: Mapping[str, Case], found: Constructions) -> None:
    path = context.settings.run.questionnaire
    own = sample()[0].with_name("questionnaire.csv")
    answers: Mapping[str, Answers] = read_questionnaire(Path(path) if path else own)
    made = {}
    for user, case in cases.items():
        if user in answers:
            reports = self_reports(user, case.language, answers[user])
            memories = (*case.memories, *(m for m in reports if m.id not in {known.id for known in case.memories}))
            outcome = persona_from_answers(_stand_in(case), memories, answers[user]).persona
            made[user] = Made(memories, outcome.kept[0])
    if made:
        found.made["questionnaire persona"] = made
    else:
        found.notes.append(
            "No questionnaire of these users is there (the setting `questionnaire` names their file), so no persona was made of one."
        )


async def _by_model(context: Context, maker: Maker, cases: Mapping[str, Case], found: Constructions) -> None:
    model = maker.model
    if model is None:
        found.notes.append(maker.why)
        return

    async def memory(case: Case) -> Described:
        return Described(await infer_persona_with_model(model, _stand_in(case), case.memories))

    async def bigfive(case: Case) -> Described:
        return await infer_big_five(model, _stand_in(case), case.memories)

    ways: dict[str, Callable[[Case], Awaitable[Described]]] = {"memory": memory, "bigfive": bigfive}
    users = list(cases)
    for way, describe in ways.items():
        described = await map_in_order(
            describe,
            [cases[user] for user in users],
            stage=f"personas: {way}",
            progress=context.progress,
            at_once=context.at_once,
        )
        made = {
            user: Made(cases[user].memories, one.persona.kept[0], one.scores)
            for user, one in zip(users, described, strict=True)
            if one.persona.kept
        }
        if made:
            found.made[f"{way} persona by a model"] = made
        if len(made) < len(users):
            found.notes.append(f"{len(users) - len(made)} of {len(users)} users got no {way} persona from the model.")


def _curated(cases: Mapping[str, Case], known: Mapping[str, History], found: Constructions) -> None:
    """Add memories chosen by hand, which there are of the sample."""
    gold = read_gold(sample()[1])
    made = {}
    for user, case in cases.items():
        memories = tuple(memory for memory in gold.memories.values() if memory.user_id == user)
        if memories and user in known:
            made[user] = Made(memories, group_persona(_stand_in(case), memories))
    if made:
        found.made["curated memories"] = made


async def _halves(
    context: Context, maker: Maker, cases: Mapping[str, Case], known: Mapping[str, History], found: Constructions
) -> None:
    for name in ("odd half of the history", "even half of the history"):
        made = {}
        for user in cases:
            splits = split_history(known[user]) if user in known else []
            split = next((one for one in splits if one.name in (SESSIONS, TURNS)), None)
            if split is not None:
                half = await maker.make(split.first if name.startswith("odd") else split.second, "extractive")
                if half.persona is not None:
                    made[user] = half
        if made:
            found.made[name] = made
    if not known:
        found.notes.append(
            "The histories behind these cases are not there, so no half of them could be a dataset of its own."
        )
