"""Stages 1 to 8: histories become cases; the last one, which flags signs of danger, is in `peregrm.pipeline.flagging`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from peregrm.dataset.cases import build_cases
from peregrm.dataset.extractive.languages import LANGUAGE
from peregrm.dataset.gold import GoldCase, gold_cases, read_gold
from peregrm.dataset.near_copies import drop_near_copies
from peregrm.dataset.outcome import Outcome
from peregrm.dataset.questionnaire import Answers
from peregrm.dataset.questionnaire_files import read_questionnaire
from peregrm.errors import ArtifactError, InputError, SettingsError
from peregrm.histories import read_histories
from peregrm.pipeline.choosing import select_by_labels, select_stage, selected
from peregrm.pipeline.flagging import safety_stage
from peregrm.pipeline.job import Job, RunConfig, Stage
from peregrm.pipeline.session import check_persona
from peregrm.pipeline.steps import (
    INSPECTION,
    MEMORIES,
    PERSONA,
    QUERIES,
    SITUATIONS,
    SaidBy,
    ToDescribe,
    ToInspect,
    ToPlace,
    ToWrite,
)
from peregrm.privacy.identifiers import hash_history, hash_user_id, open_salt, read_salt
from peregrm.privacy.masking import mask_history
from peregrm.records import Case, History, Inspection, Memory, Persona, Query, Record, Situation
from peregrm.store import index_by, index_by_id

__all__ = ["BUILD_STAGES", "gold_of", "read_source"]

P = TypeVar("P", bound=Record)


async def read_stage(job: Job) -> None:
    """Stage 1: the source becomes `histories.jsonl`, with secrets masked and, unless ids are kept, users named by a keyed hash."""
    skipped: list[InputError] = []
    job.progress.start("read", 0)
    if job.config.gold is not None:
        read_gold(Path(job.config.gold))  # a wrong path is found before any model is asked
    salt = None if job.config.keep_ids else open_salt(job.workspace.root)
    answers = _answers(job.config, salt)
    histories: list[History] = []
    for history in read_source(job.config, skipped.append):
        masked = mask_history(history)
        histories.append(masked if salt is None else hash_history(masked, salt))
        job.progress.advance("read")
    for error in skipped:
        job.say(f"skipped: {error}")
    strangers = answers.keys() - {history.user_id for history in histories}
    if strangers:
        job.say(f"{job.config.questionnaire}: answers of {len(strangers)} users who have no history here are not used")
    job.write("histories", histories)


def read_source(config: RunConfig, on_skip: Callable[[InputError], None] | None = None) -> Iterator[History]:
    """Read the histories a run was asked for.

    Raises `InputError` for unusable input, and for none.
    """
    nothing = True
    for history in read_histories(
        Path(config.histories),
        format=config.format,
        user=config.user,
        on_bad="skip" if config.skip_bad else "stop",
        limit=config.users,
        on_skip=on_skip,
    ):
        nothing = False
        yield history
    if nothing:
        raise InputError(f"{config.histories}: no history could be read")


def _answers(config: RunConfig, salt: bytes | None) -> dict[str, Answers]:
    """Return what the users answered, by user as this run names them; nothing where personas are made another way."""
    if config.persona != "questionnaire" or config.questionnaire is None:
        return {}
    answers = read_questionnaire(Path(config.questionnaire))
    return answers if salt is None else {hash_user_id(user, salt): given for user, given in answers.items()}


def _salt(job: Job) -> bytes | None:
    return None if job.config.keep_ids else read_salt(job.workspace.root)


async def memories_stage(job: Job) -> None:
    """Stage 2: memories with evidence. Those a source brought along stay, kept or rejected as the reader found them.

    Later ones supersede what they contradict, and what the user asked not to remember is withheld.
    The scores of a questionnaire join them, so that a persona made of them has memories to cite.
    """
    histories = selected(job, job.read("histories", History), labels=False)
    answers = _answers(job.config, _salt(job))
    outcomes = await job.map(MEMORIES, [SaidBy(history, answers.get(history.user_id)) for history in histories])
    _say_unread(job, histories, outcomes)
    job.write_outcome("memories", Outcome.joined(outcomes))
    select_by_labels(job, histories, outcomes)


def _say_unread(job: Job, histories: Sequence[History], outcomes: Sequence[Outcome[Memory]]) -> None:
    """Say how many histories gave nothing because the extractive method does not know their language."""
    unread = Counter(
        history.language
        for history, outcome in zip(histories, outcomes, strict=True)
        if any(drop.kind == LANGUAGE for drop in outcome.dropped)
    )
    if unread:
        languages = ", ".join(f"{language} {n}" for language, n in unread.most_common())
        job.say(
            f"memories: none of {sum(unread.values())} of {len(histories)} histories: the extractive method knows English and Chinese, not "
            f"theirs ({languages}); a model named with --model may"
        )


async def persona_stage(job: Job) -> None:
    """Stage 3: one persona a user, with its depth gate, made the way that was asked for."""
    check_persona(job.config)
    memories = _by_user(job.read("memories", Memory))
    answers = _answers(job.config, _salt(job))
    histories = job.read("histories", History)
    strangers = sorted(memories.keys() - {history.user_id for history in histories})
    if strangers:
        raise ArtifactError(f"memories.jsonl: memories of {strangers[0]!r}, who has no history in histories.jsonl")
    tasks = [
        ToDescribe(history, tuple(memories.get(history.user_id, ())), answers.get(history.user_id))
        for history in selected(job, histories, labels=True)
    ]
    described = await job.map(PERSONA, tasks)
    job.write_outcome("personas", Outcome.joined(each.persona for each in described))
    if job.config.persona != "memory" or job.workspace.path("bigfive.jsonl").exists():
        job.write("bigfive", [each.scores for each in described if each.scores is not None])


async def situations_stage(job: Job) -> None:
    """Stage 4: moments of each user's life."""
    histories = index_by_id(job.read("histories", History), "histories")
    memories = _by_user(job.read("memories", Memory))
    tasks = [
        ToPlace(
            persona,
            tuple(memories.get(persona.user_id, ())),
            _parent(histories, persona.history_id, persona).language,
        )
        for persona in (job.read("personas", Persona) if job.settings.run.cases else ())
    ]
    job.write_outcome("situations", Outcome.joined(await job.map(SITUATIONS, tasks)))


async def queries_stage(job: Job) -> None:
    """Stage 5: what the user would send in each situation."""
    histories = index_by_id(job.read("histories", History), "histories")
    personas = index_by_id(job.read("personas", Persona), "personas")
    tasks = []
    for situation in job.read("situations", Situation):
        persona = _parent(personas, situation.persona_id, situation)
        tasks.append(ToWrite(_parent(histories, persona.history_id, persona), persona, situation))
    written = Outcome.joined(await job.map(QUERIES, tasks))
    apart = drop_near_copies(written.kept)
    job.write_outcome("queries", Outcome(apart.kept, [*written.dropped, *apart.dropped], written.asked))


async def inspection_stage(job: Job) -> None:
    """Stage 6: the gates, and the cases that passed them; hand-written cases join here."""
    histories = job.read("histories", History)
    memories = job.read("memories", Memory)
    personas = job.read("personas", Persona)
    situations = job.read("situations", Situation)
    queries = job.read("queries", Query)
    situation_by_id = index_by_id(situations, "situations")
    persona_by_id = index_by_id(personas, "personas")
    memory_by_id = index_by_id(memories, "memories")
    if job.config.inspectors == 2 and job.judge.name == job.model.name:
        raise SettingsError("two inspectors are asked for, but the judge is the model; name another with --judge")

    def with_parents(query: Query) -> ToInspect:
        situation = _parent(situation_by_id, query.situation_id, query)
        persona = _parent(persona_by_id, situation.persona_id, situation)
        cited = tuple(_parent(memory_by_id, memory_id, situation) for memory_id in situation.memory_ids)
        return ToInspect(query, situation, persona, cited)

    if job.is_kept("inspections"):
        inspections = job.read("inspections", Inspection)
    else:
        inspections = await job.map(INSPECTION, [with_parents(query) for query in queries])
        job.write("inspections", inspections)
        failures = [inspection.failure for inspection in inspections]
        failures += [inspection.second.failure for inspection in inspections if inspection.second is not None]
        job.budget.add(len(failures), (failure for failure in failures if failure is not None))
    cases = build_cases(histories, memories, personas, situations, queries, inspections)
    job.write("cases", [*(case for _, case in gold_of(job)), *cases])


def gold_of(job: Job) -> list[tuple[GoldCase, Case]]:
    """Return the hand-written cases of this run's users, with the cases made of them."""
    if job.config.gold is None:
        return []
    personas = index_by(job.read("personas", Persona), lambda persona: persona.user_id, "personas")
    return gold_cases(read_gold(Path(job.config.gold)), personas, job.read("memories", Memory))


def _by_user(memories: Sequence[Memory]) -> dict[str, list[Memory]]:
    grouped: dict[str, list[Memory]] = defaultdict(list)
    for memory in memories:
        grouped[memory.user_id].append(memory)
    return grouped


def _parent(index: dict[str, P], parent_id: str, child: Record) -> P:
    parent = index.get(parent_id)
    if parent is None:
        raise ArtifactError(
            f"{child.id}: its parent {parent_id} is missing; run the stages after the edited file again"
        )
    return parent


BUILD_STAGES: tuple[Stage, ...] = (
    Stage("read", "histories", read_stage),
    Stage("select", "selection.dropped", select_stage, ("intents",)),
    Stage("memories", "memories", memories_stage, ("memories", "supersession")),
    Stage("persona", "personas", persona_stage, ("persona",)),
    Stage("situations", "situations", situations_stage, ("situations",)),
    Stage("queries", "queries", queries_stage, ("queries",)),
    Stage("inspect", "cases", inspection_stage, ("inspection",)),
    Stage("safety", "safety", safety_stage, ("safety",)),
)
