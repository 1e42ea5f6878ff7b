"""What the tasks for Inspect rest on: prompts, replies and rewards as `peregrm evaluate` makes them, one sample at a time.

Inspect brings samples one by one and says nothing of the last, so a judge is open as long as any sample is under way; when none is,
it is closed and new criteria are kept with the dataset. Calls are kept in `inspect.sqlite` beside the cases: the same task again
repeats none, nor does one that was killed. Nothing here imports Inspect. Left out on purpose: the failure budget for judgements, for no
sample knows of the others; the coverage in the log says how many have no score.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from peregrm.errors import InputError, SettingsError
from peregrm.mapping import NoProgress
from peregrm.memory.base import MemoryStore
from peregrm.memory.factory import asks_model, is_elsewhere, open_store
from peregrm.models.base import Completion, Request
from peregrm.models.cache import CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.answering import histories_beside, policy_specs
from peregrm.pipeline.criteria_files import criteria_name
from peregrm.pipeline.reply_files import Dataset, read_dataset, read_replies
from peregrm.pipeline.replying import Policy, write_policy
from peregrm.pipeline.scoring import give_criteria
from peregrm.records import Case, Criteria, Judgement, Reply
from peregrm.replies import Setting
from peregrm.reward.base import Scored
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.variants import peregrm_of
from peregrm.settings import Settings
from peregrm.store import write_records

__all__ = [
    "CACHE",
    "Judged",
    "Judging",
    "case_facts",
    "explanation",
    "policy_requests",
    "replies_of_policy",
    "score_facts",
    "setting_and_store",
    "shared_judging",
]

CACHE = "inspect.sqlite"


class Judged(NamedTuple):
    """A scored reply and the criteria it was judged by, None where there are none."""

    scored: Scored
    criteria: Criteria | None


@dataclass(eq=False)
class _Open:
    loop: asyncio.AbstractEventLoop
    cache: CallCache
    reward: PereGRM

    async def aclose(self) -> None:
        await self.reward.asking.model.aclose()
        self.cache.close()


class Judging:
    """Scores single replies to the cases of one dataset. Raises what `read_dataset` and `open_model` raise.

    Args:
        path: The folder of a run or build, or a file of cases.
        options: The reward, with one judge.
        settings: For the judge.
    """

    def __init__(self, path: Path, options: RewardOptions, settings: Settings) -> None:
        self.folder = path if path.is_dir() else path.parent
        self.dataset: Dataset = read_dataset(path, options.dimensions)
        self.options = options
        self.judge_name = model_name(options.judges[0], settings)
        self._path = path
        self._settings = settings
        self._open: _Open | None = None
        self._under_way: set[object] = set()
        self._new: dict[str, Criteria] = {}

    def refresh(self) -> None:
        """Read cases and criteria anew, unless samples are under way."""
        if not self._under_way:
            self.dataset = read_dataset(self._path, self.options.dimensions)

    def case(self, case_id: object) -> Case:
        """Return a case. Raises `InputError` where the dataset has none with this id."""
        case = self.dataset.cases.get(str(case_id))
        if case is None:
            raise InputError(f"{self._path}: there is no case {case_id!r}")
        return case

    def begin(self, sample: object) -> None:
        """Keep the judge open until this sample ends."""
        self._under_way.add(sample)

    async def end(self, sample: object) -> None:
        """Forget a sample; after the last one keep what criteria were made and close the judge."""
        self._under_way.discard(sample)
        if self._under_way:
            return
        self._keep_criteria()
        opened, self._open = self._open, None
        if opened is not None:
            await opened.aclose()

    async def judge(self, case: Case, reply: Reply) -> Judged:
        """Score one reply. Raises what `PereGRM.score` raises."""
        mark = object()
        self.begin(mark)
        try:
            reward = self._reward()
            (scored,) = await reward.score(case, [reply])
            criteria = reward.known_criteria(case)
            if criteria is not None and not case.flags and criteria != self.dataset.criteria.get(case.id):
                self.dataset.criteria[case.id] = self._new[case.id] = criteria
        finally:
            await self.end(mark)
        return Judged(scored, criteria)

    def _reward(self) -> PereGRM:
        loop = asyncio.get_running_loop()
        if self._open is None or self._open.loop is not loop:
            (spec,) = self.options.judges
            cache = CallCache(self.folder / CACHE)
            try:
                ledger = Ledger(prices([spec], self._settings))
                judge = open_model(spec, self._settings, cache=cache, ledger=ledger)
            except BaseException:
                cache.close()
                raise
            reward = peregrm_of(self.options, judge)
            give_criteria(reward, self.dataset)
            self._open = _Open(loop, cache, reward)
        return self._open.reward

    def _keep_criteria(self) -> None:
        """Write new criteria beside those that are in the file by now, which another task may have added to."""
        if not self._new:
            return
        there = read_dataset(self._path, self.options.dimensions)
        together = {**there.criteria, **self._new}
        order = [case_id for case_id in there.cases if case_id in together]
        name = f"{criteria_name(self.options.dimensions)}.jsonl"
        write_records(self.folder / name, (together[case_id] for case_id in order))
        self._new = {}


_SHARED: WeakValueDictionary[tuple[Path, RewardOptions, str], Judging] = WeakValueDictionary()


def shared_judging(path: Path, options: RewardOptions, settings: Settings) -> Judging:
    """Return the judging of a dataset by these options: one for all tasks of this process, so that all use one set of criteria.

    Raises `SettingsError` for several judges or another reward than mode `shared`, and what `read_dataset` raises.
    """
    if options.reward != "shared" or len(options.judges) != 1:
        raise SettingsError("a task judges in mode shared and by one judge: give each further judge a run of its own")
    key = (path.resolve(), options, settings.model_dump_json())
    judging = _SHARED.get(key)
    if judging is None:
        judging = _SHARED[key] = Judging(path, options, settings)
    return judging


def setting_and_store(text: str) -> tuple[Setting, str | None]:
    """Return the setting and the memory store in `SETTING` or `retrieved:STORE`.

    Raises `SettingsError` where there is no such setting or store, or the store asks a model, which Inspect's policy cannot serve, or is
    somewhere else.
    """
    name, _, store = text.partition(":")
    if (name == "retrieved") != bool(store):
        raise SettingsError(f"setting {text!r}: write retrieved:STORE, and any other setting alone")
    if store and (asks_model(store) or is_elsewhere(store)):
        raise SettingsError(
            f"the memory store {store} {'asks a model' if asks_model(store) else 'is on a server'}: write the replies with `peregrm reply` "
            "and score them with peregrm/recorded"
        )
    (spec,) = policy_specs(["policy"], [name], [store] if store else [])
    return spec.setting, spec.memory


def policy_requests(
    path: Path, cases: Sequence[Case], setting: Setting, store: str | None, settings: Settings
) -> list[Request]:
    """Return what `peregrm evaluate` would ask a policy for each case, in their order. Raises what `write_policy` raises."""
    with ThreadPoolExecutor(1) as thread:  # for Inspect makes tasks inside a running event loop
        return thread.submit(_run_requests, path, cases, setting, store, settings).result()


def _run_requests(
    path: Path, cases: Sequence[Case], setting: Setting, store: str | None, settings: Settings
) -> list[Request]:
    with asyncio.Runner() as runner:
        return runner.run(_requests(path, cases, setting, store, settings))


async def _requests(
    path: Path, cases: Sequence[Case], setting: Setting, store: str | None, settings: Settings
) -> list[Request]:
    run, asked = settings.run, _Asked()
    opened: MemoryStore | None = None if store is None else open_store(store)
    try:
        policy = Policy(
            model=asked,
            setting=setting,
            store=opened,
            context=run.context,
            max_tokens=run.max_new_tokens,
            temperature=run.temperature,
            seed=run.seed,
        )
        replies = await write_policy(policy, cases, histories_beside(path), progress=NoProgress())
    finally:
        if opened is not None:
            await opened.aclose()
    return [asked.requests[int(reply.text)] for reply in replies]


class _Asked:
    """Stands for a policy: it notes what it is asked and answers with the number of the note."""

    name = "policy"
    concurrency = 1_000

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        """Note the request."""
        self.requests.append(request)
        return Completion(text=str(len(self.requests) - 1))

    async def aclose(self) -> None:
        """There is nothing to free."""


def replies_of_policy(path: Path, policy: str | None, dataset: Dataset) -> tuple[str, dict[str, Reply]]:
    """Return the name of one policy of a file and its replies by case id.

    Raises `InputError` where the file has none of this policy, or has several policies and none was named, and what `read_replies` raises.
    """
    replies = read_replies(path, dataset.cases)
    names = sorted({reply.policy for reply in replies})
    if policy is None and len(names) > 1:
        raise InputError(f"{path}: there are replies of {', '.join(names)}: name one of them as policy")
    wanted = names[0] if policy is None else policy
    if wanted not in names:
        raise InputError(f"{path}: there are no replies of {wanted!r}, but of {', '.join(names)}")
    return wanted, {reply.case_id: reply for reply in replies if reply.policy == wanted}


def case_facts(case: Case) -> dict[str, Any]:
    """Return what a log says of a case beside its prompt."""
    return {
        "user": case.user_id,
        "category": case.category,
        "language": case.language,
        "situation": case.situation,
        "flags": list(case.flags or ()),
    }


def score_facts(judged: Judged) -> dict[str, Any]:
    """Return what a log says of a score beside its numbers and its explanation."""
    scored, reward = judged.scored, judged.scored.reward
    return {
        "reply_id": scored.reply.id,
        "criteria_id": None if judged.criteria is None else judged.criteria.id,
        "judge": reward.judge,
        "method": reward.method,
        "scores": dict(reward.scores),
        "penalty": reward.penalty,
        "trials_scored": reward.coverage,
        "measured": dict(reward.measured),
        "failure": None if scored.failure is None else scored.failure.model_dump(),
    }


def explanation(judged: Judged) -> str:
    """Return why a reply got its scores, in Markdown: each dimension with its criteria, their scores and the judge's words."""
    scored, reward = judged.scored, judged.scored.reward
    lines = [f"**total {_number(reward.total)}** by {reward.method}, judge `{reward.judge}`"]
    if reward.failure is not None:
        lines += ["", f"No score: {reward.failure.kind}: {reward.failure.reason}"]
    rules = {words for judgement in scored.judgements for aspect, words in judgement.analysis if aspect == "rule"}
    lines += [line for words in sorted(rules) for line in ("", words)]
    items = {} if judged.criteria is None else dict(judged.criteria.items)
    for name, value in reward.scores:
        lines += ["", f"**{name} {_number(value)}**", "", *_words(name, scored.judgements)]
        trials = [scores for j in scored.judgements for aspect, scores in j.item_scores or () if aspect == name]
        for place, item in enumerate(items.get(name, ())):
            given = " / ".join(f"{scores[place]:g}" for scores in trials)
            lines.append(f"- {given or 'none'} of 5 ({item.weight} %): {item.text}")
    if reward.bystander is not None:
        lines += ["", f"**bystander {_number(reward.bystander)}**", "", *_words("bystander", scored.judgements)]
        for judgement in scored.judgements:
            if judgement.bystander is not None:
                points = judgement.bystander.model_dump().items()
                lines.append("- " + ", ".join(f"{key} {value:g}" for key, value in points) + " of 20 each")
    failed = [judgement for judgement in scored.judgements if judgement.failure is not None]
    lines += [""] * bool(failed)
    lines += [f"- {j.aspect}, trial {j.trial}: {j.failure.kind}: {j.failure.reason}" for j in failed if j.failure]
    return "\n".join(lines)


def _words(name: str, judgements: Iterable[Judgement]) -> list[str]:
    said = [words for judgement in judgements for aspect, words in judgement.analysis if aspect == name]
    return [line for words in said for line in (words, "")]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
