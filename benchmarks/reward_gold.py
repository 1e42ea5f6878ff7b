"""Does a real judge see the known order? The recorded replies of `examples/`, scored in every mode.

Every case has four replies whose order is known by construction: personalized over generic over cold over mismatched. A pair counts 1 where
the better reply has the larger total, a half where both have the same, and is not covered where one of them has none; 0.5 is chance. The
interval is that of a mean clustered by user, between 0 and 1. Modes that ask for K trials are asked for one, `paper` included: what is
compared is how they ask, not how often.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from setting import about, sample_cases, save, say_about

from peregrm.dataset.gold import GoldCase, recorded_replies
from peregrm.evaluation.statistics import Estimate, clustered_mean
from peregrm.records import Case
from peregrm.reward.base import Scored
from peregrm.reward.opening import open_judge
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import MODES, Mode, PereGRM
from peregrm.reward.variants import peregrm_of

__all__ = ["ModeResult", "main", "measure"]

Pair = tuple[GoldCase, Case]
Ranked = tuple[str, list[tuple[int, str, float | None]]]
"""A user, and the rank, policy and total of each reply to one case, best rank first."""


@dataclass(frozen=True)
class ModeResult:
    """What one mode found, and at what cost. `accuracy` holds the estimates over all pairs and over adjacent ones, then by pair."""

    mode: str
    judge: str
    accuracy: tuple[tuple[str, Estimate], ...]
    coverage: float
    failures: tuple[tuple[str, int], ...]
    calls: int
    input_tokens: int
    output_tokens: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**self.__dict__, "accuracy": {name: estimate.model_dump() for name, estimate in self.accuracy}}


async def measure(judge: str, mode: Mode, pairs: Sequence[Pair], options: argparse.Namespace) -> ModeResult:
    """Score the recorded replies of these cases in one mode, one case after another, with a judge opened for it."""
    opened = open_judge(judge, options.cache)
    asked = RewardOptions(judges=(judge,), seed=options.seed, criteria=options.criteria, reasons=options.reasons)
    planned = peregrm_of(asked, judge)
    grm = PereGRM(
        opened.model, mode=mode, seed=options.seed, criteria=planned.criteria, reasons=planned.reasons, samples=1
    )
    started = time.perf_counter()
    scored: list[tuple[Pair, list[Scored]]] = []
    try:
        for number, pair in enumerate(pairs, start=1):
            scored.append((pair, await grm.score(pair[1], recorded_replies([pair]))))
            print(
                f"{mode}: case {number} of {len(pairs)}, {time.perf_counter() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            if time.perf_counter() - started > options.seconds:
                break
    finally:
        await opened.aclose()
    used = opened.ledger.used_usage()
    replies = [one for _, group in scored for one in group]
    kinds = sorted(j.failure.kind for one in replies for j in one.judgements if j.failure is not None)
    kinds += sorted(
        f"not judged: {one.failure.kind}" for one in replies if one.failure is not None and not one.judgements
    )
    return ModeResult(
        mode=mode,
        judge=opened.model.name,
        accuracy=tuple(_accuracies([_ranked(pair, group) for pair, group in scored]).items()),
        coverage=sum(one.coverage for one in replies) / len(replies),
        failures=tuple((kind, kinds.count(kind)) for kind in dict.fromkeys(kinds)),
        calls=used.calls,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        seconds=time.perf_counter() - started,
    )


def _ranked(pair: Pair, group: Sequence[Scored]) -> Ranked:
    ranks = {reply.policy: reply.rank for reply in pair[0].replies}
    return pair[0].user_id, sorted((ranks[one.reply.policy], one.reply.policy, one.total) for one in group)


def _accuracies(cases: Sequence[Ranked]) -> dict[str, Estimate]:
    """Return the share of pairs in the known order: of all, of those next to each other, and of each pair of policies."""
    won: dict[str, list[tuple[str, float | None]]] = {"all pairs": [], "adjacent pairs": []}
    for user, ranked in cases:
        for (rank, better, a), (other, worse, b) in combinations(ranked, 2):
            if rank == other:
                continue
            value = None if a is None or b is None else 0.5 if a == b else float(a > b)
            name = f"{better.removeprefix('gold ')} over {worse.removeprefix('gold ')}"
            for kind in ("all pairs", name, *(["adjacent pairs"] if other - rank == 1 else [])):
                won.setdefault(kind, []).append((user, value))
    return {name: clustered_mean(values, bounds=(0.0, 1.0)) for name, values in won.items()}


def _say(result: ModeResult) -> None:
    print("| mode | pairs | accuracy | n of asked | users |")
    print("|---|---|---|---|---|")
    for name, e in result.accuracy:
        between = "no interval" if e.low is None else f"[{e.low:.2f}, {e.high:.2f}]"
        mean = "none" if e.mean is None else f"{e.mean:.2f} {between}"
        print(f"| {result.mode} | {name} | {mean} | {e.n} of {e.asked} | {e.users} |")
    failures = ", ".join(f"{kind} {count}" for kind, count in result.failures) or "none"
    print(
        f"{result.mode}: coverage of judgements {result.coverage:.2f}, failures: {failures}; {result.calls} calls, "
        f"{result.input_tokens:,} input and {result.output_tokens:,} output tokens, {result.seconds:.0f} s",
        flush=True,
    )


def main() -> int:
    """Score the sample in the modes asked for and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--judge", default="embedded", help="embedded, gguf:PATH, NAME@URL or a name of peregrm.toml")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--cases", type=int, help="how many of the 48 cases, the users in turn; all if not given")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="start no further case of a mode after this time"
    )
    parser.add_argument("--criteria", default="auto", choices=["auto", "model", "composed", "fixed", "none"])
    parser.add_argument("--reasons", default="auto", choices=["auto", "yes", "no"])
    parser.add_argument("--cache", type=Path, help="SQLite file that keeps the calls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    facts = about(options.seed)
    say_about(facts)
    pairs = sample_cases(options.cases)
    print(
        f"{options.judge}: up to {len(pairs)} cases of {len({pair[0].user_id for pair in pairs})} users, 4 replies each"
    )
    results: list[ModeResult] = []
    for mode in options.modes:  # said and saved one by one: a mode may take an hour
        results.append(asyncio.run(measure(options.judge, mode, pairs, options)))
        _say(results[-1])
        save(options.json, {**facts, "judge": options.judge, "modes": [result.as_dict() for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
