"""Personal sensitivity from rows: planted gaps and shares are recovered, a blind judge is called out, a perfect one is not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from estimate_parts import holds
from peregrm.evaluation.validity.sensitivity import Gaps, JudgedAs, Person, Role, sensitivity, sensitivity_verdict
from peregrm.evaluation.validity.sensitivity_words import sensitivity_finding

ROLES: tuple[Role, ...] = ("personal", "generic")
PERSONS: tuple[Person, ...] = ("own", "swapped", "none")


def simulated(seed: int, users: int = 12, cases: int = 4, **planted: float) -> list[JudgedAs]:
    """Draw rows of the model: score = case + reply + user + reply x user + noise, less `loss` for personal replies to another."""
    sizes = {"reply": 1.0, "user": 0.2, "both": 0.3, "noise": 0.5, "loss": 0.0, "repeats": 2, **planted}
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for case in range(cases):
            level = random.normal()
            worth = {role: random.normal() * sizes["reply"] ** 0.5 for role in ROLES}
            for person in PERSONS:
                of_user = random.normal() * sizes["user"] ** 0.5
                for role in ROLES:
                    cell = level + worth[role] + of_user + random.normal() * sizes["both"] ** 0.5
                    cell -= sizes["loss"] if role == "personal" and person != "own" else 0.0
                    for repeat in range(1 if person == "none" else int(sizes["repeats"])):
                        score = cell + random.normal() * sizes["noise"] ** 0.5
                        rows.append(_row(f"u{user:02}", f"c{case}", role, person, repeat, score))
    return rows


def _row(user: str, case: str, role: Role, person: Person, repeat: int, score: float | None) -> JudgedAs:
    return JudgedAs(
        user_id=user,
        case_id=f"{user}{case}",
        reply_id=f"{user}{case}{role}",
        policy=role,
        role=role,
        person=person,
        repeat=repeat,
        scores=(("empathy", score),),
        failure=None if score is not None else "unparsable",
    )


def exact(users: int, *, loss: float, generic_loss: float = 0.0, cases: int = 2) -> list[JudgedAs]:
    """Return rows without any chance: every user and case is alike."""
    losses = {"personal": loss, "generic": generic_loss}
    return [
        _row(
            f"u{n:02}",
            f"c{c}",
            role,
            person,
            repeat,
            0.8 - 0.1 * (role == "generic") - losses[role] * (person != "own"),
        )
        for n in range(users)
        for c in range(cases)
        for role in ROLES
        for person in PERSONS
        for repeat in range(2)
    ]


def gaps_of(rows: list[JudgedAs], seed: int = 0) -> Gaps:
    return sensitivity(rows, seed=seed).gaps[0]


@pytest.mark.slow
def test_a_planted_loss_is_within_the_intervals() -> None:
    held: Counter[str] = Counter()
    runs = 100
    for seed in range(runs):
        gaps = gaps_of(simulated(seed, loss=0.7), seed)
        held["swapped"] += holds(gaps.personal_swapped, 0.7)
        held["none"] += holds(gaps.personal_none, 0.7)
        held["generic"] += holds(gaps.generic_swapped, 0.0)
        held["difference"] += holds(gaps.more_than_generic, 0.7)
    assert min(held.values()) >= 0.9 * runs, held


@pytest.mark.parametrize(
    ("planted", "truth"),
    [({"user": 0.0, "both": 0.0}, 0.0), ({"user": 0.2, "both": 0.3}, 0.25), ({"user": 0.5, "both": 0.5}, 0.4)],
)
@pytest.mark.slow
def test_a_planted_share_of_variance_is_within_the_interval(planted: Any, truth: float) -> None:
    runs, held, found = 100, 0, []
    for seed in range(runs):
        components = sensitivity(simulated(seed, users=12, **planted), seed=seed).components[0]
        held += holds(components.share, truth)
        found.append(components.share.mean)
    assert held >= 0.9 * runs
    assert np.mean(found) == pytest.approx(truth, abs=0.04)


def test_the_components_of_many_users_are_those_planted() -> None:
    found = sensitivity(simulated(0, users=20, cases=60), seed=0).components[0]
    assert (found.reply, found.user, found.reply_by_user, found.noise) == (
        pytest.approx(1.0, abs=0.12),
        pytest.approx(0.2, abs=0.08),
        pytest.approx(0.3, abs=0.08),
        pytest.approx(0.5, abs=0.05),
    )


def test_without_repeats_noise_is_not_told_apart_and_that_is_said() -> None:
    found = sensitivity(simulated(0, users=20, cases=60, repeats=1), seed=0).components[0]
    assert found.noise is None
    assert found.share.mean == pytest.approx(0.5, abs=0.06)
    words = " ".join(sensitivity_finding(simulated(0, repeats=1), seed=0, data=()).words)
    assert "noise included" in words


def test_a_judge_that_notices_is_good_and_a_blind_one_is_called_out() -> None:
    sharp = Counter(sensitivity_verdict(sensitivity(simulated(s, loss=2.0), seed=s)) for s in range(20))
    blind = Counter(sensitivity_verdict(sensitivity(simulated(s, user=0.0, both=0.0), seed=s)) for s in range(20))
    assert sharp["good"] >= 19
    assert sharp["bad"] == 0
    assert blind["bad"] >= 18
    assert blind["good"] == 0


@pytest.mark.parametrize(
    ("rows", "verdict", "words"),
    [
        (exact(6, loss=0.2), "good", "The judge notices the person: a reply written for its user loses 0.200"),
        (exact(6, loss=0.0), "bad", "THE JUDGE DOES NOT NOTICE THE PERSON"),
        (exact(6, loss=0.2, generic_loss=0.2), "doubtful", "in part"),
        (exact(6, loss=0.1, generic_loss=0.2), "bad", "DOES NOT NOTICE"),
        (exact(3, loss=0.2), "unknown", "TOO FEW DATA"),
        ([], "unknown", "could be scored"),
        ([row for row in exact(6, loss=0.2) if row.role == "personal"], "doubtful", "no generic reply"),
    ],
)
def test_verdicts_of_judges_without_chance(rows: list[JudgedAs], verdict: str, words: str) -> None:
    finding = sensitivity_finding(rows, seed=0, data=("made up",))
    assert finding.verdict == verdict
    assert words in " ".join(finding.words)
    assert (finding.asked, finding.scored, finding.part) == (len(rows), len(rows), "sensitivity")


def test_a_perfect_judge_without_chance_explains_by_the_user_what_it_does() -> None:
    found = sensitivity(exact(12, loss=0.2), seed=0)
    assert found.gaps[0].noticed.mean == 1.0
    assert found.gaps[0].generic_noticed.mean == 0.5
    assert found.components[0].noise == 0.0
    assert found.components[0].share.mean is not None
    assert found.components[0].share.mean > 0


def test_failures_are_no_numbers_and_too_many_leave_no_verdict() -> None:
    rows = [
        _row(r.user_id, r.case_id[3:], r.role, r.person, r.repeat, None)
        if r.person == "swapped" and r.case_id == "u00c0"
        else r
        for r in exact(6, loss=0.2)
    ]
    found = sensitivity(rows, seed=0)
    assert (found.gaps[0].personal_swapped.n, found.gaps[0].personal_swapped.asked) == (11, 12)
    assert found.components[0].share.n == 11
    assert found.asked - found.scored == 4
    assert "4 of 144 judgements failed" in " ".join(sensitivity_finding(rows, seed=0, data=()).words)
    lost = [
        r if r.person == "own" and not r.repeat else _row(r.user_id, "c", r.role, r.person, r.repeat, None)
        for r in rows
    ]
    assert sensitivity_finding(lost, seed=0, data=()).verdict == "unknown"


def test_the_order_of_rows_makes_no_difference() -> None:
    rows = simulated(4, users=11, cases=2)
    assert sensitivity(rows, seed=1) == sensitivity(rows[::-1], seed=1)
