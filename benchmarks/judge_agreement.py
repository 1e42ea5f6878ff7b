"""Do judges agree with people as published? The intraclass correlations of MentalBench-Align, computed again from its raw ratings.

`--ratings` is JSON lines (or `.gz`) of {rater, conv_id, responder, raw}: `raw` is what the rater said, a JSON object of seven attributes
of 1 to 5, fenced or not. `--published` is the table of github.com/abeerbadawi/MentalBench-Align (`Results/ICC Reliability Analysis.md`);
without it nothing is compared.

Published is the coefficient over responders, not over replies: each responder's mean rating by the people is set beside its mean by one
judge, over the replies that both rated, without the responder that is of the judge's own family; nine targets and two raters.
`ICC(C,1)` asks whether both rank the responders alike, `ICC(A,1)` whether they give the same numbers too. Their interval is a percentile
bootstrap over those nine; ours is that of F distributions (McGraw and Wong 1996), which is exact for `ICC(C,1)` where ratings are normal.

Beside the published way stand two others: with ratings outside 1 to 5 left out, which the published figures keep; and each reply a target,
which is what a judge of single replies needs. Ratings that cannot be read are counted and left out, never mended.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setting import about, save, say_about

from peregrm.evaluation.inference.icc import Icc, icc

__all__ = [
    "ATTRIBUTES",
    "JUDGES",
    "Agreement",
    "Ratings",
    "agreement",
    "differences",
    "main",
    "published",
    "read_ratings",
]

ATTRIBUTES = ("Guidance", "Informativeness", "Relevance", "Safety", "Empathy", "Helpfulness", "Understanding")
PEOPLE = "human"
SCALE = (1.0, 5.0)
JUDGES = {
    "Claude-3.7-Sonnet": ("claude", "claude"),
    "GPT-4o": ("gpt-4o", "gpt4o"),
    "Gemini-2.5-Flash": ("gemini", "gemini"),
    "o4-mini": ("o4-mini", "gpt4omini"),
}
"""Each judge by its published name: what the ratings call it, and the responder of its own family."""

_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)

Key = tuple[str, str]
"""Conversation and responder."""


@dataclass(frozen=True)
class Ratings:
    """Every rating by rater, reply and attribute, and what could not be read: replies by rater, and values outside the scale by rater."""

    by_rater: Mapping[str, Mapping[Key, Mapping[str, float]]]
    unread: Counter[str]
    outside: Counter[str]

    def within_scale(self) -> Ratings:
        """Return the ratings of 1 to 5 alone."""
        kept = {
            rater: {
                key: {name: value for name, value in row.items() if SCALE[0] <= value <= SCALE[1]}
                for key, row in rows.items()
            }
            for rater, rows in self.by_rater.items()
        }
        return Ratings(kept, self.unread, Counter())


@dataclass(frozen=True)
class Agreement:
    """One judge against the people on one attribute. `replies` were rated by both; the first two are over responders."""

    judge: str
    attribute: str
    replies: int
    consistent: Icc
    absolute: Icc
    of_replies: Icc
    of_replies_absolute: Icc

    def as_dict(self) -> dict[str, Any]:
        """Return the agreement as JSON values."""
        return {name: value.model_dump() if isinstance(value, Icc) else value for name, value in self.__dict__.items()}


def read_ratings(path: Path) -> Ratings:
    """Read raw ratings; an attribute whose value is no number is left out, a reply without any is counted as unread."""
    by_rater: dict[str, dict[Key, dict[str, float]]] = defaultdict(dict)
    unread: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for line in text.decode("utf-8").splitlines():
        row = json.loads(line)
        read = _attributes(row["raw"])
        by_rater[row["rater"]][row["conv_id"], row["responder"]] = read
        unread[row["rater"]] += not read
        outside[row["rater"]] += sum(not SCALE[0] <= value <= SCALE[1] for value in read.values())
    return Ratings(by_rater, unread, outside)


def _attributes(raw: object) -> dict[str, float]:
    if not isinstance(raw, str):
        return {}
    fenced = _FENCE.match(raw)
    try:
        said = json.loads(fenced[1] if fenced else raw)
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    found = {name: _number(said.get(name)) for name in ATTRIBUTES}
    return {name: value for name, value in found.items() if value is not None}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def agreement(ratings: Ratings, judge: str, attribute: str, *, rater: str, own: str | None) -> Agreement:
    """Return how far a judge agrees with the people; replies of the responder `own` are left out."""
    people, other = ratings.by_rater.get(PEOPLE, {}), ratings.by_rater.get(rater, {})
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, row in sorted(people.items()):
        theirs = other.get(key, {})
        if key[1] != own and attribute in row and attribute in theirs:
            pairs[key[1]].append((row[attribute], theirs[attribute]))
    means = [tuple(sum(side) / len(rows) for side in zip(*rows, strict=True)) for _, rows in sorted(pairs.items())]
    replies = [pair for _, rows in sorted(pairs.items()) for pair in rows]
    return Agreement(
        judge=judge,
        attribute=attribute,
        replies=len(replies),
        consistent=icc(means, "C,1"),
        absolute=icc(means, "A,1"),
        of_replies=icc(replies, "C,1"),
        of_replies_absolute=icc(replies, "A,1"),
    )


def published(text: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the published ICC(C,1) and ICC(A,1) by judge and attribute, from the Markdown table."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    judge = ""
    for line in text.splitlines():
        cells = [cell.strip().strip("*").strip() for cell in line.split("|")]
        if len(cells) >= 8 and cells[3] in ATTRIBUTES:
            judge = cells[1] or judge
            found[judge, cells[3]] = (float(cells[4]), float(cells[6]))
    return found


def _rows(ratings: Ratings) -> list[Agreement]:
    return [
        agreement(ratings, judge, attribute, rater=rater, own=own)
        for judge, (rater, own) in JUDGES.items()
        for attribute in ATTRIBUTES
    ]


def _say(
    rows: Sequence[Agreement], strict: Sequence[Agreement], known: Mapping[tuple[str, str], tuple[float, float]]
) -> None:
    print(
        "\n| judge | attribute | ICC(C,1) published | ours [95 %] | ICC(A,1) published | ours | 1 to 5 only, C | A | over replies, C | n |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row, kept in zip(rows, strict, strict=True):
        theirs = known.get((row.judge, row.attribute))
        print(
            f"| {row.judge} | {row.attribute} | {'—' if theirs is None else f'{theirs[0]:.3f}'} | {_with_interval(row.consistent)} "
            f"| {'—' if theirs is None else f'{theirs[1]:.3f}'} | {_plain(row.absolute)} | {_plain(kept.consistent)} "
            f"| {_plain(kept.absolute)} | {_with_interval(row.of_replies)} | {row.replies} |"
        )


def _plain(found: Icc) -> str:
    return "—" if found.value is None else f"{found.value:.3f}"


def _with_interval(found: Icc) -> str:
    ends = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{_plain(found)}{ends}"


def differences(
    rows: Iterable[Agreement], known: Mapping[tuple[str, str], tuple[float, float]]
) -> dict[str, list[float]]:
    """Return ours minus published, of both forms, for the rows that are published."""
    found: dict[str, list[float]] = {"ICC(C,1)": [], "ICC(A,1)": []}
    for row in rows:
        theirs = known.get((row.judge, row.attribute))
        for form, ours, place in (("ICC(C,1)", row.consistent, 0), ("ICC(A,1)", row.absolute, 1)):
            if theirs is not None and ours.value is not None:
                found[form].append(ours.value - theirs[place])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and save the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=Path, required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    facts = about(seed=0)
    say_about(facts)
    ratings = read_ratings(options.ratings)
    known = {} if options.published is None else published(options.published.read_text(encoding="utf-8"))
    rows, strict = _rows(ratings), _rows(ratings.within_scale())
    print(f"not read: {dict(+ratings.unread)}; outside 1 to 5: {dict(+ratings.outside)}")
    _say(rows, strict, known)
    apart = {"as published": differences(rows, known), "1 to 5 only": differences(strict, known)}
    for way, forms in apart.items():
        for form, gaps in forms.items():
            sizes = [abs(gap) for gap in gaps]
            if sizes:
                figures = f"largest difference {max(sizes):.4f}, mean {sum(sizes) / len(sizes):.4f}, n {len(sizes)}"
                print(f"{form}, {way}: {figures}")
    save(
        options.json,
        {
            **facts,
            "unread": dict(ratings.unread),
            "outside": dict(ratings.outside),
            "rows": [row.as_dict() for row in rows],
            "within_scale": [row.as_dict() for row in strict],
            "differences": apart,
        },
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
