"""`peregrm train soups`: users are clustered by strategy, an adapter is trained for each cluster, and every user gets a mixture of them.

Whatever trains one adapter on the cases of one folder serves here (`AdapterTrainer`); two are made here, by SFT on best-of-n replies and
by GRPO. The SFT one lets the policy write and the judge score once, for all cases, and the clusters learn from the same best replies as the
single adapter beside them. `DIR` holds `strategies.json`, `single/` and `clusters/N/` (each with the cases it learned from and all that its
training keeps), `soup.json` (the weights of users who were not trained on), `unseen/` (their cases), and `replies/`: what soup, single
adapter and bare policy say to those cases, for `peregrm evaluate`. The same command again goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peregrm.errors import InputError, SettingsError
from peregrm.pipeline.publish import ExportOptions, save_options
from peregrm.pipeline.reply_files import Dataset, read_dataset
from peregrm.pipeline.training import GroupTraining, train_group
from peregrm.pipeline.training_folder import POLICY as GROUP_POLICY
from peregrm.pipeline.training_material import TrainingCases, training_cases
from peregrm.pipeline.training_offline import CHOSEN, POLICY, OfflineTask, Scorer, train_offline
from peregrm.records import Case, Part, Reply, content_id
from peregrm.settings import Settings
from peregrm.store import held_alone, read_records, replace_text, write_records
from peregrm.training.generation import Written, write_replies
from peregrm.training.offline.samples import SAMPLES, SampleSettings, cut_off_samples
from peregrm.training.rows import prompt_rows
from peregrm.training.soups import Soup, soup_replies
from peregrm.training.strategies import Embedding, Strategies, find_strategies, open_embedding

__all__ = [
    "AdapterTrainer",
    "SoupCard",
    "SoupTask",
    "by_groups",
    "by_sft",
    "cluster_users",
    "train_soups",
    "unseen_users_replies",
]

STRATEGIES = "strategies.json"
ASKED = "asked.json"
CARD = "soup.json"
SINGLE = "single"
CLUSTERS = "clusters"
UNSEEN = "unseen"
REPLIES = "replies"
BEST = "best.jsonl"

_SEEN_ALONE = ExportOptions(shares=(1.0, 0.0, 0.0))
"""A cluster's cases are all trained on: which users are not was decided for the whole dataset."""

Tell = Callable[[str], None]


class AdapterTrainer(Protocol):
    """Trains one adapter."""

    def __call__(self, dataset: Path, out: Path) -> Path:
        """Train on the cases of a dataset, from where it stopped, all its files in `out`; return the folder of the adapter."""
        ...


@dataclass(frozen=True)
class SoupTask:
    """What a soup is made of. `drawn` is how the replies to unseen users are drawn; `sharpness` how much the nearest cluster counts."""

    dataset: Path
    clusters: int
    drawn: SampleSettings
    sharpness: float = 4.0
    seed: int = 0


class SoupCard(Part):
    """What became of a soup: its adapters, that which it is held against, and the weights of each unseen user, in their order.

    `unseen` is the dataset of the cases of those users, `replies` the files with replies to them.
    """

    unseen: str
    adapters: tuple[str, ...]
    single: str
    sizes: tuple[int, ...]
    weights: dict[str, tuple[float, ...]]
    replies: tuple[str, ...]
    told: tuple[str, ...] = ()


def cluster_users(task: SoupTask, cases: TrainingCases, embedding: Embedding | None = None) -> Strategies:
    """Return the clusters of the users who are trained on."""
    return find_strategies(
        cases.train,
        embedding or open_embedding(),
        clusters=task.clusters,
        sharpness=task.sharpness,
        seed=task.seed,
    )


def by_sft(task: OfflineTask, settings: Settings, score: Scorer, tell: Tell) -> tuple[AdapterTrainer, AdapterTrainer]:
    """Return what trains the single adapter by best-of-n SFT, and what trains a cluster's on the same best replies.

    The first must have been called before the second.
    """
    folders: list[Path] = []

    def single(dataset: Path, out: Path) -> Path:
        train_offline(_with(task, dataset, None), settings, out, score, tell)
        folders[:] = [out]
        return out / POLICY

    def cluster(dataset: Path, out: Path) -> Path:
        best = dataset / BEST
        write_records(best, _best_replies(folders[0], read_dataset(dataset)))
        train_offline(_with(task, dataset, best, cut_off_samples(folders[0])), settings, out, score, tell)
        return out / POLICY

    return single, cluster


def _with(task: OfflineTask, dataset: Path, replies: Path | None, cut_off: frozenset[str] = frozenset()) -> OfflineTask:
    return OfflineTask(
        dataset=dataset,
        model=task.model,
        reward=task.reward if replies is None else None,
        samples=task.samples,
        settings=task.settings,
        lora=task.lora,
        replies=replies,
        cut_off=cut_off,
    )


def _best_replies(folder: Path, dataset: Dataset) -> list[Reply]:
    chosen = [json.loads(line) for line in (folder / CHOSEN).read_text(encoding="utf-8").splitlines()]
    wanted = {row["best"] for row in chosen if row["case_id"] in dataset.cases}
    found = [reply for reply in read_records(folder / SAMPLES, Reply) if reply.id in wanted]
    if not found:
        raise InputError(f"{folder}: no reply to any case of this cluster could be learned from: take fewer clusters")
    return found


def by_groups(asked: GroupTraining, settings: Settings, tell: Tell) -> tuple[AdapterTrainer, AdapterTrainer]:
    """Return what trains an adapter by GRPO or RLOO, for the single one and for a cluster's alike."""

    def train(dataset: Path, out: Path) -> Path:
        train_group(dataset, asked, settings, out=out, say=tell)
        return out / GROUP_POLICY

    return train, train


def train_soups(
    task: SoupTask,
    out: Path,
    trainers: tuple[AdapterTrainer, AdapterTrainer],
    tell: Tell = lambda line: None,
    embedding: Embedding | None = None,
) -> SoupCard:
    """Cluster, train the single adapter and one a cluster, and let soup, single adapter and bare policy answer unseen users.

    Raises `SettingsError` where `out` holds a soup of other clusters, `ArtifactError` where another command is at work there, `InputError`
    where no user is left to answer, and what the trainers raise.
    """
    cases = training_cases(task.dataset)
    unseen = [*cases.validation, *cases.test]
    if not unseen:
        raise InputError(f"{task.dataset}: no user is left for the soup to answer: all of them are trained on")
    with held_alone(out):
        return _made(task, cases, unseen, out, trainers, tell, embedding or open_embedding())


def _made(
    task: SoupTask,
    cases: TrainingCases,
    unseen: Sequence[Case],
    out: Path,
    trainers: tuple[AdapterTrainer, AdapterTrainer],
    tell: Tell,
    embedding: Embedding,
) -> SoupCard:
    strategies = cluster_users(task, cases, embedding)
    _keep(out / STRATEGIES, strategies)
    _keep(out / ASKED, _Asked(drawn=task.drawn, unseen=content_id("cases", [case.id for case in unseen])))
    for line in strategies.lines():
        tell(line)
    single, cluster = trainers
    tell("one adapter for all users")
    whole = _write_cases(task, cases.train, out / SINGLE / "cases")
    alone = single(whole, out / SINGLE / "training")
    adapters: list[Path] = []
    for number, group in enumerate(strategies.clusters):
        tell(f"the adapter of cluster {number}: {len(group.users)} users")
        own = [case for case in cases.train if case.user_id in set(group.users)]
        folder = out / CLUSTERS / str(number)
        adapters.append(cluster(_write_cases(task, own, folder / "cases"), folder / "training"))
    weights = {case.user_id: strategies.weights(case, embedding) for case in reversed(unseen)}  # the first counts
    files, told = unseen_users_replies(adapters, alone, unseen, weights, task.drawn, out / REPLIES, tell)
    card = SoupCard(
        unseen=str(_write_cases(task, unseen, out / UNSEEN)),
        adapters=tuple(str(path) for path in adapters),
        single=str(alone),
        sizes=tuple(len(group.users) for group in strategies.clusters),
        weights=weights,
        replies=tuple(str(path) for path in files),
        told=tuple(told),
    )
    replace_text(out / CARD, card.model_dump_json(indent=1) + "\n")
    return card


class _Asked(Part):
    """What the replies hang on beside the adapters."""

    drawn: SampleSettings
    unseen: str


def _keep(path: Path, what: Part) -> None:
    text = what.model_dump_json(indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise SettingsError(f"{path} is of another soup: name another folder, or delete this one")
    replace_text(path, text)


def _write_cases(task: SoupTask, cases: Sequence[Case], folder: Path) -> Path:
    """Write cases as a dataset of their own, with the criteria there are, and return its folder."""
    known = read_dataset(task.dataset)
    write_records(folder / "cases.jsonl", cases)
    write_records(folder / "criteria.jsonl", [known.criteria[case.id] for case in cases if case.id in known.criteria])
    save_options(folder, _SEEN_ALONE)
    return folder


def unseen_users_replies(
    adapters: Sequence[Path],
    single: Path,
    cases: Sequence[Case],
    weights: dict[str, tuple[float, ...]],
    drawn: SampleSettings,
    folder: Path,
    tell: Tell = lambda line: None,
) -> tuple[list[Path], list[str]]:
    """Write `soup.jsonl`, `single.jsonl` and `base.jsonl` into `folder`; return the files and what had no room in the prompts.

    All three answer the same prompts, drawn in the same way. Files that are there are kept.
    """
    files = [folder / f"{name}.jsonl" for name in ("soup", "single", "base")]
    soup = Soup([*adapters, single])  # the last one has a part in no mixture
    room = soup.policy.context - drawn.max_new_tokens
    made = prompt_rows(cases, soup.policy.tokenizer, setting=drawn.setting, room=room)
    for line in made.told():
        tell(line)
    how: dict[str, Any] = {
        "max_new_tokens": drawn.max_new_tokens,
        "temperature": drawn.temperature,
        "seed": drawn.seed,
        "batch_size": drawn.together,
    }

    def mixed() -> list[Written]:
        return soup_replies(
            soup, made.rows, lambda row: (*weights[row.case.user_id], 0.0), name="soup", tell=tell, **how
        )

    def alone() -> list[Written]:
        with soup.mixed((*[0.0] * len(adapters), 1.0)) as policy:
            return write_replies(policy, made.rows, name="single", **how)

    def bare() -> list[Written]:
        with soup.plain() as policy:
            return write_replies(policy, made.rows, name="base", **how)

    for path, write in zip(files, (mixed, alone, bare), strict=True):
        if not path.exists():
            write_records(path, [one.reply for one in write()])
    return files, made.told()
