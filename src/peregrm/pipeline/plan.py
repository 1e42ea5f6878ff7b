"""What a run would ask of its models, before anything is asked: `--dry-run`.

Histories are read and, with the extractive method, nothing else is needed to know the calls of a run at most: every persona deep,
every situation and query kept. Tokens are estimated from the length of the prompts (four characters a token, one for Chinese);
output tokens are the typical lengths below, taken from real runs. A retry after an unusable answer comes on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from peregrm.dataset.gold import read_gold
from peregrm.dataset.memories import windows_of
from peregrm.dataset.selection import filters_of
from peregrm.dataset.windows import estimated_tokens
from peregrm.models.heads import is_head
from peregrm.models.ledger import Price
from peregrm.models.planning import TYPICAL_OUTPUT, PlanningModel
from peregrm.models.registry import model_name, prices
from peregrm.pipeline.job import RunConfig
from peregrm.prompts import prompt_text
from peregrm.records import History, Usage
from peregrm.settings import Settings
from peregrm.taxonomy import labels
from peregrm.text import cjk_share

__all__ = ["PlannedCalls", "plan", "planned_calls", "print_plan"]

_CONTEXT_MEMORIES = 20
_INTENTS_SHOWN = 3000
_MOST_NOTES = 12


class PlannedCalls(NamedTuple):
    """Calls for one purpose: how many at most, about how many tokens, and what they cost where the price is known."""

    purpose: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None


def planned_calls(judges: Sequence[PlanningModel], known: Mapping[str, Price]) -> list[PlannedCalls]:
    """Return what these stand-ins were asked for; `known` are prices by the model's name."""
    return [
        PlannedCalls(
            purpose,
            judge.name,
            usage.calls,
            usage.input_tokens,
            usage.output_tokens,
            known[judge.name].of(usage) if judge.name in known else None,
        )
        for judge in judges
        for purpose, usage in judge.planned.items()
    ]


def plan(
    histories: Sequence[History], config: RunConfig, settings: Settings, *, build_only: bool = False
) -> list[PlannedCalls]:
    """Return the calls a run over these histories, or only its building of cases, makes at most, in the order of the stages."""
    users = len(histories)
    extractive = config.memories == "extractive"
    unread = [] if extractive else [history for history in histories if not history.memories]
    windows = [estimated_tokens(text) for history in unread for _, text in windows_of(history, config.context)]
    by_model = config.persona == "bigfive" or (config.persona == "memory" and not extractive)
    persona_prompt = "persona_bigfive" if config.persona == "bigfive" else "persona"
    situations = users * settings.run.cases
    known = {history.user_id for history in histories}
    gold = [case for case in read_gold(Path(config.gold)).cases if case.user_id in known] if config.gold else []
    cases = situations + len(gold)
    replies = 2 * cases + sum(len(case.replies) for case in gold)
    asked_replies = 0 if is_head(config.judge) else replies
    context = _context_tokens(histories)
    asked_of_model = [
        ("intents", _asked_for_intents(histories, config), _prompt("intents") + _INTENTS_SHOWN),
        ("memories", len(windows), _prompt("memories") + sum(windows) // max(1, len(windows))),
        ("supersession", 0 if extractive else _groups(histories, config), _prompt("supersession") + context),
        ("persona", users if by_model else 0, _prompt(persona_prompt) + context),
        ("situations", users if settings.run.cases else 0, _prompt("situations") + 2 * context),
        ("queries", situations, _prompt("query") + context + 150),
        ("inspection", situations, _prompt("inspect") + context + 150),
        ("safety", cases if config.safety == "both" else 0, _prompt("safety") + 2 * context + 150),
        ("replies", 0 if build_only else 2 * cases, _prompt("reply_personalized") + context + 60),
    ]
    second = situations if config.inspectors == 2 else 0
    asked_of_judge = [
        ("inspection", second, _prompt("inspect") + context + 150),
        ("criteria", cases if config.criteria == "model" else 0, _prompt("criteria") + 2 * context + 100),
        ("judge", asked_replies * settings.run.samples, _prompt("judge") + 2 * context + 550),
        ("bystander", asked_replies * settings.run.samples, _prompt("bystander") + 180),
    ]
    planned = [(config.model, *row) for row in asked_of_model]
    planned += [(config.judge, *row) for row in (asked_of_judge[:1] if build_only else asked_of_judge)]
    price_of = {spec: prices({spec}, settings).get(model_name(spec, settings)) for spec in (config.model, config.judge)}
    return [_priced(price_of[row[0]], *row) for row in planned if row[2]]


def _asked_for_intents(histories: Sequence[History], config: RunConfig) -> int:
    if config.memories == "extractive" or "intents" not in filters_of(config.select):
        return 0
    return sum(not history.intents for history in histories)


def _groups(histories: Sequence[History], config: RunConfig) -> int:
    """Return how many groups of memories of one label there are at most: two memories make one."""
    memories = [len(h.memories) or _MOST_NOTES * len(windows_of(h, config.context)) for h in histories]
    return sum(min(len(labels()) + 1, count // 2) for count in memories)


def _priced(price: Price | None, model: str, purpose: str, calls: int, input_each: int) -> PlannedCalls:
    used = Usage(calls=calls, input_tokens=calls * input_each, output_tokens=calls * TYPICAL_OUTPUT[purpose])
    cost = None if price is None else price.of(used)
    return PlannedCalls(purpose, model, calls, used.input_tokens, used.output_tokens, cost)


def _prompt(name: str) -> int:
    return len(prompt_text(name)) // 4


def _context_tokens(histories: Sequence[History]) -> int:
    """Return the length in tokens of a typical persona or memory list: so many short statements of the users."""
    texts = [t.text for h in histories for s in h.sessions for t in s.turns if t.role == "user"]
    lengths = [min(len(text), 120) * (1 if cjk_share(text) > 0.5 else 0.25) for text in texts]
    return int(_CONTEXT_MEMORIES * sum(lengths) / len(lengths)) if lengths else 0


def print_plan(planned: Sequence[PlannedCalls]) -> None:
    """Print what a run would ask for at most."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="Calls at most (retries come on top), tokens about; nothing was asked of any model",
        title_justify="left",
    )
    for name in ("purpose", "model", "calls", "input tokens", "output tokens", "cost"):
        table.add_column(name, justify="left" if name in ("purpose", "model") else "right")
    for row in planned:
        cost = "no price" if row.cost is None else f"{row.cost:.4f}"
        table.add_row(
            row.purpose, escape(row.model), f"{row.calls:,}", f"{row.input_tokens:,}", f"{row.output_tokens:,}", cost
        )
    costs = [row.cost for row in planned]
    known = [cost for cost in costs if cost is not None]
    total = f"{sum(known):.4f}" if len(known) == len(costs) else "no price"
    table.add_section()
    calls, inputs = sum(row.calls for row in planned), sum(row.input_tokens for row in planned)
    outputs = sum(row.output_tokens for row in planned)
    table.add_row("all", "", f"{calls:,}", f"{inputs:,}", f"{outputs:,}", total)
    Console().print(table)
