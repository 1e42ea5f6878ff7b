"""Personalized Soups (arXiv:2310.11564): one adapter a cluster of users, and for each user a mixture of them, merged on the spot.

The mixture is that of the changes the adapters make to the weights: base + sum of weight x change. peft has two ways that sound like it.
`linear` adds up the halves of the adapters before multiplying them, with square roots of the weights, so each adapter's one half also meets
the other's: two equal adapters at one half each come out twice as strong as either. `cat` lays the halves side by side and is the sum
exactly, at a rank that is the sum of the ranks; that is what is used here. A weight of 1 takes that adapter as it is, bit for bit.

A soup of adapters on other weights, or of none, is refused. torch and peft are imported inside. Left out on purpose: saving the mixtures,
which cost less to make than to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from peregrm.errors import SettingsError
from peregrm.training.generation import Written, write_replies
from peregrm.training.policies import Policy, base_of, load_policy
from peregrm.training.rows import PromptRow

__all__ = ["Soup", "soup_replies"]

_FIRST = "default"
_MIXED = "soup"
_WHOLE = 1 - 1e-9
_NONE = 1e-6
"""A weight below this is none."""


class Soup:
    """Adapters side by side on the same weights. Used by one thread at a time.

    Raises `SettingsError` where there is no adapter, a folder holds none, or they are not on the same weights.
    """

    def __init__(self, adapters: Sequence[Path], *, device: Any = "auto") -> None:
        if not adapters:
            raise SettingsError("a soup needs at least one adapter")
        bare = [folder for folder in adapters if not (folder / "adapter_config.json").exists()]
        if bare:
            raise SettingsError(f"{bare[0]}: holds no adapter")
        self._policy = load_policy(str(adapters[0]), device=device, trainable=False)
        self.names = [_FIRST, *(f"cluster-{number}" for number in range(1, len(adapters)))]
        for name, folder in zip(self.names[1:], adapters[1:], strict=True):
            other = base_of(folder)
            if other != self._policy.base:
                raise SettingsError(f"{folder}: an adapter on {other}, and the first one is on {self._policy.base}")
            self._policy.model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
        self._policy.model.eval()

    @property
    def policy(self) -> Policy:
        """The policy as it stands: within `mixed` or `plain` what was asked for, else the first adapter's."""
        return self._policy

    @contextmanager
    def mixed(self, weights: Sequence[float]) -> Iterator[Policy]:
        """Mix the adapters by these weights, in their order, while it lasts.

        Raises `SettingsError` where the weights are not one an adapter, of 0 to 1, with the sum 1.
        """
        if len(weights) != len(self.names) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
            raise SettingsError(f"{list(weights)}: {len(self.names)} weights of 0 to 1 with the sum 1 are needed")
        model = self._policy.model
        whole = [name for name, weight in zip(self.names, weights, strict=True) if weight >= _WHOLE]
        if whole:
            model.set_adapter(whole[0], inference_mode=True)
        else:
            used = [(name, weight) for name, weight in zip(self.names, weights, strict=True) if weight > _NONE]
            model.add_weighted_adapter(
                [name for name, _ in used], [weight for _, weight in used], _MIXED, combination_type="cat"
            )
            model.set_adapter(_MIXED, inference_mode=True)
            model.eval()
        try:
            yield self._policy
        finally:
            model.set_adapter(_FIRST, inference_mode=True)
            if not whole:
                model.delete_adapter(_MIXED)

    @contextmanager
    def plain(self) -> Iterator[Policy]:
        """Switch all adapters off while it lasts."""
        with self._policy.model.disable_adapter():
            yield self._policy


def soup_replies(
    soup: Soup,
    rows: Sequence[PromptRow],
    weights_of: Callable[[PromptRow], Sequence[float]],
    *,
    name: str,
    tell: Callable[[str], None] = lambda line: None,
    **drawn: Any,
) -> list[Written]:
    """Let each user's own mixture answer their prompts; return the replies in the order of the rows.

    `drawn` is how, as `peregrm.training.generation.write_replies` takes it (`max_new_tokens`, `temperature`, `seed`, `batch_size`). Rows of
    the same weights are answered together.
    """
    keyed = sorted(enumerate(rows), key=lambda pair: (tuple(weights_of(pair[1])), pair[0]))
    written: dict[int, Written] = {}
    for weights, group in groupby(keyed, key=lambda pair: tuple(weights_of(pair[1]))):
        places, own = zip(*group, strict=True)
        with soup.mixed(weights) as policy:
            written.update(zip(places, write_replies(policy, own, name=name, **drawn), strict=True))
        tell(f"{name}: {len(written)} of {len(rows)} replies")
    return [written[place] for place in range(len(rows))]
