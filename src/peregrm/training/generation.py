"""A policy in this process writes replies: what held-out evaluation and best-of-n sampling share.

Prompts are those of `peregrm.training.rows`, left-padded into batches; a reply ends at any of the policy's stop tokens, that which ends a
turn in its chat template among them. The same policy, rows, batch size and seed give the same replies, and nothing of the training is
touched: neither the random numbers it draws next, nor which modules are in training mode, nor the policy's own generation settings, none of
which count here. Thinking is taken off by `peregrm.replies`, that which the chat template opens in the prompt too. Left out on purpose:
beams, penalties and other ways to sample, and servers, which `peregrm evaluate` asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from peregrm.records import Case, Reply, Usage
from peregrm.replies import opened_thinking, reply_from_output
from peregrm.text import THINK_CLOSE, THINK_OPEN
from peregrm.training.offline.tokens import end_of_turn
from peregrm.training.policies import Policy, training_library
from peregrm.training.rows import PromptRow

__all__ = ["Written", "stop_at_turns", "write_replies"]


class Written(NamedTuple):
    """A reply to a case; `cut_off` says that it ended at the length limit and not at a stop token."""

    case: Case
    reply: Reply
    cut_off: bool


def write_replies(
    policy: Policy,
    rows: Sequence[PromptRow],
    *,
    name: str,
    max_new_tokens: int,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[Written]:
    """Let a policy answer prompts; return the replies in the order of the rows, those to one row side by side.

    Args:
        policy: Its weights are used as they stand.
        rows: Prompts that leave room for `max_new_tokens` in the policy's context.
        name: The replies' policy; with several samples it is followed by a number, `name-1` to `name-n`.
        max_new_tokens: The most tokens of a reply, stop token included.
        temperature: 0 takes the likeliest token each time; above it tokens are drawn.
        samples: How many replies each prompt gets; more than one need a temperature.
        seed: What is drawn hangs on it, on the prompts of the batch, and on nothing else.
        batch_size: How many replies are written at once.
        tell: Is told after every batch how many replies are written, of how many.

    Raises `ValueError` for samples that would all be the same, and for a prompt without room for its reply.
    """
    if samples < 1 or (samples > 1 and temperature <= 0):
        raise ValueError(f"{samples} samples at temperature {temperature:g}")
    for row in rows:
        if row.tokens + max_new_tokens > policy.context:
            raise ValueError(
                f"{row.case.id}: a prompt of {row.tokens} tokens and {max_new_tokens} for the reply pass a context of {policy.context}"
            )
    tasks = [(place, sample) for place in range(len(rows)) for sample in range(samples)]
    order = sorted(range(len(tasks)), key=lambda n: rows[tasks[n][0]].tokens)  # alike in length, so little padding
    stops = _stop_tokens(policy)
    written: dict[int, Written] = {}
    with _generating(policy.model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            shown = [rows[tasks[n][0]] for n in batch]
            sampling = _sampling(temperature) | {"max_new_tokens": max_new_tokens, "eos_token_id": stops}
            drawn = _seed(seed, [(rows[tasks[n][0]].case.id, tasks[n][1]) for n in batch])
            for n, row, ids in zip(batch, shown, _outputs(policy, shown, sampling, drawn), strict=True):
                own = name if samples == 1 else f"{name}-{tasks[n][1] + 1}"
                cut_off = len(ids) >= max_new_tokens and ids[-1] not in stops
                written[n] = Written(row.case, _reply(policy, row, ids, own, cut_off), cut_off)
            tell(len(written), len(tasks))
    return [written[n] for n in range(len(tasks))]


def _seed(seed: int, drawn_for: Sequence[tuple[str, int]]) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps([seed, drawn_for]).encode()).digest()[:6], "big")


def _sampling(temperature: float) -> dict[str, Any]:
    return {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}


@contextmanager
def _generating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode with plain settings, and everything back as it was afterwards."""
    torch, transformers = training_library("torch"), training_library("transformers")
    modes = [(module, module.training) for module in model.modules()]
    below = _below(model)
    own = below.generation_config
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            model.eval()
            below.generation_config = transformers.GenerationConfig()
            yield
    finally:
        below.generation_config = own
        for module, mode in modes:
            module.training = mode


def _below(model: Any) -> Any:
    """Return the model below an adapter, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _outputs(policy: Policy, rows: Sequence[PromptRow], sampling: dict[str, Any], seed: int) -> list[list[int]]:
    """Return the new tokens of each row up to its stop token, which is kept where there is one."""
    torch, transformers = training_library("torch"), training_library("transformers")
    device, pad = policy.model.device, policy.tokenizer.pad_token_id
    prompts = [_encoded(policy.tokenizer, row) for row in rows]
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    config = transformers.GenerationConfig(pad_token_id=pad, **sampling)
    torch.manual_seed(seed)
    made = policy.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [_until_stop(row[longest:], sampling["eos_token_id"]) for row in made.tolist()]


def _encoded(tokenizer: Any, row: PromptRow) -> list[int]:
    return list(tokenizer(row.rendered(tokenizer), add_special_tokens=False, verbose=False)["input_ids"])


def stop_at_turns(policy: Policy) -> None:
    """Have the policy's own generation settings, which are saved with whole weights, stop where `write_replies` does.

    An adapter has none of its own: what generates with it takes those of its base.
    """
    _below(policy.model).generation_config.eos_token_id = _stop_tokens(policy)


def _stop_tokens(policy: Policy) -> list[int]:
    """Return every token at which the policy's tokenizer, weights or chat template say that a reply ends."""
    tokenizer = policy.tokenizer
    stated = _below(policy.model).generation_config.eos_token_id
    listed = stated if isinstance(stated, list) else [stated]
    ends = (tokenizer.eos_token_id, end_of_turn(tokenizer), *listed)
    return sorted({token for token in ends if token is not None})


def _until_stop(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    return list(ids if end is None else ids[: end + 1])


def _reply(policy: Policy, row: PromptRow, ids: Sequence[int], name: str, cut_off: bool) -> Reply:
    usage = Usage(calls=1, input_tokens=row.tokens, output_tokens=len(ids))
    output = opened_thinking(row.rendered(policy.tokenizer)) + _text(policy.tokenizer, ids)
    return reply_from_output(row.case, output, policy=name, cut_off=cut_off, usage=usage)


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the words of tokens without special ones; tags around reasoning stay, whatever the tokenizer takes them for."""
    special = {token for token in tokenizer.all_special_ids if not _is_tag(tokenizer.convert_ids_to_tokens(token))}
    special.add(end_of_turn(tokenizer))  # not every tokenizer lists it among its own
    return str(tokenizer.decode([token for token in ids if token not in special], skip_special_tokens=False))


def _is_tag(token: str) -> bool:
    return bool(THINK_OPEN.fullmatch(token) or THINK_CLOSE.fullmatch(token))
