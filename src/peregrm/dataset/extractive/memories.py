"""Extract memories from a history without a generative model: the user's own sentences, chosen by rules, with exact evidence.

A memory's value is what the user wrote, so nothing can be invented; the price is that facts which must be inferred are missed. The
result is a pure function of the history and the embedder. How much is kept of one user is said in `limits`. Left out on purpose: languages
other than English and Chinese, and any rewriting into the third person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from peregrm.dataset.extractive.labels import NONE, Embedder, Likeness, choose_label, likeness
from peregrm.dataset.extractive.limits import limit_drafts, limit_findings
from peregrm.dataset.extractive.merging import Draft, alike, merge, supersede
from peregrm.dataset.extractive.rules import DO_NOT_REMEMBER, REASONS, WEAK, Finding, find
from peregrm.dataset.extractive.sentences import read_sentences
from peregrm.dataset.outcome import Outcome
from peregrm.records import Evidence, History, Memory
from peregrm.taxonomy import UNMAPPED

__all__ = ["METHOD", "extract_memories"]

METHOD = "extractive"

_WEAK_BEST = 0.5
_WEAK_LEAD = 0.1
_TASK_LEAD = -0.08
_SURE = 0.85
_OWN_CONTENT = {"en": 24, "zh": 8}
_OPENING = re.compile(
    r"^(?:(?:and|but|so|ok|okay|well|also|oh|ah|anyway|btw|by the way|yeah|yes|no|ha|haha|hm+|lol|right|good|great|thanks|plus|look)"
    r"\b[,.:;!—–\s-]+)+|^(?:还有|对了|那|嗯|哦|哈哈+|其实吧|话说|行|好|然后)[，,。\s]+",
    re.IGNORECASE,
)


def extract_memories(history: History, embedder: Embedder | None = None) -> Outcome[Memory]:
    """Return the memories of a user in the order in which they were said, rejected and superseded ones among them.

    Args:
        history: everything the user and the assistant said; only user turns are read.
        embedder: sentence embeddings for English, which choose between labels, find duplicates that share fewer words and let weakly
            marked sentences in; None leaves all of that to rules and word lists.

    Returns:
        The kept memories, the superseded ones, the near-misses with their reasons, and a drop for each that is over a limit (see
        `limits`). Every quote is a substring of the turn its evidence names.
    """
    findings = [finding for sentence in read_sentences(history) if (finding := find(sentence)) is not None]
    stated, refused = _withhold([f for f in findings if _is_open(f)], [f for f in findings if not _is_open(f)])
    stated, unread = limit_findings([f for f in stated if _may_be_kept(f, embedder)], history)
    drafts, doubted = _label(stated, embedder)
    drafts = _without_withheld(drafts, refused)
    supersede(drafts, history)
    drafts, over = limit_drafts(merge(drafts), history)
    records = _records(drafts, history.user_id)
    near = [f for f in refused if f.reason != "withheld"] + doubted
    records += [(finding.sentence.order, _rejected(finding, history.user_id)) for finding in near]
    unique = {memory.id: memory for _, memory in sorted(records, key=lambda pair: pair[0])}
    return Outcome(list(unique.values()), [*unread, *over])


def _is_open(finding: Finding) -> bool:
    return finding.reason is None


def _may_be_kept(finding: Finding, embedder: Embedder | None) -> bool:
    """Tell whether a finding is strong, or weak in a language that the embedder judges; nothing else lets a weak one in."""
    return finding.strength >= WEAK or (embedder is not None and finding.sentence.language == "en")


def _withhold(stated: list[Finding], refused: list[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Take out the facts that a "don't keep this" refers to, so that they are neither kept nor written into a rejected record."""
    covered: set[int] = set()
    for request in refused:
        if request.reason == "do_not_remember":
            covered |= _covered_by(request, stated + [f for f in refused if f.reason != "do_not_remember"])
    held = [_held(f) for f in stated if f.sentence.order in covered]
    still = [f for f in stated if f.sentence.order not in covered]
    return still, [f for f in refused if f.sentence.order not in covered] + held


def _held(finding: Finding) -> Finding:
    return Finding(
        finding.sentence,
        finding.labels,
        finding.default,
        finding.strength,
        finding.scope,
        finding.span,
        reason="withheld",
    )


def _covered_by(request: Finding, others: Sequence[Finding]) -> set[int]:
    """Return the orders of the sentences a request refers to: its neighbours in the turn, else the end of the turn before."""
    at = request.sentence
    same_turn = [f.sentence.order for f in others if f.sentence.session == at.session and f.sentence.turn == at.turn]
    near = {order for order in same_turn if -2 <= order - at.order <= 1}
    if near or _says_more(request):
        return near
    earlier = [f.sentence for f in others if f.sentence.session == at.session and f.sentence.turn < at.turn]
    if not earlier:
        return set()
    last_turn = max(sentence.turn for sentence in earlier)
    if last_turn < at.turn - 2:
        return set()
    return {sentence.order for sentence in earlier if sentence.turn == last_turn}


def _says_more(request: Finding) -> bool:
    """Tell whether the sentence of a request holds the fact itself ("between us, I am leaving")."""
    rest = len(request.sentence.text) - (request.span.end - request.span.start)
    return rest >= _OWN_CONTENT.get(request.sentence.language, 24)


def _label(findings: Sequence[Finding], embedder: Embedder | None) -> tuple[list[Draft], list[Finding]]:
    """Give findings their labels; return drafts, and those that turned out to be about the task."""
    english = [f for f in findings if f.sentence.language == "en"] if embedder is not None else []
    likes: dict[int, Likeness] = {}
    if embedder is not None:
        found = likeness([_value(f) for f in english], embedder)
        likes = {f.sentence.order: like for f, like in zip(english, found, strict=True)}
    drafts, doubted = [], []
    for finding in findings:
        like = likes.get(finding.sentence.order)
        label = choose_label(_value(finding), finding.sentence.language, finding.labels, finding.default, like)
        if label is None or (finding.strength < WEAK and not _supported(label, like)):
            continue
        if like is not None and finding.strength < _SURE and like.lead < _TASK_LEAD and like.scores[NONE] > _WEAK_BEST:
            if finding.strength >= WEAK:
                doubted.append(
                    Finding(
                        finding.sentence,
                        label,
                        label,
                        finding.strength,
                        finding.scope,
                        finding.span,
                        reason="task_local",
                    )
                )
            continue
        drafts.append(_draft(finding, label, like))
    return drafts, doubted


def _supported(label: str, like: Likeness | None) -> bool:
    """Tell whether a weakly marked sentence looks like a known kind of fact."""
    if like is not None:
        return like.best >= _WEAK_BEST and like.lead >= _WEAK_LEAD and like.scores.get(label, -1.0) >= _WEAK_BEST - 0.05
    return False


def _draft(finding: Finding, label: str, like: Likeness | None) -> Draft:
    sentence = finding.sentence
    shift = 0.0 if like is None else max(-0.1, min(0.05, like.lead / 2))
    plain = sentence.plain[finding.span.start : finding.span.end]
    place = (sentence.session, sentence.turn, sentence.order)
    return Draft(
        language=sentence.language,
        label=label,
        value=_value(finding),
        plain=plain,
        confidence=round(max(0.0, min(1.0, finding.strength + shift)), 3),
        scope=finding.scope,
        said={place: Evidence(session_id=sentence.session_id, turn=sentence.turn, quote=finding.quote)},
        vector=None if like is None else like.vector,
    )


def _value(finding: Finding) -> str:
    """Return the user's words on one line, without the opening "and", "ok" or "对了"."""
    text = " ".join(finding.quote.split())
    opened = _OPENING.sub("", text)
    return opened if len(opened) >= 4 else text


def _without_withheld(drafts: list[Draft], refused: Sequence[Finding]) -> list[Draft]:
    """Drop what restates something the user asked not to keep."""
    held = [_draft(finding, finding.default, None) for finding in refused if finding.reason == "withheld"]
    return [draft for draft in drafts if not any(alike(draft, secret, overlap=0.5) for secret in held)]


def _records(drafts: Sequence[Draft], user_id: str) -> list[tuple[int, Memory]]:
    """Turn drafts into records, newest first, because a superseded record names the id of its successor."""
    made: dict[int, Memory] = {}
    rows = []
    for draft in sorted(drafts, key=lambda d: d.last, reverse=True):
        successor = None if draft.superseded_by is None else made[id(draft.superseded_by)]
        memory = Memory(
            user_id=user_id,
            label=draft.label,
            type="direct",
            value=draft.value,
            evidence=draft.evidence,
            confidence=draft.confidence,
            time_scope=draft.scope,
            status="kept" if successor is None else "superseded",
            reason=draft.reason,
            superseded_by=None if successor is None else successor.id,
            method=METHOD,
        )
        made[id(draft)] = memory
        rows.append((draft.first[2], memory))
    return rows


def _rejected(finding: Finding, user_id: str) -> Memory:
    sentence = finding.sentence
    label = DO_NOT_REMEMBER if finding.reason == "do_not_remember" else finding.default
    return Memory(
        user_id=user_id,
        label=UNMAPPED if label.endswith("*") else label,
        type="direct",
        value=_value(finding),
        evidence=(Evidence(session_id=sentence.session_id, turn=sentence.turn, quote=finding.quote),),
        confidence=finding.strength if finding.strength <= 1 else 1.0,
        time_scope=finding.scope,
        status="rejected",
        reason=REASONS[finding.reason or "task_local"],
        method=METHOD,
    )
