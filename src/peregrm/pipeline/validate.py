"""`peregrm validate`: what a judge is worth, measured part by part and written down as a judge card.

The chosen parts run one after another over one call cache, and the card is written after each of them, so nothing that was paid for is
lost; the same command again repeats no call. `DIR` holds `card.json`, `card.md`, `card.html`, the parts' raw rows, and
`validation.json`: what the card is about. A later run widens the card by other parts only where that is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peregrm.errors import (
    DependencyError,
    FailureBudgetExceeded,
    InputError,
    SettingsError,
)
from peregrm.evaluation.page.card_page import VERDICT_WORDS, card_markdown, card_page
from peregrm.evaluation.validity.card import PARTS, Finding, JudgeCard, PartName, Way
from peregrm.evaluation.validity.cards import CARD, read_card
from peregrm.evaluation.validity.ratings.files import OWN
from peregrm.evaluation.validity.ways import way_of
from peregrm.mapping import Progress
from peregrm.models.base import Model
from peregrm.models.cache import CallCache
from peregrm.models.heads import is_head
from peregrm.models.ledger import Ledger
from peregrm.models.planning import PlanningModel
from peregrm.models.registry import model_name, open_model, prices
from peregrm.pipeline.material import Material
from peregrm.pipeline.plan import PlannedCalls, planned_calls
from peregrm.pipeline.validity.attacks import measure as measure_attacks
from peregrm.pipeline.validity.context import Context, Measure
from peregrm.pipeline.validity.judged import read_files
from peregrm.pipeline.validity.registry import MEASURES, NEEDS_FILES, in_order
from peregrm.records import Part, Usage, content_id
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import PereGRM
from peregrm.reward.rivals.common import Rival
from peregrm.reward.rivals.scalar import Scalar
from peregrm.settings import Settings
from peregrm.store import read_one, replace_text

__all__ = ["Asked", "ValidationRun", "check_failures", "is_model", "plan_validation", "validate_judge"]

SUBJECT = "validation.json"
FEW_JUDGEMENTS = 20
"""Of fewer judgements a share of failures is no share."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured: `parts`, and of them those that `must` be; the others are left out where their data are not there.

    `pairs` and `ratings` are files of human preferences and ratings. `cases` is how many cases a part works on at most, `seed` chooses
    which; `per_family` how many attacks of each family a case gets (None: all).
    """

    parts: tuple[PartName, ...]
    must: frozenset[PartName]
    pairs: tuple[Path, ...] = ()
    ratings: tuple[Path, ...] = ()
    cases: int = 24
    seed: int = 0
    per_family: int | None = 1


@dataclass(frozen=True)
class ValidationRun:
    """The card as it is now, the parts that this run measured, those it could not and why, and what was spent."""

    card: JudgeCard
    measured: tuple[PartName, ...]
    left_out: dict[PartName, str]
    ledger: Ledger
    seconds: float


class Subject(Part):
    """What a card is about: two runs may add to one card where all of this is the same. `material` is a hash of cases and replies."""

    judge: str
    reward: str
    way: Way
    seed: int
    material: str


class _State(Part):
    """What a folder remembers beside its card."""

    subject: Subject
    usage: tuple[tuple[PartName, Usage], ...] = ()


async def validate_judge(
    material: Material,
    options: RewardOptions,
    settings: Settings,
    asked: Asked,
    *,
    out: Path,
    progress: Progress,
    say: Callable[[str], None] = lambda line: None,
) -> ValidationRun:
    """Measure the chosen parts of the first judge and write the card into `out`.

    Raises what a part that must be measured raises where it cannot be: `InputError`, `SettingsError`, `DependencyError`; a fatal
    `ModelError`; `SettingsError` where `out` holds the card of another judge, reward or material. What was measured before stays.
    """
    started = time.monotonic()
    models = [spec for spec in options.judges if is_model(options, spec)]
    ledger = Ledger(prices(models, settings))
    left_out: dict[PartName, str] = {}
    with CallCache(_made(out) / "calls.sqlite") as cache:
        judges = tuple(
            open_model(spec, settings, cache=cache, ledger=ledger) if spec in models else None
            for spec in options.judges
        )
        try:
            context = _context(material, options, settings, judges, asked, out, progress)
            subject = await _subject(context)
            card, state = _begun(out, subject)
            measured: list[PartName] = []
            for part in in_order(asked.parts):
                if _rests_on_other_files(part, card, asked):
                    left_out[part] = "stays as it was: no --pairs or --ratings were given now"
                    say(f"{PARTS[part]}: {left_out[part]}")
                    continue
                before = ledger.used_usage()
                finding = await _measured(part, context, asked, left_out, say)
                if finding is not None:
                    measured.append(part)
                    card, state = _widened(card, state, finding, _difference(ledger.used_usage(), before))
                    _write(out, card, state)
        finally:
            for judge in judges:
                if judge is not None:
                    await judge.aclose()
    if not measured:
        raise InputError(
            "nothing could be measured: " + "; ".join(f"{PARTS[p].lower()}: {why}" for p, why in left_out.items())
        )
    return ValidationRun(card, tuple(measured), left_out, ledger, time.monotonic() - started)


async def plan_validation(
    material: Material, options: RewardOptions, settings: Settings, asked: Asked, progress: Progress
) -> tuple[list[PlannedCalls], dict[PartName, str]]:
    """Return what a validation would ask for at most, and the parts it could not measure; nothing is asked of any model.

    Judges that are no models cost no calls: where there are only such, nothing is tried out but the files of human judgements. Raises
    what a part that must be measured raises where it cannot be.
    """
    judges = tuple(
        PlanningModel(model_name(spec, settings)) if is_model(options, spec) else None for spec in options.judges
    )
    left_out: dict[PartName, str] = {}
    with TemporaryDirectory() as folder:
        context = _context(material, options, settings, judges, asked, Path(folder), progress)
        if not any(judges):
            _try_files(context, asked, left_out)
            return [], left_out
        for part in in_order(asked.parts):
            await _measured(part, context, asked, left_out, lambda line: None)
    stand_ins = [judge for judge in judges if judge is not None]
    return planned_calls(stand_ins, prices([s for s in options.judges if is_model(options, s)], settings)), left_out


def _try_files(context: Context, asked: Asked, left_out: dict[PartName, str]) -> None:
    """Read the files of human judgements; parts that need some and have none are left out, or an error where they must be measured."""
    for part in (part for part in in_order(asked.parts) if part in NEEDS_FILES):
        try:
            read_files(context)
        except InputError as error:
            _leave_out(part, error, context, asked, left_out)


def _leave_out(part: PartName, error: Exception, context: Context, asked: Asked, left_out: dict[PartName, str]) -> None:
    """Put a part that cannot be measured into `left_out` with the reason, or raise it where the part was asked for by name."""
    given = part in NEEDS_FILES and bool(context.pairs or context.ratings)
    if part in asked.must or (given and isinstance(error, InputError)):
        raise type(error)(f"{PARTS[part].lower()}: {error}") from None
    left_out[part] = str(error)


def check_failures(run: ValidationRun, share: float, out: Path) -> None:
    """Raise `FailureBudgetExceeded` where more than this share of the judgements that this run asked for could not be used."""
    findings = [finding for finding in run.card.findings if finding.part in run.measured]
    asked, scored = sum(one.asked for one in findings), sum(one.scored for one in findings)
    if asked and 1 - scored / asked > share and (asked >= FEW_JUDGEMENTS or not scored):
        raise FailureBudgetExceeded(
            f"{asked - scored} of {asked} judgements could not be used (the budget is {share:.0%}). "
            f"What was computed is kept in {out}; raise --failure-budget to go on"
        )


def is_model(options: RewardOptions, spec: str) -> bool:
    """Tell whether a judge is a model that is asked, and not a classifier or trained head that the reward opens by itself."""
    return options.reward != Scalar.method and not is_head(spec)


def _made(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return out


def _context(
    material: Material,
    options: RewardOptions,
    settings: Settings,
    judges: Sequence[Model | None],
    asked: Asked,
    out: Path,
    progress: Progress,
) -> Context:
    return Context(
        material=material,
        options=options,
        settings=settings,
        judges=tuple(judges),
        pairs=asked.pairs,
        ratings=asked.ratings,
        cases=asked.cases,
        seed=asked.seed,
        out=out,
        progress=progress,
    )


async def _subject(context: Context) -> Subject:
    """Return what is measured here; opens the reward for its names and asks nothing."""
    reward = context.open()
    try:
        return Subject(
            judge=reward.rules.judge if isinstance(reward, PereGRM | Rival) else context.options.judges[0],
            reward=reward.method,
            way=way_of(reward),
            seed=context.seed,
            material=_hash_of(context.material),
        )
    finally:
        await reward.aclose()


def _hash_of(material: Material) -> str:
    dataset = material.dataset
    criteria = sorted(one.id for one in dataset.criteria.values())
    replies = sorted((reply.id, material.ranks.get(reply.id)) for reply in material.replies)
    return content_id("material", [sorted(dataset.cases), criteria, [list(reply) for reply in replies]])


async def _measured(
    part: PartName, context: Context, asked: Asked, left_out: dict[PartName, str], say: Callable[[str], None]
) -> Finding | None:
    """Measure one part; one that cannot be and need not be is put into `left_out` with the reason."""
    started = time.monotonic()
    try:
        finding = await _measure(part, asked)(context)
    except (InputError, SettingsError, DependencyError) as error:
        _leave_out(part, error, context, asked, left_out)
        say(f"{PARTS[part]}: not measured: {error}")
        return None
    say(f"{PARTS[part]}: {VERDICT_WORDS[finding.verdict]} ({time.monotonic() - started:.1f} s)")
    return finding


def _rests_on_other_files(part: PartName, card: JudgeCard, asked: Asked) -> bool:
    """Tell whether a part that need not be measured was measured on files which are not given now: less would take its place."""
    if part not in NEEDS_FILES or part in asked.must or asked.pairs or asked.ratings:
        return False
    return any(one.part == part and any(not line.startswith(OWN) for line in one.data) for one in card.findings)


def _measure(part: PartName, asked: Asked) -> Measure:
    return partial(measure_attacks, per_family=asked.per_family) if part == "attacks" else MEASURES[part]


def _begun(out: Path, subject: Subject) -> tuple[JudgeCard, _State]:
    """Return the card that the folder holds, or an empty one; raises `SettingsError` where it is about something else."""
    empty = JudgeCard(judge=subject.judge, reward=subject.reward, way=subject.way, seed=subject.seed, findings=())
    if not (out / CARD).exists():
        return empty, _State(subject=subject)
    before = _read_state(out)
    known, now = dict(before.subject), dict(subject)
    others = [
        f"{name} {known[name]!r}, not {now[name]!r}" for name in now if known[name] != now[name] and name != "way"
    ]
    others += before.subject.way.differences(subject.way)
    if others:
        raise SettingsError(
            f"{out} holds the card of another measurement ({'; '.join(others)}), which cannot be mixed with this: name another with --out"
        )
    card = read_card(out / CARD)
    if (card.judge, card.reward, card.way) != (subject.judge, subject.reward, subject.way):
        raise SettingsError(
            f"{out / CARD} is the card of {card.judge} in mode {card.reward}, not of what is asked for: name another folder with --out"
        )
    return card, before


def _read_state(out: Path) -> _State:
    path = out / SUBJECT
    try:
        return read_one(path, _State)
    except FileNotFoundError:
        raise SettingsError(
            f"{out} holds a card without {SUBJECT}, which says what it is about: name another folder with --out"
        ) from None


def _difference(after: Usage, before: Usage) -> Usage:
    older = before.model_dump()
    return Usage.model_validate({name: value - older[name] for name, value in after.model_dump().items()})


def _widened(card: JudgeCard, state: _State, finding: Finding, used: Usage) -> tuple[JudgeCard, _State]:
    """Return card and state with this finding, in the place of one of the same part if there was one."""
    findings = {one.part: one for one in card.findings} | {finding.part: finding}
    usage: Mapping[PartName, Usage] = dict(state.usage) | {finding.part: used}
    update: dict[str, Any] = {
        "findings": tuple(findings[part] for part in in_order(findings)),
        "usage": sum(usage.values(), Usage()),
    }
    return card.model_copy(update=update), state.model_copy(
        update={"usage": tuple((part, usage[part]) for part in in_order(usage))}
    )


def _write(out: Path, card: JudgeCard, state: _State) -> None:
    replace_text(out / SUBJECT, state.model_dump_json(indent=1) + "\n")
    replace_text(out / CARD, card.model_dump_json(indent=1) + "\n")
    replace_text(out / "card.md", card_markdown(card))
    replace_text(out / "card.html", card_page(card))
