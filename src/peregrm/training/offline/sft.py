"""Supervised fine-tuning on the best reply to each prompt, by TRL's SFTTrainer; the loss is that of the reply's tokens alone.

Examples come in as token ids, so the trainer has nothing to cut, to template or to guess. Left out on purpose: packing, which saves padding
and changes what a batch is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from peregrm.training.offline.tokens import Example
from peregrm.training.policies import Policy, save_policy, training_library

__all__ = ["LOOKED_AT", "SFT_RATE", "train_sft"]

SFT_RATE = 1e-5
"""The learning rate of full training where none is asked for."""

LOOKED_AT = 64
"""Of how many examples, from the first, the likelihood is measured before and after."""

_IGNORED = -100


def train_sft(
    policy: Policy, examples: Sequence[Example], settings: FitSettings, out: Path, asked: Mapping[str, Any], tell: Tell
) -> Fitted:
    """Fit a policy to examples, from where a run in `out` stopped, and write it to `out/policy`.

    `asked` is what else the weights hang on, by name. The figures are the mean log-likelihood of a token of the examples,
    `per_token_before` and `per_token_after`. Raises what `finished` and `fit` raise.
    """
    before = finished(out, asked, settings, examples)
    if before is not None:
        return before
    trl = training_library("trl")
    seen = examples[:LOOKED_AT]
    start = _per_token(policy, seen)
    rate = settings.rate(SFT_RATE, adapter=has_adapter(policy))
    arguments = {
        "model": policy.model,
        "args": trl.SFTConfig(**trainer_arguments(settings, out, rate, policy.model)),
        "processing_class": policy.tokenizer,
        "train_dataset": dataset_of([_row(example) for example in examples]),
    }

    def figures() -> dict[str, float]:
        return {"per_token_before": start, "per_token_after": _per_token(policy, seen)}

    def save(_: Fitted) -> None:
        stop_at_turns(policy)
        save_policy(policy, out / POLICY)

    return fit(Fit(trl.SFTTrainer, arguments, save), out, tell, figures)


def _row(example: Example) -> dict[str, list[int]]:
    return {
        "input_ids": [*example.prompt, *example.reply],
        "labels": [*[_IGNORED] * len(example.prompt), *example.reply],
    }


def _per_token(policy: Policy, examples: Sequence[Example]) -> float:
    found = log_likelihoods(policy, examples)
    return mean_of([value / len(example.reply) for value, example in zip(found, examples, strict=True)])
