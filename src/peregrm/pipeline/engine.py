"""How a stage's function is run over its records: in this process, or wherever an engine sends them.

A stage says what is done to one record as a `Step`, a function of its own module that needs nothing but its `Tools` and the record, so
that it can run in another process. Everything that looks at all records at once stays in the stage. The engine on Ray is in `ray_engine`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, get_type_hints

from pydantic import TypeAdapter

from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model
from peregrm.models.embeddings import Embedder
from peregrm.settings import Settings

if TYPE_CHECKING:
    from peregrm.pipeline.job import RunConfig

__all__ = ["AT_ONCE", "ENGINES", "Engine", "LocalEngine", "Step", "Tools"]

A = TypeVar("A")
B = TypeVar("B")

ENGINES = ("local", "ray")
"""What `--engine` takes."""

AT_ONCE = 512
"""Records in work at once where a stage sets no bound of its own; never fewer than the model takes calls."""


@dataclass(frozen=True)
class Tools:
    """What a step works with; every process that runs steps has its own."""

    config: RunConfig
    settings: Settings
    model: Model
    judge: Model

    @cached_property
    def embedder(self) -> Embedder:
        """The sentence embeddings, loaded at their first use; raises `DependencyError` where they are not installed."""
        return Embedder()


@dataclass(frozen=True)
class Step(Generic[A, B]):
    """What is done to one record. `name` is the stage's for those who watch; `run` stands at the top level of a module."""

    name: str
    run: Callable[[Tools, A], Awaitable[B]]

    @property
    def returns(self) -> TypeAdapter[Any]:
        """What reads a result back from JSON."""
        return TypeAdapter(get_type_hints(self.run)["return"])


class Engine(Protocol):
    """Whatever runs a step over records."""

    async def map(
        self, step: Step[A, B], tools: Tools, tasks: Sequence[A], *, progress: Progress, at_once: int
    ) -> list[B]:
        """Return the result of the step for every task, in the order of the tasks; the first error is raised as it is."""
        ...

    def written(self) -> None:
        """A stage's artifact is on disk: what was kept to go on from in the middle of the stage is no longer needed."""
        ...

    async def aclose(self) -> None:
        """Free what the engine holds. Safe to call twice."""
        ...


class LocalEngine:
    """Runs steps in this process, side by side."""

    async def map(
        self, step: Step[A, B], tools: Tools, tasks: Sequence[A], *, progress: Progress, at_once: int
    ) -> list[B]:
        """Run the step over the tasks with at most `at_once` in work."""
        return await map_in_order(partial(step.run, tools), tasks, stage=step.name, progress=progress, at_once=at_once)

    def written(self) -> None:
        """Nothing is kept besides the call cache."""

    async def aclose(self) -> None:
        """Nothing is held."""
