"""How likely a policy finds replies: what SFT raises and DPO sets apart, measured before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peregrm.training.offline.tokens import Example
from peregrm.training.policies import Policy, training_library

__all__ = ["log_likelihoods", "mean_of"]

_AT_ONCE = 8


def log_likelihoods(policy: Policy, examples: Sequence[Example]) -> list[float]:
    """Return the natural logarithm of the probability of each reply, the end of its turn included; the policy stays as it was."""
    torch = training_library("torch")
    pad, device = policy.tokenizer.pad_token_id, policy.model.device
    found: list[float] = []
    with _reading(policy.model):
        for start in range(0, len(examples), _AT_ONCE):
            batch = examples[start : start + _AT_ONCE]
            longest = max(len(one.prompt) + len(one.reply) for one in batch)
            rows = [[*one.prompt, *one.reply] for one in batch]
            ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
            logits = policy.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            said = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            for values, one, row in zip(said, batch, rows, strict=True):
                found.append(float(values[len(one.prompt) - 1 : len(row) - 1].sum()))
    return found


def mean_of(values: Sequence[float]) -> float:
    """Return the mean, to six digits."""
    return float(f"{sum(values) / len(values):.6g}")


@contextmanager
def _reading(model: Any) -> Iterator[None]:
    torch = training_library("torch")
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode
