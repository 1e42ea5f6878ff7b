"""The card of a scalar reward model: what it was made of, and what it got right on users it had not seen.

The wording stands in `reward_card.md.jinja`. Left out on purpose: any figure of the users it learned from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources

from peregrm.evaluation.statistics import clustered_mean
from peregrm.records import Part
from peregrm.reward.heads.head import Dataset, Measured
from peregrm.templates import environment
from peregrm.training.head_measures import ALL, LONGER_WINS, SHORTER
from peregrm.training.offline.preferences import Preference
from peregrm.training.offline.running import FitSettings, Fitted
from peregrm.training.policies import Lora

__all__ = ["RewardCard", "RewardPlan", "card_lines", "card_text", "measured"]


class RewardCard(Part):
    """What a reward model was made of and what it is worth. `measured` are shares of pairs of users it has not seen."""

    base: str
    prompt: str
    datasets: tuple[Dataset, ...]
    pairs: int
    users: int
    held_out_pairs: int
    held_out_users: int
    adapter: Lora | None
    settings: FitSettings
    fitted: Fitted
    measured: tuple[Measured, ...]
    left_out: dict[str, int]


class RewardPlan(Part):
    """What training a reward model would do. `memory_gib` is as in `state_gib`; tokens are those of all epochs."""

    pairs: int
    users: int
    held_out_pairs: int
    held_out_users: int
    steps: int
    trained_tokens: int
    longest: int
    parameters: int
    trained_parameters: int
    memory_gib: float
    left_out: dict[str, int]

    def lines(self) -> list[str]:
        """Return the plan in words."""
        size = f"weights, gradients and optimizer take {self.memory_gib:.2f} GiB, and what lies between the layers comes on top"
        return [
            f"{self.pairs} pairs of {self.users} users teach, {self.held_out_pairs} pairs of {self.held_out_users} other users measure",
            f"{self.steps} steps, {self.trained_tokens:,} tokens, the longest text has {self.longest}; nobody is asked: 0 calls, no cost",
            f"{self.trained_parameters:,} of {self.parameters:,} parameters are trained; {size}",
            *(f"left out: {count} {reason}" for reason, count in self.left_out.items()),
        ]


def card_lines(card: RewardCard) -> list[str]:
    """Return what a person should see once a model is trained."""
    return [
        f"{card.pairs} pairs of {card.users} users; on {card.held_out_users} users not seen in training:",
        *(f"  {_share(one)}  {one.name} (n = {one.n}, {one.users} users)" for one in card.measured),
        *(f"  left out: {count} {reason}" for reason, count in card.left_out.items()),
    ]


def card_text(card: RewardCard) -> str:
    """Return the card as Markdown with the header that model hubs read."""
    made = environment(resources.files(__package__), escape=False)
    made.filters |= {"yaml": lambda text: json.dumps(text, ensure_ascii=False), "share": _share}
    licences = list(dict.fromkeys(one.licence for one in card.datasets))
    return made.get_template("reward_card.md.jinja").render(card=card, licences=licences).rstrip() + "\n"


def _share(one: Measured) -> str:
    if one.mean is None:
        return "none"
    return f"{one.mean:.3f}" + (" [no interval]" if one.low is None else f" [{one.low:.3f}, {one.high:.3f}]")


def measured(scored: Sequence[tuple[Preference, float, float]]) -> tuple[Measured, ...]:
    """Return the shares of pairs put in the right order, half a point for a tie, with intervals clustered by user.

    `scored` are pairs with the numbers of their better and their worse reply.
    """
    values: dict[str, list[tuple[str, float]]] = {}
    for pair, high, low in scored:
        words = [len(text.split()) for text in (pair.better, pair.worse)]
        names = {ALL, pair.name} | ({SHORTER} if words[0] < words[1] else set())
        for name in sorted(names):
            values.setdefault(name, []).append((pair.case.user_id, _right(high, low)))
        values.setdefault(LONGER_WINS, []).append((pair.case.user_id, _right(*words)))
    return tuple(_measured(name, those) for name, those in sorted(values.items()))


def _right(better: float, worse: float) -> float:
    return 0.5 if better == worse else float(better > worse)


def _measured(name: str, values: Sequence[tuple[str, float]]) -> Measured:
    estimate = clustered_mean(list(values), bounds=(0.0, 1.0))
    mean, low, high = (
        None if value is None else round(value, 4) for value in (estimate.mean, estimate.low, estimate.high)
    )
    return Measured(name=name, mean=mean, low=low, high=high, n=estimate.n, users=estimate.users)
