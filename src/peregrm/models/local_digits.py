"""Digits from a causal language model in this process: a form is given, and only the scores that belong into it are asked.

An answer is a fixed text with places for one digit of 1 to 5 each. The text is shown to the model with the places empty, and at each of
them the probabilities of the five digits are read, all in one pass. So an answer is always whole and in range, and no score hangs on
another: a model that is shown its digits before, and was taught by a teacher's, learns to repeat them instead of reading what it judges.

What prompts have in common at their beginning is computed once: that of a batch, and that of a batch and the last one of its form. The
order of additions hangs on it, so log-probabilities are rounded to four digits; what is left may differ where neighbours do.

The same code lays out the examples that such a model is taught by. torch is imported inside. Left out on purpose: numbers of several
digits (points of 0 to 20 are asked as five steps, see `Form`), and models whose memory is no plain cache of keys and values: they work, but
from the beginning of each prompt.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from peregrm.errors import SettingsError
from peregrm.models.base import Message
from peregrm.models.special_tokens import defused, special_tokens

__all__ = ["DIGITS", "DigitModel", "Form", "NotFinite", "Read", "form_of", "padded"]

DIGITS = ("1", "2", "3", "4", "5")
_ROUNDED = 4
_FORMS_KEPT = 4
"""Forms whose last prompt stays in memory: a judge is asked two questions about a reply in turn."""


class NotFinite(ValueError):
    """A probability of the model is no number."""


class Form(NamedTuple):
    """The form of an answer: (outer key, inner key) of every score, in order; the outer key is empty where there is one level.

    `most` is the greatest value at each place: 5 for scores of 1 to 5, which are the digits themselves, and 20 for points of 0 to 20,
    which the digits 1 to 5 stand for in steps of 5.
    """

    places: tuple[tuple[str, str], ...]
    most: int

    @property
    def outer(self) -> tuple[str, ...]:
        """The outer keys in order, each once."""
        return tuple(dict.fromkeys(outer for outer, _ in self.places))

    def chunks(self) -> list[str]:
        """Return the text around the digits: one piece more than there are places."""
        pieces: list[str] = [""]
        for number, outer in enumerate(self.outer):
            opening = ", " if number else "{"
            pieces[-1] += f'{opening}"{outer}": {{' if outer else opening
            keys = [inner for one, inner in self.places if one == outer]
            for place, key in enumerate(keys):
                pieces[-1] += f'{", " if place else ""}"{key}": '
                pieces.append("")
            pieces[-1] += "}" if outer else ""
        pieces[-1] += "}"
        return pieces

    def value(self, digit: float) -> float:
        """Return what a digit of 1 to 5, or the mean of some, stands for on the form's own scale."""
        return digit if self.most == 5 else (digit - 1) * self.most / 4

    def digit(self, value: float) -> float:
        """Return the digit, 1 to 5 with fractions, that stands for a value on the form's own scale."""
        return value if self.most == 5 else 1 + 4 * value / self.most


def form_of(schema: Mapping[str, Any] | None) -> Form | str:
    """Return the form that a JSON schema asks for, or why it is none: anything but scores of 1 to 5, or points of 0 to 20."""
    fields = _fields(schema)
    if fields is None:
        return "it does not ask for an object"
    if all(part.get("type") == "integer" for part in fields.values()):
        places = [("", name) for name in fields]
        ranges = {_range(part) for part in fields.values()}
        return Form(tuple(places), 20) if ranges == {(0, 20)} else "it asks for other points than 0 to 20"
    places = []
    for outer, part in fields.items():
        inner = _fields(part)
        if inner is None:
            return f"it asks for {outer!r}, which holds no scores"
        wrong = [name for name, each in inner.items() if each.get("type") != "integer" or _range(each) != (1, 5)]
        if wrong:
            return f"it asks for {wrong[0]!r}, which is no score of 1 to 5"
        places += [(outer, name) for name in inner]
    return Form(tuple(places), 5)


def _fields(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    fields = None if schema is None or schema.get("type") != "object" else schema.get("properties")
    return fields or None


def _range(part: Mapping[str, Any]) -> tuple[Any, Any]:
    return part.get("minimum"), part.get("maximum")


class Read(NamedTuple):
    """One answer: for each place the log-probabilities of the digits 1 to 5 among each other.

    `reused` counts tokens of the prompt that were computed before.
    """

    logprobs: tuple[tuple[float, ...], ...]
    reused: int

    @property
    def expected(self) -> tuple[float, ...]:
        """The mean digit at each place, 1 to 5."""
        return tuple(
            min(max(sum(digit * math.exp(chance) for digit, chance in enumerate(row, 1)), 1.0), 5.0)
            for row in self.logprobs
        )


class _Kept(NamedTuple):
    ids: list[int]
    cache: Any


class DigitModel:
    """A causal language model of transformers and its tokenizer, asked for digits. Used by one thread at a time.

    `context` is the most tokens of prompt and answer together. Raises `SettingsError` where the tokenizer has no chat template, or no
    token of its own for each of the five digits.
    """

    def __init__(self, model: Any, tokenizer: Any, context: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.context = context
        self.digit_ids = [self._digit(digit) for digit in DIGITS]
        if len(set(self.digit_ids)) < len(DIGITS):
            raise SettingsError(f"{tokenizer.name_or_path}: its tokenizer does not tell the digits 1 to 5 apart")
        self._special = special_tokens(tokenizer)
        self._torch = import_module("torch")
        self._kept: dict[Form, _Kept] = {}

    def _digit(self, digit: str) -> int:
        ids: list[int] = self._ids(digit)
        if not ids or ids[-1] == self.tokenizer.unk_token_id or self.tokenizer.decode([ids[-1]]).strip() != digit:
            raise SettingsError(f"{self.tokenizer.name_or_path}: its tokenizer has no token for the digit {digit}")
        return ids[-1]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return a prompt in the chat template, the opening of the answer included; words of special tokens in it are broken up.

        Raises `SettingsError` where the template fails.
        """
        from jinja2 import TemplateError

        chat = [{"role": message.role, "content": defused(message.content, self._special)} for message in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        except (TemplateError, ValueError) as error:
            raise SettingsError(f"{self.tokenizer.name_or_path}: its chat template fails: {error}") from None
        return self._ids(text)

    def form_ids(self, form: Form) -> tuple[list[int], list[int]]:
        """Return the tokens of the form's text up to its last place, and behind which of them the places are."""
        ids: list[int] = []
        places = []
        for chunk in form.chunks()[:-1]:
            ids += self._ids(chunk)
            places.append(len(ids) - 1)
        return ids, places

    def room(self, form: Form) -> int:
        """Return the most tokens of a prompt that this form follows."""
        return self.context - len(self.form_ids(form)[0])

    def read(self, form: Form, prompts: Sequence[list[int]]) -> list[Read]:
        """Return the answers to prompts (never none) that all fit the context, in their order.

        Raises `NotFinite`, and what torch raises where memory runs out.
        """
        with self._torch.inference_mode():
            training, _ = self.model.training, self.model.eval()
            try:
                return self._read(form, prompts)
            finally:
                self.model.train(training)

    def _read(self, form: Form, prompts: Sequence[list[int]]) -> list[Read]:
        text, places = self.form_ids(form)
        cache, shared, reused = self._shared(form, prompts)
        logits = self._fed([[*prompt[shared:], *text] for prompt in prompts], cache, shared, len(text))
        found = logits[:, places][:, :, self.digit_ids].float().log_softmax(dim=-1).tolist()
        if not all(math.isfinite(value) for row in found for place in row for value in place):
            raise NotFinite("the model gives a probability that is no number")
        return [Read(tuple(tuple(map(_rounded, place)) for place in row), reused) for row in found]

    def _fed(self, rows: Sequence[list[int]], cache: Any, shared: int, last: int) -> Any:
        """Return the logits behind the last so many tokens of rows, which follow the shared tokens in the cache."""
        torch = self._torch
        ids, mask = padded(rows, self.model.device)
        before = torch.ones((len(rows), shared), dtype=torch.long, device=self.model.device)
        output = self.model(
            input_ids=ids,
            attention_mask=torch.cat([before, mask], dim=1),
            position_ids=shared + (mask.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=last,
        )
        return output.logits[:, -last:]

    def _shared(self, form: Form, rows: Sequence[list[int]]) -> tuple[Any, int, int]:
        """Return the cache of what all rows begin with, its length, and how much of it was there before."""
        shared = min(_common(rows[0], row) for row in rows)
        if shared < 1:
            return None, 0, 0
        kept = self._kept.pop(form, None)
        reused = 0 if kept is None else min(_common(kept.ids, rows[0]), shared)
        cache = kept.cache if kept is not None and reused else None
        if cache is not None:
            _cut(cache, reused)
        if reused < shared:
            ids = self._torch.tensor([rows[0][reused:shared]], device=self.model.device)
            cache = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values
        if not _is_plain(cache):
            return None, 0, 0
        while len(self._kept) >= _FORMS_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[form] = _Kept(rows[0][:shared], cache)
        return _copied(cache, len(rows)), shared, reused

    def forget(self) -> None:
        """Let go of the prompts that are kept in memory, as must be done when the weights change."""
        self._kept.clear()


def padded(rows: Sequence[list[int]], device: Any) -> tuple[Any, Any]:
    """Return rows of tokens as one tensor, padded in front so that they end together, and the mask that says what counts."""
    torch = import_module("torch")
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _rounded(logprob: float) -> float:
    return min(round(logprob, _ROUNDED), 0.0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two rows have in common at their beginning."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _cut(cache: Any, tokens: int) -> None:
    """Keep the first tokens of a plain cache."""
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[..., :tokens, :], layer.values[..., :tokens, :]


def _copied(cache: Any, rows: int) -> Any:
    """Return a copy of the plain cache of one row, for so many rows."""
    own = copy.copy(cache)
    own.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in own.layers:  # a layer grows by new tensors, so the first ones may be shared
        layer.keys, layer.values = (part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values))
    return own


def _is_plain(cache: Any) -> bool:
    """Tell whether a cache holds keys and values of all tokens, so that it can be cut and copied."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))
