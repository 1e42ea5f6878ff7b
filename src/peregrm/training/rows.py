"""From cases to the prompts a policy trains on: the same messages as in evaluation, and none of them cut in silence.

A user of whom too much is known for the policy's context is shown less of it: memories go first, the least relevant to the message before
the others (BM25, then age), then the traits and the profile. What was left out is counted on the row and told by whoever asks. A case whose
message alone does not fit gives no row but a `Drop` with the reason. The judge always sees the whole case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from peregrm.memory.lexical import bm25
from peregrm.models.special_tokens import defused, special_tokens
from peregrm.records import Case, Memory, Message
from peregrm.replies import Setting, policy_messages

__all__ = ["Drop", "PromptRow", "PromptRows", "prompt_rows", "prompt_tokens"]

STATED: tuple[Setting, ...] = ("generic", "memories", "personalized")
"""Settings whose prompt is made of the case alone, which is all that training has."""


class PromptRow(NamedTuple):
    """One prompt: the whole case, the messages shown, their length in tokens, and what had no room.

    `memories_left_out` counts kept memories that are not shown, of `memories` in all; `persona_left_out` says that the persona is not.
    """

    case: Case
    messages: tuple[Message, ...]
    tokens: int
    memories: int = 0
    memories_left_out: int = 0
    persona_left_out: bool = False

    def rendered(self, tokenizer: Any) -> str:
        """Return the prompt in the policy's chat template, the opening of its reply included."""
        return _rendered(self.chat, tokenizer)

    @property
    def chat(self) -> list[dict[str, str]]:
        """The messages as trainers take them."""
        return _chat(self.messages)


class Drop(NamedTuple):
    """A case without a row, and why."""

    case_id: str
    reason: str


class PromptRows(NamedTuple):
    """Rows in the order of the cases, and the cases that gave none."""

    rows: list[PromptRow]
    drops: list[Drop]

    def told(self) -> list[str]:
        """Return what a person should know before training on these rows: one line each for what was left out, none where nothing was."""
        short = [row for row in self.rows if row.memories_left_out]
        lines = []
        if short:
            left, known = (sum(getattr(row, name) for row in short) for name in ("memories_left_out", "memories"))
            users = len({row.case.user_id for row in short})
            lines.append(
                f"{len(short)} prompts of {users} users had no room for {left} of {known} memories: the most relevant are shown"
            )
        bare = sum(row.persona_left_out for row in self.rows)
        if bare:
            lines.append(f"{bare} prompts had no room for the persona")
        return lines + [f"{drop.case_id}: no prompt: {drop.reason}" for drop in self.drops]


def prompt_rows(cases: Sequence[Case], tokenizer: Any, *, setting: Setting, room: int) -> PromptRows:
    """Return the prompts of cases for a policy with this tokenizer.

    Args:
        cases: Whatever training is for; those with flags belong nowhere near a policy and are the caller's to leave out.
        tokenizer: Of transformers, with a chat template.
        setting: One of `STATED`.
        room: The most tokens of a prompt: the policy's context less what a reply may take.

    Raises `ValueError` for a setting that needs more than the case.
    """
    if setting not in STATED:
        raise ValueError(f"training knows the settings {', '.join(STATED)}, not {setting!r}")
    specials = special_tokens(tokenizer)

    def messages_of(case: Case, shown_by: Setting = setting) -> tuple[Message, ...]:
        messages = policy_messages(case, shown_by)
        return tuple(m.model_copy(update={"content": defused(m.content, specials)}) for m in messages)

    rows: list[PromptRow] = []
    drops: list[Drop] = []
    for case in cases:
        made = _row(case, setting, room, tokenizer, messages_of)
        rows.append(made) if isinstance(made, PromptRow) else drops.append(made)
    return PromptRows(rows, drops)


def prompt_tokens(messages: Sequence[Message], tokenizer: Any) -> int:
    """Return how many tokens a prompt has in the policy's chat template, the opening of its reply included."""
    text = _rendered(_chat(messages), tokenizer)
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _chat(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _rendered(chat: list[dict[str, str]], tokenizer: Any) -> str:
    return str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))


def _row(
    case: Case, setting: Setting, room: int, tokenizer: Any, messages_of: Callable[..., tuple[Message, ...]]
) -> PromptRow | Drop:
    kept = [memory for memory in case.memories if memory.status == "kept"]
    known = len(kept) if setting != "generic" else 0

    def fitted(shown: Case, by: Setting, left_out: int, bare: bool = False) -> PromptRow | None:
        messages = messages_of(shown, by)
        length = prompt_tokens(messages, tokenizer)
        return PromptRow(case, messages, length, known, left_out, bare) if length <= room else None

    whole = fitted(case, setting, 0)
    if whole is not None or setting == "generic":
        return whole or _no_room(case, messages_of(case), room, tokenizer)
    ranked = _by_relevance(case.query, kept)
    for by in dict.fromkeys((setting, "memories")):
        best = _most_memories(case, ranked, lambda shown, left, by=by: fitted(shown, by, left, by != setting))  # type: ignore[misc]
        if best is not None:
            return best
    return fitted(case, "generic", known, setting == "personalized") or _no_room(
        case, messages_of(case, "generic"), room, tokenizer
    )


def _most_memories(
    case: Case, ranked: Sequence[Memory], fitted: Callable[[Case, int], PromptRow | None]
) -> PromptRow | None:
    """Return the row that shows the most of the `ranked` memories, in their own order; None where not even none of them fits."""
    low, high, best = 0, len(ranked), None
    while low <= high:
        count = (low + high) // 2
        shown = set(map(id, ranked[:count]))
        some = case.model_copy(update={"memories": tuple(m for m in case.memories if id(m) in shown)})
        row = fitted(some, len(ranked) - count)
        if row is None:
            high = count - 1
        else:
            best, low = row, count + 1
    return best


def _by_relevance(query: str, memories: Sequence[Memory]) -> list[Memory]:
    scores = bm25(query, [memory.value for memory in memories])
    order = sorted(range(len(memories)), key=lambda n: (-scores[n], -n))
    return [memories[n] for n in order]


def _no_room(case: Case, messages: Sequence[Message], room: int, tokenizer: Any) -> Drop:
    return Drop(
        case.id,
        f"its message alone makes a prompt of {prompt_tokens(messages, tokenizer)} tokens, and there is room for {room}",
    )
