"""`peregrm compare`: the same replies scored by several rewards, each with its own call cache, so that time and cost are its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peregrm.evaluation.reward_table import MethodRun, RewardTable, reward_table
from peregrm.mapping import Progress
from peregrm.pipeline.material import Material
from peregrm.pipeline.plan import PlannedCalls
from peregrm.pipeline.scoring import plan_scoring, score_replies
from peregrm.reward.factory import check_names
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings
from peregrm.store import replace_text

__all__ = ["compare_rewards", "plan_comparison"]


@dataclass(frozen=True)
class _Named:
    """Shows the scoring by one reward under that reward's name."""

    progress: Progress
    name: str

    def start(self, stage: str, total: int) -> None:
        self.progress.start(self.name, total)

    def advance(self, stage: str) -> None:
        self.progress.advance(self.name)


async def compare_rewards(
    material: Material,
    options: Mapping[str, RewardOptions],
    settings: Settings,
    *,
    out: Path,
    progress: Progress,
) -> RewardTable:
    """Score replies by every reward of `options`, by its name, and write `comparison.json` into the folder `out`.

    All names are checked before anything is asked. Failures are counted in the table and stop nothing. Raises what
    `peregrm.pipeline.scoring.score_replies` raises otherwise.
    """
    check_names(options)
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"failure_budget": 1.0})})
    runs: dict[str, MethodRun] = {}
    for name, chosen in options.items():
        path, shown = out / f"{name}.jsonl", _Named(progress, name)
        done = await score_replies(material.dataset, material.replies, chosen, settings, out=path, progress=shown)
        seconds = done.ledger.used_seconds() if done.ledger.summary() else done.seconds
        runs[name] = MethodRun(done.scored, seconds, done.summary.usage, done.cost)
    table = reward_table(runs, material.dataset.cases, material.ranks)
    replace_text(out / "comparison.json", table.model_dump_json(indent=1) + "\n")
    return table


async def plan_comparison(
    material: Material, options: Mapping[str, RewardOptions], settings: Settings, progress: Progress
) -> list[PlannedCalls]:
    """Return what a comparison would ask for at most, each purpose with the reward it is for; nothing is asked of any model."""
    check_names(options)
    return [
        row._replace(purpose=f"{name}: {row.purpose}")
        for name, chosen in options.items()
        for row in await plan_scoring(material.dataset, material.replies, chosen, settings, progress)
    ]
