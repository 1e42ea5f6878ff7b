"""The resources server that NeMo-Gym's agents call: `/seed_session` before a rollout, `/verify` after it, `/aggregate_metrics` at the end.

A dataset row carries its case in `verifier_metadata`: {"case_id": "case-..."} or {"case": {...}}. The reply is the last message of
the assistant in the rollout's response. The answer is the request with `reward` and the parts of the reward beside it, each named
`peregrm_...`, which NeMo-Gym averages into its metrics. `reward` must be a number there, so a reply that cannot be scored is answered
with 502 and the reason, but for an output without a reply where the server has a `no_reply_score`. Left out on purpose: NeMo-Gym's
own mark for it, a reward of 0.0 with `_ng_failure_class`, on which a trainer that does not know the mark would train.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from peregrm.records import Case, Reply
from peregrm.replies import reply_from_output
from peregrm.reward.base import Scored
from peregrm.reward.server.limits import Refused
from peregrm.reward.server.wire import CaseRef, Group, explain_invalid, find_case, total_of

__all__ = ["VerifyRequest", "answer", "group_of"]


class VerifyRequest(BaseModel):
    """The body of `POST /verify`; whatever else the row holds is kept and sent back."""

    model_config = ConfigDict(extra="allow")

    responses_create_params: dict[str, Any]
    """What the policy was asked."""

    response: dict[str, Any]
    """An object of OpenAI's Responses API."""

    verifier_metadata: dict[str, Any]
    """`case` or `case_id`; other keys are the user's own."""


class _Item(BaseModel):
    """One item of a response's output; `content` holds texts of a message, `summary` and `content` those of reasoning."""

    type: str = "message"
    role: str = "assistant"
    content: list[dict[str, Any]] | str | None = None
    summary: list[dict[str, Any]] | None = None


class _Response(BaseModel):
    output: list[_Item]
    status: str | None = None


def group_of(request: VerifyRequest, cases: Mapping[str, Case]) -> Group:
    """Return the case and the one reply of a request. Raises `Refused` (422, 404)."""
    named = {key: value for key, value in request.verifier_metadata.items() if key in CaseRef.model_fields}
    try:
        wanted = CaseRef.model_validate(named)
    except ValidationError as error:
        raise explain_invalid(error, "verifier_metadata") from None
    case = find_case(cases, wanted, "verifier_metadata.case_id")
    return case, [_reply(case, request.response)]


def _reply(case: Case, raw: Mapping[str, Any]) -> Reply:
    """Return the last message of the assistant; a response that was cut off before any is a reply that failed."""
    try:
        response = _Response.model_validate(raw)
    except ValidationError as error:
        raise explain_invalid(error, "response") from None
    messages = [item for item in response.output if item.type == "message" and item.role == "assistant"]
    thoughts = [item for item in response.output if item.type == "reasoning"]
    if not messages and response.status != "incomplete":
        raise Refused(422, "no_message", "the response holds no message of the assistant: there is no reply to score")
    return reply_from_output(
        case,
        _text(messages[-1]) if messages else "",
        thinking="\n".join(filter(None, map(_text, thoughts))),
        cut_off=response.status == "incomplete",
    )


def _text(item: _Item) -> str:
    """Return what an item says; a refusal is said to the user too."""
    if isinstance(item.content, str):
        return item.content
    parts = item.content or item.summary or []
    texts = [part.get("text") or part.get("refusal") for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def answer(request: VerifyRequest, scored: Scored, *, no_reply_score: float | None) -> dict[str, Any]:
    """Return the body of the answer. Raises `Refused` (502) where the reply could not be scored."""
    total = total_of(scored, no_reply_score)
    if total is None:
        why = scored.failure
        raise Refused(502, why.kind if why else "unscored", why.reason if why else "there is no reward")
    empathy = None if scored.flagged else scored.empathy
    parts = {
        "flagged": float(scored.flagged),
        "empathy": empathy,
        "bystander": scored.bystander,
        "coverage": scored.coverage,
        **scored.scores,
    }
    known = {f"peregrm_{name}": value for name, value in parts.items() if value is not None}
    return {**request.model_dump(), **known, "reward": total}
