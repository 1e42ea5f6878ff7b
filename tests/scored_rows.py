"""Replies of three policies to any cases, as rows of a file to score."""

from __future__ import annotations

import json

from peregrm.records import Case

__all__ = ["POLICIES", "rows_of"]

POLICIES = {
    "plain": "Say when and where, and go without him.",
    "warm": "I am so sorry. That sounds really hard. You are absolutely right to be cross.",
    "short": "No.",
}


def rows_of(cases: list[Case], policies: dict[str, str] = POLICIES) -> list[str]:
    return [json.dumps({"case_id": c.id, "policy": p, "response": text}) for c in cases for p, text in policies.items()]
