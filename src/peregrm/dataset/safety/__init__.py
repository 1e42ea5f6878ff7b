"""Flags on texts about self-harm, abuse, minors and medical emergencies, by rules and by a model; flagged cases stay out of training.

The rules are plain files under `data/`, English and Chinese. They read what the user says of themselves, and leave figures of speech,
quotations, stories and questions about somebody else alone. Left out on purpose: judging how urgent a flagged text is, and any answer to
it: the flags decide what a dataset may be used for and are no help to a person in danger.
"""

from peregrm.dataset.safety.checks import SafetyCheck, compare, describe_checks
from peregrm.dataset.safety.flags import Flag, carried_flags
from peregrm.dataset.safety.model import Judged, flag_case_with_model
from peregrm.dataset.safety.rules import flag_case, flag_history, flag_text, look_at

__all__ = [
    "Flag",
    "Judged",
    "SafetyCheck",
    "carried_flags",
    "compare",
    "describe_checks",
    "flag_case",
    "flag_case_with_model",
    "flag_history",
    "flag_text",
    "look_at",
]
