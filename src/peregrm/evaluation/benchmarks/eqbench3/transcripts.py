"""Let a model act the scenarios, and show a judge what it said.

A reply holds three sections under the headings that the benchmark asks for. For comparisons each is cut to the published length, so that
length alone wins nothing. Where a reply has none of the headings the published code shows an empty reply; here it is shown as it is, cut to
the same length in all, because it was not empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from peregrm.errors import ModelError
from peregrm.evaluation.benchmarks.eqbench3.data import EQBench, Scenario, fill
from peregrm.models.base import Message, Model, Request
from peregrm.records import Failure, Record
from peregrm.replies import split_thinking

__all__ = [
    "ANALYSIS_LENGTH",
    "DEBRIEF_LENGTH",
    "SECTION_LENGTHS",
    "Transcript",
    "act",
    "plain",
    "shown_text",
    "shown_turns",
]

SECTION_LENGTHS = (2200, 1600, 1600)
DEBRIEF_LENGTH = 4000
ANALYSIS_LENGTH = 6000
"""Characters of a reply's three sections, of a debrief and of an analysis that a judge of pairs sees."""

_ACTING_TEMPERATURE, _DEBRIEF_TEMPERATURE = 0.7, 0.5
_HEADING = re.compile(r"^#(?!#)\s*(.+?)\s*$", re.MULTILINE)


class Transcript(Record):
    """What a model said in one scenario: user and assistant in turn, then the debrief (None for analyses).

    Where a call failed `failure` says why, and the turns up to there are kept. `asked` counts the calls.
    """

    id_prefix = "trn"

    scenario_id: str
    model: str
    turns: tuple[Message, ...]
    debrief: str | None = None
    asked: int
    failure: Failure | None = None


async def act(model: Model, scenario: Scenario, bench: EQBench, *, max_tokens: int, seed: int) -> Transcript:
    """Let the model act one scenario; temperatures are the published ones.

    Raises `ModelError` only where it is fatal; any other ends the transcript with its failure.
    """
    turns: list[Message] = []
    asked = 0

    async def answer(said: str, temperature: float) -> str | Failure:
        nonlocal asked
        asked += 1
        turns.append(Message(role="user", content=said))
        request = Request(
            messages=tuple(turns), max_tokens=max_tokens, temperature=temperature, seed=seed, purpose="scenario"
        )
        return await _say(model, request)

    debrief: str | None = None
    failure: Failure | None = None
    for turn in scenario.turns:
        reply = await answer(
            fill(bench.masters[scenario.kind], {"scenario_prompt": turn}, "scenario"), _ACTING_TEMPERATURE
        )
        if isinstance(reply, Failure):
            failure = reply
            break
        turns.append(Message(role="assistant", content=reply))
    if failure is None and scenario.kind != "analysis":
        last = await answer(bench.debrief, _DEBRIEF_TEMPERATURE)
        turns.pop()
        debrief, failure = (None, last) if isinstance(last, Failure) else (last, None)
    return Transcript(
        scenario_id=scenario.scenario_id,
        model=model.name,
        turns=tuple(turns),
        debrief=debrief,
        asked=asked,
        failure=failure,
    )


async def _say(model: Model, request: Request) -> str | Failure:
    """Return a reply without its thinking; one that is nothing but unfinished thinking is a failure, an empty one is not."""
    try:
        completion = await model.complete(request)
    except ModelError as error:
        if error.fatal:
            raise
        return Failure(stage=request.purpose, kind=error.kind, reason=str(error))
    split = split_thinking(completion.text)
    if not split.closed or (not split.text and completion.finish_reason == "length"):
        reason = "the model was still thinking when its output ended: raise --max-tokens"
        return Failure(stage=request.purpose, kind="unclosed_thinking", reason=reason)
    return split.text


def plain(text: str) -> str:
    """Return text without the signs of Markdown that the judge is not shown, as published."""
    return text.replace("*", "").replace("#", "")


def shown_text(text: str, limit: int | None) -> str:
    """Return a text as a judge sees it, cut to `limit` characters (None: whole)."""
    return plain(text if limit is None or len(text) <= limit else f"{text[:limit]}... [truncated]")


def shown_turns(transcript: Transcript, scenario: Scenario, bench: EQBench, *, cut: bool) -> str:
    """Return the dialogue as a judge sees it; with `cut`, each section of a reply has at most its length."""
    headings = _HEADING.findall(bench.masters[scenario.kind])
    parts = []
    for message in transcript.turns:
        text = message.content
        if cut and message.role == "assistant":
            text = _cut(text, headings) if scenario.kind != "analysis" else shown_text(text, ANALYSIS_LENGTH)
        parts.append(f"{message.role.capitalize()}:\n{plain(text)}\n")
    return "---\n".join(parts)


def _cut(reply: str, headings: Sequence[str]) -> str:
    places = []
    for heading in headings[: len(SECTION_LENGTHS)]:
        words = r"\s*".join(map(re.escape, _straight(heading).split()))
        found = re.search(rf"^\W*{words}\W*$", _straight(reply), re.MULTILINE | re.IGNORECASE)
        if found:
            places.append((found.start(), found.end(), heading))
    if not places:
        return shown_text(reply, sum(SECTION_LENGTHS))
    places.sort()
    ends = [start for start, _, _ in places[1:]] + [len(reply)]
    limits = dict(zip(headings, SECTION_LENGTHS, strict=False))
    return "\n\n".join(
        f"{heading}\n\n{shown_text(reply[begin:end].strip(), limits[heading])}"
        for (_, begin, heading), end in zip(places, ends, strict=True)
    )


def _straight(text: str) -> str:
    """Return text of the same length with plain apostrophes and hyphens."""
    return text.replace("’", "'").replace("‑", "-")
