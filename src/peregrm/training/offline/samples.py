"""Replies of a policy to its own prompts, several each, written down as they come: what best-of-n chooses from.

Prompts are taken a few at a time; each such part is a file, written whole, so a run that was stopped writes only what is missing. A part's
replies hang on its prompts, on the seed and on nothing else, so the replies are those of a run that was never stopped. Which of them ended
at the length limit stands in a file beside them: they have no end that could be learned.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from peregrm.records import Part, Record, Reply, content_id
from peregrm.replies import Setting
from peregrm.store import read_records, replace_text, write_records
from peregrm.training.generation import write_replies
from peregrm.training.offline.running import keep_asked
from peregrm.training.policies import Policy, fingerprint
from peregrm.training.rows import PromptRow

__all__ = ["SAMPLES", "SampleSettings", "cut_off_samples", "write_samples"]

SAMPLES = "samples.jsonl"
PARTS = "samples.parts"
CUT_OFF = "samples.cut_off.json"

_PROMPTS = 16
"""Of one part."""


class SampleSettings(Part):
    """How a policy's replies are drawn."""

    setting: Setting = "memories"
    """What the policy is shown of the user: `generic`, `memories` or `personalized`."""

    samples: Annotated[int, Field(ge=1)] = 8
    """Replies to each prompt."""

    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 1024
    """The most tokens of a reply."""

    together: Annotated[int, Field(ge=1)] = 8
    """Replies that are written at once."""

    seed: Annotated[int, Field(ge=0)] = 0


class _Sample(Record):
    """A line of a part."""

    reply: Reply
    cut_off: bool


def write_samples(
    policy: Policy, rows: Sequence[PromptRow], settings: SampleSettings, out: Path, tell: Callable[[str], None]
) -> list[Reply]:
    """Let a policy write `samples` replies to each prompt, into `out/samples.jsonl`; those that are there already are read.

    Raises `SettingsError` where the folder holds replies to other prompts, of another policy, or drawn otherwise.
    """
    parts = out / PARTS
    shown = content_id("prompts", [[row.case.id, row.chat] for row in rows])
    keep_asked(
        parts.with_suffix(".json"),
        {
            "policy": policy.name,
            "weights": fingerprint(policy.name),
            "prompts": shown,
            **settings.model_dump(mode="json"),
        },
    )
    path = out / SAMPLES
    if path.exists():
        return read_records(path, Reply)
    written: list[_Sample] = []
    for start in range(0, len(rows), _PROMPTS):
        part = parts / f"{start // _PROMPTS:06d}.jsonl"
        if not part.exists():
            new = write_replies(
                policy,
                rows[start : start + _PROMPTS],
                name=f"{policy.name}/{settings.setting}",
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                samples=settings.samples,
                seed=settings.seed,
                batch_size=settings.together,
            )
            write_records(part, [_Sample(reply=one.reply, cut_off=one.cut_off) for one in new])
        written += read_records(part, _Sample)
        tell(f"replies to {min(start + _PROMPTS, len(rows))} of {len(rows)} prompts")
    replace_text(out / CUT_OFF, json.dumps([one.reply.id for one in written if one.cut_off]) + "\n")
    replies = [one.reply for one in written]
    write_records(path, replies)
    shutil.rmtree(parts)
    return replies


def cut_off_samples(out: Path) -> frozenset[str]:
    """Return the ids of the replies in `out` that ended at the length limit; none where no replies were written there."""
    path = out / CUT_OFF
    return frozenset(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else frozenset()
