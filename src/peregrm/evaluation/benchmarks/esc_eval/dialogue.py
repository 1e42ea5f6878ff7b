"""Play one dialogue: a greeting, then rounds in which the seeker speaks and the model answers.

The seeker's model reads the card and plays its person; to it the model under test is the one it talks to, so both see the same words with
the roles exchanged. A turn that cannot be had ends the dialogue, which then has no score: half a dialogue is not what the model does. The
greeting is `esc_eval_greeting`, spoken for the assistant. Left out on purpose: seekers who leave early.
"""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.context import language_name
from peregrm.evaluation.benchmarks.esc_eval.cards import Card
from peregrm.evaluation.benchmarks.speech import Manner, Said, conversation, speak
from peregrm.models.base import Model
from peregrm.prompts import Untrusted, render
from peregrm.records import Failure, Part, Turn
from peregrm.text import containment

__all__ = ["GREETING", "REPLY", "ROUNDS", "SEEKER", "Dialogue", "play", "repeated_share"]

GREETING, SEEKER, REPLY = "esc_eval_greeting", "esc_eval_seeker", "esc_eval_reply"

ROUNDS = 5
"""Rounds of the published protocol."""

REPEATED = 0.9
"""Share of a turn's content words, in one turn before it, from which on it says nothing new."""

_SEEKER_TOKENS = 160


class Dialogue(Part):
    """What was said: the seeker is the user. `asked` counts turns asked of both models, `failure` is that of the last of them."""

    card_id: str
    turns: tuple[Turn, ...]
    asked: int
    failure: Failure | None = None


async def play(card: Card, model: Model, seeker: Model, manner: Manner, rounds: int = ROUNDS) -> Dialogue:
    """Return the dialogue of `model` with the person of a card, played by `seeker`.

    Raises:
        ModelError: Only a fatal one.
    """
    turns: list[Turn] = []
    for number in range(2 * rounds):
        if number % 2 == 0:
            role, said = "user", await _seeker_says(card, turns, seeker, manner)
        else:
            messages = conversation(REPLY, turns, language=language_name(card.language))
            role, said = "assistant", await speak(model, messages, manner, REPLY)
        if said.failure is not None:
            return Dialogue(card_id=card.card_id, turns=tuple(turns), asked=number + 1, failure=said.failure)
        turns.append(Turn.model_validate({"role": role, "text": said.text}))
    return Dialogue(card_id=card.card_id, turns=tuple(turns), asked=2 * rounds)


async def _seeker_says(card: Card, turns: Sequence[Turn], seeker: Model, manner: Manner) -> Said:
    """Ask for the seeker's next turn: to its model the roles are exchanged, and the greeting comes first."""
    heard = [Turn(role="user", text=greeting_of(card.language)), *map(_exchanged, turns)]
    language = language_name(card.language)
    messages = conversation(SEEKER, heard, card=Untrusted(card.text), language=language)
    return await speak(seeker, messages, manner._replace(max_tokens=_SEEKER_TOKENS), SEEKER)


def greeting_of(language: str) -> str:
    """Return the words that open every dialogue."""
    return render(GREETING, language=language)[-1].content


def repeated_share(dialogue: Dialogue) -> float | None:
    """Return the share of the seeker's turns, but for the first, that say again what one turn before said; None where there is none.

    A turn does so where at least `REPEATED` of its content words stand in the other. A seeker that only repeats plays nobody, and what is
    judged then says little about the model.
    """
    texts = [turn.text for turn in dialogue.turns]
    repeated = [
        any(containment(text, before) >= REPEATED for before in texts[:place])
        for place, text in enumerate(texts)
        if place and dialogue.turns[place].role == "user"
    ]
    return sum(repeated) / len(repeated) if repeated else None


def _exchanged(turn: Turn) -> Turn:
    return Turn(role="assistant" if turn.role == "user" else "user", text=turn.text)
