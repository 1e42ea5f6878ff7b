"""Judges with a planted accuracy, lean to length, or sense of the source are recovered; a perfect one raises no alarm."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate_parts import holds
from peregrm.evaluation.validity.calibration_words import calibration_finding, calibrations
from peregrm.evaluation.validity.human import (
    LONGER,
    PRIOR,
    longer_wins,
    pair_agreement,
    rating_agreement,
    source_prior,
)
from peregrm.evaluation.validity.human_words import combine, human_finding
from peregrm.evaluation.validity.ratings.files import OWN
from peregrm.evaluation.validity.ratings.rows import (
    HumanFile,
    JudgedFile,
    JudgedPair,
    JudgedRating,
    Pair,
    Rated,
    Scale,
)
from peregrm.records import Message

SAID = (Message(role="user", content="it rained all day"),)
LEVELS = Scale(name="care", low=1, high=5)
Judge = Callable[[random.Random, Pair], float | None]
"""The score of the better reply minus that of the worse."""


def make_pairs(
    dice: random.Random, users: int, each: int, *, longer: float = 0.6, good: float | None = 0.6
) -> list[Pair]:
    """Pairs whose better reply is the longer one in a share `longer`, and of the source `good` in a share `good`."""
    pairs = []
    for n in range(users * each):
        long_one, short_one = "a reply of many words", "a reply"
        better, worse = (long_one, short_one) if dice.random() < longer else (short_one, long_one)
        sources = ("good", "poor") if good is None or dice.random() < good else ("poor", "good")
        first = dice.random() < 0.5
        texts, names = ((better, worse), sources) if first else ((worse, better), sources[::-1])
        pairs.append(
            Pair(
                id=f"p{n}",
                source="planted",
                user=f"user-{n % users}",
                context=SAID,
                a=texts[0],
                b=texts[1],
                better="a" if first else "b",
                gap=1.0 + n % 2,
                a_source=None if good is None else names[0],
                b_source=None if good is None else names[1],
            )
        )
    return pairs


def judged_by(judge: Judge, pairs: list[Pair], seed: int = 0) -> JudgedFile:
    dice = random.Random(f"judge {seed}")
    rows = []
    for pair in pairs:
        gap = judge(dice, pair)
        scores = ({"total": None}, {"total": 0.5}) if gap is None else ({"total": 0.5 + gap}, {"total": 0.5})
        rows.append(JudgedPair(pair, *(scores if pair.better == "a" else scores[::-1])))
    file = HumanFile(name="planted", format="preference pairs", pairs=tuple(pairs), clusters="users")
    unscored = sum(judge_scores["total"] is None for row in rows for judge_scores in (row.a, row.b))
    return JudgedFile(file, rows, [], asked=2 * len(rows), scored=2 * len(rows) - unscored)


def right_with(probability: float) -> Judge:
    return lambda dice, pair: 0.1 if dice.random() < probability else -0.1


def lean_with(share: float, accuracy: float) -> Judge:
    """In a share of pairs the longer reply wins whatever it says; in the rest the better one does with this probability."""

    def judge(dice: random.Random, pair: Pair) -> float:
        if dice.random() < share:
            return 0.1 if longer_wins(pair) == 1 else -0.1
        return 0.1 if dice.random() < accuracy else -0.1

    return judge


def perfect(dice: random.Random, pair: Pair) -> float:
    return 0.1 * (pair.gap or 1.0)


@pytest.mark.slow
def test_a_planted_accuracy_and_lean_lie_within_their_intervals_in_nine_simulations_of_ten() -> None:
    accuracy, gain, lean, shorter = 0, 0, 0, 0
    for seed in range(60):
        pairs = make_pairs(random.Random(seed), users=40, each=5)
        found = pair_agreement(judged_by(lean_with(0.3, 0.7), pairs, seed), seed=seed)
        # 0.3 goes by length, which is right on 0.6 of pairs; the rest is right on 0.7
        accuracy += holds(found.accuracy, 0.3 * 0.6 + 0.7 * 0.7)
        gain += holds(found.baselines[0].difference, 0.3 * 0.6 + 0.7 * 0.7 - 0.6)
        lean += holds(found.lean, 0.3)
        shorter += holds(found.shorter, 0.7 * 0.7)
    assert min(accuracy, gain, lean, shorter) >= 54


def test_a_perfect_judge_raises_no_alarm() -> None:
    file = judged_by(perfect, make_pairs(random.Random(1), users=20, each=5))
    found = pair_agreement(file, seed=0)
    assert (found.verdict, found.accuracy.mean, found.ties) == ("good", 1.0, 0)
    assert found.gap_rank.mean == pytest.approx(1.0)
    assert all(rule.beaten and rule.p is not None and rule.p < 0.01 for rule in found.baselines)
    finding = human_finding([file], [found], [])
    assert finding.verdict == "good"
    (words,) = finding.words
    assert words == (
        f"planted: the judge is above chance and beats longer-wins and source-prior: 1.000 [no interval] of 100 pairs "
        f"(longer-wins {found.baselines[0].accuracy.mean:.2f}, source-prior {found.baselines[1].accuracy.mean:.2f})."
    )


@pytest.mark.parametrize(("judge", "verdict"), [(perfect, "unknown"), (right_with(0.2), "bad")])
def test_replies_nobody_rated_speak_against_a_judge_and_never_for_it(judge: Judge, verdict: str) -> None:
    file = judged_by(judge, make_pairs(random.Random(1), users=20, each=5))
    own = pair_agreement(file._replace(file=file.file.model_copy(update={"name": OWN})), seed=0)
    finding = human_finding([file], [own], [])
    assert finding.verdict == verdict
    assert finding.words[0].endswith("Nobody rated them, so this shows no agreement with people.")


@pytest.mark.parametrize(("judge", "verdict", "alone"), [(perfect, "bad", "unknown"), (right_with(0.2), "bad", "bad")])
def test_replies_nobody_rated_do_not_make_a_judge_calibrated_either(judge: Judge, verdict: str, alone: str) -> None:
    rated = judged_by(right_with(0.2), make_pairs(random.Random(2), users=40, each=5))
    file = judged_by(judge, make_pairs(random.Random(1), users=40, each=5))
    own = file._replace(file=file.file.model_copy(update={"name": OWN}))
    for files, expected in (([rated, own], verdict), ([own], alone)):
        finding = calibration_finding(files, calibrations(files, seed=0))
        assert finding.verdict == expected
        assert "Nobody rated them, so this shows nothing of people's levels." in " ".join(finding.words)


@pytest.mark.slow
def test_a_judge_at_chance_is_called_out_and_seldom_taken_for_a_good_one() -> None:
    verdicts = [
        pair_agreement(judged_by(right_with(0.5), make_pairs(random.Random(s), 60, 6), s), seed=s).verdict
        for s in range(40)
    ]
    assert verdicts.count("bad") >= 36
    assert "good" not in verdicts


@pytest.mark.parametrize(
    ("judge", "verdict", "words"),
    [
        (right_with(0.2), "bad", "prefers the worse reply more often than chance"),
        (lambda dice, pair: 0.0, "bad", "is no better than chance"),
        (lean_with(1.0, 0.5), "doubtful", "is above chance but does not beat longer-wins"),
        (right_with(0.55), "bad", "is above chance but worse than longer-wins"),
        (right_with(0.97), "good", "is above chance and beats longer-wins"),
        (lambda dice, pair: None, "unknown", "scored less than half of what it was asked for"),
    ],
)
def test_each_kind_of_judge_has_its_words(judge: Judge, verdict: str, words: str) -> None:
    pairs = make_pairs(random.Random(3), users=100, each=12, longer=0.7, good=None)
    file = judged_by(judge, pairs)
    found = pair_agreement(file, seed=0)
    assert (found.verdict, found.reason) == (verdict, words)
    assert found.missing == (PRIOR,)
    assert words in human_finding([file], [found], []).words[0]


def test_too_few_pairs_are_said_to_be_too_few() -> None:
    file = judged_by(right_with(0.6), make_pairs(random.Random(4), users=6, each=2))
    finding = human_finding([file], [pair_agreement(file, seed=0)], [])
    assert finding.verdict == "unknown"
    assert finding.words[0].startswith("TOO FEW PAIRS: planted: the judge cannot be told from chance")


def test_a_pair_that_failed_is_uncovered_and_not_wrong() -> None:
    pairs = make_pairs(random.Random(5), users=20, each=4)
    file = judged_by(lambda dice, pair: None if dice.random() < 0.5 else 0.1, pairs)
    found = pair_agreement(file, seed=0)
    assert found.accuracy.mean == 1.0
    assert found.accuracy.asked == 80
    assert 20 < found.accuracy.n < 60
    assert found.baselines[0].accuracy.n == found.baselines[0].difference.n == found.accuracy.n
    assert any("could not be scored" in words for words in human_finding([file], [found], []).words)


def test_a_lean_to_length_is_said_in_words_and_wrong_on_the_shorter_is_never_good() -> None:
    pairs = make_pairs(random.Random(6), users=60, each=8, longer=0.55, good=None)
    file = judged_by(lean_with(0.6, 0.95), pairs)
    found = pair_agreement(file, seed=0)
    assert (found.verdict, found.reason) == (
        "doubtful",
        "is above chance but wrong on most pairs whose better reply is the shorter",
    )
    words = human_finding([file], [found], []).words
    assert any(one.startswith("planted: the judge leans to the longer reply") for one in words)


def test_the_source_prior_knows_other_users_only_and_one_that_holds_the_answers_is_not_held_against_a_judge() -> None:
    known = make_pairs(random.Random(7), users=12, each=4, longer=0.5, good=1.0)
    rule = source_prior(known)
    assert rule is not None
    assert {rule(pair) for pair in known} == {1.0}
    others = pair_agreement(judged_by(right_with(0.9), known), seed=0)
    assert not any(rule.certain for rule in others.baselines), (
        "sources that people always prefer are no construction of ours"
    )
    known = [pair.model_copy(update={"case_id": "c"}) for pair in known]
    found = pair_agreement(judged_by(right_with(0.9), known), seed=0)
    prior = next(rule for rule in found.baselines if rule.name == PRIOR)
    assert (prior.certain, prior.ahead, found.verdict) == (True, False, "good")
    assert found.reason == "is above chance and beats longer-wins"
    alone = source_prior(known[:1])
    assert alone is not None
    assert alone(known[0]) == 0.5, "the only user's own pairs are never looked at"


def test_sources_and_gaps_stand_apart() -> None:
    pairs = make_pairs(random.Random(8), users=30, each=10, good=0.5)
    fond = judged_by(lambda dice, pair: 0.1 if _winner(pair) == "good" else -0.1, pairs)
    found = pair_agreement(fond, seed=0)
    rows = {row.source: (row.won.mean, row.lost.mean) for row in found.sources}
    assert rows == {"good": (1.0, 0.0), "poor": (0.0, 1.0)}
    assert [label for label, _ in found.gaps] == ["1", "2"]
    assert sum(estimate.n for _, estimate in found.gaps) == len(pairs)


def _winner(pair: Pair) -> str | None:
    return pair.a_source if pair.better == "a" else pair.b_source


def rated_by(score: Callable[[random.Random, float], float | None], users: int = 60, seed: int = 0) -> JudgedFile:
    dice = random.Random(seed)
    rows = []
    for n in range(users * 5):
        level = dice.randint(1, 5)
        text = "x" * dice.randint(5, 50)
        rated = Rated(
            id=f"r{n}", source="planted", user=f"u{n % users}", context=SAID, reply=text, level=level, scale=LEVELS
        )
        rows.append(JudgedRating(rated, {"total": score(dice, level)}))
    file = HumanFile(name="planted", format="f", rated=tuple(row.rated for row in rows), clusters="users")
    return JudgedFile(file, [], rows, asked=len(rows), scored=len(rows))


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (lambda dice, level: level / 5, "good"),
        (lambda dice, level: level / 5 + dice.gauss(0, 0.3), "good"),
        (lambda dice, level: -level, "bad"),
        (lambda dice, level: dice.random(), "bad"),
        (lambda dice, level: 0.6, "bad"),
        (lambda dice, level: None, "unknown"),
    ],
)
def test_the_rank_correlation_tells_judges_apart(
    score: Callable[[random.Random, float], float | None], verdict: str
) -> None:
    (row,) = rating_agreement(rated_by(score), seed=0)
    assert row.verdict == verdict


def test_a_finding_without_data_says_so() -> None:
    finding = human_finding([], [], [])
    assert (finding.verdict, finding.asked) == ("unknown", 0)
    assert finding.words == ("There were no pairs, ratings or ranked replies to hold the judge against.",)
    assert combine(["good", "unknown"]) == "good"
    assert combine(["good", "bad"]) == "doubtful"


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4))
def test_the_order_of_the_replies_in_a_pair_makes_no_difference(seed: int, users: int, each: int) -> None:
    pairs = make_pairs(random.Random(seed), users, each)
    turned = [
        pair.model_copy(
            update={
                "a": pair.b,
                "b": pair.a,
                "a_source": pair.b_source,
                "b_source": pair.a_source,
                "better": "b" if pair.better == "a" else "a",
            }
        )
        for pair in pairs
    ]
    judge = lean_with(0.4, 0.7)
    one, other = (pair_agreement(judged_by(judge, some, seed), seed=0) for some in (pairs, turned))
    assert one == other
    assert one.baselines[0].name == LONGER


def test_a_judge_of_length_is_not_good_where_the_longer_reply_always_wins() -> None:
    pairs = make_pairs(random.Random(9), users=20, each=2, longer=1.0, good=None)
    of_length = pair_agreement(judged_by(lambda dice, pair: 0.1, pairs), seed=0)
    assert (of_length.verdict, of_length.reason) == ("doubtful", "is above chance but does not beat longer-wins")
    blind = pair_agreement(judged_by(right_with(0.5), pairs), seed=0)
    assert (blind.verdict, blind.reason) == ("bad", "is worse than longer-wins")
    for found in (of_length, blind):
        assert "by construction" not in human_finding([], [found], []).words[0]


def test_a_few_scores_of_many_decide_nothing() -> None:
    pairs = make_pairs(random.Random(10), users=40, each=20)
    found = pair_agreement(judged_by(lambda dice, pair: 0.1 if dice.random() < 0.1 else None, pairs), seed=0)
    assert found.accuracy.mean == 1.0
    assert found.verdict == "unknown"
    (rated,) = rating_agreement(rated_by(lambda dice, level: level if dice.random() < 0.1 else None), seed=0)
    assert rated.rank.mean == pytest.approx(1.0)
    assert rated.verdict == "unknown"
