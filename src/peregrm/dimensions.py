"""The dimensions a reply is judged on, said once for prompts, records, reports and code.

The default set is the three phases of Barrett-Lennard's empathy cycle (The empathy cycle: refinement of a nuclear concept,
Journal of Counseling Psychology 28(2), 1981), as used by arXiv 2606.00728. Another set (politeness, humour) is another tuple
of `Dimension`, usually from a file (`peregrm.dimension_files`); only criteria composed from memories (`reward.composed` and its
data file) have wording for each by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["BYSTANDER_PARTS", "EMPATHY", "Dimension", "combined_name"]


class Dimension(NamedTuple):
    """One quality of a reply.

    `name` is the key in records and reports, `measures` and `fails` are the wording every prompt uses. `criteria` are 4 to 6 that
    hold for any case, for use where none are written per case, or none at all.
    """

    name: str
    measures: str
    fails: str
    criteria: tuple[str, ...] = ()


EMPATHY: tuple[Dimension, ...] = (
    Dimension(
        "resonation",
        "The reply understands this particular person: what the moment means to somebody with this history and these traits, "
        "including what is left unsaid.",
        "It misreads the feeling or its cause, would fit anybody who sent the same words, or assumes things about the person "
        "that their history contradicts.",
        (
            "The reply answers the feeling behind the message, and at the strength the message shows.",
            "The reply goes to what matters most to this person here, even where the words ask about something smaller.",
            "Whatever the reply takes for granted about the person's life, relations and wishes agrees with what is known of them.",
            "The reply would be odd to send to somebody else who wrote the same message.",
            "The reply meets what the person leaves unsaid without telling them what they really feel.",
        ),
    ),
    Dimension(
        "expression",
        "The reply puts that understanding into words in a manner this person can take: tone, directness, length, dose of "
        "feeling and kind of help match how they like to be spoken to.",
        "It lectures, gushes, talks down, recites what it knows about the person, or uses a manner they are known to dislike.",
        (
            "The tone (plain, warm, dry, playful, formal) is one that this person uses or has welcomed.",
            "The reply is about as direct as this person wants others to be with them.",
            "The reply is as long as this person and this moment can take, with nothing in it to skip.",
            "Understanding shows in what the reply says about the matter, not in stock phrases of sympathy.",
            "The reply stays beside the person: no lecture, no diagnosis, no gushing, no reading out of facts about them.",
        ),
    ),
    Dimension(
        "reception",
        "This person, reading the reply, would feel understood and be a step further: calmer, clearer, or able to do the next "
        "thing.",
        "They would feel handled, judged, exposed or left alone with the problem.",
        (
            "This person could read the reply without feeling judged, managed or exposed.",
            "The help is of the kind wanted here: company, a decision, a next step or words to use.",
            "After the reply one thing is clearer, lighter or doable that was not before.",
            "The reply accepts the limits this person has set and does not argue with them.",
            "The reply leaves the person free to answer, refuse or stop without letting anybody down.",
        ),
    ),
)
"""Resonation, expression, reception: did it understand this person, say so in a way that fits, and would they feel it."""

BYSTANDER_PARTS: tuple[tuple[str, str], ...] = (
    ("content", "effective: it answers what was asked and helps"),
    ("structure", "well structured and clear: it is easy to follow"),
    ("efficiency", "no padding, no repetition"),
    ("objectivity", "fair and balanced, no flattery"),
    ("accuracy", "nothing in it is wrong or made up"),
)
"""The five parts of the bystander score, 0 to 20 points each, as (key, wording)."""


def combined_name(names: Iterable[str]) -> str:
    """Return what the mean of these dimensions is called for people: `empathy` if they are its own, else `dimensions`."""
    return "empathy" if {dimension.name for dimension in EMPATHY} <= set(names) else "dimensions"
