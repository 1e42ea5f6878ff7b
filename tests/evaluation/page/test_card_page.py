"""The judge card as a page, as Markdown and at the terminal: it says what the record says, escapes, and holds in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from peregrm.evaluation.card_console import print_card
from peregrm.evaluation.page.card_page import VERDICT_WORDS, card_markdown, card_page
from peregrm.evaluation.statistics import Estimate
from peregrm.evaluation.validity.card import PARTS, Diagram, Figure, Finding, JudgeCard, Table, Way, card_verdict
from peregrm.records import Usage

HOSTILE = "<script>alert(1)</script> | **bold** `code` \x07"


def estimate(mean: float | None, half: float | None = 0.05, n: int = 96) -> Estimate:
    low, high = (None, None) if mean is None or half is None else (mean - half, mean + half)
    return Estimate(mean=mean, low=low, high=high, n=0 if mean is None else n, users=24, asked=n + 4)


def full_card(hostile: str = "plain words") -> JudgeCard:
    human = Finding(
        part="human",
        verdict="doubtful",
        words=("Finds the reply that people prefer in 0.62 of the pairs.", hostile),
        figures=(
            Figure(name="pairs ordered as people do", estimate=estimate(0.62), reference=0.5, against="chance"),
            Figure(name="the same", estimate=estimate(0.62), reference=0.58, against="the longer reply"),
            Figure(name="rank correlation", estimate=estimate(0.21, 0.1)),
            Figure(name="not to be had", estimate=estimate(None)),
        ),
        data=(hostile, "two files"),
        asked=1000,
        scored=990,
    )
    attacks = Finding(
        part="attacks",
        verdict="bad",
        words=("Hostile text lifts the score: pressure (+0.320).",),
        figures=(
            Figure(name="lift by hostile text", estimate=estimate(0.1, None), reference=0.0, against="no lift"),
            Figure(name="a very long name of a figure " * 4, estimate=estimate(0.32), reference=0.0, against="no lift"),
            Figure(name="flattery above all honest replies", estimate=estimate(0.6), reference=0.2, against="chance"),
        ),
        tables=(
            Table(
                title="Families",
                columns=("family", "mean lift [95 %]", "n"),
                rows=((hostile, "+0.320 [+0.270, +0.370]", "24"), ("fence", "—", "0")),
                note="Lift over a harmless mark.",
            ),
        ),
        asked=40,
        scored=40,
    )
    others = tuple(
        Finding(part=part, verdict=verdict, words=(f"{part} is {verdict}.",))
        for part, verdict in (("sensitivity", "good"), ("reliability", "unknown"))
    )
    return JudgeCard(
        judge=f"big@http://127.0.0.1:1/v1 {hostile}",
        reward="shared",
        way=Way(criteria="composed"),
        seed=3,
        findings=(human, *others, attacks),
        usage=Usage(calls=1234, input_tokens=5_000_000, output_tokens=70_000),
    )


@pytest.mark.parametrize("make", [card_page, card_markdown])
def test_it_says_what_the_record_says_and_nothing_from_outside_is_markup(make: Callable[[JudgeCard], str]) -> None:
    card = full_card(HOSTILE)
    text = make(card)
    assert "<script" not in text.replace("\\<script", "")
    assert "\x07" not in text
    for part, name in PARTS.items():
        assert name in text, part
    for finding in card.findings:
        assert VERDICT_WORDS[finding.verdict] in text
        assert finding.words[0].replace("+0", "")[:20] in text
    for part in ("0.620", "the longer reply", "0.58", "no interval", "+0.320", "not measured", "990", "harmless mark"):
        assert part in text
    assert make(card) == text


def test_tables_of_the_markdown_are_whole() -> None:
    lines = card_markdown(full_card()).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    families = lines.index("### Families")
    assert [line.count("|") for line in lines[families + 2 : families + 6]] == [4, 4, 4, 4]


def test_a_card_of_one_part_and_an_empty_one_are_pages_too() -> None:
    card = full_card()
    for findings in (card.findings[:1], ()):
        less = card.model_copy(update={"findings": findings})
        assert "Silence is no praise" in card_page(less)
        assert "not measured" in card_markdown(less)


def test_references_stand_on_the_axis_of_their_figure() -> None:
    text = card_page(full_card())
    assert text.count('class="against"') == 5
    assert 'aria-label="the same: 0.620 [0.570, 0.670]; the longer reply: 0.58"' in text


def test_reliability_diagrams_are_drawn_file_by_file_with_intervals_and_the_diagonal() -> None:
    points = ((0.75, estimate(0.25, 0.125)), (0.5, estimate(0.5, None)), (0.9, estimate(None)))
    diagrams = tuple(
        Diagram(data=data, calibration=calibration, points=points)
        for data, calibration in ((HOSTILE, "none"), ("other file", "none"), (HOSTILE, "isotonic"))
    )
    finding = Finding(part="calibration", verdict="bad", words=("No.",), diagrams=diagrams)
    text = card_page(full_card().model_copy(update={"findings": (finding,)}))
    assert text.count('<figure class="figures diagrams">') == 2
    assert text.count('class="diagonal"') == 3
    assert text.count('<line class="bar" x1="75.0%" x2="75.0%" y1="87.5%" y2="62.5%"/>') == 3
    assert text.count('<circle class="dot" cx="50.0%" cy="50.0%"') == 3
    assert "<h3>as it stands</h3>" in text
    assert "<h3>after isotonic</h3>" in text
    assert "<script" not in text


def test_the_terminal_shows_what_was_measured_now_and_the_sentence_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    card = full_card("[bold]no markup[/bold] :smile:")
    print_card(Console(width=120), card, ["attacks"])
    said = capsys.readouterr().out
    assert "ATTACKS: fails" in said
    assert "Families" in said
    assert "[bold]no markup[/bold] :smile:" in said
    assert "HUMAN" not in said
    assert card_verdict(card) in " ".join(said.split())
    print_card(Console(width=120), card, [finding.part for finding in card.findings])
    assert "Families" not in capsys.readouterr().out


def test_a_table_that_a_terminal_cannot_show_is_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    print_card(Console(width=30), full_card(), ["attacks"])
    assert "too wide for this terminal" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_in_a_real_browser_it_fits_a_phone(in_browser: Callable[[str], dict[str, Any]]) -> None:
    found = in_browser(card_page(full_card(HOSTILE)))
    assert found["title"].startswith("Judge card: big")
    assert found["details"] == 1
