"""The engine on Ray Data: a stage's step runs in one worker a processor of the cluster, each with model clients of its own.

Records go out as Ray Data blocks and their results come back in streams; what came back is kept by record in `checkpoint.sqlite` in the
run's folder until the stage's artifact is written, so that a run that is killed goes on with the records that are missing. A worker that
dies is started again by Ray and does its records again; calls that were answered are in the run's call cache, so none is made twice.
Results are put back in the order of the tasks: the artifacts are those of the local engine, byte for byte.

Workers need the same version of this package, and the environment variables with the models' keys, on every machine. The run's folder
needs to be on one machine only. Left out on purpose: Ray Data's own checkpoints, which need a disk that all machines share, and running
the stages that look at all records at once anywhere but here.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import logging
import os
import pickle
import socket
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_json

from peregrm import __version__
from peregrm.errors import ArtifactError, DependencyError, PeregrmError
from peregrm.extras import install
from peregrm.mapping import NoProgress, Progress, map_in_order
from peregrm.models.base import Model
from peregrm.models.ledger import Ledger
from peregrm.models.registry import open_model
from peregrm.pipeline.engine import Step, Tools
from peregrm.pipeline.job import RunConfig
from peregrm.pipeline.ray_calls import Ask, CallStore, NotingLedger, SharedCalls, Use, noting
from peregrm.prompts import prompt_hash, prompt_names
from peregrm.settings import ModelSettings, Settings

__all__ = ["CHECKPOINT", "RayEngine", "cluster_address"]

A = TypeVar("A")
B = TypeVar("B")

CHECKPOINT = "checkpoint.sqlite"
"""The file in a run's folder that holds the results of a stage in the middle of which the run is."""

_BLOCK_ROWS = 8192
"""Records a worker takes at once; it runs dry at the end of each such block."""
_STOP_S = 30.0
"""How long a stopped run waits for its workers to end."""
_TOGETHER = 32
"""Results that a worker sends back, and that are kept, at once."""
_LEFT_BEHIND = Path("/tmp/ray/ray_current_cluster")  # noqa: S108 - where Ray itself looks for a cluster
_PROBE_S = 2.0

_USES = TypeAdapter(list[Use])


class RayEngine:
    """Runs steps on Ray Data.

    It joins the cluster of `RAY_ADDRESS`, or else one running on this machine, or else starts one on it. Nothing is started before the
    first step.

    Args:
        root: The run's folder.
        ledger: Where the workers' calls are entered.

    Raises:
        DependencyError: ray is not installed.
    """

    def __init__(self, root: Path, ledger: Ledger) -> None:
        for package in ("ray", "pyarrow"):
            if importlib.util.find_spec(package) is None:
                raise DependencyError(f"--engine ray needs Ray Data: {install('ray')}")
        self._root = root
        self._ledger = ledger
        self._name = uuid.uuid4().hex
        self._store: Any = None
        self._is_ours = False
        self._reader = ThreadPoolExecutor(1)
        self._reading: Future[list[_Row] | None] | None = None

    async def map(
        self, step: Step[A, B], tools: Tools, tasks: Sequence[A], *, progress: Progress, at_once: int
    ) -> list[B]:
        """Run the step over the tasks, with about `at_once` in work over all workers.

        Raises:
            PeregrmError: What a step raised.
        """
        progress.start(step.name, len(tasks))
        mark = _mark(step, tools)
        keys = [_key(mark, task) for task in tasks]
        results: dict[str, bytes] = {}
        with closing(_Checkpoint(self._root / CHECKPOINT)) as kept:
            for row in kept.rows(keys):
                results[row.key] = row.result
                self._enter(row.uses, anew=False)
                progress.advance(step.name)
            left = {key: task for key, task in zip(keys, tasks, strict=True) if key not in results}
            if left:
                self._start()
                rows = self._run(step, tools, left, at_once)
                while (some := await self._next(rows)) is not None:
                    for row in some:
                        results[row.key] = row.result
                        self._enter(row.uses, anew=True)
                        progress.advance(step.name)
                    kept.add(row for row in some if not _has_failures(row.uses))
        lost = left.keys() - results.keys()
        if lost:
            raise ArtifactError(
                f"{step.name}: {len(lost)} records did not come back from Ray; run the same command again"
            )
        read = step.returns.validate_json
        return [read(results[key]) for key in keys]

    def written(self) -> None:
        """Delete what was kept of the stage."""
        for suffix in ("", "-wal", "-shm"):
            (self._root / f"{CHECKPOINT}{suffix}").unlink(missing_ok=True)

    async def aclose(self) -> None:
        """Leave the cluster; one that was started here is stopped."""
        if self._store is None:
            return
        import ray

        ray.kill(self._store)  # workers that still run end at their next call
        self._store = None
        if self._reading is not None and not self._reading.done():
            _silence("ray", "ray.data")
            await asyncio.to_thread(
                wait, [self._reading], _STOP_S
            )  # Ray Data starts another cluster if this one goes first
        self._reader.shutdown(wait=False)
        if self._is_ours:
            ray.shutdown()

    async def _next(self, rows: Iterator[list[_Row]]) -> list[_Row] | None:
        """Return the next results, or None after the last; the thread that waits for them outlives a cancelled task."""
        self._reading = self._reader.submit(next, rows, None)
        return await asyncio.wrap_future(self._reading)

    def _enter(self, uses: bytes, *, anew: bool) -> None:
        for use in _USES.validate_json(uses):
            use.enter(self._ledger, anew=anew)

    def _start(self) -> None:
        """Join or start a cluster, and start the one process that owns the call cache."""
        if self._store is not None:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here reports to nobody
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            ray.init(cluster_address(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
        path = str((self._root / "calls.sqlite").absolute())
        self._store = ray.remote(CallStore).options(**options).remote(path)

    def _run(self, step: Step[A, B], tools: Tools, tasks: Mapping[str, A], at_once: int) -> Iterator[list[_Row]]:
        """Yield results as they come; raises what a step raised."""
        import pyarrow as arrow
        import ray
        import ray.data

        _silence("ray.data", below=logging.ERROR)
        calls = max(1, min(tools.model.concurrency, tools.judge.concurrency))
        workers = max(1, min(int(ray.cluster_resources().get("CPU", 1)), calls))
        count = min(len(tasks), workers * -(-len(tasks) // (workers * _BLOCK_ROWS)))
        rows = [{"key": key, "task": pickle.dumps(task)} for key, task in tasks.items()]
        blocks = [arrow.Table.from_pylist(rows[number::count]) for number in range(count)]
        del rows
        order = _Order(self._name, step, tools.config, _shared(tools.settings, workers), self._store, workers, at_once)
        source = ray.data.from_arrow(blocks)
        source.context.enable_progress_bars = False
        source.context.print_on_execution_start = False
        source.context.target_max_block_size = 1  # every piece that a worker yields is sent at once, and as it is
        results = source.map_batches(
            _work,
            fn_args=(order,),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=workers),
            num_cpus=1,
        )
        for table in results.iter_batches(batch_size=None, batch_format="pyarrow"):
            for piece in table.column("piece").to_pylist():
                some: list[_Row] | PeregrmError = pickle.loads(piece)  # noqa: S301 - from a worker of this run
                if isinstance(some, PeregrmError):
                    raise some
                yield some


class _Row(NamedTuple):
    """What came of one record: the result as JSON, and the uses of models behind it."""

    key: str
    result: bytes
    uses: bytes


@dataclass(frozen=True)
class _Order:
    """What a worker is told. `run` names the run to processes that go on to its next stage, with the clients they have."""

    run: str
    step: Step[Any, Any]
    config: RunConfig
    settings: Settings
    store: Any
    workers: int
    at_once: int


_WORKERS: dict[str, _Worker] = {}
"""The worker of each run in this process."""


def _work(block: Any, order: _Order) -> Iterator[Any]:
    """Yield the results of a block in its order, always so many in a piece.

    A block whose worker died is done again, and Ray skips as many pieces as it already has: they must be the same.
    """
    import pyarrow as arrow

    worker = _WORKERS.get(order.run) or _WORKERS.setdefault(order.run, _Worker())
    tasks = block.to_pylist()
    rows: list[Future[_Row]] = [Future() for _ in tasks]
    worker.begin(order, tasks, rows)
    for start in range(0, len(rows), _TOGETHER):
        piece: list[_Row] | PeregrmError
        try:
            piece = [row.result() for row in rows[start : start + _TOGETHER]]
        except PeregrmError as error:
            piece = error
        yield arrow.table({"piece": [pickle.dumps(piece)]})
        if isinstance(piece, PeregrmError):
            return


class _Worker:
    """The event loop of a worker process, in a thread of its own, and the tools of its run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tools: Tools | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def begin(self, order: _Order, tasks: Sequence[dict[str, Any]], rows: Sequence[Future[_Row]]) -> None:
        """Start on tasks; each row is set when its record is done, and all that are left where one raises."""
        asyncio.run_coroutine_threadsafe(self._run(order, tasks, rows), self._loop)

    async def _run(self, order: _Order, tasks: Sequence[dict[str, Any]], rows: Sequence[Future[_Row]]) -> None:
        try:
            tools = self._tools = self._tools or _open(order)
            results = order.step.returns

            async def one(place: int) -> None:
                uses = noting()
                result = await order.step.run(tools, pickle.loads(tasks[place]["task"]))  # noqa: S301 - from the run itself
                row = _Row(tasks[place]["key"], results.dump_json(result), _USES.dump_json(uses))
                rows[place].set_result(row)

            at_once = max(1, -(-order.at_once // order.workers))
            await map_in_order(one, range(len(tasks)), stage=order.step.name, progress=NoProgress(), at_once=at_once)
        except BaseException as error:  # noqa: BLE001 - the other thread raises it
            for row in rows:
                if not row.done():
                    row.set_exception(error)


def _open(order: _Order) -> Tools:
    """Open the models of a run in this process."""
    config = order.config
    model = _open_model(config.model, order)
    judge = model if config.judge == config.model else _open_model(config.judge, order)
    return Tools(config, order.settings, model, judge)


def _open_model(spec: str, order: _Order) -> Model:
    ledger = NotingLedger()
    inner = open_model(spec, order.settings, cache=None, ledger=ledger)
    share = max(1, inner.concurrency // order.workers)
    return SharedCalls(inner, ledger, Ask(_sender(order.store.get_all)), Ask(_sender(order.store.put_all)), share)


def cluster_address(noted: Path = _LEFT_BEHIND) -> str | None:
    """Return where the cluster is: None leaves it to Ray, `local` starts one.

    A cluster that was killed leaves its address in the file `noted`, and Ray tries for minutes to join it.
    """
    if os.environ.get("RAY_ADDRESS"):
        return None
    try:
        host, _, port = noted.read_text().strip().rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S).close()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return "local"
    return None


def _silence(*names: str, below: int = logging.CRITICAL + 1) -> None:
    for name in names:
        logging.getLogger(name).setLevel(below)


def _sender(method: Any) -> Any:
    async def send(items: list[Any]) -> Any:
        return await method.remote(items)

    return send


def _shared(settings: Settings, workers: int) -> Settings:
    """Return the settings with each endpoint's limits a minute divided among the workers."""

    def part(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // workers)

    def divided(entry: ModelSettings) -> ModelSettings:
        return entry.model_copy(update={"rpm": part(entry.rpm), "tpm": part(entry.tpm)})

    return settings.model_copy(update={"models": {name: divided(entry) for name, entry in settings.models.items()}})


def _mark(step: Step[Any, Any], tools: Tools) -> str:
    """Return a hash of all that decides a step's results besides the task."""
    prompts = {name: prompt_hash(name) for name in prompt_names()}
    return _sha256(to_json([__version__, step.name, tools.config, tools.settings, prompts]))


def _key(mark: str, task: Any) -> str:
    return _sha256(mark.encode("ascii") + to_json(task))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _has_failures(uses: bytes) -> bool:
    """Tell whether a call failed: the record is done again in the next run, as it is without a checkpoint."""
    return any(use[-1] is not None for use in json.loads(uses))


class _Checkpoint:
    """Results of records by key, in a SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, result BLOB NOT NULL, uses BLOB NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            self._database.close()
            raise ArtifactError(f"{path}: damaged; delete it to do its records again") from error

    def rows(self, keys: Sequence[str]) -> Iterator[_Row]:
        """Yield what is there under these keys, each once."""
        for key in dict.fromkeys(keys):
            row = self._database.execute("SELECT result, uses FROM records WHERE key = ?", (key,)).fetchone()
            if row is not None:
                yield _Row(key, *row)

    def add(self, rows: Iterable[_Row]) -> None:
        """Keep rows; they are there when this returns."""
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def close(self) -> None:
        self._database.close()
