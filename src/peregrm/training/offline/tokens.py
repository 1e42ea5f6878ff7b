"""A prompt and a reply as token ids: the prompt exactly as the policy is asked, the reply as the policy would have to write it.

Both are put into tokens apart, as in generation, so that no token crosses from one to the other; the reply ends with what ends a turn in
the policy's chat template, unless it was cut off and has no end. Nothing is cut: what is too long is a reason. Left out on purpose: the
reasoning of a thinking model, which is not part of a reply here; thinking that a template opens in the prompt is closed at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from peregrm.errors import SettingsError
from peregrm.models.special_tokens import defused, special_tokens
from peregrm.replies import opened_thinking
from peregrm.training.rows import PromptRow

__all__ = ["Encoder", "Example", "end_of_turn"]

_MARK = "so it is said"


class Example(NamedTuple):
    """Token ids of a prompt, and of one reply to it with the end of its turn, if it has one."""

    prompt: list[int]
    reply: list[int]


class Encoder:
    """Puts prompts and replies into the tokens of one policy.

    Args:
        tokenizer: Of transformers, with a chat template.
        context: The most tokens of prompt and reply together.

    Raises `SettingsError` where the template does not show what an assistant says, or nothing ends a turn.
    """

    def __init__(self, tokenizer: Any, context: int) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._specials = special_tokens(tokenizer)
        end = end_of_turn(tokenizer)
        if end is None and _after_reply(tokenizer) is None:
            raise SettingsError(
                f"{tokenizer.name_or_path}: its chat template does not show what an assistant says: nothing to learn from"
            )
        if end is None:
            raise SettingsError(
                f"{tokenizer.name_or_path}: no token ends a turn, so a policy could not learn where a reply ends"
            )
        self._end = end

    def prompt(self, row: PromptRow) -> list[int]:
        """Return the ids of a prompt, the opening of the reply included."""
        return self._ids(row.rendered(self._tokenizer))

    def example(self, row: PromptRow, reply: str, *, cut_off: bool = False) -> Example | str:
        """Return a prompt and a reply, or why they cannot be had: they are longer than the policy's context.

        A reply that was `cut_off` at a length limit has no end of turn: nobody should learn to stop there.
        """
        shown = row.rendered(self._tokenizer)
        opened = opened_thinking(shown)
        closing = f"{opened.replace('<', '</')}\n\n" if opened else ""
        said = self._ids(closing + defused(reply, self._specials))
        made = Example(self._ids(shown), said if cut_off and reply else [*said, self._end])
        length = len(made.prompt) + len(made.reply)
        if length > self._context:
            return f"replies too long for a context of {self._context} tokens"
        return made

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return ids


def end_of_turn(tokenizer: Any) -> int | None:
    """Return the token that the template puts after what an assistant said, or that which ends a text for this tokenizer.

    None where the template does not show what an assistant says, or there is no such token.
    """
    rest = _after_reply(tokenizer)
    if rest is None:
        return None
    after = tokenizer(rest.lstrip(), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    end = after[0] if after and after[0] in special else tokenizer.eos_token_id
    return None if end is None else int(end)


def _after_reply(tokenizer: Any) -> str | None:
    """Return what the template puts after an assistant's words; None where it does not show them."""
    turns = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    _, mark, rest = str(text).rpartition(_MARK)
    return rest if mark else None
