"""Two judges over the steps: planted changes are found with their intervals, and parting is said only where it is shown."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import pytest

from peregrm.evaluation.statistics import clustered_mean
from peregrm.training.curves import CURVES, Parting, parting_of, read_curves, write_curves
from peregrm.training.held_out_lines import HELD_OUT, CaseTotal, HeldOutLine, Role
from peregrm.training.logs import LOG, LogLine

USERS, CASES = 10, 4


def line_of(step: int, role: Role, level: float, chance: random.Random, judge: str = "judge <1>") -> HeldOutLine:
    """Return totals whose cases differ by far more than what changes between steps."""
    totals = tuple(
        CaseTotal(case_id=f"c{user}-{case}", user_id=f"u{user}", total=user / 20 + level + chance.gauss(0, 0.02))
        for user in range(USERS)
        for case in range(CASES)
    )
    mean = clustered_mean([(one.user_id, one.total) for one in totals])
    return HeldOutLine(
        step=step,
        role=role,
        judge=judge,
        method="shared",
        cases=len(totals),
        measures=(("total", mean),),
        totals=totals,
        writing_seconds=1,
        judging_seconds=1,
    )


def run_of(folder: Path, rise: float, training: float | None, held_out: float, seed: int = 0) -> Path:
    """Write a run of 40 steps whose judges' opinions change by so much from its start to its end."""
    chance = random.Random(seed)
    logs = [
        LogLine(kind="step", step=step, reward=None if step == 7 else 0.4 + rise * step / 40 + chance.gauss(0, 0.01))
        for step in range(1, 41)
    ]
    lines = []
    for step in (0, 20, 40):
        lines.append(line_of(step, "held-out", 0.3 + held_out * step / 40, chance))
        if training is not None:
            lines.append(line_of(step, "training", 0.5 + training * step / 40, chance, "trainer"))
    folder.mkdir(exist_ok=True)
    (folder / LOG).write_text("".join(line.model_dump_json() + "\n" for line in logs))
    (folder / HELD_OUT).write_text("".join(line.model_dump_json() + "\n" for line in lines))
    return folder


def parting(folder: Path) -> Parting:
    found = parting_of(folder)
    assert found is not None
    return found


def test_judges_that_part_are_told(tmp_path: Path) -> None:
    found = parting(run_of(tmp_path, 0.1, 0.08, -0.05))
    assert found.over_optimised
    assert found.same_replies
    assert found.training is not None
    assert found.held_out is not None
    assert found.training.mean == pytest.approx(0.08, abs=0.02)
    assert found.held_out.mean == pytest.approx(-0.05, abs=0.02)
    assert found.words[-1].startswith("OVER-OPTIMISED")
    assert "judge <1>" in found.words[1]


@pytest.mark.parametrize(
    ("training", "held_out", "words"),
    [
        (0.08, 0.06, "both judges like the replies better"),
        (0.08, -0.006, "possible and not shown"),
        (0.08, 0.003, "is not shown"),
        (-0.08, -0.08, "nothing yet to be over-optimised"),
    ],
)
def test_what_is_not_shown_is_not_said(tmp_path: Path, training: float, held_out: float, words: str) -> None:
    found = parting(run_of(tmp_path, 0.1, training, held_out, seed=3))
    assert not found.over_optimised
    assert words in found.words[-1]


def test_without_the_training_judge_beside_its_own_log_is_read(tmp_path: Path) -> None:
    found = parting(run_of(tmp_path, 0.1, None, -0.05))
    assert not found.same_replies
    assert found.training is not None
    assert found.training.mean == pytest.approx(
        0.075, abs=0.02
    )  # the middles of the outer quarters are three quarters apart
    assert found.over_optimised


def test_no_alarm_where_nothing_changes(tmp_path: Path) -> None:
    """In 60 runs without any change the intervals of both judges' changes hold 0 in nearly all, and alarms are rare."""
    found = [parting(run_of(tmp_path, 0.0, 0.0, 0.0, seed=seed)) for seed in range(60)]
    for changes in ([one.training for one in found], [one.held_out for one in found]):
        held = [one.low <= 0 <= one.high for one in changes if one and one.low is not None and one.high is not None]
        assert len(held) == 60
        assert sum(held) >= 52
    assert sum(one.over_optimised for one in found) <= 1


def test_without_totals_nothing_is_said_of_a_change(tmp_path: Path) -> None:
    run_of(tmp_path, 0.1, 0.08, -0.05)
    lines = [HeldOutLine.model_validate_json(line) for line in (tmp_path / HELD_OUT).read_text().splitlines()]
    empty = [
        line.model_copy(update={"totals": tuple(one.model_copy(update={"total": None}) for one in line.totals)})
        for line in lines
    ]
    (tmp_path / HELD_OUT).write_text("".join(line.model_dump_json() + "\n" for line in empty))
    found = parting(tmp_path)
    assert [words.partition(": ")[2] for words in found.words[:2]] == [
        "there is no total to compare on held-out cases",
        "there is no total to compare from step 0 to step 40, on the same cases",
    ]
    assert not [words for words in found.words if "changed" in words]


def test_the_picture_shows_both_judges(tmp_path: Path) -> None:
    words = write_curves(run_of(tmp_path, 0.1, 0.08, -0.05))
    assert len(words) == 3
    picture = ElementTree.parse(tmp_path / CURVES).getroot()
    texts = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "Held-out judge judge <1>" in texts
    assert "Training judge trainer" in texts
    circles = list(picture.iter("{http://www.w3.org/2000/svg}circle"))
    curves = read_curves(tmp_path)
    assert len(circles) == len(curves.trained) + len(curves.beside) + len(curves.held_out) == 8 + 3 + 3
    view = [float(one) for one in picture.attrib["viewBox"].split()]
    assert all(0 <= float(one.attrib["cx"]) <= view[2] and 0 <= float(one.attrib["cy"]) <= view[3] for one in circles)


def test_a_run_that_just_began_has_a_picture_and_no_words(tmp_path: Path) -> None:
    assert write_curves(tmp_path) == []
    assert ElementTree.parse(tmp_path / CURVES).getroot() is not None
    assert parting_of(tmp_path) is None


def test_another_held_out_judge_is_another_curve(tmp_path: Path) -> None:
    """A run that went on with a sterner held-out judge at step 20: the drop is not the policy's."""
    chance = random.Random(1)
    lines = [line_of(step, "training", 0.5 + 0.002 * step, chance, "trainer") for step in (0, 20, 40)]
    lines += [
        line_of(step, "held-out", level, chance, judge)
        for step, level, judge in ((0, 0.6, "mild"), (20, 0.3, "stern"), (40, 0.36, "stern"))
    ]
    run_of(tmp_path, 0.1, None, 0.0)
    (tmp_path / HELD_OUT).write_text("".join(line.model_dump_json() + "\n" for line in lines))
    found = parting(tmp_path)
    assert not found.over_optimised
    assert (found.first, found.last, found.same_replies) == (20, 40, True)
    assert found.held_out is not None
    assert found.training is not None
    assert found.held_out.mean == pytest.approx(0.06, abs=0.02)
    assert found.training.mean == pytest.approx(0.04, abs=0.02)
    write_curves(tmp_path)
    lengths = [
        len(one.attrib["points"].split())
        for one in ElementTree.parse(tmp_path / CURVES).getroot().iter("{http://www.w3.org/2000/svg}polyline")
    ]
    assert lengths == [8, 3, 2]
    (tmp_path / HELD_OUT).write_text("".join(line.model_dump_json() + "\n" for line in lines[:5]))
    assert parting_of(tmp_path) is None
