"""`peregrm train judge-head`: pairs become the file of a head, with the figures it got on users it had not seen.

Each fold's weights (`peregrm.training.folds`) are what judges the fold's users later; those of the whole judge everybody else. The same
input gives the same file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from peregrm.errors import InputError
from peregrm.models.embeddings import Embedder
from peregrm.reward.heads.features import feature_stamp
from peregrm.reward.heads.head import Dataset, Head, HeadCard, Weights
from peregrm.store import replace_text
from peregrm.training.fitting import COMPONENTS
from peregrm.training.folds import cross_fit, featured
from peregrm.training.head_measures import measure, measure_blind, measure_by_source
from peregrm.training.pairs import LANGUAGE, Group, Material, trained_on

__all__ = ["check_place", "train_head", "write_head"]

_LENGTH = "features are shares, rates and means; a nuisance term of log length was fitted beside them and is not part of the score"


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
            *(measure_blind(trained, penalties) if any(g.moment.known for g in groups) else ()),
            *measure_by_source(trained, penalties),
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
