"""Models asked for replies to a dataset's cases, each in the settings wanted: for `peregrm reply` and `peregrm evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from peregrm.errors import SettingsError
from peregrm.mapping import Progress
from peregrm.memory.base import MemoryStore
from peregrm.memory.factory import Options, check_place, is_server, open_fitting, open_store
from peregrm.models.base import Completion, Model, Request
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.finish import save_ledger
from peregrm.pipeline.job import Budget
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.reply_files import is_of_dataset
from peregrm.pipeline.replying import Policy, policy_name, write_policy
from peregrm.records import Case, History, Reply
from peregrm.replies import SETTINGS, Setting
from peregrm.settings import Settings
from peregrm.store import Workspace, held_alone, index_by, read_records, write_records

__all__ = [
    "PolicySpec",
    "answer_cases",
    "answer_to_file",
    "histories_beside",
    "plan_answers",
    "planned_name",
    "policy_specs",
]


class PolicySpec(NamedTuple):
    """A model, as `--model` takes it, in a setting; `memory` names the store of the setting `retrieved`, `at` where one of others is."""

    model: str
    setting: Setting
    memory: str | None = None
    at: str | None = None


def policy_specs(
    models: Sequence[str], settings: Sequence[str], memories: Sequence[str], at: str | None = None
) -> list[PolicySpec]:
    """Return every model in every setting, `retrieved` with every store; `at` is where a store of others is.

    Raises `SettingsError` for a setting there is none of, `retrieved` without a store, stores without `retrieved`, and what `check_place`
    raises.
    """
    known: dict[str, Setting] = {name: name for name in SETTINGS}
    wrong = [name for name in settings if name not in known]
    if wrong:
        raise SettingsError(f"there is no setting {wrong[0]!r}; there are {', '.join(SETTINGS)}")
    if ("retrieved" in settings) != bool(memories):
        raise SettingsError("the setting retrieved goes with --memory STORE, and --memory with the setting retrieved")
    check_place(list(dict.fromkeys(memories)), at)
    return [
        PolicySpec(model, known[setting], store, None if store is None else at)
        for model in dict.fromkeys(models)
        for setting in dict.fromkeys(settings)
        for store in (dict.fromkeys(memories) if setting == "retrieved" else (None,))
    ]


def histories_beside(cases_path: Path) -> dict[str, History]:
    """Return the histories that lie beside a file of cases (or in the folder of a run), by user; none where there is no such file."""
    folder = cases_path if cases_path.is_dir() else cases_path.parent
    path = folder / "histories.jsonl"
    if not path.exists():
        return {}
    return index_by(read_records(path, History), lambda history: history.user_id, str(path))


async def answer_cases(
    specs: Sequence[PolicySpec],
    cases: Sequence[Case],
    histories: Mapping[str, History],
    settings: Settings,
    *,
    opened: Callable[[str], Model],
    progress: Progress,
    say: Callable[[str], None] = lambda line: None,
) -> list[Reply]:
    """Return the replies of every policy to every case.

    `opened` gives the model of a name, which is closed here. A store lives as long as this call and is filled from the dataset alone.
    Raises `SettingsError` where two policies would have one name, and what `peregrm.pipeline.replying.write_policy` and the opening of
    a model or a store raise.
    """
    names = [planned_name(spec, settings) for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(
            f"two policies would be called {twice[0]!r}: name the models differently in the settings file"
        )
    replies: list[Reply] = []
    for spec in specs:
        model = opened(spec.model)
        store: MemoryStore | None = None
        try:
            store = _store(spec, model)
            replies += await write_policy(
                _policy(spec, model, store, settings), cases, histories, progress=progress, say=say
            )
        finally:
            if store is not None:
                await store.aclose()
            await model.aclose()
    return replies


async def plan_answers(
    specs: Sequence[PolicySpec],
    cases: Sequence[Case],
    histories: Mapping[str, History],
    settings: Settings,
    progress: Progress,
) -> list[PlannedCalls]:
    """Return what the replies would ask for at most; nothing is asked of any model and nothing written. Raises what `answer_cases` does."""
    models = {spec.model: PlanningModel(model_name(spec.model, settings)) for spec in specs}
    await answer_cases(specs, cases, histories, settings, opened=models.__getitem__, progress=progress)
    return planned_calls(list(models.values()), prices(models, settings))


async def answer_to_file(
    specs: Sequence[PolicySpec],
    cases: Sequence[Case],
    histories: Mapping[str, History],
    settings: Settings,
    *,
    path: Path,
    folder: Path,
    progress: Progress,
    say: Callable[[str], None] = lambda line: None,
) -> list[Reply]:
    """Write the replies of every policy to `path` and return them; their calls are kept in the folder `folder` with the ledger.

    Raises `FailureBudgetExceeded`, after everything was written, where too many failed; `SettingsError` where `path` is a folder or a
    file of the dataset itself; and what `answer_cases` raises.
    """
    _check_target(path, folder)
    ledger = Ledger(prices({spec.model for spec in specs}, settings))
    with held_alone(folder), _Counting(folder / "calls.sqlite") as cache:
        replies = await answer_cases(
            specs,
            cases,
            histories,
            settings,
            opened=lambda spec: open_model(spec, settings, cache=cache, ledger=ledger),
            progress=progress,
            say=say,
        )
    write_records(path, replies)
    if cache.before:
        were = "answer was" if cache.before == 1 else "answers were"
        say(f"{cache.before} {were} in {cache.path}: delete it where another model goes by the same name now")
    save_ledger(Workspace(folder), ledger, ledger.used_seconds(), {row.purpose for row in ledger.summary()})
    budget = Budget(settings.run.failure_budget)
    budget.add(len(replies), (reply.failure for reply in replies if reply.failure is not None))
    budget.check(folder)
    return replies


class _Counting(CallCache):
    """A cache that tells how many of the answers it gave were there before it was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._own: set[str] = set()
        self._before: set[str] = set()

    @property
    def before(self) -> int:
        """How many answers of earlier commands were used."""
        return len(self._before)

    def get(self, key: str) -> Completion | None:
        """Return the stored completion or None, and count it where it is of an earlier command."""
        found = super().get(key)
        if found is not None and key not in self._own:
            self._before.add(key)
        return found

    def put_all(self, rows: Iterable[tuple[str, Request, Completion]]) -> None:
        """Store the samples of one call, as this command's own."""
        made = list(rows)
        self._own.update(key for key, _, _ in made)
        super().put_all(made)


def _check_target(path: Path, folder: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"{path} is a folder: name a file for the replies")
    if is_of_dataset(path, folder):
        raise SettingsError(f"{path} is a file of the dataset: name another for these replies")


def _store(spec: PolicySpec, model: Model) -> MemoryStore | None:
    """Return the store of a policy, filled by whoever opens it and empty again once closed; a plan leaves servers alone."""
    if spec.memory is None:
        return None
    if is_server(spec.memory) and isinstance(model, PlanningModel):
        return open_store("recent")  # finds as many notes, and asks nobody
    return open_fitting(spec.memory, Options(model=model, at=spec.at, passing=True))


def planned_name(spec: PolicySpec, settings: Settings) -> str:
    """Return the name the policy will have; raises what opening its model would raise."""
    return policy_name(model_name(spec.model, settings), spec.setting, spec.memory)


def _policy(spec: PolicySpec, model: Model, store: MemoryStore | None, settings: Settings) -> Policy:
    run = settings.run
    return Policy(
        model=model,
        setting=spec.setting,
        store=store,
        context=run.context,
        max_tokens=run.max_new_tokens,
        temperature=run.temperature,
        seed=run.seed,
    )
