"""How far a command is: bars at a terminal, elsewhere a line as a stage with something to do begins and one as it ends.

On standard error, so that standard output stays the report.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Bars"]

_UNKNOWN = "read"
"""The stage that begins before anybody knows how many steps it has; it ends when another begins."""


class Bars:
    """One bar a stage, or two lines where the console is no terminal; a context manager, because a live display must be closed.

    `counting` is for work that is only counted: it leaves no lines, which would say that it was done.
    """

    def __init__(self, console: Console, *, counting: bool = False) -> None:
        self._console = console
        self._plain = not console.is_terminal and not counting
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_unknown()
        self._bars.stop()

    def start(self, stage: str, total: int) -> None:
        """Show a stage of `total` steps; for `read`, 0 means that the number is not known yet."""
        self._end_unknown()
        unknown = stage == _UNKNOWN and not total
        self._tasks[stage] = self._bars.add_task(stage, total=None if unknown else total)
        if total:
            self._line(f"{stage}: {total} to do")

    def advance(self, stage: str) -> None:
        """Move a stage's bar by one step."""
        self._bars.advance(self._tasks[stage])
        task = self._task(stage)
        if task.total is not None and task.completed == task.total:
            self._told(task)

    def _end_unknown(self) -> None:
        if _UNKNOWN in self._tasks and self._task(_UNKNOWN).total is None:
            task = self._task(_UNKNOWN)
            self._bars.update(self._tasks[_UNKNOWN], total=task.completed)
            self._told(task)

    def _task(self, stage: str) -> Task:
        return self._bars.tasks[self._tasks[stage]]  # none is ever taken away, so ids are places

    def _told(self, task: Task) -> None:
        self._line(f"{task.description}: {task.completed:.0f} done in {task.elapsed or 0:.0f} s")

    def _line(self, text: str) -> None:
        if self._plain:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
