"""A policy's replies to the cases of a dataset, in one of the settings of `peregrm.replies`.

What a case does not hold comes from the dataset's histories: the conversation for the setting `history`, as far as it fits the model's
context, newest first to be kept; and for `retrieved` what a memory store, filled with this user's memories or turns, finds for the query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from peregrm.context import session_text
from peregrm.dataset.windows import estimated_tokens
from peregrm.dataset.withholding import hide_withheld
from peregrm.errors import SettingsError
from peregrm.mapping import Progress, map_in_order
from peregrm.memory.base import Found, MemoryStore, Note, notes_of_history, notes_of_memories
from peregrm.models.base import Model
from peregrm.prompts import Untrusted
from peregrm.records import Case, History, Reply
from peregrm.replies import Setting, write_reply

__all__ = ["Policy", "conversation", "found_notes", "policy_name", "write_policy"]

_BESIDE = 600
"""Tokens of a prompt beside the conversation: instructions and query."""


@dataclass(frozen=True)
class Policy:
    """A model in a setting. `store` is the memory store of `retrieved`, asked for at most `limit` notes; `context` is in tokens."""

    model: Model
    setting: Setting
    store: MemoryStore | None = None
    limit: int = 5
    context: int = 8192
    max_tokens: int = 1024
    temperature: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.setting == "retrieved") != (self.store is not None):
            raise SettingsError("the setting retrieved needs a memory store, and no other setting takes one")

    @property
    def name(self) -> str:
        """The policy's name in replies and reports."""
        return policy_name(self.model.name, self.setting, None if self.store is None else self.store.name)


def policy_name(model: str, setting: Setting, store: str | None = None) -> str:
    """Return the name of a policy: the model without its address, setting and, if any, memory store."""
    return f"{model.partition('@')[0]}/{setting}" + (f":{store}" if store else "")


async def write_policy(
    policy: Policy,
    cases: Sequence[Case],
    histories: Mapping[str, History],
    *,
    progress: Progress,
    say: Callable[[str], None] = lambda line: None,
) -> list[Reply]:
    """Return the policy's reply to every case, in their order; failed ones carry their failure.

    `histories` are by user; they are needed for `history` and for stores that are made of turns. Raises `SettingsError` where one is
    missing, a fatal `ModelError`, and what a store of others raises.
    """
    if policy.setting == "history":
        known = _conversations(policy, cases, histories, say)
    elif policy.store is not None:
        known = await _retrieved(policy, policy.store, cases, histories, say)
    else:
        known = {}

    async def one(case: Case) -> Reply:
        return await write_reply(
            policy.model,
            case,
            policy.setting,
            policy=policy.name,
            max_tokens=policy.max_tokens,
            temperature=policy.temperature,
            seed=policy.seed,
            known=known.get(case.id),
        )

    return await map_in_order(one, cases, stage="replies", progress=progress)


def conversation(history: History, tokens: int) -> tuple[Untrusted, int]:
    """Return as much of a history as fits `tokens` (estimated), oldest turn first, and how many turns were left out: the oldest ones."""
    kept: list[str] = []
    left_out = 0
    for session in reversed(history.sessions):
        first = len(session.turns)
        for place in reversed(range(len(session.turns))):
            cost = estimated_tokens(session_text(session, place, place + 1))
            if left_out or cost > tokens:
                left_out += 1
                continue
            tokens -= cost
            first = place
        if first < len(session.turns):
            kept.insert(0, session_text(session, first, len(session.turns)))
    return Untrusted("\n\n".join(kept) or "(nothing that fits)"), left_out


def found_notes(found: Sequence[Found]) -> Untrusted:
    """Return what a search brought up as a list numbered from 1; nothing found is said."""
    if not found:
        return Untrusted("(nothing that bears on this message)")
    return Untrusted("\n".join(f"{n}. {' '.join(one.note.text.split())}" for n, one in enumerate(found, start=1)))


def _conversations(
    policy: Policy, cases: Sequence[Case], histories: Mapping[str, History], say: Callable[[str], None]
) -> dict[str, Untrusted]:
    room = policy.context - policy.max_tokens - _BESIDE
    if room < 1:
        raise SettingsError(f"a context of {policy.context} tokens leaves no room for a history beside a reply")
    texts = {user: conversation(_history(user, histories), room) for user in dict.fromkeys(c.user_id for c in cases)}
    cut = sorted(user for user, (_, left_out) in texts.items() if left_out)
    if cut:
        turns = sum(texts[user][1] for user in cut)
        say(
            f"{policy.name}: the oldest {turns} turns of {len(cut)} users do not fit a context of {policy.context} tokens"
        )
    return {case.id: texts[case.user_id][0] for case in cases}


async def _retrieved(
    policy: Policy,
    store: MemoryStore,
    cases: Sequence[Case],
    histories: Mapping[str, History],
    say: Callable[[str], None],
) -> dict[str, Untrusted]:
    by_user: dict[str, list[Case]] = {}
    for case in cases:
        by_user.setdefault(case.user_id, []).append(case)
    lost = 0

    async def of_user(user: str, asked: Sequence[Case]) -> dict[str, Untrusted]:
        nonlocal lost
        texts: dict[str, Untrusted] = {}
        for number, (notes, about) in enumerate(_to_store(store, asked, histories)):
            if number:
                await store.delete_all(user)
            added = await store.add(user, notes)
            lost += len(added.failures)
            for case in about:
                texts[case.id] = found_notes(await store.search(user, case.query, limit=policy.limit))
        return texts

    found = await asyncio.gather(*(of_user(user, asked) for user, asked in by_user.items()))
    if lost:
        say(f"{policy.name}: {lost} times the store's model gave no usable answer; what it would have noted is missing")
    return {case_id: text for one in found for case_id, text in one.items()}


def _to_store(
    store: MemoryStore, asked: Sequence[Case], histories: Mapping[str, History]
) -> list[tuple[list[Note], list[Case]]]:
    """Return what a store is filled with for the cases of one user, and the cases it is then asked about.

    Hand-written cases bring memories of their own along, so a store is filled anew for every other set of memories.
    """
    if "memory" not in store.capabilities.takes:
        return [(notes_of_history(_history(asked[0].user_id, histories)), list(asked))]
    sets: dict[tuple[str, ...], list[Case]] = {}
    for case in asked:
        sets.setdefault(tuple(memory.id for memory in case.memories), []).append(case)
    return [(notes_of_memories(about[0].memories), about) for about in sets.values()]


def _history(user: str, histories: Mapping[str, History]) -> History:
    if user not in histories:
        raise SettingsError(f"there is no history of {user!r} beside these cases: this setting needs histories.jsonl")
    return hide_withheld(histories[user])
