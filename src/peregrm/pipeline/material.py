"""What a validation works on: cases with honest replies to them, from the sample, from a run or from files of one's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from peregrm.dataset.gold import GoldCase, gold_cases, read_gold, recorded_replies
from peregrm.errors import InputError
from peregrm.evaluation.reward_table import known_ranks
from peregrm.mapping import Progress
from peregrm.models.ledger import Ledger
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.answering import histories_beside
from peregrm.pipeline.build import BUILD_STAGES
from peregrm.pipeline.job import Job, RunConfig, run_stages
from peregrm.pipeline.reply_files import Dataset, read_dataset, read_ranked_replies
from peregrm.pipeline.session import load_config, sample
from peregrm.records import Case, History, Memory, Persona, Reply, content_id
from peregrm.settings import Settings
from peregrm.store import Workspace, index_by

__all__ = ["Material", "choose_cases", "honest_replies", "read_material", "sample_material"]


@dataclass(frozen=True)
class Material:
    """Cases, honest replies to them, and the known rank of a reply by its id (1 is best), for those that have one.

    `histories` are those the cases were made of, where they are at hand.
    """

    dataset: Dataset
    replies: list[Reply]
    ranks: dict[str, int]
    histories: tuple[History, ...] = ()


async def sample_material(folder: Path, settings: Settings, progress: Progress) -> Material:
    """Build the hand-written cases of the sample into `folder`, without a model, and return them with their recorded replies.

    Raises `DependencyError` where the packages of the extractive method are not installed.
    """
    histories, gold = sample()
    run = settings.run.model_copy(update={"cases": 0})
    kept = set(RunConfig.model_fields) & set(type(run).model_fields)
    config = RunConfig.model_validate(
        {
            **{name: getattr(run, name) for name in kept},
            "histories": str(histories),
            "gold": str(gold),
            "model": "none",
            "judge": "none",
            "memories": "extractive",
            "persona": "memory",
            "questionnaire": None,
            "safety": "rules",
            "criteria": "composed",
            "reasons": "no",
        }
    )
    nobody = ScriptedModel((), name="none")  # fails loudly if anything were asked of it
    workspace = Workspace(folder)
    await run_stages(
        Job(
            workspace=workspace,
            config=config,
            settings=settings.model_copy(update={"run": run}),
            model=nobody,
            judge=nobody,
            ledger=Ledger(),
            progress=progress,
        ),
        BUILD_STAGES,
    )
    pairs = _gold_pairs(workspace, gold)
    dataset = Dataset({case.id: case for _, case in pairs}, {})
    return Material(dataset, recorded_replies(pairs), known_ranks(pairs), _histories(folder, dataset))


def read_material(dataset: Path, replies: Path | None) -> Material:
    """Read a dataset and replies to it; without a file of replies, those of the run in the folder `dataset`.

    Ranks are those that stand beside the replies; where there are none, those of the hand-written cases of the run, if their file is
    still there. Raises `InputError` or `ArtifactError` naming file and line.
    """
    known = read_dataset(dataset)
    if replies is None and not dataset.is_dir():
        raise InputError(f"{dataset}: name the file with the replies to these cases as well")
    given = read_ranked_replies(replies or dataset / "replies.jsonl", known.cases)
    ranks = {reply.id: rank for reply, rank in given if rank is not None}
    if not ranks and (dataset / "run.json").exists():
        gold = load_config(dataset).gold
        if gold is not None and Path(gold).exists():
            ranks = known_ranks(_gold_pairs(Workspace(dataset), Path(gold)))
    return Material(known, [reply for reply, _ in given], ranks, _histories(dataset, known))


def _histories(dataset: Path, known: Dataset) -> tuple[History, ...]:
    """Return the histories beside the cases whose personas say that they come from them."""
    wanted = {case.persona.history_id for case in known.cases.values()}
    return tuple(history for history in histories_beside(dataset).values() if history.id in wanted)


def _gold_pairs(workspace: Workspace, gold: Path) -> list[tuple[GoldCase, Case]]:
    personas = index_by(workspace.read("personas.jsonl", Persona), lambda persona: persona.user_id, "personas")
    return gold_cases(read_gold(gold), personas, workspace.read("memories.jsonl", Memory))


def choose_cases(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Return `count` cases, or all, one user after another; which ones hangs on the seed and not on their order."""
    by_user: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: content_id("pick", [seed, case.id])):
        by_user[case.user_id].append(case)
    users = sorted(by_user, key=lambda user: content_id("pick", [seed, user]))
    rounds = zip_longest(*(by_user[user] for user in users))
    return [case for one_round in rounds for case in one_round if case is not None][:count]


def honest_replies(material: Material) -> dict[str, list[Reply]]:
    """Return the replies that are there, by the id of their case; in an order of their own, whatever order they came in.

    Flagged cases are left out: replies to them are judged by other dimensions than the rest.
    """
    groups: dict[str, list[Reply]] = defaultdict(list)
    for reply in sorted(material.replies, key=lambda reply: (reply.policy, reply.id)):
        if reply.failure is None and reply.text.strip():
            groups[reply.case_id].append(reply)
    wanted = [case_id for case_id, case in material.dataset.cases.items() if not case.flags]
    return {case_id: groups[case_id] for case_id in wanted if case_id in groups}
