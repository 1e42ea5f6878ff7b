"""The reports of an evaluation, written beside its figures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from peregrm.evaluation.page.chosen import Material
from peregrm.evaluation.page.page import evaluation_markdown, evaluation_page
from peregrm.pipeline.evaluating import EvaluationRun
from peregrm.records import Judgement
from peregrm.store import replace_text

__all__ = ["write_reports"]


def write_reports(out: Path, run: EvaluationRun) -> list[Path]:
    """Write `report.html` and `report.md` into `out` and return their paths."""
    material = _material(run)
    texts = {
        out / "report.html": evaluation_page(run.evaluation, material),
        out / "report.md": evaluation_markdown(run.evaluation, material),
    }
    for path, text in texts.items():
        replace_text(path, text)
    return list(texts)


def _material(run: EvaluationRun) -> Material:
    judgements: dict[str, dict[str, list[Judgement]]] = {}
    for judge, scored in run.scored.items():
        of_judge = judgements.setdefault(judge, defaultdict(list))
        for one in scored:
            of_judge[one.reply.id] += one.judgements
    first = next(iter(run.scored.values()))
    return Material(
        cases={case.id: case for case in run.cases},
        criteria=run.criteria,
        replies=[one.reply for one in first],
        rewards={judge: {one.reply.id: one.reward for one in scored} for judge, scored in run.scored.items()},
        judgements=judgements,
    )
