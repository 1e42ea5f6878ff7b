"""From a dataset and the replies of two policies to a study: which cases, what participants see, and the plan that fixes it.

Usable is a case that was looked at for danger and is clean, and to which both policies have a reply, not empty and not the same. Users
take turns in giving cases, so that no one of them fills the study. Left out on purpose: any choice by how a judge scored the replies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from random import Random
from typing import NamedTuple

from peregrm.context import persona_text
from peregrm.errors import InputError, SettingsError
from peregrm.records import Case, Reply
from peregrm.study.design import counterbalanced
from peregrm.study.material import BlindCase, Key, KeyEntry, Material, Place, write_material
from peregrm.study.plan import (
    KEY_FILE,
    MATERIAL_FILE,
    OUTCOMES,
    PLAN_FILE,
    Assumed,
    Exclusions,
    Plan,
    file_hash,
    write_plan,
)
from peregrm.study.power import Crossed, needed, power_choice, power_ratings

__all__ = ["Asked", "Made", "choose_policies", "make_study"]

_LEAST_SHARE = 0.5
"""Share of their cases that a participant must have answered to stay in the analysis."""


class Asked(NamedTuple):
    """What a study is asked for. `participants` None plans as many as the power takes; `effect` to `case_icc` are as in `Assumed`."""

    title: str = "Which reply is better?"
    contact: str = ""
    about: str = ""
    policies: tuple[str, str] | None = None
    cases: int = 24
    per_participant: int = 8
    participants: int | None = None
    effect: float = 0.3
    choice_share: float = 0.6
    icc: float = 0.1
    case_icc: float = 0.05
    power: float = 0.8
    alpha: float = 0.05
    seed: int = 0


class Made(NamedTuple):
    """A study that was written: its plan and the plan's hash."""

    plan: Plan
    sha256: str


class _Pair(NamedTuple):
    case: Case
    a: Reply
    b: Reply


def choose_policies(replies: Sequence[Reply], wanted: tuple[str, str] | None) -> tuple[str, str]:
    """Return the two policies to compare: those that were named, or the only two there are. Raises `InputError`."""
    known = sorted({reply.policy for reply in replies})
    if wanted is None:
        if len(known) != 2:
            raise InputError(f"--policies: name two; there are replies by {', '.join(known) or 'nobody'}")
        return known[0], known[1]
    unknown = [name for name in wanted if name not in known]
    if unknown or wanted[0] == wanted[1]:
        raise InputError(f"--policies {' '.join(wanted)}: name two different ones of {', '.join(known) or 'none'}")
    return wanted


def make_study(folder: Path, cases: Mapping[str, Case], replies: Sequence[Reply], asked: Asked) -> Made:
    """Draw a study, write material, key and plan into `folder`, and return the plan.

    Raises `InputError` where there is already a study or nothing to draw from, `SettingsError` where the numbers make no sense.
    """
    if (folder / PLAN_FILE).exists():
        raise InputError(
            f"{folder / PLAN_FILE}: there is a study already, and a plan is not changed; choose another folder"
        )
    policies = choose_policies(replies, asked.policies)
    usable, left_out = _usable(cases, replies, policies)
    if not usable:
        why = ", ".join(f"{reason} {n}" for reason, n in sorted(left_out.items()))
        raise InputError(f"no case has two usable replies by {' and '.join(policies)} ({why or 'there are no cases'})")
    chosen = _by_turns(usable, asked.cases, Random(f"cases {asked.seed}"))  # noqa: S311 - to be drawn again
    per = min(asked.per_participant, len(chosen))
    participants, assumed = _planned(asked, Crossed(per, len(chosen), asked.icc, asked.case_icc))
    material, key = _blinded(chosen, policies, asked, participants, per)
    write_material(folder, material, key)
    plan = Plan(
        title=asked.title,
        contact=asked.contact,
        created=datetime.now(UTC).date().isoformat(),
        policies=policies,
        hypotheses=_hypotheses(policies),
        analysis=_analysis(asked.alpha),
        stopping=f"Nobody new is let in once {participants} participants have answered all cases; nobody looks at the key before.",
        exclusions=Exclusions(min_answers=max(1, round(_LEAST_SHARE * per))),
        alpha=asked.alpha,
        participants=participants,
        per_participant=per,
        cases=len(chosen),
        assumed=assumed,
        left_out=dict(sorted(left_out.items())),
        seed=asked.seed,
        material_sha256=file_hash(folder / MATERIAL_FILE),
        key_sha256=file_hash(folder / KEY_FILE),
    )
    return Made(plan, write_plan(folder, plan))


def _usable(
    cases: Mapping[str, Case], replies: Sequence[Reply], policies: tuple[str, str]
) -> tuple[list[_Pair], Counter[str]]:
    by_case: dict[str, dict[str, Reply]] = {}
    for reply in replies:
        by_case.setdefault(reply.case_id, {})[reply.policy] = reply
    usable: list[_Pair] = []
    left_out: Counter[str] = Counter()
    for case in cases.values():
        a, b = (by_case.get(case.id, {}).get(policy) for policy in policies)
        why = _why_not(case, a, b)
        if why:
            left_out[why] += 1
        elif a is not None and b is not None:
            usable.append(_Pair(case, a, b))
    return usable, left_out


def _why_not(case: Case, a: Reply | None, b: Reply | None) -> str:
    if case.flags is None or case.flags:
        return "flagged for danger" if case.flags else "not looked at for danger"
    if a is None or b is None:
        return "a reply is missing"
    if a.failure is not None or b.failure is not None:
        return "a reply failed"
    if not a.text.strip() or not b.text.strip():
        return "a reply is empty"
    if a.text.split() == b.text.split():
        return "the replies are the same"
    return ""


def _by_turns(usable: Sequence[_Pair], wanted: int, random: Random) -> list[_Pair]:
    """Draw cases so that no user gives two before every other user has given one, where there are that many."""
    by_user: dict[str, list[_Pair]] = {}
    for pair in random.sample(sorted(usable, key=lambda pair: pair.case.id), len(usable)):
        by_user.setdefault(pair.case.user_id, []).append(pair)
    rounds = sorted((place, pair.case.id, pair) for pairs in by_user.values() for place, pair in enumerate(pairs))
    order = random.sample(rounds, len(rounds))
    order.sort(key=lambda one: one[0])
    return [pair for _, _, pair in order[:wanted]]


def _planned(asked: Asked, design: Crossed) -> tuple[int, Assumed]:
    tests = len(OUTCOMES)

    def ratings(n: int) -> float:
        return power_ratings(asked.effect, n, design, alpha=asked.alpha, tests=tests)

    def choice(n: int) -> float:
        return power_choice(asked.choice_share, n, design, alpha=asked.alpha)

    participants = asked.participants
    if participants is None:
        found = [needed(power, asked.power) for power in (ratings, choice)]
        numbers = [n for n in found if n is not None]
        if len(numbers) < len(found):
            raise SettingsError(
                "no number of participants gives that power: with these assumptions the cases themselves are too few or the effect is "
                "too small. Use more --cases, expect a larger effect, or set --participants"
            )
        participants = max(numbers)
    assumed = Assumed(
        effect=asked.effect,
        choice_share=asked.choice_share,
        icc=asked.icc,
        case_icc=asked.case_icc,
        power_ratings=round(ratings(participants), 4),
        power_choice=round(choice(participants), 4),
    )
    return participants, assumed


def _blinded(
    chosen: Sequence[_Pair], policies: tuple[str, str], asked: Asked, participants: int, per: int
) -> tuple[Material, Key]:
    """Give cases and replies ids that say nothing, and lay out who sees what."""
    random = Random(f"blind {asked.seed}")  # noqa: S311 - to be drawn again
    ids = [f"{random.getrandbits(64):016x}" for _ in range(3 * len(chosen))]
    cases: list[BlindCase] = []
    entries: dict[str, KeyEntry] = {}
    names: list[tuple[str, str, str]] = []
    for number, pair in enumerate(chosen):
        case_id, id_a, id_b = (f"{kind}-{ids[3 * number + i]}" for i, kind in enumerate(("c", "r", "r")))
        names.append((case_id, id_a, id_b))
        sides = ((id_a, pair.a, policies[0]), (id_b, pair.b, policies[1]))
        entries |= {blind: KeyEntry(policy=policy, reply_id=reply.id) for blind, reply, policy in sides}
        texts = dict(sorted((blind, reply.text) for blind, reply, _ in sides))
        cases.append(_blind_case(case_id, pair.case, texts))
    design = counterbalanced(participants, len(chosen), per, random.getrandbits(32))
    slots = tuple(tuple(_place(names[shown.case], a_first=shown.a_first) for shown in row) for row in design)
    material = Material(
        title=asked.title,
        contact=asked.contact,
        about=asked.about,
        choice=Plan.model_fields["choice"].default,
        participants=participants,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        slots=slots,
    )
    originals = {name: pair.case.id for (name, _, _), pair in zip(names, chosen, strict=True)}
    return material, Key(replies=dict(sorted(entries.items())), cases=dict(sorted(originals.items())))


def _blind_case(case_id: str, case: Case, texts: dict[str, str]) -> BlindCase:
    return BlindCase(
        id=case_id,
        language=case.language,
        situation=case.situation,
        person=str(persona_text(case.persona)),
        query=case.query,
        replies=texts,
    )


def _place(names: tuple[str, str, str], *, a_first: bool) -> Place:
    case_id, id_a, id_b = names
    first, second = (id_a, id_b) if a_first else (id_b, id_a)
    return Place(case=case_id, first=first, second=second)


def _hypotheses(policies: tuple[str, str]) -> tuple[str, ...]:
    a, b = policies
    return (
        f"Primary: participants choose the replies of {a} and of {b} differently often (two-sided).",
        *(f"Secondary: “{one.statement}” is rated differently for {a} and {b} (two-sided)." for one in OUTCOMES),
    )


def _analysis(alpha: float) -> tuple[str, ...]:
    text = resources.files(__package__).joinpath("analysis_plan.txt").read_text(encoding="utf-8")
    return tuple(text.format(alpha=alpha).splitlines())
