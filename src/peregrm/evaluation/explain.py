"""Why a reply got its reward: everything it rests on, from the artifacts, with the sum worked out again.

Nothing is asked of any model. What was recomputed and does not come out as recorded is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peregrm.dimensions import combined_name
from peregrm.errors import InputError
from peregrm.models.ledger import Price
from peregrm.prompts import prompt_hash, prompt_names
from peregrm.records import Case, Criteria, Judgement, Part, Reply, Reward
from peregrm.reward.aggregate import bystander_share, weighted_score

__all__ = ["Explanation", "explain", "explanation_text"]


class Explanation(Part):
    """One reply with all that its reward rests on; `judges` are the rewards of single judges where several were pooled.

    `costs` are those of the calls by their key, None where no price is known; `shared` holds the calls that judged several replies at
    once, with their number: usage and cost are the whole call's.
    """

    case: Case
    reply: Reply
    reward: Reward
    judges: tuple[Reward, ...]
    criteria: Criteria | None
    judgements: tuple[Judgement, ...]
    costs: dict[str, float | None]
    shared: dict[str, int]


def explain(
    reply_id: str,
    *,
    cases: Mapping[str, Case],
    replies: Sequence[Reply],
    rewards: Sequence[Reward],
    judges: Sequence[Reward],
    criteria: Mapping[str, Criteria],
    judgements: Sequence[Judgement],
    prices: Mapping[str, Price],
) -> Explanation:
    """Gather what belongs to one reply, named by its id or the beginning of it.

    Raises `InputError` where no reply, or more than one, has an id that begins so, or it was not scored.
    """
    found = [reply for reply in replies if reply.id.startswith(reply_id) or reply.id.startswith(f"rep-{reply_id}")]
    if len(found) != 1:
        raise InputError(f"{reply_id!r}: {len(found) or 'no'} replies have an id that begins so")
    reply = found[0]
    mine = [reward for reward in rewards if reward.reply_id == reply.id]
    if not mine or reply.case_id not in cases:
        raise InputError(f"{reply.id}: it was not scored, or its case is not there")
    own = tuple(judgement for judgement in judgements if judgement.reply_id == reply.id)
    wanted = {judgement.criteria_id for judgement in own}
    known = criteria.get(reply.case_id)
    return Explanation(
        case=cases[reply.case_id],
        reply=reply,
        reward=mine[0],
        judges=tuple(reward for reward in judges if reward.reply_id == reply.id),
        criteria=known if known is not None and (not own or known.id in wanted) else None,
        judgements=own,
        costs={j.call: _cost(j, prices) for j in own if j.call},
        shared=_shared(own, judgements),
    )


def _shared(own: Sequence[Judgement], everybody: Sequence[Judgement]) -> dict[str, int]:
    """Return the calls that gave judgements of several replies, with the number of these."""
    replies: dict[str, set[str]] = {judgement.call: set() for judgement in own if judgement.call}
    for judgement in everybody:
        if judgement.call in replies:
            replies[judgement.call].add(judgement.reply_id)
    return {call: len(ids) for call, ids in replies.items() if len(ids) > 1}


def _cost(judgement: Judgement, prices: Mapping[str, Price]) -> float | None:
    if judgement.judge not in prices or judgement.usage.unmetered:
        return None
    return prices[judgement.judge].of(judgement.usage)


def explanation_text(found: Explanation) -> str:
    """Return the explanation as plain text; of a text of several lines all but the first are indented."""
    case, reply, reward = found.case, found.reply, found.reward
    lines = [
        f"{reply.id}: a reply of {reply.policy!r} to {case.id} ({case.user_id}, {case.category})",
        "",
        f"situation  {case.situation}",
        f"query      {case.query}",
        f"reply      {reply.failure.reason if reply.failure else reply.text or '(empty)'}",
        "",
        *_reward_lines(reward),
        *_difference_lines(reward, found),
    ]
    for judge in found.judges:
        lines += ["", f"Judge {judge.judge} alone:", *_reward_lines(judge), *_difference_lines(judge, found)]
    if found.criteria is not None:
        lines += ["", f"Criteria {found.criteria.id} ({found.criteria.method})"]
        for name, items in found.criteria.items:
            lines += [f"  {name}", *(f"    s{n} {item.weight:3} %  {item.text}" for n, item in enumerate(items, 1))]
    for judgement in found.judgements:
        lines += ["", *_judgement_lines(judgement, found)]
    return "\n".join(line.replace("\n", "\n           ") for line in lines)


def _difference_lines(reward: Reward, found: Explanation) -> list[str]:
    """Say which scores of one judge's reward its judgements do not give."""
    own = [j for j in found.judgements if j.judge == reward.judge]
    shares = [bystander_share([*j.bystander.model_dump().values()]) for j in own if j.bystander is not None]
    given = {name: _fifths(name, own, _weights(found.criteria)) for name, _ in reward.scores}
    recorded = {**dict(reward.scores), "bystander": reward.bystander}
    lines = []
    for name, values in {**given, "bystander": shares}.items():
        kept = recorded[name]
        if values and kept is not None and abs(sum(values) / len(values) - kept) > 1e-6:
            lines.append(
                f"           {name}: {kept:.3f} is recorded, the judgements give {sum(values) / len(values):.3f}"
            )
    return lines


def _fifths(name: str, judgements: Sequence[Judgement], weights: Mapping[str, Sequence[int]]) -> list[float]:
    """Return the score of one dimension in every trial that has one, 0.2 to 1; none where the weights are not known."""
    values = []
    for judgement in judgements:
        scores = dict(judgement.item_scores or ()).get(name)
        known = weights.get(name) if judgement.aspect == "dimensions" else [100]
        if scores is not None and known is not None:
            values.append(weighted_score(scores, known) / 5)
    return values


def _weights(criteria: Criteria | None) -> dict[str, list[int]]:
    return {} if criteria is None else {name: [item.weight for item in items] for name, items in criteria.items}


def _reward_lines(reward: Reward) -> list[str]:
    parts = [f"{name} {_number(value)}" for name, value in reward.scores]
    if reward.empathy is not None or reward.bystander is not None:
        parts += [
            f"{combined_name(name for name, _ in reward.scores)} {_number(reward.empathy)}",
            f"bystander {_number(reward.bystander)}",
        ]
    lines = [
        f"reward     total {_number(reward.total)} by {reward.method}, judge {reward.judge}, coverage {reward.coverage:.2f}",
        f"           {', '.join(parts)}, penalty {_number(reward.penalty)}",
    ]
    if reward.measured:
        lines.append("measured   " + ", ".join(f"{name} {value:g}" for name, value in reward.measured))
    if reward.failure is not None:
        lines.append(f"unscored   {reward.failure.kind}: {reward.failure.reason}")
    return lines


def _judgement_lines(judgement: Judgement, found: Explanation) -> list[str]:
    head = f"{judgement.aspect}, trial {judgement.trial}, judge {judgement.judge}"
    lines = [f"{head}: {judgement.failure.kind}: {judgement.failure.reason}" if judgement.failure else head]
    weights = _weights(found.criteria)
    for name, scores in judgement.item_scores or ():
        known = weights.get(name) if judgement.aspect == "dimensions" else [100]
        mean = "" if known is None else f" -> {weighted_score(scores, known):.3f} of 5"
        lines.append(f"  {name}: " + ", ".join(f"s{n} {score:g}" for n, score in enumerate(scores, 1)) + mean)
    if judgement.item_scores:
        lines.append(
            "  the scores are "
            + ("expectations over digit probabilities" if judgement.expected else "the digits it gave")
        )
    if judgement.bystander is not None:
        points = judgement.bystander.model_dump()
        lines.append("  " + ", ".join(f"{key} {value:g}" for key, value in points.items()))
        lines.append(f"  sum / 100 = {bystander_share([*points.values()]):.3f}")
    lines += [f"  {name}: {value:g}" for name, value in judgement.values or ()]
    lines += [f"  {name}: {words}" for name, words in judgement.analysis]
    return [*lines, *_call_lines(judgement, found)]


def _call_lines(judgement: Judgement, found: Explanation) -> list[str]:
    if not judgement.prompt:
        return ["  no call was made"]
    used = judgement.usage
    cost = found.costs.get(judgement.call)
    among = found.shared.get(judgement.call)
    whole = "" if among is None else f", of the whole call, which judged {among} replies"
    tokens = f"{used.input_tokens} input ({used.cached_tokens} from a prefix cache), {used.output_tokens} output tokens"
    if used.calls == 0:
        tokens = "its tokens are counted with the first sample of the call"
    elif used.unmetered:
        tokens = "the endpoint reported no tokens"
    name, _, digest = judgement.prompt.partition("@")
    changed = "" if name in prompt_names() and prompt_hash(name) == digest else " (its wording has changed since)"
    return [
        f"  prompt {judgement.prompt}{changed}; call {judgement.call[:16] or 'unknown'}",
        f"  {tokens}; cost {'unknown' if cost is None else f'{cost:.6f}'}{whole}",
        f"  raw: {judgement.raw}",
    ]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
