"""Who looks at a case for signs of danger, what is kept of it, and that a flagged case is known as such wherever it goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.dataset.output.paper_folder import export_paper, import_paper
from peregrm.dataset.safety import Flag, SafetyCheck, describe_checks
from peregrm.dataset.safety.flags import DANGERS
from peregrm.errors import ModelTimeout
from peregrm.models.ledger import Ledger
from peregrm.models.scripted import ScriptedModel, ScriptEntry
from peregrm.pipeline.finish import load_artifacts
from peregrm.pipeline.flagging import read_cases, safety_stage, with_flags
from peregrm.pipeline.job import Budget, Job, RunConfig
from peregrm.pipeline.reply_files import read_dataset
from peregrm.pipeline.session import load_config
from peregrm.records import Case, History, Session, Turn
from peregrm.reward.base import GUIDANCE
from peregrm.settings import RunSettings, Settings
from peregrm.store import Workspace, write_records

DARK = "I want to kill myself and I have the pills here."


def answer(**present: str) -> str:
    nothing = {"quote": "", "present": False}
    return json.dumps({kind: {"quote": present[kind], "present": True} if kind in present else nothing
                       for kind in DANGERS})  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, case: Case) -> Workspace:
    """A build as it stands before its cases are looked at: one case of each of two users, one of whom is a child."""
    made = Workspace(tmp_path / "out")
    turns = {"ada": "My brother Tom cancelled again.", "bea": "I'm 14 years old and I go to school in Leeds."}
    histories = [
        History(user_id=user, language="en", sessions=(Session(session_id="s1", turns=(Turn(role="user", text=text),)),))
        for user, text in turns.items()
    ]  # fmt: skip
    cases = [
        case.model_copy(update={
            "user_id": history.user_id,
            "persona": case.persona.model_copy(update={"user_id": history.user_id, "history_id": history.id}),
        })
        for history in histories
    ]  # fmt: skip
    made.write("histories.jsonl", histories)
    made.write("cases.jsonl", cases)
    return made


def job_of(workspace: Workspace, script: list[ScriptEntry], safety: str) -> tuple[Job, ScriptedModel]:
    run = RunSettings()
    kept = set(RunConfig.model_fields) & set(RunSettings.model_fields)
    given = {"histories": "x", "model": "m", "judge": "m", "memories": "model", "criteria": "model", "reasons": "no"}
    config = RunConfig.model_validate({**{name: getattr(run, name) for name in kept}, **given, "safety": safety})
    model = ScriptedModel(script, name="m")
    return Job(workspace, config, Settings(run=run), model, model, Ledger(), budget=Budget(0.2)), model


async def look(workspace: Workspace, script: list[ScriptEntry], safety: str) -> tuple[list[Case], Job]:
    job, _ = job_of(workspace, script, safety)
    await safety_stage(job)
    return workspace.read("cases.jsonl", Case), job


async def test_rules_alone_ask_nobody(workspace: Workspace) -> None:
    before = workspace.read("cases.jsonl", Case)
    assert [case.flags for case in before] == [None, None]
    after, job = await look(workspace, [], "rules")
    assert [case.flags for case in after] == [(), ("minor",)], "that a user is a child holds for all their cases"
    assert [case.id for case in after] == [case.id for case in before]
    assert job.budget.asked == 0
    checks = workspace.read("safety.jsonl", SafetyCheck)
    assert [(check.case_id, check.rules, check.model, check.judge) for check in checks] == [
        (after[0].id, (), None, None),
        (after[1].id, ("minor",), None, None),
    ]
    assert describe_checks(checks) == "Rules alone looked at the 2 cases."


async def test_the_flag_of_either_is_enough_and_disagreement_is_on_record(workspace: Workspace) -> None:
    after, job = await look(workspace, [answer(abuse="He's done it again"), answer()], "both")
    assert [case.flags for case in after] == [("abuse",), ("minor",)]
    first, second = workspace.read("safety.jsonl", SafetyCheck)
    assert (first.rules, first.model, first.disagreed, first.judge) == ((), ("abuse",), ("abuse",), "m")
    assert (second.rules, second.model, second.disagreed) == (("minor",), (), ("minor",))
    by = {(flag.kind, flag.by) for flag in workspace.read("flags.jsonl", Flag) if flag.subject == after[0].id}
    assert by == {("abuse", "model")}
    assert (job.budget.asked, job.budget.failed) == (2, 0)
    assert "the model m at 2, of which 0" in describe_checks([first, second])
    assert "disagree on 2 cases (abuse 1, minor 1)" in describe_checks([first, second])


async def test_an_answer_that_cannot_be_used_is_a_failure_and_a_flag(workspace: Workspace) -> None:
    after, job = await look(workspace, [ModelTimeout("late"), answer()], "both")
    assert [case.flags for case in after] == [("unknown",), ("minor",)]
    (check, _) = workspace.read("safety.jsonl", SafetyCheck)
    assert check.model is None
    assert check.failure is not None
    assert check.failure.kind == "timeout"
    assert (job.budget.asked, job.budget.failed) == (2, 1)


async def test_flags_edited_by_hand_are_used_as_they_are(workspace: Workspace) -> None:
    await look(workspace, [], "rules")
    write_records(workspace.path("flags.jsonl"), [])
    after, _ = await look(Workspace(workspace.root), [], "both")
    assert [case.flags for case in after] == [(), ()]


def test_cases_of_other_sources_are_looked_at_when_they_are_read(case: Case, tmp_path: Path) -> None:
    dark = case.model_copy(update={"query": DARK})
    cleared = dark.model_copy(update={"flags": ()})
    assert [one.flags for one in with_flags([case, dark, cleared], tmp_path / "no.jsonl")] == [(), ("self_harm",), ()]
    write_records(tmp_path / "cases.jsonl", [case, dark])
    assert read_dataset(tmp_path / "cases.jsonl").cases[dark.id].flags == ("self_harm",)


def test_the_papers_files_carry_flags_and_foreign_ones_are_looked_at(case: Case, tmp_path: Path) -> None:
    own = Workspace(tmp_path / "own")
    own.write("cases.jsonl", [case.model_copy(update={"flags": ("abuse",)})])
    export_paper(own, tmp_path / "paper")
    import_paper(tmp_path / "paper" / "final_en.json", tmp_path / "back")
    assert [one.flags for one in Workspace(tmp_path / "back").read("cases.jsonl", Case)] == [("abuse",)]
    (row,) = json.loads((tmp_path / "paper" / "final_en.json").read_text())
    del row["peregrm"], row["queries"][0]["peregrm"]
    row["queries"][0]["query"] = DARK
    for item in row["extracted_memory"]:
        del item["peregrm"]
    (tmp_path / "foreign.json").write_text(json.dumps([row]))
    import_paper(tmp_path / "foreign.json", tmp_path / "looked")
    assert [one.flags for one in Workspace(tmp_path / "looked").read("cases.jsonl", Case)] == [("self_harm",)]


def test_a_run_states_flagged_cases_apart_and_no_command_forgets_them(
    tmp_path: Path, here: Callable, small: Any, make_gold: Callable, server: Any
) -> None:
    make_gold(tmp_path / "gold", query=DARK)
    out = tmp_path / "out"
    ended = here(*small.command(out, server, "--cases", "1"))
    assert ended.code == 0, ended.stderr
    assert load_config(out).safety == "both", "the default where the model finds the memories"
    artifacts = load_artifacts(Workspace(out))
    flagged = {case.id for case in artifacts.cases if case.flags}
    assert [case.origin for case in artifacts.cases if case.id in flagged] == ["gold"]
    methods = {reward.case_id in flagged: reward.method for reward in artifacts.rewards}
    assert methods == {True: GUIDANCE, False: "shared"}
    assert [row.policy for row in artifacts.rewards if row.case_id in flagged and row.bystander is not None] == []
    report = json.loads((out / "report.json").read_text())
    assert report["flagged_cases"] == 1
    assert {row["policy"] for row in report["flagged"]} == {"recorded good", "recorded bad", "personalized", "generic"}
    assert {row["origin"] for row in report["policies"]} == {"generated"}
    card = (out / "README.md").read_text()
    assert "Flags: self\\_harm 1 (100%)." in card
    assert "Rules looked at 2 cases and the model" in card

    for stage in ("inspect", "safety"):
        (out / "README.md").unlink()
        assert here(stage, out).code == 0
        assert {case.id for case in read_cases(Workspace(out)) if case.flags} == flagged
        assert (out / "README.md").read_text() == card, "what is handed on is as fresh as the cases"
    ended = here("queries", out)
    assert "are still those from before: run the stages after queries" in ended.stderr
    explained = here("explain", artifacts.replies[0].id, out)
    assert explained.code == 0, explained.stderr
