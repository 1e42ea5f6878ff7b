"""The report of an evaluation as one self-contained HTML page and as Markdown: no script, nothing fetched, made to be printed.

The wording stands in `evaluation.html.jinja` and `evaluation.md.jinja`; everything that users and models wrote is escaped. The bytes
depend on the artifacts alone. Left out on purpose: charts that need a script; numbers stand beside every dot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from peregrm.evaluation.evaluation import Evaluation, LengthRelation
from peregrm.evaluation.page.charts import Axis, Dot, Strip, axis_of, cloud, strip
from peregrm.evaluation.page.chosen import Material, chosen_cases, ordered_policies, shown_pair
from peregrm.evaluation.page.templates import rendered
from peregrm.evaluation.page.wording import counted, criteria_words, format_p, some_of
from peregrm.evaluation.report import format_estimate, format_value, judge_note
from peregrm.evaluation.statistics import Estimate
from peregrm.markdown import plain
from peregrm.prompts import prompt_hash, prompt_names, prompt_text
from peregrm.reward.base import says_something
from peregrm.text import tokens

__all__ = ["evaluation_markdown", "evaluation_page"]

_ALPHA = 0.05


class _Row(NamedTuple):
    """One line of a dot plot."""

    label: str
    judge: str
    estimate: Estimate
    strip: Strip | None


class _Plot(NamedTuple):
    title: str
    axis: Axis
    rows: tuple[_Row, ...]


class _Scatter(NamedTuple):
    policy: str
    relation: LengthRelation
    dots: tuple[Dot, ...]


class _Prompt(NamedTuple):
    name: str
    digest: str
    text: str | None


def evaluation_page(evaluation: Evaluation, material: Material) -> str:
    """Return the report as HTML."""
    return rendered("evaluation.html.jinja", _view(evaluation, material), escape=True)


def evaluation_markdown(evaluation: Evaluation, material: Material) -> str:
    """Return the report as Markdown: its main tables, without charts, cases, power and the differences of single dimensions."""
    text = rendered("evaluation.md.jinja", _view(evaluation, material), escape=False)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _view(evaluation: Evaluation, material: Material) -> dict[str, Any]:
    order = ordered_policies(evaluation)
    pair = shown_pair(evaluation)
    gained, lost = chosen_cases(material, *pair) if pair else ([], [])
    place = {policy: number for number, policy in enumerate(order)}
    judges = [judge.judge for judge in evaluation.judges]
    given = {judge: evaluation.given(judge) for judge in judges}
    differences = sorted(evaluation.differences, key=lambda d: (judges.index(d.judge), place[d.a], place[d.b]))
    return {
        "title": "Evaluation",
        "e": evaluation,
        "label": _labels(judges),
        "given": given,
        "summed": any("empathy" in measures for measures in given.values()),
        "alone": [one.judge for one in evaluation.judges if one.scored and "empathy" not in given[one.judge]],
        "alphas": [one for one in evaluation.alphas if one.measure == "total" or one.alpha.n],
        "notes": _notes(evaluation),
        "rows": sorted(evaluation.scores, key=lambda score: place[score.policy]),
        "plots": [_plot(evaluation, order, measure) for measure in ("total", *evaluation.measures[:-1])],
        "slices": _slices(evaluation, order),
        "totals": [one for one in differences if one.measure == "total"],
        "others": [one for one in differences if one.measure != "total"],
        "heat": _heat(evaluation),
        "scatters": _scatters(evaluation, material, order),
        "pair": pair,
        "gained": gained,
        "lost": lost,
        "prompts": _prompts(evaluation.prompts),
        "estimate": format_estimate,
        "value": format_value,
        "plain": plain,
        "p_value": format_p,
        "counted": counted,
        "criteria_words": criteria_words,
        "some_of": some_of,
        "alpha": _ALPHA,
    }


def _notes(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what is known of the judges' worth, each note once with the judges it is about."""
    labels = _labels([judge.judge for judge in evaluation.judges])
    standings = {one.judge: one for one in evaluation.standings}
    about: dict[str, list[str]] = {}
    for judge, label in labels.items():
        about.setdefault(judge_note(judge, standings.get(judge)), []).append(label)
    return [(", ".join(names), note) for note, names in about.items()]


def _labels(judges: Sequence[str]) -> dict[str, str]:
    """Return the judges' names without their addresses, where those are still different."""
    short = {judge: judge.partition("@")[0] for judge in judges}
    return short if len(set(short.values())) == len(short) else dict(zip(judges, judges, strict=True))


def _plot(evaluation: Evaluation, order: Sequence[str], measure: str) -> _Plot:
    found = {(s.policy, s.judge): dict(s.measures)[measure] for s in evaluation.scores}
    axis = axis_of(end for one in found.values() for end in (one.low, one.mean, one.high))
    rows = [
        _Row(policy, judge.judge, found[policy, judge.judge], strip(axis, found[policy, judge.judge]))
        for policy in order
        for judge in evaluation.judges
    ]
    return _Plot(measure, axis, tuple(rows))


def _slices(evaluation: Evaluation, order: Sequence[str]) -> list[tuple[str, list[_Plot]]]:
    """Return the plots of totals by category and by language, one a value, all on one axis."""
    totals = [(s, dict(s.measures)["total"]) for s in evaluation.slices]
    axis = axis_of(end for _, one in totals for end in (one.low, one.mean, one.high))
    found: dict[str, dict[str, list[_Row]]] = {}
    for score, one in sorted(totals, key=lambda pair: order.index(pair[0].policy)):
        row = _Row(score.policy, score.judge, one, strip(axis, one))
        found.setdefault(score.by, {}).setdefault(score.value, []).append(row)
    return [
        (by, [_Plot(value, axis, tuple(rows)) for value, rows in sorted(values.items())])
        for by, values in sorted(found.items())
    ]


def _heat(evaluation: Evaluation) -> list[list[Estimate | None]]:
    """Return the rank correlation of the judges' totals, a row and a column a judge; None on the diagonal."""
    judges = [judge.judge for judge in evaluation.judges]
    ranks = {(pair.one, pair.other): pair.rank for pair in evaluation.ranks if pair.measure == "total"}
    return [
        [None if one == other else ranks.get((one, other)) or ranks.get((other, one)) for other in judges]
        for one in judges
    ]


def _scatters(
    evaluation: Evaluation, material: Material, order: Sequence[str]
) -> list[tuple[str, Axis, Axis, list[_Scatter]]]:
    by_policy: dict[str, list[tuple[str, float]]] = {policy: [] for policy in order}
    for reply in material.replies:
        if not material.cases[reply.case_id].flags and says_something(reply.text):
            by_policy[reply.policy].append((reply.id, float(len(tokens(reply.text)))))
    relations = {(one.judge, one.policy): one for one in evaluation.lengths}
    shown = []
    for judge, rewards in material.rewards.items():
        points = {
            policy: [(words, total) for key, words in pairs if (total := rewards[key].total) is not None]
            for policy, pairs in by_policy.items()
        }
        across = axis_of(x for pairs in points.values() for x, _ in pairs)
        up = axis_of(y for pairs in points.values() for _, y in pairs)
        scatters = [
            _Scatter(policy, relations[judge, policy], cloud(pairs, across, up)) for policy, pairs in points.items()
        ]
        shown.append((judge, across, up, scatters))
    return shown


def _prompts(used: Sequence[tuple[str, str]]) -> list[_Prompt]:
    """Return the prompts in full; a text that is no longer the one that was used is not shown for it."""
    known = set(prompt_names())
    return [
        _Prompt(name, digest, prompt_text(name) if name in known and prompt_hash(name) == digest else None)
        for name, digest in used
    ]
