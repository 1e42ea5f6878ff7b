"""Trait stability and robustness of the gain, asked: personas of halves, cases made in other ways, judges of known sense."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peregrm.models.base import Request
from peregrm.models.planning import PlanningModel
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.session import sample
from peregrm.pipeline.validity import constructions, personas, robustness, stability
from peregrm.pipeline.validity.context import Context
from peregrm.records import Case, Evidence, History, Memory, Reply, Session, Turn
from peregrm.reward.base import Scored
from peregrm.settings import RunSettings, Settings
from simulated_judges import SimulatedContext, SimulatedJudge, context_of, many_cases

WORDS = (
    "granite",
    "saffron",
    "walrus",
    "trombone",
    "lantern",
    "pickle",
    "harbour",
    "velvet",
    "comet",
    "ginger",
    "orchid",
    "bison",
)


@pytest.fixture(autouse=True)
def _by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare texts by their words: the embeddings are tested where they are made."""
    monkeypatch.setattr(personas, "_embedder", lambda: None)


def history(user: str, words: Sequence[str]) -> History:
    """A session for every word, each with a memory of it that came with the source."""
    sessions, memories = [], []
    for n, word in enumerate(words):
        name = f"{user}-{n}"
        turns = (Turn(role="user", text=f"I keep a {word} here."), Turn(role="assistant", text="I see."))
        sessions.append(Session(session_id=name, date=f"2025-{n + 1:02}-01", turns=turns))
        evidence = (Evidence(session_id=name, turn=0, quote=f"a {word} here"),)
        memories.append(
            Memory(
                user_id=user,
                label="Possessions/Pet",
                type="direct",
                value=f"keeps a {word}",
                evidence=evidence,
                method="t",
            )
        )
    return History(user_id=user, language="en", sessions=tuple(sessions), memories=tuple(memories))


def histories(users: int, *, stable: bool) -> list[History]:
    """Users who are known by one word in every session, or by the next word of everybody's in each."""
    return [
        history(f"en{n:02}", [WORDS[n]] * 4 if stable else [WORDS[(5 * n + 7 * k) % len(WORDS)] for k in range(4)])
        for n in range(users)
    ]


class Reader(SimulatedJudge):
    """Likes the reply whose words the persona holds; a reply is 1 then, else 0.2."""

    def _scored(self, case: Case, reply: Reply, place: float) -> Scored:
        scored = super()._scored(case, reply, place)
        total = 1.0 if reply.text.rpartition(" ")[2] in case.persona.profile else 0.2
        return replace(scored, reward=scored.reward.model_copy(update={"total": total}))


def cases_with_replies(out: Path, judge: SimulatedJudge, users: int = 12, **fields: Any) -> SimulatedContext:
    context = context_of(out, [judge], many_cases(users, 1), **fields)
    replies = [
        Reply(case_id=case.id, policy=policy, text=f"Think of the {word}")
        for n, case in enumerate(context.material.dataset.cases.values())
        for policy, word in zip(("personalized", "generic", "cold"), (WORDS[n], "rain", "snow"), strict=True)
    ]
    return replace(context, material=replace(context.material, replies=replies))


def rows_in(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "stability" / name).read_text().splitlines()]


async def test_stable_histories_under_a_judge_that_reads_the_persona_are_good(tmp_path: Path) -> None:
    finding = await stability.measure_histories(cases_with_replies(tmp_path, Reader()), histories(12, stable=True))
    assert finding.verdict == "good", finding.words
    figures = {figure.name: figure.estimate.mean for figure in finding.figures}
    assert figures["Traits, extractive, odd/even sessions: own other part nearest of all"] == 1
    assert figures["Choice of reply, odd/even sessions: same choice"] == 1
    assert figures["Choice of reply, odd/even sessions: own half minus a stranger's"] == pytest.approx(2 / 3)
    assert finding.asked == finding.scored == 12 * 3 * 3
    rows = rows_in(tmp_path, "choices.jsonl")
    assert rows[0]["first"] == [0.2, 0.2, 1.0]
    assert rows[0]["policies"] == ["cold", "generic", "personalized"]
    assert {row["months"] for row in rows_in(tmp_path, "gaps.jsonl")}
    assert len(rows_in(tmp_path, "gaps.jsonl")) == 72
    assert any("judge-0 is no model" in word for word in finding.words)


async def test_histories_whose_halves_share_nothing_are_not_praised(tmp_path: Path) -> None:
    finding = await stability.measure_histories(cases_with_replies(tmp_path, Reader()), histories(12, stable=False))
    assert finding.verdict == "bad", finding.words


async def test_failed_scores_are_counted_and_never_numbers(tmp_path: Path) -> None:
    context = context_of(tmp_path, [SimulatedJudge(fails=0.3)], many_cases(12, 2))
    finding = await stability.measure_histories(context, histories(12, stable=True))
    values = [
        v for row in rows_in(tmp_path, "choices.jsonl") for side in ("first", "second", "stranger") for v in row[side]
    ]
    assert (finding.asked, finding.scored) == (len(values), sum(value is not None for value in values))
    assert 0 < finding.scored < finding.asked


async def test_without_histories_nothing_is_measured_and_that_is_said(tmp_path: Path) -> None:
    finding = await stability.measure(context_of(tmp_path, [SimulatedJudge()], many_cases(3, 1)))
    assert (finding.verdict, finding.asked) == ("unknown", 0)
    assert any("histories behind these cases are not there" in word for word in finding.words)


def rated(request: Request) -> str:
    """Rate three facets by the first memory: high or low by its word, so that a user of one word is rated alike twice."""
    if request.schema_name == "persona":
        traits = [{"text": "Keeps things.", "memories": [1]}]
        return json.dumps({"profile": "A keeper.", "traits": traits, "topics": [], "gate_reason": "x", "is_deep": True})
    shown = request.messages[-1].content
    place = next(n for n, word in enumerate(WORDS) if f"keeps a {word}" in shown)
    facets = [
        {"facet": name, "memories": [1], "text": f"holds on to what is found ({name})", "rating": 1 + (place + n) % 5, "confidence": 60}
        for n, name in enumerate(("trust", "energy", "anxiety"))
    ]  # fmt: skip
    return json.dumps({"facets": facets, "topics": [], "gate_reason": "x", "is_deep": True})


def asked_of(model: Any, context: SimulatedContext) -> SimulatedContext:
    return replace(context, judges=(model,), settings=Settings(run=RunSettings(memories="model")))


async def test_a_model_rates_both_halves_and_the_facets_are_held_together(tmp_path: Path) -> None:
    context = asked_of(ScriptedModel(rated), cases_with_replies(tmp_path, Reader()))
    finding = await stability.measure_histories(context, histories(12, stable=True))
    figures = {figure.name: figure.estimate.mean for figure in finding.figures}
    assert figures["Big Five, bigfive, odd/even sessions: ICC(1,1)"] == 1
    assert {(row["source"], row["by"]) for row in rows_in(tmp_path, "traits.jsonl")} == {
        (source, by) for source in ("extractive", "memory", "bigfive") for by in ("text", "label")
    }
    scores = [row for row in rows_in(tmp_path, "scores.jsonl") if row["split"] == "odd/even sessions"]
    assert len(scores) == 36
    assert all(row["first"] == row["second"] for row in scores)


async def test_the_embedded_model_is_not_asked_unless_it_may_try(tmp_path: Path) -> None:
    context = cases_with_replies(tmp_path, Reader())
    context = replace(
        context, judges=(ScriptedModel(()),), options=context.options.model_copy(update={"judges": ("embedded",)})
    )
    finding = await stability.measure_histories(context, histories(12, stable=True))
    assert any("only `memories = 'model'` in the settings lets it try" in word for word in finding.words)


@pytest.mark.parametrize("part", [stability.measure_histories, robustness.measure_with])
async def test_a_plan_asks_and_nothing_falls_over(part: Any, tmp_path: Path) -> None:
    model = PlanningModel("judge")
    simulated = asked_of(model, cases_with_replies(tmp_path, Reader(), users=3))
    fields = {name: getattr(simulated, name) for name in Context.__dataclass_fields__}
    options = simulated.options.model_copy(update={"criteria": "composed"})
    plan = Context(**{**fields, "options": options})
    await part(plan, histories(3, stable=True))
    assert model.planned["persona"].calls > 0
    assert model.planned["judge"].calls >= 27


async def test_constructions_of_a_model_and_of_a_questionnaire_and_halves(tmp_path: Path) -> None:
    rows = "\n".join(f"en{n:02},tipi,7,2,6,1,4,1,6,3,7,4" for n in range(12))
    answers = tmp_path / "tipi.csv"
    answers.write_text("user_id,questionnaire,1,2,3,4,5,6,7,8,9,10\n" + rows + "\n")
    model = ScriptedModel(lambda request: rated(request).replace('rating": 1', 'rating": 2'))
    known = histories(12, stable=True)
    context = cases_with_replies(tmp_path / "out", SimulatedJudge(noise=0.01))
    cases = {
        case.id: case
        for n, old in enumerate(context.material.dataset.cases.values())
        for case in [
            old.model_copy(update={"memories": known[n].memories, "relevant_memory_ids": (known[n].memories[0].id,)})
        ]
    }
    replies = [
        Reply(case_id=case.id, policy=policy, text=f"A {policy} word for {case.user_id}")
        for case in cases.values()
        for policy in ("personalized", "generic", "cold")
    ]
    material = replace(context.material, dataset=replace(context.material.dataset, cases=cases), replies=replies)
    context = replace(context, material=material, judges=(model,))
    run = RunSettings(memories="model", questionnaire=str(answers))
    finding = await robustness.measure_with(replace(context, settings=Settings(run=run)), known)
    assert finding.verdict == "good", finding.words
    assert finding.data[1] == (
        "constructions: as built, questionnaire persona, memory persona by a model, bigfive persona by a model, odd half of the history, "
        "even half of the history"
    )
    assert finding.asked == 12 * 3 * 6
    made = [
        Case.model_validate_json(line) for line in (tmp_path / "out/robustness/cases.jsonl").read_text().splitlines()
    ]
    assert len(made) == 12 * 6
    assert all(case.relevant_memory_ids for case in made if "even" not in case.persona.method)


class Turncoat(SimulatedJudge):
    """Likes the personalized reply where the persona is one of the case's own, and the cold one under any other."""

    def _scored(self, case: Case, reply: Reply, place: float) -> Scored:
        scored = super()._scored(case, reply, place)
        own = 1 if case.persona.method == "test" else -1
        total = 0.5 + own * {"personalized": 0.2, "generic": 0.0, "cold": -0.2}[reply.policy]
        return replace(scored, reward=scored.reward.model_copy(update={"total": total}))


async def test_a_planted_reversal_is_named(tmp_path: Path) -> None:
    context = context_of(tmp_path, [Turncoat()], many_cases(12, 2))
    finding = await robustness.measure_with(context, histories(12, stable=True))
    assert finding.verdict == "bad"
    assert finding.words[0].startswith("ORDER REVERSED: ")
    assert any("personalized is better than cold under as built (0.4" in word for word in finding.words[:6])


async def test_one_construction_alone_is_unknown_and_asks_nothing(tmp_path: Path) -> None:
    finding = await robustness.measure(context_of(tmp_path, [SimulatedJudge()], many_cases(3, 1)))
    assert (finding.verdict, finding.asked) == ("unknown", 0)
    assert any("No questionnaire of these users" in word for word in finding.words)


async def test_a_construction_that_few_users_have_is_left_out_and_said() -> None:
    found = constructions.Constructions(
        {"some": {"a": personas.Made((), None)}, "all": {u: personas.Made((), None) for u in "abc"}}
    )
    assert robustness._shared_users(found, {"a", "b", "c"}) == {"a", "b", "c"}
    assert found.notes == ["some: there for 1 of 3 users only, and left out."]


def test_the_questionnaires_of_the_sample_are_of_its_users() -> None:
    from peregrm.dataset.questionnaire_files import read_questionnaire

    folder = sample()[0]
    users = {path.stem for path in folder.glob("*.json")}
    assert set(read_questionnaire(folder.with_name("questionnaire.csv"))) <= users
