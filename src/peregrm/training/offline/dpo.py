"""Direct preference optimisation on the best and the worst reply to each prompt, by TRL's DPOTrainer.

What the policy found likely before is computed once, before the first step, and kept as numbers: no second copy of the weights is needed,
and a run that goes on has the same reference as one that was never stopped. Pairs come in as token ids, so the trainer has nothing to cut.
Left out on purpose: other losses of the family than the one of the DPO paper (Rafailov et al., 2023, equation 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from peregrm.training.generation import stop_at_turns
from peregrm.training.offline.likelihood import log_likelihoods, mean_of
from peregrm.training.offline.running import (
    POLICY,
    Fit,
    FitSettings,
    Fitted,
    Tell,
    dataset_of,
    finished,
    fit,
    has_adapter,
    trainer_arguments,
)
from peregrm.training.offline.sft import LOOKED_AT
from peregrm.training.offline.tokens import Example
from peregrm.training.policies import Policy, save_policy, training_library

__all__ = ["DPO_RATE", "DPOSettings", "Preferred", "train_dpo"]

DPO_RATE = 1e-6
"""The learning rate of full training where none is asked for."""

_REFERENCE = "ref"


class DPOSettings(FitSettings):
    """How a policy is fitted to preferences."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """How much moving away from the policy as it was costs."""


class Preferred(NamedTuple):
    """The same prompt with the better and with the worse reply."""

    best: Example
    worst: Example


def train_dpo(
    policy: Policy, pairs: Sequence[Preferred], settings: DPOSettings, out: Path, asked: Mapping[str, Any], tell: Tell
) -> Fitted:
    """Fit a policy to pairs, from where a run in `out` stopped, and write it to `out/policy`.

    The figures are how much likelier the better reply is than the worse one, as the mean difference of log-likelihoods, `margin_before` and
    `margin_after`. Raises what `finished` and `fit` raise.
    """
    before = finished(out, asked, settings, pairs)
    if before is not None:
        return before
    trl = training_library("trl")
    seen = pairs[:LOOKED_AT]
    start = _margin(policy, seen)
    rate = settings.rate(DPO_RATE, adapter=has_adapter(policy))
    chosen = {"beta": settings.beta, "precompute_ref_log_probs": True}
    arguments = {
        "model": policy.model,
        "args": trl.DPOConfig(**trainer_arguments(settings, out, rate, policy.model), **chosen),
        "processing_class": policy.tokenizer,
        "train_dataset": dataset_of([_row(pair) for pair in pairs]),
    }

    def figures() -> dict[str, float]:
        return {"margin_before": start, "margin_after": _margin(policy, seen)}

    def save(_: Fitted) -> None:
        stop_at_turns(policy)
        save_policy(policy, out / POLICY)

    return fit(Fit(_trainer(trl.DPOTrainer), arguments, save), out, tell, figures)


@cache
def _trainer(trainer: Any) -> Any:
    class OnTokens(trainer):  # type: ignore[misc]
        """Takes token ids as they are, and keeps no copy of an adapter once the reference is computed."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            if _REFERENCE in getattr(self.model, "peft_config", {}):
                self.model.delete_adapter(_REFERENCE)

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    OnTokens.__name__ = trainer.__name__
    return OnTokens


def _row(pair: Preferred) -> dict[str, list[int]]:
    return {"prompt_ids": pair.best.prompt, "chosen_ids": pair.best.reply, "rejected_ids": pair.worst.reply}


def _margin(policy: Policy, pairs: Sequence[Preferred]) -> float:
    best = log_likelihoods(policy, [pair.best for pair in pairs])
    worst = log_likelihoods(policy, [pair.worst for pair in pairs])
    return mean_of([one - other for one, other in zip(best, worst, strict=True)])
