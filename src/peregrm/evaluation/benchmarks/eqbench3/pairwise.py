"""Ask a judge which of two transcripts of one scenario is stronger, in both orders, with the benchmark's own prompt.

A judge leans to a place; two orders cancel that, and whether they name the same winner says how much it leans. A pair of which one order
has no usable verdict has no margin.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pydantic import BaseModel, create_model

from peregrm.evaluation.benchmarks.eqbench3.data import EQBench, Scenario, fill
from peregrm.evaluation.benchmarks.eqbench3.margins import Verdict, margin, pluses
from peregrm.evaluation.benchmarks.eqbench3.rubric import Judged, thinking
from peregrm.evaluation.benchmarks.eqbench3.transcripts import (
    ANALYSIS_LENGTH,
    DEBRIEF_LENGTH,
    Transcript,
    shown_text,
    shown_turns,
)
from peregrm.models.base import Message, Model, Request
from peregrm.models.structured import ask
from peregrm.records import Failure, Part

__all__ = ["Pair", "compare"]

_NO_NOTES = "(there are none)"


class Pair(NamedTuple):
    """Ours against another transcript. `differences` are the pluses by which ours is ahead, one an order; positive is ours."""

    differences: tuple[int, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def difference(self) -> int | None:
        """The pluses by which ours is ahead over both orders, or None where one has no verdict."""
        return None if self.failures else sum(self.differences)

    @property
    def margin(self) -> float | None:
        """From -1 (the other by a rout) to 1 (ours)."""
        return None if self.difference is None else margin(self.difference)

    @property
    def win(self) -> float | None:
        """1 where ours is ahead, 0 where the other is, 0.5 for a draw."""
        return None if self.difference is None else 0.5 + 0.5 * ((self.difference > 0) - (self.difference < 0))

    @property
    def agree(self) -> float | None:
        """1 where both orders name the same winner, else 0."""
        if self.failures:
            return None
        first, second = self.differences
        return float((first > 0) - (first < 0) == (second > 0) - (second < 0))


async def compare(
    judge: Model, ours: Transcript, other: Transcript, scenario: Scenario, bench: EQBench, how: Judged
) -> Pair:
    """Ask in both orders. Raises `ModelError` only where it is fatal, `InputError` where the prompt asks for something else."""
    differences, failures = [], []
    for first, second, sign in ((ours, other, 1), (other, ours, -1)):
        verdict = await _verdict(judge, first, second, scenario, bench, how)
        if isinstance(verdict, Failure):
            failures.append(verdict)
        else:
            differences.append(sign * verdict)
    return Pair(tuple(differences), tuple(failures))


async def _verdict(
    judge: Model, first: Transcript, second: Transcript, scenario: Scenario, bench: EQBench, how: Judged
) -> int | Failure:
    """Return by how many pluses the one shown first is ahead."""
    judging = bench.judging(scenario)
    prompt = fill(judging.pairwise, _values(first, second, scenario, bench), "pairwise")
    request = Request(messages=(Message(role="user", content=prompt),), max_tokens=how.max_tokens, purpose="pairwise")
    answer = await ask(judge, request, _schema(judging.compared, how.reasons))
    if answer.value is None:
        return answer.failure or Failure(stage="pairwise", kind="empty", reason="no verdict")
    said = answer.value.model_dump()
    ahead, behind = pluses({trait: said[trait] for trait in judging.compared})
    return ahead - behind


def _values(first: Transcript, second: Transcript, scenario: Scenario, bench: EQBench) -> dict[str, str]:
    notes = scenario.notes or _NO_NOTES
    if scenario.kind == "analysis":
        return {
            "transcript_being_analysed": scenario.turns[0],
            "response_A": shown_text(_analysis(first), ANALYSIS_LENGTH),
            "response_B": shown_text(_analysis(second), ANALYSIS_LENGTH),
            "scenario_notes": notes,
        }
    return {
        "conversation_history_A": shown_turns(first, scenario, bench, cut=True),
        "debrief_A": shown_text(first.debrief or "", DEBRIEF_LENGTH),
        "conversation_history_B": shown_turns(second, scenario, bench, cut=True),
        "debrief_B": shown_text(second.debrief or "", DEBRIEF_LENGTH),
        "scenario_notes": notes,
    }


def _analysis(transcript: Transcript) -> str:
    return next((message.content for message in transcript.turns if message.role == "assistant"), "")


@lru_cache(maxsize=16)
def _schema(compared: tuple[str, ...], reasons: bool) -> type[BaseModel]:
    fields = {**thinking(reasons, (str, ...)), **dict.fromkeys(compared, (Verdict, ...))}
    return create_model("Verdicts", __base__=Part, **fields)  # type: ignore[call-overload,no-any-return]
