"""How many statements of one user are compared and kept. What is over a limit is dropped with a reason, and counted like all drops.

All of a user's memories stand in every case and in every prompt about them, so that their number is what a case costs: 100 of a sentence
of 12 words, as on real data, are about 1,900 tokens, where the smallest context of a model here holds 4,096. Left out on purpose: limits
for each kind of memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from peregrm.dataset.extractive.merging import Draft
from peregrm.dataset.extractive.rules import Finding
from peregrm.records import Drop, History

__all__ = ["MAX_COMPARED", "MAX_KEPT", "limit_drafts", "limit_findings"]

MAX_COMPARED = 2000
"""At most this many statements of a user are compared with each other: the surest, and of those as sure the latest."""
MAX_KEPT = 100
"""At most this many kept memories a user: the surest, of those about as sure the ones said in more sessions, and of these the latest."""

_STAGE = "memories"
_KIND = "over the limit"


def limit_findings(findings: Sequence[Finding], history: History) -> tuple[list[Finding], list[Drop]]:
    """Return at most `MAX_COMPARED` findings in their order, and the drops of the others.

    A drop names the place and not the words, which have not been compared with what the user asked not to keep. `findings` are those
    that may be kept. A weak one that only the embedder can judge counts as such, since it is judged after this limit; it goes first.
    """
    ranked = sorted(findings, key=lambda finding: (-finding.strength, -finding.sentence.order))
    stay = sorted(ranked[:MAX_COMPARED], key=lambda finding: finding.sentence.order)
    gone = sorted(ranked[MAX_COMPARED:], key=lambda finding: finding.sentence.order)
    places = [f"session {finding.sentence.session_id}, turn {finding.sentence.turn}" for finding in gone]
    reason = f"of one user's statements {MAX_COMPARED} are compared: the surest, and of those as sure the latest"
    return stay, [_drop(history, text, n, reason) for n, text in enumerate(places)]


def limit_drafts(drafts: Sequence[Draft], history: History) -> tuple[list[Draft], list[Drop]]:
    """Return at most `MAX_KEPT` drafts that still hold and the ones these replaced, in their order, and the drops of the others."""
    current = sorted((draft for draft in drafts if draft.superseded_by is None), key=_rank)[:MAX_KEPT]
    chosen = {id(draft) for draft in current}
    for draft in sorted(drafts, key=lambda each: each.last, reverse=True):
        if draft.superseded_by is not None and id(draft.superseded_by) in chosen:
            chosen.add(id(draft))
    gone = [draft for draft in drafts if id(draft) not in chosen]
    drops = [_drop(history, draft.value, n, _why_not_kept(draft)) for n, draft in enumerate(gone)]
    return [draft for draft in drafts if id(draft) in chosen], drops


def _rank(draft: Draft) -> tuple[float, int, tuple[int, ...]]:
    sessions = {place[0] for place in draft.said}
    return -round(draft.confidence, 1), -len(sessions), tuple(-number for number in draft.last)


def _why_not_kept(draft: Draft) -> str:
    if draft.superseded_by is not None:
        return f"what replaced it in the end is not among the {MAX_KEPT} statements that are kept of one user"
    return (
        f"of one user's statements {MAX_KEPT} are kept: the surest, of those about as sure the ones said in more sessions, "
        "and of these the latest"
    )


def _drop(history: History, text: str, item: int, reason: str) -> Drop:
    return Drop(stage=_STAGE, subject=history.id, kind=_KIND, reason=f"{_KIND}: {reason}", text=text, item=item)
