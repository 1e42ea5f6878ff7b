"""Reliability from rows: planted noise, shifts, places and disagreement are recovered, and a perfect judge raises no alarm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from estimate_parts import holds
from peregrm.evaluation.validity.card import Finding
from peregrm.evaluation.validity.reliability import Placed, Reliability, Rescored, reliability
from peregrm.evaluation.validity.reliability_words import reliability_finding

OTHER_WAY = "the criteria in another order"


def simulated(seed: int, users: int = 12, cases: int = 3, replies: int = 4, **planted: float) -> list[Rescored]:
    """Draw replies of unit variance within their case, scored three times with `noise`, and once another way with `change` besides."""
    sizes = {
        "noise": 0.5,
        "change": 0.0,
        "shift": 0.0,
        "between": 2.0,
        "worth": 1.0,
        "judge": -1.0,
        "level": 0.0,
        **planted,
    }
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for case in range(cases):
            level = random.normal() * sizes["between"]
            for reply in range(replies):
                worth = level + random.normal() * sizes["worth"]
                ways = {f"repeat {k}": worth + random.normal() * sizes["noise"] for k in range(3)}
                ways[OTHER_WAY] = worth + sizes["shift"] + random.normal() * np.hypot(sizes["noise"], sizes["change"])
                if sizes["judge"] >= 0:
                    ways["judge two"] = worth + sizes["level"] + random.normal() * sizes["judge"]
                rows += [_row(f"u{user:02}", f"c{case}", f"r{reply}", way, score) for way, score in ways.items()]
    return rows


def _row(user: str, case: str, reply: str, way: str, score: float | None) -> Rescored:
    return Rescored(
        user_id=user,
        case_id=f"{user}{case}",
        reply_id=f"{user}{case}{reply}",
        way=way,
        scores=(("empathy", score),),
        failure=None if score is not None else "unparsable",
    )


def placed(seed: int, effect: float, noise: float, users: int = 12, cases: int = 3) -> list[Placed]:
    """Score the replies of each group in their order and in the reverse one; the first place gains `effect` over the last."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for case in range(cases):
            for reply in range(4):
                worth = random.normal()
                for place in (reply / 3, 1 - reply / 3):
                    score = worth + effect * (1 - place) + random.normal() * noise
                    name = f"u{user:02}c{case}"
                    rows.append(
                        Placed(user_id=name[:3], case_id=name, reply_id=f"{name}r{reply}", place=place, score=score)
                    )
    return rows


def found_in(rows: list[Rescored], places: Sequence[Placed] = (), seed: int = 0, **more: str) -> Reliability:
    return reliability(rows, places, judge="one", scale="points", seed=seed, **more)


def finding_of(rows: list[Rescored], places: Sequence[Placed] = (), seed: int = 0) -> Finding:
    return reliability_finding(found_in(rows, places, seed), data=("made up",))


@pytest.mark.slow
def test_planted_noise_is_within_both_intervals() -> None:
    truth, runs = 1 / (1 + 0.8**2), 40
    held: Counter[str] = Counter()
    for seed in range(runs):
        noise = found_in(simulated(seed, noise=0.8), seed=seed).noise[0]
        assert noise.plain.low is not None
        assert noise.plain.high is not None
        held["users"] += holds(noise.within, truth)
        held["replies"] += noise.plain.low <= truth <= noise.plain.high
    assert min(held.values()) >= 0.9 * runs, held
    assert noise.repeats.deviation == pytest.approx(0.8, abs=0.1)
    assert noise.needed in (2, 3, 4)  # 3 for the planted 0.61
    assert noise.spread == pytest.approx((1 + 0.64 / 3) ** 0.5, abs=0.2)


def test_a_planted_effect_of_places_is_within_the_interval() -> None:
    runs = 30
    held = 0
    for seed in range(runs):
        place = found_in([], placed(seed, 0.6, 0.3), seed).place
        assert place is not None
        held += holds(place.effect, 0.6)
    assert held >= 0.9 * runs


@pytest.mark.slow
def test_a_planted_shift_of_another_way_is_within_the_interval_and_beside_the_noise() -> None:
    runs, held = 30, 0
    for seed in range(runs):
        change = found_in(simulated(seed, noise=0.3, shift=-0.4, users=10, cases=2), seed=seed).changes[0]
        held += holds(change.shift, -0.4)
    assert held >= 0.9 * runs
    assert change.deviation == pytest.approx(0.3 * 2**0.5, abs=0.1)
    assert change.by_noise == pytest.approx(0.3 * 2**0.5, abs=0.1)


def test_a_perfect_judge_raises_no_alarm() -> None:
    rows = simulated(0, noise=0.0, users=6)
    finding = finding_of(rows, placed(0, 0.0, 0.0, users=6))
    assert finding.verdict == "good"
    assert not any(lead in " ".join(finding.words) for lead in ("UNRELIABLE", "DOUBTFUL", "TOO FEW"))
    noise = found_in(rows).noise[0]
    assert (noise.repeats.deviation, noise.within.mean, noise.needed) == (
        pytest.approx(0.0, abs=1e-12),
        pytest.approx(1.0),
        1,
    )


def test_a_judge_with_little_noise_is_good_in_nearly_every_simulation() -> None:
    verdicts = Counter(finding_of(simulated(s, noise=0.2), placed(s, 0.0, 0.2), s).verdict for s in range(8))
    assert verdicts["good"] >= 7
    assert verdicts["bad"] == 0


@pytest.mark.parametrize(
    ("rows", "places", "verdict", "words"),
    [
        (simulated(1, noise=3.0), [], "bad", "UNRELIABLE: asked again"),
        (simulated(1, noise=0.1, change=6.0), [], "bad", "UNRELIABLE: with the criteria in another order"),
        (simulated(1, noise=0.1), placed(1, 1.0, 0.1), "bad", "UNRELIABLE: standing first"),
        (simulated(1, noise=0.1), placed(1, 0.3, 0.1), "doubtful", "DOUBTFUL: standing first"),
        (simulated(1, noise=0.75), [], "doubtful", "DOUBTFUL"),
        (simulated(1, noise=0.0, worth=0.0), [], "bad", "all replies to a case get the same empathy"),
        (simulated(1, users=3), [], "unknown", "TOO FEW DATA"),
        (simulated(1, users=7, noise=0.1), [], "unknown", "TOO FEW DATA: with the criteria"),
        ([], [], "unknown", "Nothing could be scored twice"),
    ],
)
def test_verdicts(rows: list[Rescored], places: list[Placed], verdict: str, words: str) -> None:
    finding = finding_of(rows, places)
    assert finding.verdict == verdict
    assert words in " ".join(finding.words)
    assert (finding.part, finding.asked, finding.scored) == ("reliability", len(rows), len(rows))


def test_judges_that_agree_but_for_their_level_are_consistent_and_not_absolute() -> None:
    rows = simulated(2, noise=0.0, judge=0.0, level=3.0)
    found = found_in(rows, others=["two"]).agreement[0]  # type: ignore[arg-type]
    assert found.consistent.mean == pytest.approx(1.0)
    assert found.absolute.mean is not None
    assert found.absolute.mean < 0.7
    assert found.alpha.alpha.mean is not None
    assert found.alpha.alpha.mean < 0.7
    assert found.pairs[0].rank.mean == pytest.approx(1.0)
    words = reliability_finding(found_in(rows, others=["two"]), data=()).words  # type: ignore[arg-type]
    assert any("one and two on empathy: Krippendorff's alpha" in sentence for sentence in words)


def test_planted_agreement_of_judges_is_found() -> None:
    truth = (4 + 1) / (4 + 1 + 0.5**2)
    rows = [row for row in simulated(3, users=40, noise=0.5, judge=0.5) if row.way in ("repeat 0", "judge two")]
    found = found_in(rows, others=["two"]).agreement[0]  # type: ignore[arg-type]
    for estimate in (found.consistent, found.absolute, found.alpha.alpha):
        assert estimate.mean == pytest.approx(truth, abs=0.02)
        assert estimate.n == 480


def test_failures_are_no_numbers() -> None:
    rows = [
        _row(r.user_id, r.case_id[3:], r.reply_id[5:], r.way, None) if r.way == "repeat 1" and r.user_id == "u00" else r
        for r in simulated(0)
    ]
    found = found_in(rows)
    assert (found.asked - found.scored, found.noise[0].within.n, found.noise[0].within.asked) == (12, 132, 144)
    assert "12 of 576 scores could not be had." in finding_of(rows).words
    lost = [r if r.way == "repeat 0" else _row(r.user_id, "c0", "r0", r.way, None) for r in rows]
    assert finding_of(lost).verdict == "unknown"


def test_the_order_of_rows_makes_no_difference() -> None:
    rows, places = simulated(5, users=11), placed(5, 0.2, 0.1, users=11)
    assert found_in(rows, places) == found_in(rows[::-1], places[::-1])
