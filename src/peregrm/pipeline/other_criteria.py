"""Criteria for other dimensions than empathy, written into a run: `peregrm criteria --dimensions humour`.

Beside those for empathy, which the stage `criteria` writes, under a name of their own: to be read, edited, and judged by.
"""

from __future__ import annotations

from peregrm.mapping import map_in_order
from peregrm.pipeline.criteria_files import criteria_name
from peregrm.pipeline.flagging import read_cases
from peregrm.pipeline.job import Job, Stage
from peregrm.reward.options import RewardOptions
from peregrm.reward.variants import peregrm_of

__all__ = ["criteria_stage"]


def criteria_stage(dimensions: str) -> Stage:
    """Return the stage that writes criteria for `dimensions`, as `--dimensions` takes them.

    Without a model they are the set's own fixed ones, the same for every case; for flagged cases they are those of safe guidance always.
    Running it raises `SettingsError` where there is no such set, or one that has no fixed criteria is to be used without a model.
    """
    name = criteria_name(dimensions)

    async def run(job: Job) -> None:
        method = "model" if job.config.criteria == "model" else "fixed"
        options = RewardOptions(judges=(job.config.judge,), criteria=method, dimensions=dimensions)
        reward = peregrm_of(options, job.judge)
        made = await map_in_order(
            reward.criteria_for, read_cases(job.workspace), stage="criteria", progress=job.progress
        )
        criteria = [one for one in made if one is not None]
        job.write(name, criteria)
        asked = [one for one in criteria if one.method == "model"]
        job.budget.add(len(asked), (one.failure for one in asked if one.failure is not None))

    return Stage("criteria", name, run, ("criteria",))
