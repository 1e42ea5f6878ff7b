"""`peregrm train judge-head`: pairs become the file of a head, with the figures it got on users it had not seen.

Users are dealt out to folds by a hash of their ids, so the same input gives the same file. Each fold's weights are fitted without its
users, with a penalty chosen by cross-validation over the users that are left (nested), and they are what judges those users later. In three
places a figure is not wholly blind to its users: the other personas of swaps are mostly of people that the fold was trained on, and heads
that are not shown the person, or no reply of one source, take the penalty that was chosen over all users, as the weights of the whole do,
which judge everybody else. Where pairs name who wrote their replies, each source is held out in turn: heads fitted on the pairs of other
users without any reply of that source order the pairs in which it wrote one of the two.
A reply written for one person must also beat itself under another person's memories: these persona swaps are part of the loss where replies
say whom they were written for. So must honest replies beat hostile and nearly empty ones (`peregrm.training.hostile`). Figures stand for
all users, and apart for those whose texts the word lists were written from and for the others. Left out on purpose: early stopping, search
over features, anything drawn at random.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from peregrm.errors import InputError
from peregrm.evaluation.statistics import clustered_mean
from peregrm.models.embeddings import Embedder
from peregrm.reward.heads.features import Features, Featuring, Moment, feature_stamp, without_person
from peregrm.reward.heads.head import TOTAL, Dataset, Head, HeadCard, Measured, Weights
from peregrm.reward.heads.tones import WRITTEN_FROM
from peregrm.store import replace_text
from peregrm.training.fitting import COMPONENTS, Contest, fit_weights, log_loss, table_of
from peregrm.training.pairs import LANGUAGE, Group, Material, Pair, trained_on

__all__ = [
    "FOLDS",
    "HIDDEN",
    "PENALTIES",
    "SWAP",
    "UNSEEN_SOURCE",
    "Trained",
    "check_place",
    "cross_fit",
    "featured",
    "measure",
    "train_head",
    "write_head",
]

FOLDS = 8
INNER_FOLDS = 4
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""L2 penalties that are tried, on features scaled to a root mean square difference of 1 within pairs."""

SWAP = "persona swap noticed"
SHORTER = "the better one is shorter"
LONGER_WINS = "longer wins (baseline)"
HIDDEN = "person hidden: "
"""Before the name of a figure that a head got which was trained and asked without the person: what lies in the writing alone."""

UNSEEN_SOURCE = "source not in training"
"""Pairs of a source whose replies no pair in training held: a figure for each source, and one over all, a pair once for each of its two."""

ALL = "all pairs"

_MOST_SWAPS = 12
_MOST_SOURCES = 20
"""The sources with the most pairs, where there are more."""
_LENGTH = "features are shares, rates and means; a nuisance term of log length was fitted beside them and is not part of the score"


class _Made(NamedTuple):
    """A group and the rows of its replies in the table; `swapped` are those of its best reply under other users, by user."""

    group: Group
    replies: tuple[int, ...]
    swapped: tuple[tuple[str, int], ...]
    hostile: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Trained:
    """Groups with the table of their features, dealt out to folds; `folds` holds the fold of every user."""

    made: tuple[_Made, ...]
    table: Features
    folds: dict[str, int]

    @property
    def count(self) -> int:
        """How many folds there are."""
        return max(self.folds.values()) + 1


def featured(groups: Sequence[Group], embedder: Embedder, tell: Callable[[str], None] = lambda line: None) -> Trained:
    """Compute the features of all replies, and of each best reply under up to twelve other users."""
    featuring = Featuring(embedder)
    people = _people(groups)
    made: list[_Made] = []
    rows: list[Features] = []

    def row(moment: Moment, text: str) -> int:
        rows.append(featuring.features(moment, text))
        return len(rows) - 1

    for place, group in enumerate(groups):
        own = tuple(row(group.moment, text) for text in group.replies)
        best = group.replies[group.best or 0]
        swapped = tuple((user, row(moment, best)) for user, moment in _others(group, people))
        made.append(_Made(group, own, swapped, tuple(row(group.moment, one.text) for one in group.hostile)))
        if place % 100 == 99:
            tell(f"features of {place + 1} of {len(groups)} moments")
    return Trained(tuple(made), table_of(rows), _dealt([group.user for group in groups], FOLDS))


def _people(groups: Iterable[Group]) -> dict[int, dict[str, Moment]]:
    people: dict[int, dict[str, Moment]] = {}
    for group in groups:
        if group.best is not None and group.moment.known:
            people.setdefault(group.source, {}).setdefault(group.user, group.moment)
    return people


def _others(group: Group, people: dict[int, dict[str, Moment]]) -> list[tuple[str, Moment]]:
    if group.best is None:
        return []
    named = [(user, moment) for each in people.values() for user, moment in each.items() if user != group.user]
    named.sort(key=lambda one: _hashed(f"{group.moment.query}:{one[0]}"))
    chosen = named[:_MOST_SWAPS]
    return [(user, Moment(group.moment.query, group.moment.situation, other.known)) for user, other in chosen]


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _dealt(users: Iterable[str], most: int) -> dict[str, int]:
    """Deal users out to folds of nearly equal size, by a hash of their ids."""
    order = sorted(set(users), key=_hashed)
    return {user: place % min(most, len(order)) for place, user in enumerate(order)}


def _contests(made: Iterable[_Made], users: set[str], output: str) -> list[Contest]:
    """Return the contests of these users; a swap counts where the other persona is theirs too."""
    contests = []
    for one in made:
        if one.group.user in users:
            pairs = [pair for pair in one.group.pairs if pair.output == output]
            contests += [Contest(one.replies[pair.better], one.replies[pair.worse]) for pair in pairs]
            best = one.replies[one.group.best or 0]
            contests += [Contest(best, other, "swap") for user, other in one.swapped if user in users]
            contests += [attempt.contest for attempt in _hostile(one) if attempt.trained and pairs]
    return contests


class _Attempt(NamedTuple):
    """An honest reply against a hostile one: what it is counted under, and whether heads are trained on such."""

    name: str
    contest: Contest
    trained: bool


def _hostile(made: _Made) -> list[_Attempt]:
    return [
        _Attempt(name, Contest(made.replies[place], row, one.kind), one.trained)
        for one, row in zip(made.group.hostile, made.hostile, strict=True)
        for place, name in one.better
    ]


def _fit(trained: Trained, users: set[str], output: str, penalties: Sequence[float]) -> dict[float, Weights]:
    replies = [one for made in trained.made if made.group.user in users for one in made.replies]
    return fit_weights(trained.table, _contests(trained.made, users, output), replies, penalties)


def _best_penalty(trained: Trained, users: set[str], output: str) -> float:
    """Return the penalty with the least loss on users left out, swaps and hostile replies not counted."""
    folds = _dealt(users, INNER_FOLDS)
    losses = dict.fromkeys(PENALTIES, 0.0)
    for fold in range(max(folds.values()) + 1):
        held = {user for user in users if folds[user] == fold}
        contests = [one for one in _contests(trained.made, held, output) if one.kind == "pair"]
        if not contests or not _contests(trained.made, users - held, output):
            continue
        for penalty, weights in _fit(trained, users - held, output, PENALTIES).items():
            losses[penalty] += log_loss(weights, trained.table, contests) * len(contests)
    return min(PENALTIES, key=lambda penalty: (losses[penalty], -penalty))


def cross_fit(trained: Trained, output: str = TOTAL) -> tuple[tuple[Weights, ...], float]:
    """Return the weights of the whole and then those of each fold, and the penalty of the whole."""
    users = set(trained.folds)

    def fitted(some: set[str]) -> tuple[Weights, float]:
        penalty = _best_penalty(trained, some, output)
        return _fit(trained, some, output, [penalty])[penalty], penalty

    whole, penalty = fitted(users)
    folds = [fitted({user for user in users if trained.folds[user] != fold})[0] for fold in range(trained.count)]
    return (whole, *folds), penalty


def measure(trained: Trained, outputs: dict[str, tuple[Weights, ...]]) -> list[Measured]:
    """Return the accuracies of each user's replies by the fold that did not see them, with intervals clustered by user."""
    return [one for name, values in _rows(trained, outputs).items() for one in _by_part(name, values)]


def _rows(trained: Trained, outputs: dict[str, tuple[Weights, ...]]) -> dict[str, list[tuple[str, float]]]:
    """Return by name the user of every pair, and 1, 0.5 or 0 as it is ordered rightly, not at all, or wrongly."""
    rows: dict[str, list[tuple[str, float]]] = {}
    scores = {name: [weights.score(trained.table) for weights in each] for name, each in outputs.items()}
    lengths = trained.table.log_words

    def add(name: str, user: str, better: float, worse: float) -> None:
        rows.setdefault(name, []).append((user, 0.5 if better == worse else float(better > worse)))

    for made in trained.made:
        group, replies, swapped, _ = made
        place = trained.folds[group.user] + 1
        for pair in group.pairs:
            if pair.output not in outputs:
                continue
            good, bad = replies[pair.better], replies[pair.worse]
            given = scores[pair.output][place]
            for name in _counted_under(pair, shorter=bool(lengths[good] < lengths[bad])):
                add(name, group.user, given[good], given[bad])
            add(LONGER_WINS, group.user, lengths[good], lengths[bad])
        given = next(iter(scores.values()))[place]
        for _, other in swapped:
            add(SWAP, group.user, given[replies[group.best or 0]], given[other])
        for name, contest, _ in _hostile(made):
            add(name, group.user, given[contest.better], given[contest.worse])
    return rows


def _by_part(name: str, values: Sequence[tuple[str, float]]) -> list[Measured]:
    """Return a figure on all users and, where some were read for the word lists, on these and on the others."""
    read = [one for one in values if one[0] in WRITTEN_FROM]
    others = [one for one in values if one[0] not in WRITTEN_FROM]
    found = [_measured(name, values, "all")]
    found += [_measured(name, read, "read")] if read else []
    return found + ([_measured(name, others, "others")] if read and others else [])


def _counted_under(pair: Pair, *, shorter: bool) -> list[str]:
    names = [pair.name if pair.output == TOTAL else f"{pair.output}: {pair.name}", ALL]
    names += [SHORTER] if shorter else []
    return [*names, "gap of 2 or more"] if pair.gap is not None and pair.gap >= 2 else names


def _measured_blind(trained: Trained, outputs: dict[str, float]) -> list[Measured]:
    """Return what heads get that are not shown the person, with the same folds and the penalty of each output."""
    blind = Trained(
        tuple(made._replace(group=replace(made.group, hostile=()), swapped=(), hostile=()) for made in trained.made),
        without_person(trained.table),
        trained.folds,
    )
    found = [one for one in measure(blind, _fitted_at(blind, outputs)) if one.name not in (SHORTER, LONGER_WINS)]
    return [one.model_copy(update={"name": f"{HIDDEN}{one.name}"}) for one in found]


def _fitted_at(trained: Trained, penalties: dict[str, float]) -> dict[str, tuple[Weights, ...]]:
    """Return the weights of the whole and of each fold at the penalty that is given for each output."""
    users = set(trained.folds)
    folds = [{user for user in users if trained.folds[user] != fold} for fold in range(trained.count)]
    return {
        output: tuple(_fit(trained, some, output, [penalty])[penalty] for some in (users, *folds))
        for output, penalty in penalties.items()
    }


def _measured_by_source(trained: Trained, penalties: dict[str, float]) -> list[Measured]:
    """Return what heads get on pairs with a reply of a source that was held out; nothing where no pair would be left to train on."""
    asked = [pair for made in trained.made for pair in made.group.pairs if pair.output in penalties]
    counts = Counter(source for pair in asked for source in set(pair.sources))
    found: dict[str, list[tuple[str, float]]] = {}
    for source in sorted(dict(counts.most_common(_MOST_SOURCES))):
        without, held = _parted(trained, source)
        left = {(pair.output, trained.folds[made.group.user]) for made in without.made for pair in made.group.pairs}
        if all(len({fold for name, fold in left if name == output}) > 1 for output in penalties):
            found[f"{UNSEEN_SOURCE}: {source}"] = _rows(held, _fitted_at(without, penalties))[ALL]
    if found:
        found[UNSEEN_SOURCE] = [one for rows in found.values() for one in rows]
    return [one for name, rows in found.items() for one in _by_part(name, rows)]


def _parted(trained: Trained, source: str) -> tuple[Trained, Trained]:
    """Return the groups with the pairs without a reply of a source, and with those that have one."""
    both = [[_part(made, source, held=held) for made in trained.made] for held in (False, True)]
    without, held = (tuple(made for made in part if made.group.pairs) for part in both)
    return replace(trained, made=without), replace(trained, made=held)


def _part(made: _Made, source: str, *, held: bool) -> _Made:
    """Return a group with its pairs that have a reply of a source, or with the others, and with the replies of these alone."""
    pairs = [pair for pair in made.group.pairs if (source in pair.sources) == held]
    if len(pairs) == len(made.group.pairs):
        return made
    places = sorted({place for pair in pairs for place in (pair.better, pair.worse)})
    moved = [pair._replace(better=places.index(pair.better), worse=places.index(pair.worse)) for pair in pairs]
    group = replace(made.group, replies=tuple(made.group.replies[place] for place in places), pairs=tuple(moved))
    return _Made(group, tuple(made.replies[place] for place in places), (), ())


def _measured(name: str, values: Sequence[tuple[str, float]], of: Literal["all", "read", "others"]) -> Measured:
    estimate = clustered_mean(list(values), bounds=(0.0, 1.0))
    mean, low, high = (
        None if value is None else round(value, 4) for value in (estimate.mean, estimate.low, estimate.high)
    )
    return Measured(name=name, of=of, mean=mean, low=low, high=high, n=estimate.n, users=estimate.users)


def train_head(
    material: Material, embedder: Embedder, licence: str, tell: Callable[[str], None] = lambda line: None
) -> Head:
    """Train a head. It has the three dimensions where there are pairs enough for each, and otherwise a total only.

    `licence` is that of the training data. Raises `InputError` where fewer than four users are there to be held apart.
    """
    groups, wanted = trained_on(material)
    trained = featured(groups, embedder, tell)
    if len(trained.folds) < 4:
        raise InputError(f"{len(trained.folds)} users are too few to train on some and measure on others: at least 4")
    outputs: dict[str, tuple[Weights, ...]] = {}
    penalties: dict[str, float] = {}
    for output in wanted:
        tell(f"fitting {output}: {trained.count} folds of {len(trained.folds)} users")
        outputs[output], penalties[output] = cross_fit(trained, output)
    card = HeadCard(
        datasets=tuple(_dataset(material, groups, place, licence) for place in range(len(material.sources))),
        languages=(LANGUAGE,),
        pairs=sum(len(group.pairs) for group in groups),
        swaps=sum(len(made.swapped) for made in trained.made),
        users=len(trained.folds),
        folds=trained.count,
        penalty=penalties,
        components=COMPONENTS,
        length=_LENGTH,
        measured=(
            *measure(trained, outputs),
            *(_measured_blind(trained, penalties) if any(g.moment.known for g in groups) else ()),
            *_measured_by_source(trained, penalties),
        ),
        left_out=dict(sorted(material.left_out.items())),
    )
    seen: dict[str, int] = {}
    clashes: set[str] = set()
    for group in groups:
        for key in group.keys:
            if seen.setdefault(key, trained.folds[group.user]) != trained.folds[group.user]:
                clashes.add(key)  # two users said the same: it tells nobody apart
    return Head(
        features=feature_stamp(),
        embedding=embedder.fingerprint,
        card=card,
        outputs=outputs,
        seen={key: fold for key, fold in sorted(seen.items()) if key not in clashes},
    )


def _dataset(material: Material, groups: Sequence[Group], place: int, licence: str) -> Dataset:
    own = [group for group in groups if group.source == place]
    source = material.sources[place]
    return Dataset(
        name=source.name,
        sha256=source.sha256,
        licence=licence,
        pairs=sum(len(group.pairs) for group in own),
        users=len({group.user for group in own}),
    )


def check_place(path: Path) -> None:
    """Make the folder of a head's file; raises `InputError` where the file could not be written, to be known before the training."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: a head cannot be written there: {error.strerror or error}") from None
    if path.is_dir():
        raise InputError(f"{path}: this is a folder: name the file of the head")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: a head cannot be written there: the folder is not writable")


def write_head(head: Head, path: Path) -> None:
    """Write the file of a head, the same bytes for the same head."""
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(
        path, json.dumps(head.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n"
    )
