"""Calibration, asked: the same judgements as human agreement, which the call cache answers where that part came before.

`calibration/result.json` holds every diagram as numbers, for a page to plot.
"""

from __future__ import annotations

from peregrm.evaluation.validity.calibration import Calibration
from peregrm.evaluation.validity.calibration_words import calibration_finding, calibrations
from peregrm.evaluation.validity.card import Finding
from peregrm.pipeline.validity.context import Context
from peregrm.pipeline.validity.judged import judge_files
from peregrm.records import Part
from peregrm.store import replace_text

__all__ = ["RESULT", "CalibrationResult", "measure"]

PART = "calibration"
RESULT = f"{PART}/result.json"


class CalibrationResult(Part):
    """Every calibration with its bins, in the order of the files."""

    calibrations: tuple[Calibration, ...]


async def measure(context: Context) -> Finding:
    """Return how far the judge's numbers mean what people's levels mean; the raw rows are in the folder `calibration`.

    Raises `InputError` for a file that cannot be read, and what scoring raises.
    """
    judged = await judge_files(context, part=PART)
    result = CalibrationResult(calibrations=tuple(calibrations(judged, seed=context.seed)))
    replace_text(context.out / RESULT, result.model_dump_json(indent=1) + "\n")
    return calibration_finding(judged, result.calibrations)
