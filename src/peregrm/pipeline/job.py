"""What every stage of a run is given, and how stages are run one after another.

A stage reads the files of the stages before it and writes its own. Running it again costs no model call, because the call cache
answers; a file that was edited by hand is kept and used. Left out on purpose: any state between stages other than the files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from peregrm.dataset.outcome import Outcome
from peregrm.errors import FailureBudgetExceeded, SettingsError
from peregrm.mapping import NoProgress, Progress
from peregrm.models.base import Model
from peregrm.models.ledger import Ledger
from peregrm.models.parsing import UNUSABLE
from peregrm.pipeline.engine import AT_ONCE, Engine, LocalEngine, Step, Tools
from peregrm.records import Drop, Failure, Part, Record
from peregrm.settings import Settings
from peregrm.store import Workspace

__all__ = ["Budget", "Job", "RunConfig", "Stage", "run_stages"]

R = TypeVar("R", bound=Record)
A = TypeVar("A")
B = TypeVar("B")

_BUDGET_FROM = 20
_HOPELESS_FROM = 5


class RunConfig(Part):
    """What a run was asked for; kept as `run.json`, so that later stage commands need not be told again."""

    histories: str
    """Absolute, as is `gold`: a stage command may be called from anywhere."""
    format: str = "auto"
    user: str | None = None
    keep_ids: bool = True
    users: int | None = None
    gold: str | None = None
    model: str
    judge: str
    memories: str
    persona: str = "memory"
    questionnaire: str | None = None
    """Absolute too; None where `persona` is another way."""
    context: int = 8192
    select: str = "none"
    inspectors: int = 1
    safety: Literal["rules", "both"] = "rules"
    criteria: str
    skip_bad: bool = False
    cases: int
    reasons: Literal["yes", "no"]
    samples: int
    quorum: float
    bystander_weight: float
    seed: int
    max_new_tokens: int
    temperature: float
    judge_temperature: float = 0.7


class Budget:
    """Counts model answers asked for and those that were not usable, over all stages of a run."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.asked = 0
        self.failed = 0
        self.unanswered = 0
        self._first: str | None = None

    def add(self, asked: int, failures: Iterable[Failure | Drop]) -> None:
        """Count one stage's answers."""
        self.asked += asked
        for failure in failures:
            self.failed += 1
            self.unanswered += failure.kind not in UNUSABLE
            self._first = self._first or f"{failure.stage}: {failure.reason}"

    def check(self, root: Path) -> None:
        """Raise `FailureBudgetExceeded` where too many of at least 20 answers failed.

        A share of fewer is no share, unless it is the whole: of at least 5 answers, or of any number of calls that nobody answered. One
        situation that was cut off does not stop a run that has hand-written cases to judge; an endpoint that answers nothing does.
        """
        if not self.asked or self.failed / self.asked <= self.share:
            return
        hopeless = self.failed == self.asked and (self.asked >= _HOPELESS_FROM or self.unanswered == self.asked)
        if self.asked >= _BUDGET_FROM or hopeless:
            raise FailureBudgetExceeded(
                f"{self.failed} of {self.asked} model answers could not be used ({self.failed / self.asked:.0%}, the budget is "
                f"{self.share:.0%}). The first: {self._first}. What was computed is kept in {root}; raise --failure-budget to go on"
            )


@dataclass
class Job:
    """One run: where it works, what it was asked for, and what it works with."""

    workspace: Workspace
    config: RunConfig
    settings: Settings
    model: Model
    judge: Model
    ledger: Ledger
    progress: Progress = field(default_factory=NoProgress)
    say: Callable[[str], None] = lambda line: None
    budget: Budget = field(default_factory=lambda: Budget(1.0))
    purposes: set[str] = field(default_factory=set)
    """Purposes of the calls of the stages that ran: their usage is this process's, whatever stood there before."""
    engine: Engine = field(default_factory=LocalEngine)

    @cached_property
    def tools(self) -> Tools:
        """What steps work with in this process."""
        return Tools(self.config, self.settings, self.model, self.judge)

    async def map(self, step: Step[A, B], tasks: Sequence[A], *, at_once: int | None = None) -> list[B]:
        """Return the result of a step for every task, in their order; by default so many at once that no model waits for work."""
        bound = at_once or max(AT_ONCE, 2 * self.model.concurrency, 2 * self.judge.concurrency)
        return await self.engine.map(step, self.tools, tasks, progress=self.progress, at_once=bound)

    def is_kept(self, name: str) -> bool:
        """Tell whether the artifact `name` was edited by hand, and say so: it is kept and used."""
        edited = self.workspace.is_edited(f"{name}.jsonl")
        if edited:
            self.say(f"{name}.jsonl was edited by hand: kept (delete it to have it made again)")
        return edited

    def write(self, name: str, records: Iterable[Record]) -> None:
        """Write the artifact `name`, unless somebody edited it."""
        if not self.is_kept(name):
            self.workspace.write(f"{name}.jsonl", records)

    def write_outcome(self, name: str, outcome: Outcome[R]) -> None:
        """Write what a stage kept and what it dropped, and count its failures."""
        self.write(name, outcome.kept)
        self.write(f"{name}.dropped", outcome.dropped)
        self.budget.add(outcome.asked, (drop for drop in outcome.dropped if drop.failed))

    def read(self, name: str, record_type: type[R]) -> list[R]:
        """Read the artifact `name`."""
        return self.workspace.read(f"{name}.jsonl", record_type)


class Stage(NamedTuple):
    """A named step. `writes` is its main artifact; if that was edited by hand the stage is not run."""

    name: str
    writes: str
    run: Callable[[Job], Awaitable[None]]
    purposes: tuple[str, ...] = ()


async def run_stages(job: Job, stages: Iterable[Stage]) -> None:
    """Run stages in order; stop with an error when failures pass the budget."""
    for stage in stages:
        if job.is_kept(stage.writes):
            continue
        job.purposes.update(stage.purposes)
        await stage.run(job)
        job.engine.written()
        job.budget.check(job.workspace.root)


def stage_named(stages: Iterable[Stage], name: str) -> Stage:
    """Return the stage called `name`; raises `SettingsError` where there is none."""
    for stage in stages:
        if stage.name == name:
            return stage
    raise SettingsError(f"there is no stage {name!r}")
