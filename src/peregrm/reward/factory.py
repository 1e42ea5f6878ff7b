"""From a reward's name to the reward: what `--reward`, the server and the trainers' adapters accept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peregrm.errors import SettingsError
from peregrm.models.base import Model
from peregrm.models.heads import is_head
from peregrm.models.local_judge import is_local
from peregrm.reward.base import RewardModel
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.pool import Pool
from peregrm.reward.rivals import RIVALS
from peregrm.reward.variants import VARIANTS

__all__ = ["check_names", "open_reward", "reward_names"]


def reward_names() -> tuple[str, ...]:
    """Return the names of all rewards: the modes of PereGRM, its ablations, its rivals."""
    return (*VARIANTS, *RIVALS)


def check_names(names: Iterable[str]) -> None:
    """Raise `SettingsError` where there is no reward of such a name."""
    for name in names:
        if name not in reward_names():
            raise SettingsError(f"there is no reward {name!r}; there are {', '.join(reward_names())}")


def open_reward(options: RewardOptions, judges: tuple[Model | str, ...] | None = None) -> RewardModel:
    """Return the reward that `options` describe; several judges give a pool.

    Judges named in the options are opened at the first call; `judges` are used instead where given, models or names.
    Raises `SettingsError` where there is no such reward, no judge, or a judge is named twice.
    """
    check_names([options.reward])
    make: Callable[[RewardOptions, Model | str], RewardModel]
    make = VARIANTS.get(options.reward) or RIVALS[options.reward]
    judges = judges or options.judges
    if not judges:
        raise SettingsError(
            "name a judge: there is none by default; `head` is the small trained one, and the scores of `embedded` carry no meaning"
        )
    names = [judge if isinstance(judge, str) else judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise SettingsError(f"a judge is named twice: {', '.join(names)}")
    if options.reward in RIVALS and any(map(is_head, judges)):
        raise SettingsError(
            f"the reward {options.reward!r} has its own way to ask a judge, and a trained head is not asked: use `shared`"
        )
    if options.reward in RIVALS and any(map(is_local, judges)):
        raise SettingsError(
            f"the reward {options.reward!r} has its own way to ask a judge, and a distilled one answers the shared mode's questions only"
        )
    members = tuple(make(options, judge) for judge in judges)
    for member in members[1:]:
        if isinstance(member, PereGRM) and isinstance(members[0], PereGRM):
            member.criteria_of = members[0]
    return members[0] if len(members) == 1 else Pool(members, quorum=options.quorum)
