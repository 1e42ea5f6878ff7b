"""The policy's prompt and what becomes of its output: training and evaluation share this one place.

A setting is what a policy gets to see of the user beside the message. A thinking model's reasoning is taken off before anybody judges the
reply; reasoning that never ended means that there is no reply, which is a failure and not an empty text.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from peregrm.context import known_facts, language_name, memory_list, persona_text
from peregrm.errors import ModelError
from peregrm.models.base import Message, Model, Request
from peregrm.prompts import Untrusted, render
from peregrm.records import Case, Failure, Reply, Usage
from peregrm.text import THINK_CLOSE, THINK_OPEN

__all__ = [
    "RUN_SETTINGS",
    "SETTINGS",
    "Setting",
    "opened_thinking",
    "policy_messages",
    "policy_prompt",
    "reply_from_output",
    "split_thinking",
    "write_reply",
]

STAGE = "replies"

Setting = Literal["generic", "history", "memories", "personalized", "retrieved"]
SETTINGS: tuple[Setting, ...] = ("generic", "history", "memories", "personalized", "retrieved")
"""The message alone; all that was said before; the true memories; persona and memories; what a memory store found for the message."""

RUN_SETTINGS: tuple[Setting, ...] = ("generic", "personalized")
"""Those that every run tries; the names double as policy names in its report."""

_THINKING = re.compile(f"{THINK_OPEN.pattern}(.*?){THINK_CLOSE.pattern}", re.DOTALL | re.IGNORECASE)


class Split(NamedTuple):
    """A policy's output in two: `thinking` and `text`; `closed` is False where the thinking never ended."""

    thinking: str
    text: str
    closed: bool


def split_thinking(output: str) -> Split:
    """Take the reasoning off a policy's output.

    Some chat templates put the opening tag into the prompt, so a lone closing tag ends thinking that began before the output. Where such
    thinking never ended, the output alone does not show it: whoever knows the prompt puts `opened_thinking` of it in front of the output.
    """
    thoughts = [match.strip() for match in _THINKING.findall(output)]
    rest = _THINKING.sub("", output)
    while (close := THINK_CLOSE.search(rest)) and not THINK_OPEN.search(rest[: close.start()]):
        thoughts.insert(0, rest[: close.start()].strip())
        rest = rest[close.end() :]
    opened = THINK_OPEN.search(rest)
    if opened:
        return Split("\n".join([*thoughts, rest[opened.end() :].strip()]), "", closed=False)
    return Split("\n".join(thoughts), rest.strip(), closed=True)


def opened_thinking(prompt: str) -> str:
    """Return the opening tag that a prompt, as its chat template renders it, ends with; an empty text where it ends otherwise."""
    text = prompt.rstrip()
    return next((match.group() for match in THINK_OPEN.finditer(text) if match.end() == len(text)), "")


def policy_prompt(setting: Setting) -> str:
    """Return the name of the prompt of a setting."""
    return "reply_memories" if setting == "retrieved" else f"reply_{setting}"


def policy_messages(case: Case, setting: Setting, known: Untrusted | None = None) -> tuple[Message, ...]:
    """Return the prompt of a policy for one case.

    `known` is what the case does not hold: the conversation for `history`, what was found for `retrieved`. Raises `ValueError` where it is
    missing.
    """
    given: dict[str, Untrusted] = {}
    if setting == "memories":
        given = {"memories": memory_list(case.memories)}
    elif setting == "personalized":
        given = {"persona": persona_text(case.persona), "memories": known_facts(case.persona, case.memories)}
    elif setting != "generic":
        if known is None:
            raise ValueError(f"the setting {setting!r} needs what is known of the user")
        given = {"history" if setting == "history" else "memories": known}
    return render(policy_prompt(setting), query=Untrusted(case.query), language=language_name(case.language), **given)


async def write_reply(
    model: Model,
    case: Case,
    setting: Setting,
    *,
    policy: str,
    max_tokens: int,
    temperature: float,
    seed: int,
    known: Untrusted | None = None,
) -> Reply:
    """Let `model` answer one case; a call that fails gives a reply with its failure. `known` as in `policy_messages`."""
    request = Request(
        messages=policy_messages(case, setting, known),
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        purpose=STAGE,
    )
    try:
        completion = await model.complete(request)
    except ModelError as error:
        if error.fatal:
            raise
        return _failed(case, policy, error.kind, str(error))
    return reply_from_output(
        case,
        completion.text,
        policy=policy,
        thinking=completion.thinking,
        cut_off=completion.finish_reason == "length",
        usage=completion.usage,
    )


def reply_from_output(
    case: Case,
    output: str,
    *,
    policy: str = "policy",
    thinking: str = "",
    cut_off: bool = False,
    usage: Usage | None = None,
) -> Reply:
    """Return the reply in a policy's raw output, its thinking taken off; or a reply with the failure that there is none.

    `thinking` is what the endpoint returned apart as reasoning; `cut_off` says that the output ended at the length limit.
    """
    split = split_thinking(output)
    usage = usage or Usage()
    if not split.closed:
        reason = "the model was still thinking when its output ended"
        return _failed(case, policy, "unclosed_thinking", reason).model_copy(update={"usage": usage})
    if not split.text and cut_off:
        reason = "the output reached its length limit before any reply, perhaps by thinking: raise max_new_tokens"
        return _failed(case, policy, "no_content", reason).model_copy(update={"usage": usage})
    return Reply(
        case_id=case.id,
        policy=policy,
        text=split.text,
        thinking="\n".join(filter(None, [thinking, split.thinking])),
        usage=usage,
    )


def _failed(case: Case, policy: str, kind: str, reason: str) -> Reply:
    return Reply(case_id=case.id, policy=policy, text="", failure=Failure(stage=STAGE, kind=kind, reason=reason))
