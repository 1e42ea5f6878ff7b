"""Recompute the published leaderboard from the recorded comparisons, and say how well the order is met.

The file `elo_results_*.json[.gz]` holds every model's published rating and all comparisons: two models, a scenario, an order, and what the
judge said. Verdicts are read anew; a comparison that the judge answered with an error has none and is counted. Both orders of a pair make
one match.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import file_hash, print_table
from peregrm.evaluation.benchmarks.eqbench3.margins import pluses
from peregrm.evaluation.benchmarks.eqbench3.rating import Match, Rating, rate, sequential_ratings
from peregrm.evaluation.benchmarks.eqbench3.rubric import REASONING
from peregrm.evaluation.console import print_text
from peregrm.evaluation.report import format_value
from peregrm.records import Part

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Leaderboard", "LeaderboardRow", "print_leaderboard", "recompute"]

ANCHORS = (("o3", 1500.0), ("meta-llama/llama-3.2-1b-instruct", 200.0))
"""Models whose rating is these points on the published scale; the others lie on the line through them."""

_FILES = ("elo_results*.json.gz", "elo_results*.json")
_META = "__metadata__"
_TEST_FIRST, _TEST_SECOND = "A0493:test / A0488:other", "A0493:other / A0488:test"


class LeaderboardRow(Part):
    """One model: our rating with its interval on the published scale (on our own where an anchor is missing), and the recorded one."""

    model: str
    rank: int
    rating: float
    low: float | None
    high: float | None
    matches: int
    recorded_rank: int | None
    recorded: float | None


class Leaderboard(Part):
    """The table, best first, and how well it meets the recorded one.

    `spearman` and `kendall` are rank correlations of our ratings with the recorded ones over models that have both, None for fewer than
    three; `sequential_spearman` is that of the published procedure run over the records as they stand in the file. `mean_difference` is in
    points of the published scale. `errors` are comparisons without a verdict, `odd` those whose recorded pluses are not those of their
    verdict. `first_wins` is the share of decided comparisons won by the one shown first, `agree` the share of pairs of which both orders
    name the same winner.
    """

    data: tuple[tuple[str, str], ...]
    comparisons: int
    errors: int
    odd: int
    pairs: int
    scenarios: int
    anchored: bool
    rows: tuple[LeaderboardRow, ...]
    spearman: float | None
    kendall: float | None
    sequential_spearman: float | None
    mean_difference: float | None
    first_wins: float | None
    agree: float | None


class _Comparison(NamedTuple):
    test: str
    other: str
    scenario_id: str
    iteration: str
    test_first: bool
    difference: int
    """In pluses, positive where `test` is ahead."""
    as_recorded: bool


def recompute(folder: Path, seed: int = 0) -> Leaderboard:
    """Return the leaderboard of the recorded comparisons in the folder; the seed is that of the intervals.

    Raises `InputError` where there is not exactly one such file, or it does not hold what it should.
    """
    path = _results_file(folder)
    recorded, raw = _read(path)
    read = [_comparison(entry, f"{path}: comparison {n}") for n, entry in enumerate(raw, start=1)]
    known = [comparison for comparison in read if comparison is not None]
    groups: dict[tuple[str, str, str, str], list[_Comparison]] = defaultdict(list)
    for comparison in known:
        first, second = sorted((comparison.test, comparison.other))
        groups[first, second, comparison.scenario_id, comparison.iteration].append(comparison)
    matches = [Match(key[0], key[1], key[2], sum(_for(c, key[0]) for c in group)) for key, group in groups.items()]
    if not matches:
        raise InputError(f"{path}: no comparison has a verdict")
    ratings, anchored = _on_published_scale(rate(matches, seed))
    spearman, kendall = _rank_correlations({name: rating.rating for name, rating in ratings.items()}, recorded["elo"])
    norm = recorded["elo_norm"] if anchored else {}
    differences = [abs(ratings[name].rating - norm[name]) for name in ratings if name in norm]
    decided = [c for c in known if c.difference]
    both = [tuple(_for(c, key[0]) for c in group) for key, group in groups.items() if len(group) == 2]
    return Leaderboard(
        data=((path.name, file_hash(path)),),
        comparisons=len(raw),
        errors=len(raw) - len(known),
        odd=sum(not comparison.as_recorded for comparison in known),
        pairs=len(matches),
        scenarios=len({match.scenario_id for match in matches}),
        anchored=anchored,
        rows=_rows(ratings, norm if anchored else recorded["elo"]),
        spearman=spearman,
        kendall=kendall,
        sequential_spearman=_rank_correlations(sequential_ratings(matches), recorded["elo"])[0],
        mean_difference=sum(differences) / len(differences) if differences else None,
        first_wins=_share([(c.difference > 0) == c.test_first for c in decided]),
        agree=_share([(a > 0) - (a < 0) == (b > 0) - (b < 0) for a, b in both]),
    )


def _results_file(folder: Path) -> Path:
    found = sorted({path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()})
    if len(found) != 1:
        raise InputError(f"{folder}: holds {len(found)} files elo_results*.json or .json.gz, not one")
    return found[0]


def _read(path: Path) -> tuple[dict[str, dict[str, float]], list[Any]]:
    """Return the recorded ratings by scale and model, and the comparisons."""
    try:
        data = path.read_bytes()
        document = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        comparisons = document[_META]["global_pairwise_comparisons"]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except (KeyError, TypeError):
        comparisons = None
    if not isinstance(comparisons, list):
        raise InputError(f"{path}: has no list {_META}.global_pairwise_comparisons")
    models = {name: entry for name, entry in document.items() if name != _META and isinstance(entry, dict)}
    scales = ("elo", "elo_norm")
    return {
        scale: {
            name: float(entry[scale]) for name, entry in models.items() if isinstance(entry.get(scale), int | float)
        }
        for scale in scales
    }, comparisons


def _comparison(entry: Any, where: str) -> _Comparison | None:
    """Return one comparison, or None where the judge gave no verdict."""
    if isinstance(entry, dict) and "error" in entry:
        return None
    try:
        pair, order, said = entry["pair"], entry["order"], entry["judge_response"]
        ahead, behind = pluses({trait: verdict for trait, verdict in said.items() if trait != REASONING})
        test_first = {_TEST_FIRST: True, _TEST_SECOND: False}[order]
        counts = (ahead, behind) if test_first else (behind, ahead)
        return _Comparison(
            str(pair["test_model"]),
            str(pair["neighbor_model"]),
            str(entry["scenario_id"]),
            str(pair.get("iteration_index", "")),
            test_first,
            counts[0] - counts[1],
            (entry.get("plus_for_test"), entry.get("plus_for_other")) in (counts, (None, None)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{where} is not one: {type(error).__name__} {error}") from None


def _for(comparison: _Comparison, model: str) -> int:
    return comparison.difference if comparison.test == model else -comparison.difference


def _on_published_scale(ratings: Mapping[str, Rating]) -> tuple[dict[str, Rating], bool]:
    (top, high), (bottom, low) = ANCHORS
    if top not in ratings or bottom not in ratings or ratings[top].rating == ratings[bottom].rating:
        return dict(ratings), False
    slope = (high - low) / (ratings[top].rating - ratings[bottom].rating)

    def place(value: float | None) -> float | None:
        return None if value is None else low + slope * (value - ratings[bottom].rating)

    return {
        name: Rating(low + slope * (r.rating - ratings[bottom].rating), place(r.low), place(r.high), r.matches)
        for name, r in ratings.items()
    }, True


def _rows(ratings: Mapping[str, Rating], recorded: Mapping[str, float]) -> tuple[LeaderboardRow, ...]:
    order = sorted(ratings, key=lambda name: (-ratings[name].rating, name))
    theirs = sorted((recorded[name] for name in ratings if name in recorded), reverse=True)
    return tuple(
        LeaderboardRow(
            model=name,
            rank=rank,
            rating=ratings[name].rating,
            low=ratings[name].low,
            high=ratings[name].high,
            matches=ratings[name].matches,
            recorded_rank=1 + theirs.index(recorded[name]) if name in recorded else None,
            recorded=recorded.get(name),
        )
        for rank, name in enumerate(order, start=1)
    )


def _rank_correlations(ours: Mapping[str, float], recorded: Mapping[str, float]) -> tuple[float | None, float | None]:
    both = sorted(ours.keys() & recorded.keys())
    one, other = [ours[name] for name in both], [recorded[name] for name in both]
    if len(both) < 3 or min(len(set(one)), len(set(other))) < 2:
        return None, None
    from scipy.stats import kendalltau, spearmanr

    return float(spearmanr(one, other).statistic), float(kendalltau(one, other).statistic)


def _share(facts: Sequence[bool]) -> float | None:
    return Counter(facts)[True] / len(facts) if facts else None


def print_leaderboard(console: Console, table: Leaderboard) -> None:
    """Print the table and what it rests on."""
    head = ("model", "rank", "rating [95 %]", "matches", "recorded rank", "recorded")
    body = [
        (
            row.model,
            str(row.rank),
            f"{row.rating:.0f} [{format_value(row.low, 0)}, {format_value(row.high, 0)}]",
            str(row.matches),
            "—" if row.recorded_rank is None else str(row.recorded_rank),
            format_value(row.recorded, 0),
        )
        for row in table.rows
    ]
    print_table(console, "EQ-Bench 3: ratings recomputed from the recorded comparisons", head, body)
    print_text(
        console,
        f"{table.comparisons} comparisons, {table.errors} of them without a verdict; {table.pairs} pairs in {table.scenarios} scenarios. "
        f"Recorded pluses that are not those of the verdict: {table.odd}. "
        f"The one shown first won {format_value(table.first_wins, 3)} of the decided comparisons; both orders agree on "
        f"{format_value(table.agree, 3)} of the pairs.",
    )
    print_text(
        console,
        f"With the recorded ratings: Spearman {format_value(table.spearman, 4)}, Kendall {format_value(table.kendall, 4)}, "
        f"mean difference {format_value(table.mean_difference, 1)} points. The published procedure, one comparison after the other "
        f"as they stand in the file: Spearman {format_value(table.sequential_spearman, 4)}. Intervals: 95 %, scenarios drawn anew.",
    )
    if not table.anchored:
        print_text(
            console,
            f"Ratings are around 1200 and not on the published scale: {ANCHORS[0][0]} or {ANCHORS[1][0]} is missing.",
        )
