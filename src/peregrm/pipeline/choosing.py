"""Who a dataset is built on: the filters of `--select` around the finding of memories."""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.dataset.outcome import Outcome
from peregrm.dataset.selection import by_labels, filters_of
from peregrm.pipeline.job import Job
from peregrm.pipeline.steps import INTENTS
from peregrm.records import Drop, History, Memory

__all__ = ["select_by_labels", "select_stage", "selected"]

_INTENTS, _LABELS = "selection.dropped", "selection.labels.dropped"


async def select_stage(job: Job) -> None:
    """Stage 2: who is dropped for what they come for, before any memory is looked for."""
    histories = job.read("histories", History) if "intents" in filters_of(job.config.select) else []
    drops = [drop for drop in await job.map(INTENTS, histories) if drop]
    job.write(_INTENTS, drops)
    asked = 0 if job.config.memories == "extractive" else sum(not history.intents for history in histories)
    job.budget.add(asked, (drop for drop in drops if drop.failed))


def select_by_labels(job: Job, histories: Sequence[History], outcomes: Sequence[Outcome[Memory]]) -> None:
    """Say who of `histories` is dropped for the labels of their memories, which stay on file."""
    if "labels" in filters_of(job.config.select):
        found = zip(histories, outcomes, strict=True)
        drops = [drop for history, outcome in found if (drop := by_labels(history, outcome.kept)) is not None]
        job.write(_LABELS, drops)


def selected(job: Job, histories: Sequence[History], *, labels: bool) -> list[History]:
    """Return the histories that were not dropped for their intents, nor, with `labels`, for the labels of their memories."""
    gone = {drop.subject for drop in job.read(_INTENTS, Drop)}
    if labels and "labels" in filters_of(job.config.select):
        gone |= {drop.subject for drop in job.read(_LABELS, Drop)}
    return [history for history in histories if history.id not in gone]
