"""Agreement with a teacher on unseen users: a planted student's is found, and baselines are what they are called."""

from __future__ import annotations

import random

import pytest

from peregrm.models.local_digits import Form
from peregrm.records import Message
from peregrm.training.distillation.agreement import CONSTANT, CRITERION, STUDENT, Agreement, measure
from peregrm.training.distillation.card import DistilledCard, card_lines
from peregrm.training.distillation.lessons import Lesson

FORM = Form((("resonation", "s1"), ("resonation", "s2"), ("expression", "s1")), 5)


def lesson(user: str, scores: tuple[float, ...], texts: tuple[str, ...] = ("a", "b", "c")) -> Lesson:
    said = (Message(role="user", content=f"{user} {scores}"),)
    return Lesson(user, f"case-{user}", f"reply-{scores}", "dimensions", said, FORM, scores, texts, (75, 25, 100), 1)


def rows(users: range, seed: int) -> list[Lesson]:
    chance = random.Random(seed)
    return [lesson(f"user-{user}", tuple(chance.uniform(1, 5) for _ in range(3))) for user in users for _ in range(3)]


def by(found: list[Agreement], measure_: str, scorer: str) -> Agreement:
    return next(one for one in found if (one.measure, one.scorer) == (measure_, scorer))


def test_a_planted_student_is_found_beside_the_baselines() -> None:
    chance = random.Random(3)
    learned, unseen = rows(range(20), 1), rows(range(20, 34), 2)
    answers = [tuple(min(5, max(1, score + chance.gauss(0, 0.3))) for score in one.scores) for one in unseen]
    found = measure(unseen, answers, learned, seed=0)
    student = by(found, "resonation", STUDENT)
    assert student.rank.mean == pytest.approx(0.95, abs=0.05)
    assert student.difference.mean is not None
    assert student.difference.mean < 0.3
    assert student.icc.low is not None
    assert student.icc.low > 0.85
    for scorer in (CONSTANT, CRITERION):
        gain = by(found, "criteria", scorer).gain
        assert gain is not None
        assert gain.low is not None
        assert gain.low > 0.5
        assert by(found, "criteria of expression", scorer).difference.users == 14
    assert by(found, "criteria", CONSTANT).icc.mean == pytest.approx(0, abs=0.1)


def test_a_student_that_guesses_gains_nothing() -> None:
    chance = random.Random(5)
    learned, unseen = rows(range(20), 1), rows(range(20, 34), 2)
    answers = [tuple(chance.uniform(1, 5) for _ in one.scores) for one in unseen]
    found = measure(unseen, answers, learned, seed=0)
    gain = by(found, "criteria", CONSTANT).gain
    assert gain is not None
    assert gain.high is not None
    assert gain.high < 0
    rank = by(found, "criteria", STUDENT).rank
    assert rank.low is not None
    assert rank.high is not None
    assert rank.low < 0 < rank.high


def test_the_criterion_mean_is_that_of_its_text_or_of_its_dimension() -> None:
    learned = [lesson("one", (1.0, 3.0, 5.0)), lesson("two", (2.0, 3.0, 5.0))]
    unseen = [lesson("three", (4.0, 4.0, 4.0), ("a", "new", "c"))]
    found = measure(unseen, [(4.0, 4.0, 4.0)], learned, seed=0)
    # a: 1.5, new: the mean of resonation 2.25; weights 75 and 25.
    assert by(found, "resonation", CRITERION).difference.mean == pytest.approx(4 - (1.5 * 0.75 + 2.25 * 0.25))
    assert by(found, "resonation", CONSTANT).difference.mean == pytest.approx(4 - 2.25)
    assert by(found, "criteria", STUDENT).difference.mean == 0


def test_what_was_not_answered_is_asked_and_not_covered() -> None:
    learned, unseen = rows(range(3), 1), rows(range(3, 6), 2)
    answers = [None if place % 2 else one.scores for place, one in enumerate(unseen)]
    found = measure(unseen, answers, learned, seed=0)
    assert by(found, "resonation", STUDENT).difference.coverage == 5 / 9
    assert by(found, "criteria", STUDENT).rank.asked == 3 * len(unseen)
    with pytest.raises(ValueError, match="cannot be measured"):
        measure(unseen, answers, unseen, seed=0)


def test_the_card_says_where_the_student_is_no_better() -> None:
    learned, unseen = rows(range(20), 1), rows(range(20, 34), 2)
    common = {
        "name": "local:x@1",
        "teacher": "t",
        "base": "b",
        "method": "m",
        "sources": (),
        "prompts": ("judge@1",),
        "dimensions": ("resonation",),
        "learned": (20, 20, 20),
        "unseen": (35, 35, 35),
        "left_out": {"unscored judgements": 2},
        "steps": 1,
        "seconds": 1.0,
        "figures": {},
        "settings": {},
    }
    flat = [(3.0, 3.0, 3.0)] * len(unseen)
    bad = DistilledCard.model_validate({**common, "agreement": measure(unseen, flat, learned, seed=0)})
    good = DistilledCard.model_validate(
        {**common, "agreement": measure(unseen, [one.scores for one in unseen], learned, seed=0)}
    )
    assert bad.beats(CONSTANT) is False
    assert good.beats(CONSTANT) is True
    assert "IT IS NOT SHOWN" in "\n".join(card_lines(bad))
    assert "left out: 2 unscored judgements" in "\n".join(card_lines(good))
