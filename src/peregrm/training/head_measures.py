"""How well heads order replies of users they have not seen: in all, by kind of pair, without the person, and on a source they never met.

In three places a figure is not wholly blind to its users: the other personas of swaps are mostly of people that the fold was trained on,
and heads that are not shown the person, or no reply of one source, take the penalty that was chosen over all users, as the weights of the
whole do, which judge everybody else. Where pairs name who wrote their replies, each source is held out in turn: heads fitted on the pairs
of other users that name other sources alone order the pairs in which it wrote one of the two. Figures stand for all users, and apart for
those whose texts the word lists were written from and for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from peregrm.evaluation.statistics import clustered_mean
from peregrm.reward.heads.features import without_person
from peregrm.reward.heads.head import TOTAL, Measured, Weights
from peregrm.reward.heads.tones import WRITTEN_FROM
from peregrm.training.folds import Made, Trained, attempts, fitted_at
from peregrm.training.pairs import LEAST_PAIRS, Pair

__all__ = [
    "ALL",
    "EACH_SOURCE",
    "HIDDEN",
    "LONGER_WINS",
    "SHORTER",
    "SWAP",
    "UNSEEN_SOURCE",
    "measure",
    "measure_blind",
    "measure_by_source",
]

SWAP = "persona swap noticed"
SHORTER = "the better one is shorter"
LONGER_WINS = "longer wins (baseline)"
HIDDEN = "person hidden: "
"""Before the name of a figure that a head got which was trained and asked without the person: what lies in the writing alone."""

UNSEEN_SOURCE = "source not in training"
"""Pairs of a source whose replies no pair in training held.

Pairs that do not name their sources are not trained on here: nobody knows whose replies they hold.
"""

EACH_SOURCE = f"{UNSEEN_SOURCE}, a pair once for each of its two"
"""The same over all sources, each held out in turn."""

ALL = "all pairs"

_MOST_SOURCES = 20
"""The sources with the most pairs, where there are more."""


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
        for name, contest, _ in attempts(made):
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


def measure_blind(trained: Trained, outputs: dict[str, float]) -> list[Measured]:
    """Return what heads get that are not shown the person, with the same folds and the penalty of each output."""
    blind = Trained(
        tuple(made._replace(group=replace(made.group, hostile=()), swapped=(), hostile=()) for made in trained.made),
        without_person(trained.table),
        trained.folds,
    )
    found = [one for one in measure(blind, fitted_at(blind, outputs)) if one.name not in (SHORTER, LONGER_WINS)]
    return [one.model_copy(update={"name": f"{HIDDEN}{one.name}"}) for one in found]


def measure_by_source(trained: Trained, penalties: dict[str, float]) -> list[Measured]:
    """Return what heads get on pairs with a reply of a source that was held out; nothing where too few are left to train on in a fold."""
    asked = [pair for made in trained.made for pair in made.group.pairs if pair.output in penalties]
    counts = Counter(source for pair in asked for source in set(pair.sources))
    found: dict[str, list[tuple[str, float]]] = {}
    for source in sorted(sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_SOURCES]):
        without, held = _parted(trained, source)
        if all(_least_left(without, output) >= LEAST_PAIRS for output in penalties):
            found[f"{UNSEEN_SOURCE}: {source}"] = _rows(held, fitted_at(without, penalties))[ALL]
    if found:
        found[EACH_SOURCE] = [one for rows in found.values() for one in rows]
    return [one for name, rows in found.items() for one in _by_part(name, rows)]


def _least_left(trained: Trained, output: str) -> int:
    """Return how many pairs of an output are trained on in the fold that leaves most of them out."""
    held = Counter(
        trained.folds[made.group.user] for made in trained.made for pair in made.group.pairs if pair.output == output
    )
    return held.total() - max(held.values(), default=0)


def _parted(trained: Trained, source: str) -> tuple[Trained, Trained]:
    """Return the groups with the pairs that name other sources alone, and with those that name this one."""
    both = [[_part(made, source, held=held) for made in trained.made] for held in (False, True)]
    without, held = (tuple(made for made in part if made.group.pairs) for part in both)
    return replace(trained, made=without), replace(trained, made=held)


def _part(made: Made, source: str, *, held: bool) -> Made:
    """Return a group with its pairs that name a source, or with those that name others, and with the replies of these alone."""
    pairs = [pair for pair in made.group.pairs if pair.sources and (source in pair.sources) == held]
    if len(pairs) == len(made.group.pairs):
        return made
    places = sorted({place for pair in pairs for place in (pair.better, pair.worse)})
    moved = [pair._replace(better=places.index(pair.better), worse=places.index(pair.worse)) for pair in pairs]
    group = replace(made.group, replies=tuple(made.group.replies[place] for place in places), pairs=tuple(moved))
    return Made(group, tuple(made.replies[place] for place in places), (), ())


def _measured(name: str, values: Sequence[tuple[str, float]], of: Literal["all", "read", "others"]) -> Measured:
    estimate = clustered_mean(list(values), bounds=(0.0, 1.0))
    mean, low, high = (
        None if value is None else round(value, 4) for value in (estimate.mean, estimate.low, estimate.high)
    )
    return Measured(name=name, of=of, mean=mean, low=low, high=high, n=estimate.n, users=estimate.users)
