"""The card of a distilled judge: whom it learned from and on what, what was left out, and how far it agrees on users it has not seen."""

from __future__ import annotations

from pathlib import Path

from peregrm.evaluation.statistics import Estimate
from peregrm.records import Part
from peregrm.store import replace_text
from peregrm.training.distillation.agreement import CONSTANT, CRITERION, STUDENT, Agreement

__all__ = ["CARD", "DistilledCard", "Source", "card_lines", "write_card"]

CARD = "card.json"


class Source(Part):
    """A file of judgements that was learned from, and its SHA-256."""

    path: str
    sha256: str
    judgements: int


class DistilledCard(Part):
    """What a person should know of a distilled judge. `learned` and `unseen` count (users, replies, questions) on either side."""

    name: str
    teacher: str
    base: str
    method: str
    sources: tuple[Source, ...]
    prompts: tuple[str, ...]
    dimensions: tuple[str, ...]
    learned: tuple[int, int, int]
    unseen: tuple[int, int, int]
    left_out: dict[str, int]
    steps: int
    seconds: float
    figures: dict[str, float | None]
    settings: dict[str, float | int | str | None]
    agreement: tuple[Agreement, ...]

    def beats(self, scorer: str) -> bool | None:
        """Tell whether the student is beyond doubt nearer to its teacher's criteria scores than a baseline; None: there is no interval."""
        for row in self.agreement:
            if row.measure == "criteria" and row.scorer == scorer and row.gain is not None:
                return None if row.gain.low is None else row.gain.low > 0
        return None


def write_card(card: DistilledCard, folder: Path) -> None:
    """Write `card.json`, and `card.md` to read."""
    replace_text(folder / CARD, card.model_dump_json(indent=1) + "\n")
    replace_text(folder / "card.md", "\n".join(card_lines(card)) + "\n")


def card_lines(card: DistilledCard) -> list[str]:
    """Return the card in Markdown."""
    counts = "{0[0]} users, {0[1]} replies, {0[2]} questions"
    return [
        "# A distilled judge",
        "",
        f"- judge: `{card.name}`",
        f"- taught by: {card.teacher}",
        f"- weights it began with: {card.base} ({card.method})",
        f"- learned from: {counts.format(card.learned)}; {card.steps} steps, {card.seconds:.0f} s",
        f"- measured on users it has not seen: {counts.format(card.unseen)}",
        f"- dimensions: {', '.join(card.dimensions)}; prompts: {', '.join(card.prompts)}",
        *[f"- judgements: {one.path} ({one.judgements}, sha256 {one.sha256[:12]})" for one in card.sources],
        *[f"- left out: {count} {reason}" for reason, count in sorted(card.left_out.items())],
        "",
        *_verdict(card),
        "",
        "Agreement with the teacher on unseen users. Difference and gain are in points of 1 to 5; gain is how much nearer the student is.",
        "",
        "| measure | by | rank correlation | mean difference | ICC(A,1) | gain | n | users |",
        "|---|---|---|---|---|---|---|---|",
        *[_row(row) for row in card.agreement],
        "",
        "Agreement with a teacher says nothing about agreement with people: `peregrm validate --human` measures that, for either.",
    ]


def _verdict(card: DistilledCard) -> list[str]:
    words = {
        True: "It is nearer to its teacher than the {0}, beyond what chance among users gives.",
        False: "IT IS NOT SHOWN TO BE NEARER TO ITS TEACHER THAN THE {0}: do not use it in the teacher's place.",
        None: "There is no interval to tell it from the {0} by: unseen users are too few, or do not differ.",
    }
    return [words[card.beats(scorer)].format(scorer) for scorer in (CONSTANT, CRITERION)]


def _row(row: Agreement) -> str:
    gain = "" if row.gain is None else _figure(row.gain)
    by = f"**{row.scorer}**" if row.scorer == STUDENT else row.scorer
    cells = [row.measure, by, _figure(row.rank), _figure(row.difference), _figure(row.icc), gain]
    return f"| {' | '.join(cells)} | {row.difference.n} of {row.difference.asked} | {row.difference.users} |"


def _figure(estimate: Estimate) -> str:
    if estimate.mean is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.2f} (no interval)"
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
