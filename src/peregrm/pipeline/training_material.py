"""What training works on: the cases of a dataset, divided by user exactly as in its `cases.parquet`, flagged ones kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from peregrm.dataset.output.splits import SPLITS, split_users
from peregrm.errors import InputError
from peregrm.pipeline.publish import load_options
from peregrm.pipeline.reply_files import read_dataset
from peregrm.records import Case

__all__ = ["TrainingCases", "training_cases"]


class TrainingCases(NamedTuple):
    """Cases by split; no user is in two of them. `withheld` are flagged cases of users in `train`, which no policy trains on.

    Flagged cases stay in `validation` and `test`: the reward judges replies to them by safe guidance alone.
    """

    train: list[Case]
    validation: list[Case]
    test: list[Case]
    withheld: list[Case]


def training_cases(dataset: Path) -> TrainingCases:
    """Read the folder of a run or build, or a file of cases.

    The shares and the seed of the splits are those kept in the folder, else the defaults. Raises `InputError` where nothing is left to
    train on, and whatever `read_dataset` raises.
    """
    cases = list(read_dataset(dataset).cases.values())
    options = load_options(dataset if dataset.is_dir() else dataset.parent)
    splits = split_users((case.user_id for case in cases), seed=options.seed, shares=options.shares).splits
    by_split = {split: [case for case in cases if splits[case.user_id] == split] for split in SPLITS}
    withheld = [case for case in by_split["train"] if case.flags]
    train = [case for case in by_split["train"] if not case.flags]
    if not train:
        raise InputError(f"{dataset}: no case is left to train on ({len(cases)} cases, {len(withheld)} withheld)")
    return TrainingCases(train, by_split["validation"], by_split["test"], withheld)
