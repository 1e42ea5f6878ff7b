"""A study is drawn blind, from clean cases, by a plan that cannot be changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import ArtifactError, InputError, SettingsError
from peregrm.records import Case, Failure, Reply
from peregrm.study.drawing import Asked, make_study
from peregrm.study.material import read_key, read_material
from peregrm.study.plan import plan_hash, read_plan


def test_what_is_served_names_no_policy_user_or_record(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(cases=8, participants=8)
    text = (folder / "material.json").read_text()
    key = read_key(folder)
    telling = {"zebrawarm", "quaggacold", "user0", "user1", *key.cases.values()}
    telling |= {entry.reply_id for entry in key.replies.values()}
    assert not [word for word in telling if word in text]
    material = read_material(folder)
    written_by = {blind: entry.policy for blind, entry in key.replies.items()}
    orders = [tuple(written_by[blind] for blind in case.replies) for case in material.cases]
    assert len(set(orders)) == 2  # the order of a case's replies in the file tells nothing either
    firsts = Counter(written_by[place.first] for slot in material.slots for place in slot)
    assert firsts["zebrawarm"] == firsts["quaggacold"]
    for slot in material.slots:
        for place in slot:
            replies = {one.id: one.replies for one in material.cases}[place.case]
            assert {place.first, place.second} == set(replies)


def test_the_plan_says_everything_and_its_hash_holds_it(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(participants=12, seed=3)
    plan, digest = read_plan(folder)
    assert digest == plan_hash(plan)
    assert (plan.participants, plan.cases, plan.per_participant, plan.seed) == (12, 6, 3, 3)
    assert plan.policies == ("zebrawarm", "quaggacold")
    assert 0 < plan.assumed.power_choice < 1
    assert len(plan.hypotheses) == 5
    assert "0.05" in plan.analysis[0]


@pytest.mark.parametrize("name", ["plan.json", "material.json", "key.json"])
def test_a_changed_file_is_refused(make_folder: Callable[..., Path], name: str) -> None:
    path = make_folder() / name
    path.write_text(
        path.read_text().replace('"alpha": 0.05', '"alpha": 0.5').replace("lists", "maps").replace("r-", "R-", 1)
    )
    with pytest.raises(ArtifactError, match="frozen"):
        read_plan(path.parent)


def test_a_damaged_plan_and_none_are_said(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    path = make_folder() / "plan.json"
    path.write_text(json.dumps({"sha256": "x", "plan": {"title": "t"}}))
    with pytest.raises(ArtifactError, match="damaged"):
        read_plan(path.parent)
    with pytest.raises(InputError, match="study new"):
        read_plan(tmp_path)


def test_a_study_is_not_drawn_over_another(make_folder: Callable[..., Path]) -> None:
    make_folder()
    with pytest.raises(InputError, match="a plan is not changed"):
        make_folder()


def test_cases_that_cannot_be_used_are_counted(make_cases: Callable[..., dict[str, Case]], tmp_path: Path) -> None:
    cases = make_cases(4) | make_cases(1, flags=("self_harm",))
    ids = list(cases)
    flagged = next(iter(make_cases(1, flags=("self_harm",))))
    assert flagged == ids[0]  # flags are no part of an id: the flagged one stands in for the first
    failure = Failure(stage="replies", kind="timeout", reason="late")
    replies = [Reply(case_id=one, policy="a", text="yes") for one in ids]
    replies += [
        Reply(case_id=ids[1], policy="b", text="yes "),
        Reply(case_id=ids[2], policy="b", text="", failure=failure),
        Reply(case_id=ids[0], policy="b", text="no"),
        Reply(case_id=ids[3], policy="b", text=" "),
    ]
    with pytest.raises(
        InputError, match="a reply failed 1, a reply is empty 1, flagged for danger 1, the replies are the same 1"
    ):
        make_study(tmp_path / "s", cases, replies, Asked())


def test_users_take_turns_in_giving_cases(make_cases: Callable[..., dict[str, Case]], tmp_path: Path) -> None:
    cases = make_cases(12, users=4)
    replies = [Reply(case_id=one, policy=policy, text=policy) for one in cases for policy in ("a", "b")]
    made = make_study(tmp_path / "s", cases, replies, Asked(cases=6, per_participant=2, participants=3))
    users = Counter(cases[one].user_id for one in read_key(tmp_path / "s").cases.values())
    assert sorted(users.values()) == [1, 1, 2, 2]
    assert made.plan.cases == 6


@pytest.mark.parametrize(
    ("wanted", "message"), [(None, "name two"), (("a", "z"), "a, b, c"), (("a", "a"), "different")]
)
def test_two_policies_are_named(
    make_cases: Callable[..., dict[str, Case]], tmp_path: Path, wanted: Any, message: str
) -> None:
    cases = make_cases(2)
    replies = [Reply(case_id=one, policy=policy, text=policy) for one in cases for policy in ("a", "b", "c")]
    with pytest.raises(InputError, match=message):
        make_study(tmp_path / "s", cases, replies, Asked(policies=wanted))


def test_the_number_of_participants_is_what_the_power_takes(make_folder: Callable[..., Path]) -> None:
    plan, _ = read_plan(make_folder(cases=24, per_participant=8, participants=None, effect=0.5, choice_share=0.7))
    assert min(plan.assumed.power_choice, plan.assumed.power_ratings) >= 0.8
    with pytest.raises(SettingsError, match="--cases"):
        make_folder(cases=4, name="other", participants=None, effect=0.05, case_icc=0.4)
