"""A sequence classifier with one output on the weights of a causal language model, to be trained as a reward model.

The weights come in through `load_policy`, so whatever can be a policy can be a reward model, weights of a GGUF file too; the head starts at
random from the seed. torch, transformers and peft are imported inside.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from peregrm.errors import SettingsError
from peregrm.text import error_line
from peregrm.training.policies import Lora, Policy, quietly, training_library

__all__ = ["Classifier", "classifier_of", "logits_of", "whole_model"]

_HEAD = "score"
_AT_ONCE = 8


class Classifier(NamedTuple):
    """A classifier with its tokenizer; `context` is the most tokens it takes."""

    model: Any
    tokenizer: Any
    context: int


@quietly()
def classifier_of(policy: Policy, lora: Lora | None, seed: int) -> Classifier:
    """Return a classifier with a policy's weights and a head that knows nothing yet; with `lora` an adapter and the head are trained alone.

    Raises `SettingsError` where such weights cannot carry a head.
    """
    torch, transformers = training_library("torch"), training_library("transformers")
    source = whole_model(policy.model)
    config = copy.deepcopy(source.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = policy.tokenizer.pad_token_id
    torch.manual_seed(seed)
    try:
        with source.device:
            model = transformers.AutoModelForSequenceClassification.from_config(config, dtype=source.dtype)
    except ValueError as error:
        raise SettingsError(f"{policy.name}: cannot be made a reward model: {error_line(error)}") from None
    if not hasattr(model, _HEAD):
        raise SettingsError(f"{policy.name}: its classifier has no head {_HEAD!r}, so it cannot be made a reward model")
    model.base_model.load_state_dict(source.base_model.state_dict())
    if lora is not None:
        _exact_head(model)
        peft = training_library("peft")
        modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
        config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=modules,
            task_type="SEQ_CLS",
            modules_to_save=[_HEAD],
        )
        model = peft.get_peft_model(model, config)
    return Classifier(model, policy.tokenizer, policy.context)


def _exact_head(model: Any) -> None:
    """Train the head in float32, whatever the frozen weights are: steps of a small rate are lost in bfloat16."""
    head = getattr(model, _HEAD).float()
    head.register_forward_pre_hook(_to_weights)


def _to_weights(head: Any, shown: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.to(head.weight.dtype) for one in shown)


def whole_model(model: Any) -> Any:
    """Return a model whose adapter, if any, has become part of its weights."""
    return model.merge_and_unload() if hasattr(model, "peft_config") else model


def logits_of(classifier: Classifier, rows: list[list[int]]) -> list[float]:
    """Return the classifier's number for each text, given as token ids; it is in evaluation mode afterwards."""
    torch = training_library("torch")
    model, pad = classifier.model.eval(), classifier.tokenizer.pad_token_id
    device = next(model.parameters()).device
    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), _AT_ONCE):
            batch = rows[start : start + _AT_ONCE]
            longest = max(map(len, batch))
            ids = torch.tensor([row + [pad] * (longest - len(row)) for row in batch], device=device)
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch], device=device)
            found += model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
    return found
