"""How good a trained head is on users it never saw, by the number of users it was trained on.

```
python benchmarks/judge_head_curve.py examples -o docs/judge_head_curve.svg
```

Takes the folders that `peregrm train judge-head` takes. Users are dealt out to eight folds; for every size a head is fitted on that
many users outside the fold (drawn by a hash, several times) and judges those in it. Prints a table and draws the curve. The last row is
a head that is not shown the person: what it gets right is in the writing alone. The penalty is fixed here, so figures differ a little
from a card's.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.models.embeddings import Embedder
from peregrm.reward.heads.features import Features, without_person
from peregrm.training.fitting import Contest, fit_weights
from peregrm.training.folds import Trained, featured
from peregrm.training.pairs import read_material

PENALTY = 0.1
GOALS = ("personalized over generic", "generic over mismatched", "personalized over mismatched", "persona swap noticed")
WIDTH, HEIGHT, LEFT, TOP = 640, 360, 60, 30
COLOURS = ("#1b6ca8", "#c1440e", "#3a7d44", "#6b4c9a")


def drawn(users: list[str], size: int, draw: int) -> set[str]:
    """Return `size` of the users, another choice every draw."""
    return set(sorted(users, key=lambda user: hashlib.sha256(f"{draw}:{user}".encode()).hexdigest())[:size])


def contests_of(trained: Trained, users: set[str]) -> list[Contest]:
    """Return the pairs and swaps among these users."""
    contests = []
    for group, replies, swapped in trained.made:
        if group.user in users:
            contests += [Contest(replies[pair.better], replies[pair.worse]) for pair in group.pairs]
            contests += [Contest(replies[group.best or 0], other, True) for user, other in swapped if user in users]
    return contests


def accuracies(trained: Trained, table: Features, size: int, draws: int) -> dict[str, Estimate]:
    """Return the share of right orders on users left out, by kind of pair."""
    rows: dict[str, list[tuple[str, float]]] = {name: [] for name in GOALS}
    for fold in range(trained.count):
        others = [user for user, own in trained.folds.items() if own != fold]
        for draw in range(draws if size < len(others) else 1):
            users = drawn(others, size, draw)
            replies = [one for made in trained.made if made.group.user in users for one in made.replies]
            weights = fit_weights(table, contests_of(trained, users), replies, [PENALTY])[PENALTY]
            scores = weights.score(table)
            for group, own, swapped in trained.made:
                if trained.folds[group.user] != fold:
                    continue
                for pair in group.pairs:
                    if pair.name in rows:
                        rows[pair.name].append((group.user, float(scores[own[pair.better]] > scores[own[pair.worse]])))
                best = scores[own[group.best or 0]]
                rows[GOALS[3]] += [(group.user, float(best > scores[other])) for _, other in swapped]
    return {name: clustered_mean(values, bounds=(0.0, 1.0)) for name, values in rows.items()}


def svg(curve: dict[int, dict[str, Estimate]], goal: float) -> str:
    """Return the curve as a picture, one line a kind of pair, with the goal."""
    sizes = sorted(curve)

    def x(size: int) -> float:
        return LEFT + (WIDTH - LEFT - 20) * (size - sizes[0]) / max(1, sizes[-1] - sizes[0])

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - 70) * (1 - share) / 0.6

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 60}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT + 60}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18">Right order on users the head never saw, by users in training</text>',
    ]
    for tick in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        parts.append(f'<text x="{LEFT - 30}" y="{y(tick) + 4:.0f}">{tick:.1f}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(tick):.0f}" y2="{y(tick):.0f}" stroke="#ddd"/>')
    line = f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(goal):.0f}" y2="{y(goal):.0f}" stroke="#000" stroke-dasharray="4 4"/>'
    parts.append(line)
    parts += [f'<text x="{x(size) - 6:.0f}" y="{y(0.4) + 18:.0f}">{size}</text>' for size in sizes]
    for place, name in enumerate(GOALS):
        points = [(x(size), y(curve[size][name].mean or 0.0)) for size in sizes]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[place]}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{COLOURS[place]}"/>' for a, b in points]
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - 10 + 16 * place}" fill="{COLOURS[place]}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def shown(estimate: Estimate) -> str:
    """Return an estimate with its interval."""
    low, high = estimate.low, estimate.high
    return f"{estimate.mean:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("judge_head_curve.svg"))
    parser.add_argument("--draws", type=int, default=3)
    asked = parser.parse_args()
    trained = featured(read_material(asked.paths).groups, Embedder(), print)
    most = len(trained.folds) - -(-len(trained.folds) // trained.count)
    sizes = sorted({*range(4, most, 4), most})
    blind = accuracies(trained, without_person(trained.table), most, 1)
    curve = {size: accuracies(trained, trained.table, size, asked.draws) for size in sizes}
    print(f"| users | {' | '.join(GOALS)} |\n|---|{'---|' * len(GOALS)}")
    for size, found in curve.items():
        print(f"| {size} | {' | '.join(shown(found[name]) for name in GOALS)} |")
    print(f"| {most}, person hidden | {' | '.join(shown(blind[name]) for name in GOALS[:3])} | |")
    asked.out.write_text(svg(curve, 0.75), encoding="utf-8")


if __name__ == "__main__":
    main()
