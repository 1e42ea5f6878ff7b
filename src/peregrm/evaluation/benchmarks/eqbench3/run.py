"""Run EQ-Bench 3 for a model: act the scenarios, let the judge score them and, where there is another, compare.

An item is a scenario; scenarios of one title share their story and are one cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from peregrm.errors import InputError
from peregrm.evaluation.benchmarks.common import About, ItemScore, Outcome, Scale, benchmark_result, choose
from peregrm.evaluation.benchmarks.eqbench3.data import EQBench, Scenario
from peregrm.evaluation.benchmarks.eqbench3.pairwise import Pair, compare
from peregrm.evaluation.benchmarks.eqbench3.rubric import Judged, Scored, rubric_score, score_transcript
from peregrm.evaluation.benchmarks.eqbench3.transcripts import Transcript, act
from peregrm.mapping import Progress, map_in_order
from peregrm.models.base import Model
from peregrm.records import Failure
from peregrm.store import read_records

__all__ = ["EQOptions", "read_transcripts", "run_eqbench"]

TRANSCRIPTS = "transcripts.jsonl"
_UNJUDGED = "no transcript to judge"


class EQOptions(NamedTuple):
    """How much is run: `limit` scenarios (None: all), replies of at most `max_tokens`, a judge with reasons or not."""

    limit: int | None = None
    seed: int = 0
    max_tokens: int = 4000
    reasons: bool = True


class _Done(NamedTuple):
    scenario: Scenario
    transcript: Transcript
    scored: Scored | None
    pair: Pair | None


def read_transcripts(path: Path) -> dict[str, Transcript]:
    """Return the transcripts of an earlier run by scenario; `path` is their file or the run's folder.

    Raises `InputError` where there is no such file, or it holds transcripts of several models or a scenario twice.
    """
    file = path / TRANSCRIPTS if path.is_dir() else path
    found = read_records(file, Transcript)
    by_scenario = {transcript.scenario_id: transcript for transcript in found}
    if not found or len(by_scenario) != len(found) or len({transcript.model for transcript in found}) != 1:
        raise InputError(f"{file}: should hold the transcripts of one model, one a scenario")
    return by_scenario


async def run_eqbench(
    bench: EQBench,
    model: Model,
    judge: Model,
    options: EQOptions,
    progress: Progress,
    *,
    against: Model | Mapping[str, Transcript] | None = None,
) -> Outcome:
    """Run the benchmark.

    Args:
        bench: Its files.
        model: Who acts.
        judge: Who scores and compares.
        options: How much.
        progress: Who shows how far it is.
        against: Another model, which acts the same scenarios, or transcripts by scenario.

    Raises:
        ModelError: Only a fatal one.
    """
    scenarios = choose(bench.scenarios, options.limit, options.seed, lambda one: one.scenario_id, lambda one: one.kind)

    how = Judged(reasons=options.reasons)

    async def one(scenario: Scenario) -> _Done:
        transcript = await act(model, scenario, bench, max_tokens=options.max_tokens, seed=options.seed)
        if transcript.failure is not None:
            return _Done(scenario, transcript, None, None)
        scored = await score_transcript(judge, transcript, scenario, bench, how)
        return _Done(scenario, transcript, scored, await pair(scenario, transcript))

    async def pair(scenario: Scenario, ours: Transcript) -> Pair | None:
        if against is None:
            return None
        if isinstance(against, Mapping):
            other = against.get(scenario.scenario_id)
        else:
            other = await act(against, scenario, bench, max_tokens=options.max_tokens, seed=options.seed)
        if other is None:
            return Pair((), (Failure(stage="against", kind="missing", reason="the other has no transcript of it"),))
        if other.failure is not None:
            return Pair((), (other.failure.model_copy(update={"stage": "against"}),))
        return await compare(judge, ours, other, scenario, bench, how)

    done = await map_in_order(one, scenarios, stage="scenarios", progress=progress)
    names = {"model": model.name, "judge": judge.name}
    if against is not None:
        names["against"] = _name_of(against)
    about = About("eqbench3", "rubric", names, bench.files, len(bench.scenarios), seed=options.seed)
    items = [_item(one, bench, compared=against is not None) for one in done]
    return benchmark_result(
        about, items, _scales(bench), files={TRANSCRIPTS: [one.transcript for one in done]}, notes=_notes(done)
    )


def _name_of(against: Model | Mapping[str, Transcript]) -> str:
    if isinstance(against, Mapping):
        return next(iter(against.values())).model
    return against.name


def _item(done: _Done, bench: EQBench, *, compared: bool) -> ItemScore:
    scenario, transcript, scored, pair = done
    criteria = bench.judging(scenario).criteria
    known = scored.scores if scored else {}
    scores: list[tuple[str, float | None]] = [("rubric", rubric_score(known, scenario))]
    scores += [(name, known.get(name)) for name in criteria]
    if compared:
        scores += [
            ("win", pair.win if pair else None),
            ("margin", pair.margin if pair else None),
            ("orders agree", pair.agree if pair else None),
        ]
    failures = [failure for failure in (transcript.failure, scored.failure if scored else None) if failure]
    failures += pair.failures if pair else ()
    judged = (1 if scored else 0) + (len(pair.differences) + len(pair.failures) if pair else 0)
    return ItemScore(
        item_id=scenario.scenario_id,
        cluster=scenario.title or scenario.scenario_id,
        slices=(("kind", scenario.kind),),
        scores=tuple(scores),
        asked=transcript.asked + judged,
        failures=tuple(failures),
        details=(("judge", scored.reasons if scored and not scored.failure else _UNJUDGED),),
    )


def _scales(bench: EQBench) -> tuple[Scale, ...]:
    criteria = dict.fromkeys((*bench.acted.criteria, *bench.analysis.criteria))
    return (
        Scale(
            "rubric",
            (0, 100),
            "rubric: 0 to 100, from the criteria that say how good a reply is; the criteria are 0 to 20.",
            headline=True,
        ),
        *(Scale(name, (0, 20)) for name in criteria),
        Scale("win", (0, 1), "win: 1 where the judge prefers the model over both orders, 0.5 for a draw."),
        Scale("margin", (-1, 1), "margin: by how much, from -1 to 1, from the judge's plus signs.", headline=True),
        Scale("orders agree", (0, 1), "orders agree: the judge names the same winner in both orders."),
    )


def _notes(done: Sequence[_Done]) -> tuple[str, ...]:
    lost = sum(one.transcript.failure is not None for one in done)
    return (f"{lost} scenarios broke off and were not judged.",) if lost else ()
