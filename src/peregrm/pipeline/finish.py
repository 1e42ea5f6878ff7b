"""The last stage: artifacts become the report; and the record of what the calls were."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from peregrm.dataset.gold import read_gold
from peregrm.errors import ArtifactError, InputError
from peregrm.evaluation.report import markdown
from peregrm.evaluation.summary import Artifacts, Summary, summarise
from peregrm.evaluation.validity.card import Way
from peregrm.evaluation.validity.cards import standing_of
from peregrm.models.heads import is_head
from peregrm.models.ledger import Ledger
from peregrm.pipeline.flagging import read_cases
from peregrm.pipeline.job import RunConfig
from peregrm.records import Criteria, Drop, Inspection, Judgement, Memory, Persona, Reply, Reward, Usage
from peregrm.store import Workspace, replace_text

__all__ = ["check_cases", "load_artifacts", "save_ledger", "spent_on", "write_report"]

_DROPPED = ("memories", "personas", "situations", "queries")


def load_artifacts(workspace: Workspace) -> Artifacts:
    """Read what a summary is made of; the stages before the cases may be missing, as for an imported dataset."""
    drops = [drop for name in _DROPPED for drop in workspace.read_if_there(f"{name}.dropped.jsonl", Drop)]
    return Artifacts.model_validate(
        {
            "memories": workspace.read_if_there("memories.jsonl", Memory),
            "personas": workspace.read_if_there("personas.jsonl", Persona),
            "drops": drops,
            "inspections": workspace.read_if_there("inspections.jsonl", Inspection),
            "cases": read_cases(workspace),
            "criteria": workspace.read("criteria.jsonl", Criteria),
            "replies": workspace.read("replies.jsonl", Reply),
            "judgements": workspace.read("judgements.jsonl", Judgement),
            "rewards": workspace.read("rewards.jsonl", Reward),
        }
    )


def check_cases(root: Path) -> None:
    """Raise `InputError` where the folder of a run has a file of cases with none in it."""
    path = root / "cases.jsonl"
    if not path.exists():
        return
    with path.open("rb") as lines:
        if any(line.strip() for line in lines):
            return
    raise InputError(
        f"{root}: there are no cases, so nothing to judge or report; a model that can write situations makes some (peregrm build --model "
        "NAME@URL), --gold brings hand-written ones"
    )


def write_report(workspace: Workspace, config: RunConfig, cards: Sequence[Path] = ()) -> tuple[Summary, Artifacts]:
    """Write `report.json` and `report.md` from the artifacts and return what they say; `cards` are where judge cards are looked for."""
    artifacts = load_artifacts(workspace)
    known_order: list[str] = []
    if config.gold is not None:
        known_order = _known_order(Path(config.gold))
    summary = summarise(
        artifacts,
        model=config.model,
        judge=_judge(artifacts.rewards, config.judge),
        samples=config.samples,
        bystander_weight=config.bystander_weight,
        known_order=known_order,
        costs=_read_usage(workspace),
    )
    known = standing_of(artifacts.rewards, _way(config), cards, otherwise=config.judge)
    summary = summary.model_copy(update={"standing": known})
    workspace.write_text("report.json", summary.model_dump_json(indent=1) + "\n")
    workspace.write_text("report.md", markdown(summary, artifacts))
    return summary, artifacts


def _way(config: RunConfig) -> Way:
    """Return how a run asks its judge, as `way_of` the reward would."""
    if is_head(config.judge):
        return Way()
    return Way(
        criteria=config.criteria,
        samples=config.samples,
        temperature=config.judge_temperature if config.samples > 1 else 0.0,
        reasons=config.reasons == "yes",
        bystander_weight=config.bystander_weight,
    )


def _known_order(path: Path) -> list[str]:
    """Return the recorded policies, best first; none where ranks are shared, which says that there is no known order."""
    ranks: dict[str, int] = {}
    for case in read_gold(path).cases:
        for reply in case.replies:
            if ranks.setdefault(reply.policy, reply.rank) != reply.rank:
                raise ArtifactError(f"{path}: {case.id}: {reply.policy!r} has another rank than in the cases before it")
    return sorted(ranks, key=ranks.__getitem__) if len(set(ranks.values())) == len(ranks) else []


def _judge(rewards: Sequence[Reward], otherwise: str) -> str:
    """Return who gave the scores that are there, whatever later commands were told."""
    judges = sorted({reward.judge for reward in rewards})
    if len(judges) > 1:
        raise ArtifactError(f"rewards.jsonl: scores of several judges: {', '.join(judges)} (score the replies again)")
    return judges[0] if judges else otherwise


def save_ledger(workspace: Workspace, ledger: Ledger, seconds: float, purposes: Collection[str]) -> None:
    """Keep what the calls of this process were.

    `usage.json` holds, per purpose, the usage behind the results: the same however often a run was killed. That of `purposes`, whose
    stages ran, replaces what stood there. `ledger.json` holds what
    this process itself asked for and how long it took.
    """
    usage = {purpose: used for purpose, used in _read_usage(workspace).items() if purpose not in purposes}
    rows = ledger.summary()
    for purpose in {row.purpose for row in rows}:
        usage[purpose] = ledger.used_usage(purpose=purpose)
    ordered = {purpose: usage[purpose].model_dump() for purpose in sorted(usage)}
    replace_text(workspace.path("usage.json"), json.dumps(ordered, indent=1) + "\n")
    replace_text(workspace.path("ledger.json"), json.dumps(spent_on(ledger, seconds), indent=1) + "\n")


def spent_on(ledger: Ledger, seconds: float) -> dict[str, Any]:
    """Return what a process asked for itself, as `ledger.json` holds it."""
    return {
        "seconds": round(seconds, 1),
        "cost": ledger.total_cost(),
        "calls": [
            {
                "model": row.model,
                "purpose": row.purpose,
                "fresh_calls": row.fresh_calls,
                "calls_from_cache": row.cached_calls,
                "failures": dict(row.failures),
                "usage": row.fresh_usage.model_dump(),
                "seconds_in_calls": round(row.seconds, 1),
                "cost": row.cost,
            }
            for row in ledger.summary()
        ],
    }


def _read_usage(workspace: Workspace) -> dict[str, Usage]:
    path = workspace.path("usage.json")
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text("utf-8"))
        return {purpose: Usage.model_validate(value) for purpose, value in stored.items()}
    except (ValueError, AttributeError):
        raise ArtifactError(f"{path}: damaged; delete it and run the same command again to have it rebuilt") from None
