"""What each stage does to one record: the functions that an engine runs, wherever it runs them.

A task holds all its step needs of other records, so that no step reads a file. What looks at all records at once is in the stages.
"""

from __future__ import annotations

from typing import NamedTuple

from peregrm.dataset.bigfive import infer_big_five
from peregrm.dataset.cases import memories_of
from peregrm.dataset.extractive.languages import unread_history
from peregrm.dataset.extractive.memories import extract_memories
from peregrm.dataset.extractive.persona import group_persona
from peregrm.dataset.inspection import inspect_query
from peregrm.dataset.intents import classify_with_model
from peregrm.dataset.memories import extract_memories_with_model
from peregrm.dataset.outcome import Outcome
from peregrm.dataset.persona import infer_persona_with_model, persona_without_memories
from peregrm.dataset.queries import write_query
from peregrm.dataset.questionnaire import SELF_REPORT, Answers, persona_from_answers, self_reports
from peregrm.dataset.refining import refine_memories
from peregrm.dataset.safety import Flag, Judged, flag_case, flag_case_with_model, flag_history
from peregrm.dataset.selection import by_intents, intents_of
from peregrm.dataset.situations import write_situations
from peregrm.dataset.traits import Described
from peregrm.models.heads import is_head
from peregrm.pipeline.engine import Step, Tools
from peregrm.records import (
    Case,
    Criteria,
    Drop,
    History,
    Inspection,
    Judgement,
    Memory,
    Persona,
    Query,
    Reply,
    Situation,
)
from peregrm.replies import Setting, write_reply
from peregrm.reward.composed import compose_criteria
from peregrm.reward.criteria import write_criteria
from peregrm.reward.guidance import guidance_criteria
from peregrm.reward.heads.judge import HeadReward
from peregrm.reward.peregrm import PereGRM

__all__ = [
    "CRITERIA",
    "FLAGS",
    "INSPECTION",
    "INTENTS",
    "JUDGE",
    "MEMORIES",
    "PERSONA",
    "QUERIES",
    "REPLIES",
    "SAFETY",
    "SITUATIONS",
    "SaidBy",
    "ToDescribe",
    "ToInspect",
    "ToJudge",
    "ToPlace",
    "ToWrite",
    "reward_model",
]


class SaidBy(NamedTuple):
    """A history, and what its user answered to a questionnaire, if anything."""

    history: History
    answers: Answers | None


class ToDescribe(NamedTuple):
    """A history, the memories of its user, and their answers, if any."""

    history: History
    memories: tuple[Memory, ...]
    answers: Answers | None


class ToPlace(NamedTuple):
    """A persona, the memories of its user and the language of their history."""

    persona: Persona
    memories: tuple[Memory, ...]
    language: str


class ToWrite(NamedTuple):
    """A situation with what it goes back to."""

    history: History
    persona: Persona
    situation: Situation


class ToInspect(NamedTuple):
    """A query with what it goes back to; `cited` are the memories its situation rests on."""

    query: Query
    situation: Situation
    persona: Persona
    cited: tuple[Memory, ...]


class ToJudge(NamedTuple):
    """A case, its criteria and all replies to it."""

    case: Case
    criteria: Criteria
    replies: tuple[Reply, ...]


async def choose_by_intents(tools: Tools, history: History) -> Drop | None:
    """Tell whether a user is dropped for what they come for."""
    if tools.config.memories == "extractive" or history.intents:
        return by_intents(history, intents_of(history))
    return by_intents(history, await classify_with_model(tools.model, history))


async def find_memories(tools: Tools, said: SaidBy) -> Outcome[Memory]:
    """Find what is known of one user; what they answered to a questionnaire joins it."""
    history, answers = said
    found = await _found(tools, history)
    if answers is None:
        return found
    reports = self_reports(history.user_id, history.language, answers)
    return Outcome([*found.kept, *reports], found.dropped, found.asked)


async def _found(tools: Tools, history: History) -> Outcome[Memory]:
    """Take the memories of the source, the user's own sentences, or those the model finds; then refine them."""
    extractive = tools.config.memories == "extractive"
    model = None if extractive else tools.model
    embedder = tools.embedder if extractive else None
    if history.memories:
        return await refine_memories(history, history.memories, model, embedder)
    if model is None:
        read = extract_memories(history, embedder)
        unread = unread_history(history, read)
        return Outcome(read.kept, read.dropped if unread is None else [*read.dropped, unread])
    found = await extract_memories_with_model(model, history, context=tools.config.context)
    refined = await refine_memories(history, found.kept, model, embedder)
    return Outcome(refined.kept, [*found.dropped, *refined.dropped], found.asked + refined.asked)


async def describe_user(tools: Tools, task: ToDescribe) -> Described:
    """Make one persona, the way that was asked for."""
    history, mine, answers = task
    if tools.config.persona == "questionnaire":
        return persona_from_answers(history, mine, answers)
    mine = tuple(memory for memory in mine if memory.method != SELF_REPORT)  # left there by a run with a questionnaire
    if tools.config.persona == "bigfive":
        return await infer_big_five(tools.model, history, mine)
    if tools.config.memories != "extractive":
        return Described(await infer_persona_with_model(tools.model, history, mine))
    if not memories_of(history.user_id, mine):
        return Described(Outcome([persona_without_memories(history)]))
    return Described(Outcome([group_persona(history, mine)]))


async def place_user(tools: Tools, task: ToPlace) -> Outcome[Situation]:
    """Write the situations of one user."""
    run = tools.settings.run
    return await write_situations(tools.model, *task, run.cases, seed=run.seed)


async def write_message(tools: Tools, task: ToWrite) -> Outcome[Query]:
    """Write the query of one situation."""
    return await write_query(tools.model, *task, seed=tools.settings.run.seed)


async def inspect_message(tools: Tools, task: ToInspect) -> Inspection:
    """Hold one query up to the gates, before two judges where two are asked for."""
    second = tools.judge if tools.config.inspectors == 2 else None
    return await inspect_query(tools.model, *task, second=second)


async def find_flags(tools: Tools, task: History | Case) -> tuple[Flag, ...]:
    """Look by rules for signs of danger in what a user says, or in a case."""
    return flag_history(task) if isinstance(task, History) else flag_case(task)


async def judge_safety(tools: Tools, case: Case) -> Judged:
    """Ask the model for signs of danger in a case."""
    return await flag_case_with_model(tools.model, case)


async def find_criteria(tools: Tools, case: Case) -> Criteria:
    """Make the criteria of one case."""
    if case.flags:
        return guidance_criteria(case)
    if tools.config.criteria == "composed":
        return compose_criteria(case)
    return await write_criteria(tools.judge, case)


async def reply_to(tools: Tools, task: tuple[Case, Setting]) -> Reply:
    """Write one reply to a case."""
    case, setting = task
    run = tools.settings.run
    return await write_reply(
        tools.model,
        case,
        setting,
        policy=setting,
        max_tokens=run.max_new_tokens,
        temperature=run.temperature,
        seed=run.seed,
    )


async def judge_replies(tools: Tools, task: ToJudge) -> list[list[Judgement]]:
    """Judge all replies to one case."""
    return await reward_model(tools).judge_group(task.case, task.criteria, task.replies)


def reward_model(tools: Tools) -> PereGRM:
    """Return the judge of replies as a run is told to judge."""
    run = tools.settings.run
    if is_head(tools.judge):
        return HeadReward(tools.judge, criteria="composed")
    return PereGRM(
        tools.judge,
        samples=run.samples,
        quorum=run.quorum,
        bystander_weight=run.bystander_weight,
        temperature=run.judge_temperature,
        seed=run.seed,
        reasons=tools.config.reasons == "yes",
    )


INTENTS = Step("intents", choose_by_intents)
MEMORIES = Step("memories", find_memories)
PERSONA = Step("persona", describe_user)
SITUATIONS = Step("situations", place_user)
QUERIES = Step("queries", write_message)
INSPECTION = Step("inspection", inspect_message)
FLAGS = Step("flags", find_flags)
SAFETY = Step("safety", judge_safety)
CRITERIA = Step("criteria", find_criteria)
REPLIES = Step("replies", reply_to)
JUDGE = Step("judge", judge_replies)
