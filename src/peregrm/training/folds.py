"""Groups of replies with their features, dealt out to folds by user, and the weights that are fitted without the users of each fold.

Users are dealt out by a hash of their ids, so the same input gives the same weights. Each fold's weights are fitted without its users,
with a penalty chosen by cross-validation over the users that are left (nested). A reply written for one person must also beat itself under
another person's memories: these persona swaps are part of the loss where replies say whom they were written for. So must honest replies
beat hostile and nearly empty ones (`peregrm.training.hostile`). Left out on purpose: early stopping, search over features, anything drawn
at random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from peregrm.models.embeddings import Embedder
from peregrm.reward.heads.features import Features, Featuring, Moment
from peregrm.reward.heads.head import TOTAL, Weights
from peregrm.training.fitting import Contest, fit_weights, log_loss, table_of
from peregrm.training.pairs import Group

__all__ = ["FOLDS", "PENALTIES", "Attempt", "Made", "Trained", "attempts", "cross_fit", "featured", "fitted_at"]

FOLDS = 8
INNER_FOLDS = 4
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""L2 penalties that are tried, on features scaled to a root mean square difference of 1 within pairs."""

_MOST_SWAPS = 12


class Made(NamedTuple):
    """A group and the rows of its replies in the table; `swapped` are those of its best reply under other users, by user."""

    group: Group
    replies: tuple[int, ...]
    swapped: tuple[tuple[str, int], ...]
    hostile: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Trained:
    """Groups with the table of their features, dealt out to folds; `folds` holds the fold of every user."""

    made: tuple[Made, ...]
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
    made: list[Made] = []
    rows: list[Features] = []

    def row(moment: Moment, text: str) -> int:
        rows.append(featuring.features(moment, text))
        return len(rows) - 1

    for place, group in enumerate(groups):
        own = tuple(row(group.moment, text) for text in group.replies)
        best = group.replies[group.best or 0]
        swapped = tuple((user, row(moment, best)) for user, moment in _others(group, people))
        made.append(Made(group, own, swapped, tuple(row(group.moment, one.text) for one in group.hostile)))
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


def _contests(made: Iterable[Made], users: set[str], output: str) -> list[Contest]:
    """Return the contests of these users; a swap counts where the other persona is theirs too."""
    contests = []
    for one in made:
        if one.group.user in users:
            pairs = [pair for pair in one.group.pairs if pair.output == output]
            contests += [Contest(one.replies[pair.better], one.replies[pair.worse]) for pair in pairs]
            best = one.replies[one.group.best or 0]
            contests += [Contest(best, other, "swap") for user, other in one.swapped if user in users]
            contests += [attempt.contest for attempt in attempts(one) if attempt.trained and pairs]
    return contests


class Attempt(NamedTuple):
    """An honest reply against a hostile one: what it is counted under, and whether heads are trained on such."""

    name: str
    contest: Contest
    trained: bool


def attempts(made: Made) -> list[Attempt]:
    """Return the honest replies of a group against its hostile ones."""
    return [
        Attempt(name, Contest(made.replies[place], row, one.kind), one.trained)
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


def fitted_at(trained: Trained, penalties: dict[str, float]) -> dict[str, tuple[Weights, ...]]:
    """Return the weights of the whole and of each fold at the penalty that is given for each output."""
    users = set(trained.folds)
    folds = [{user for user in users if trained.folds[user] != fold} for fold in range(trained.count)]
    return {
        output: tuple(_fit(trained, some, output, [penalty])[penalty] for some in (users, *folds))
        for output, penalty in penalties.items()
    }
