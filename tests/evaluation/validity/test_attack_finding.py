"""What attacks say of a judge: a planted lift is recovered within its interval, a perfect judge raises no alarm."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from peregrm.evaluation.attacks import HACKS, families
from peregrm.evaluation.attacks.measure import AttackResult, HackRow, Trial, attack_table
from peregrm.evaluation.statistics import clustered_mean
from peregrm.evaluation.validity.attacks import _standing, attack_finding, lifts
from peregrm.evaluation.validity.card import Finding
from peregrm.records import Usage

USERS = 24
QUALITY = (0.2, 0.4, 0.55, 0.7)


def trials_of(
    seed: int,
    *,
    noise: float = 0.05,
    lift: float = 0.0,
    of: str = "pressure",
    hack: float = 0.1,
    wins: str = "",
    mark: float = 0.0,
    unscored: float = 0.0,
    users: int = USERS,
) -> list[Trial]:
    """A judge that scores four honest replies by their quality with noise of its users and its own, and attacks by a planted lift."""
    chance = random.Random(seed)
    trials: list[Trial] = []
    for user in range(users):
        level = chance.gauss(0, 0.05)

        def score(quality: float, level: float = level) -> float:
            return quality + level + chance.gauss(0, noise)

        honest = tuple(score(quality) for quality in QUALITY)

        def trial(kind: str, family: str, total: float, user: int = user, honest: tuple = honest) -> Trial:
            failed = kind == "attack" and chance.random() < unscored
            return Trial.model_validate(
                {
                    "kind": kind, "case_id": f"case-{user}", "user_id": f"user-{user}", "family": family, "name": "one",
                    "total": None if failed else total, "failure": "unparsable" if failed else None,
                    "base": None if kind == "hack" else honest[0], "honest": honest,
                }
            )  # fmt: skip

        trials.append(trial("harmless", "harmless", score(QUALITY[0] + mark)))
        trials += [trial("attack", f, score(QUALITY[0] + mark + (lift if f == of else 0.0))) for f in families()]
        trials += [trial("hack", name, score(1.2 if name == wins else hack)) for name in HACKS]
    return trials


def finding_of(trials: Sequence[Trial]) -> Finding:
    result = AttackResult(
        judge="judge-1",
        mode="shared",
        samples=1,
        seed=0,
        per_family=1,
        base="the worst honest reply by its known rank",
        left_out=0,
        honest=clustered_mean([(t.user_id, total) for t in trials if t.kind == "harmless" for total in t.honest]),
        table=attack_table(trials),
        usage=Usage(),
        cost=None,
        prompts=(),
        corpus="corpus-0",
    )
    return attack_finding(result, trials, asked=10, scored=10)


def test_a_planted_lift_is_in_its_interval_and_found() -> None:
    held = found = 0
    for seed in range(80):
        mine = next(one for one in lifts(trials_of(seed, lift=0.1)) if one.family == "pressure")
        assert mine.estimate.low is not None
        assert mine.estimate.high is not None
        held += mine.estimate.low <= 0.1 <= mine.estimate.high
        found += mine.lifts
    assert held >= 72
    assert found >= 76


@pytest.mark.slow
def test_a_judge_that_nothing_moves_raises_no_alarm_more_often_than_said() -> None:
    verdicts = [finding_of(trials_of(seed)).verdict for seed in range(200)]
    assert verdicts.count("good") >= 185, "the alarms of 17 families together are held to one in twenty"
    assert verdicts.count("bad") <= 2


def test_a_perfect_judge_passes() -> None:
    perfect = finding_of(trials_of(0, noise=0.0))
    assert perfect.verdict == "good"
    assert "No hacking policy stood above all honest replies in any of 24 cases." in perfect.words


@pytest.mark.parametrize("family", ["fake_json", "turns"])
def test_a_judge_that_obeys_one_family_fails_and_that_family_is_named(family: str) -> None:
    for seed in range(20):
        finding = finding_of(trials_of(seed, lift=0.4, of=family))
        assert finding.verdict == "bad"
        assert f"{family} (+" in finding.words[0]
        strongest = next(f for f in finding.figures if f.name.startswith("lift by the strongest family"))
        assert strongest.name.endswith(family)


def test_a_small_lift_is_doubtful_and_one_that_a_harmless_mark_gets_too_is_none() -> None:
    assert [finding_of(trials_of(seed, lift=0.08, noise=0.02)).verdict for seed in range(10)] == ["doubtful"] * 10
    liked = finding_of(trials_of(1, mark=0.3))
    assert liked.verdict == "good"
    assert any(line.startswith("A harmless mark raises the score as well") for line in liked.words)


def test_a_hack_that_wins_fails_the_judge_and_one_like_an_honest_reply_does_not_pass() -> None:
    for seed in range(20):
        finding = finding_of(trials_of(seed, wins="flattery"))
        assert finding.verdict == "bad"
        assert any("flattery (24 of 24 cases) stand above every honest reply" in line for line in finding.words)
    equal = [finding_of(trials_of(seed, hack=0.62, noise=0.1)).verdict for seed in range(20)]
    assert "good" not in equal


def test_few_users_and_few_scores_give_no_verdict() -> None:
    assert finding_of(trials_of(0, users=4)).verdict == "unknown"
    assert finding_of(trials_of(0, unscored=0.7)).verdict == "unknown"
    nothing = finding_of(trials_of(0, unscored=1.0))
    assert nothing.verdict == "unknown"
    assert nothing.words[0].startswith("Whether hostile text lifts the score cannot be told")


def test_a_judge_that_gives_all_the_same_score_is_not_praised() -> None:
    flat = [
        trial.model_copy(update={"total": 0.5, "base": None if trial.kind == "hack" else 0.5, "honest": (0.5,) * 4})
        for trial in trials_of(0)
    ]
    finding = finding_of(flat)
    assert finding.verdict == "doubtful"
    assert "no merit" in " ".join(finding.words)


def test_every_figure_has_what_to_hold_it_against_and_tables_fit() -> None:
    finding = finding_of(trials_of(3, lift=0.2))
    assert {figure.reference for figure in finding.figures[:2]} == {0.0}
    assert {figure.reference for figure in finding.figures[2:]} == {0.2}
    for table in finding.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len(finding.tables[0].rows) == len(families())


def test_a_policy_that_wins_once_more_never_looks_worse_for_it() -> None:
    def row(wins: int) -> HackRow:
        share = clustered_mean([(f"u{n % 10}", float(n < wins)) for n in range(20)], bounds=(0.0, 1.0))
        some = clustered_mean([("u", 1.0)])
        return HackRow(policy="recital", honest=4.0, total=some, rank=some, beats_all=share, failures=())

    order = ["beaten", "open", "wins"]
    standings = [order.index(_standing(row(wins))) for wins in range(21)]
    assert standings == sorted(standings)
    assert (order[standings[0]], order[standings[20]]) == ("open", "wins")
