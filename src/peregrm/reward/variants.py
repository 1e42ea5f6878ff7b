"""PereGRM as the options ask for it, and its ablations: each is PereGRM with one thing taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peregrm.dimension_files import load_dimensions
from peregrm.errors import SettingsError
from peregrm.models.base import Model
from peregrm.models.heads import is_head
from peregrm.models.local_judge import is_local, taught_of
from peregrm.reward.heads.judge import HeadReward
from peregrm.reward.options import RewardOptions
from peregrm.reward.peregrm import MODES, CriteriaMethod, PereGRM

__all__ = ["VARIANTS", "asks_reasons", "peregrm_of"]

_ABLATIONS: dict[str, dict[str, Any]] = {
    "static": {"criteria": "fixed"},
    "no-criteria": {"criteria": "none"},
    "no-persona": {"hidden": frozenset({"persona"})},
    "no-memories": {"hidden": frozenset({"memories"})},
    "no-situation": {"hidden": frozenset({"situation"})},
    "arithmetic": {"arithmetic": True},
    "no-bystander": {"bystander_weight": 0.0},
}
"""`static` has the same generic criteria for every case; without criteria each dimension is scored as a whole."""


def asks_reasons(options: RewardOptions, judge: Model | str) -> bool:
    """Tell whether the judge is asked for a sentence before its scores."""
    return options.reasons == "yes" or (options.reasons == "auto" and not _is_wordless(judge))


def peregrm_of(options: RewardOptions, judge: Model | str, **changes: Any) -> PereGRM:
    """Return PereGRM as `options` describe it, with one judge; `changes` are fields of `PereGRM`. A trained head judges in its own way.

    Raises `SettingsError` for an ablation of a head other than those that hide something from it.
    """
    fields: dict[str, Any] = {
        "samples": options.samples,
        "quorum": options.quorum,
        "bystander_weight": options.bystander_weight,
        "temperature": options.temperature,
        "seed": options.seed,
        "reasons": asks_reasons(options, judge),
        "dimensions": load_dimensions(options.dimensions),
        "criteria": _criteria_method(options, judge),
        "guards": options.guards,
        "cache": options.cache,
    }
    if is_head(judge):
        return HeadReward(judge, **{**fields, **_for_a_head(changes)})
    if is_local(judge):
        _check_local(judge, fields | changes)
    return PereGRM(judge, **{**fields, **changes})


def _check_local(judge: Model | str, fields: Mapping[str, Any]) -> None:
    """Raise `SettingsError` for what a distilled judge cannot do whatever it is asked about."""
    if fields.get("mode", "shared") != "shared":
        raise SettingsError(f"a distilled judge judges in the shared mode, not in mode {fields['mode']!r}")
    if fields["reasons"]:
        raise SettingsError("a distilled judge gives scores and no reasons: leave `reasons` at auto, or set it to no")
    if fields["criteria"] == "model":
        raise SettingsError("a distilled judge writes no criteria: use --criteria composed, or another judge for them")
    taught = taught_of(judge)
    new = [one.name for one in fields["dimensions"] if one.name not in taught.dimensions]
    if fields["bystander_weight"] > 0 and not taught.bystander:
        new.append("the bystander's points (a bystander weight of 0 does without them)")
    if new:
        name = judge if isinstance(judge, str) else judge.name
        raise SettingsError(f"{name}: it was never taught {', '.join(new)}, so no reply would have a total")


def _for_a_head(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a head can be told; its mode is its own."""
    told = {name: value for name, value in changes.items() if name not in ("mode", "label")}
    if told.keys() - {"hidden"}:
        raise SettingsError(
            f"a trained head judges in one way: there is no {changes.get('label') or 'such form'!r} of it"
        )
    return told


def _criteria_method(options: RewardOptions, judge: Model | str) -> CriteriaMethod:
    if options.criteria != "auto":
        return options.criteria
    if not _is_wordless(judge):
        return "model"
    return "composed" if options.dimensions == "empathy" else "fixed"


def _is_wordless(judge: Model | str) -> bool:
    """Tell whether a judge gives no reasons and writes no criteria that are worth reading."""
    name = judge if isinstance(judge, str) else judge.name
    return name == "embedded" or name.startswith("embedded:") or is_head(judge) or is_local(judge)


def _variant(name: str, changes: Mapping[str, Any]) -> Callable[[RewardOptions, Model | str], PereGRM]:
    return lambda options, judge: peregrm_of(options, judge, **{**changes, "label": name})


VARIANTS: dict[str, Callable[[RewardOptions, Model | str], PereGRM]] = {
    **{mode: _variant(mode, {"mode": mode}) for mode in MODES},
    **{name: _variant(name, changes) for name, changes in _ABLATIONS.items()},
}
"""Every form of PereGRM by its name: the three modes, then the ablations of the shared mode."""
