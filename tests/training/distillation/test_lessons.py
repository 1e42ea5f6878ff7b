"""What is learned from stored judgements: the very question, the mean of the scored trials, and nothing that was not scored."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from distilled_parts import case_of, planted, reply_of, scored_folder
from peregrm.errors import ArtifactError, InputError, ModelUnavailable
from peregrm.models.base import Completion, Request
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline.training_judge import read_judged
from peregrm.records import Judgement
from peregrm.reward.peregrm import PereGRM
from peregrm.store import read_records, write_records
from peregrm.training.distillation.lessons import Lessons, lessons_of


def lessons(folder: Path, **options: Any) -> Lessons:
    return asyncio.run(lessons_of(read_judged([folder])[0], **options))


def test_a_lesson_is_the_question_that_a_judge_without_reasons_is_asked(tmp_path: Path) -> None:
    scored_folder(tmp_path, users=2, replies=3)
    asked: list[Request] = []

    def play(request: Request) -> str:
        asked.append(request)
        return planted(request)

    case = case_of("user-0")
    grm = PereGRM(ScriptedModel(play), reasons=False, criteria="composed")
    asyncio.run(grm.score(case, [reply_of(case, 2, "policy-1")]))
    found = [one for one in lessons(tmp_path).lessons if one.reply_id == reply_of(case, 2, "policy-1").id]
    assert {one.aspect: one.messages for one in found} == {
        "dimensions" if request.purpose == "judge" else "bystander": request.messages for request in asked
    }
    points = next(one for one in found if one.aspect == "bystander")
    assert points.scores == (2.0,) * 5  # five points of twenty
    assert all(len(one.scores) == len(one.form.places) == len(one.criteria) for one in found)


def test_trials_are_averaged_and_unscored_ones_are_counted(tmp_path: Path) -> None:
    def play(request: Request) -> Any:
        if request.purpose == "judge" and request.trial == 2:
            return ModelUnavailable("down")
        if request.purpose == "judge":
            fields: dict[str, Any] = request.json_schema["properties"]  # type: ignore[index]
            score = 4 if request.trial == 0 else 1
            return json.dumps({name: dict.fromkeys(part["properties"], score) for name, part in fields.items()})
        return planted(request)

    scored_folder(tmp_path, users=1, replies=1, play=play, samples=3)
    found = lessons(tmp_path)
    (one,) = [lesson for lesson in found.lessons if lesson.aspect == "dimensions"]
    assert set(one.scores) == {2.5}
    assert one.trials == 2
    assert found.left_out == {"unscored judgements": 1}
    assert found.told() == ["left out: 1 unscored judgements"]


def test_expected_scores_are_what_is_learned(tmp_path: Path) -> None:
    from peregrm.models.base import TokenLogprob

    def play(request: Request) -> Any:
        text = re.sub(r" \d", " 1", planted(request))
        if request.purpose == "bystander":
            return text
        tokens = [
            TokenLogprob(token=char, logprob=-0.7, top=(("1", -0.6931), ("2", -0.6931)))
            if char in "12345" and text[place - 1] == " "
            else TokenLogprob(token=char, logprob=0.0)
            for place, char in enumerate(text)
        ]
        return Completion(text=text, logprobs=tuple(tokens))

    scored_folder(tmp_path, users=1, replies=1, play=play)
    (one,) = [lesson for lesson in lessons(tmp_path).lessons if lesson.aspect == "dimensions"]
    assert set(one.scores) == {1.5}


def test_what_is_no_lesson_is_left_out_by_reason(tmp_path: Path) -> None:
    flagged = case_of("user-9", "I want to end it", flags=("self_harm",))
    scored_folder(tmp_path, replies=2, cases=[case_of("user-0"), flagged])
    path = tmp_path / "judgements.jsonl"
    stored = read_records(path, Judgement)
    own = next(one for one in stored if one.aspect == "dimensions" and one.case_id != flagged.id)
    other = own.model_copy(update={"prompt": "judge@000000000000"})
    by_rule = own.model_copy(update={"prompt": "", "raw": "", "trial": 7})
    of_another = own.model_copy(update={"judge": "somebody"})
    write_records(path, [*stored, other, by_rule, of_another])
    with pytest.raises(InputError, match="--teacher"):
        lessons(tmp_path)
    with pytest.raises(InputError, match="no judgements of 'nobody'"):
        lessons(tmp_path, teacher="nobody")
    found = lessons(tmp_path, teacher="teacher")
    assert {lesson.user for lesson in found.lessons} == {"user-0"}
    assert found.left_out == {
        "judgements of replies to flagged cases": 2,
        "judgements by other prompts than the shared mode's of today": 1,
        "judgements by rule, as of empty replies": 1,
        "judgements of other judges": 1,
    }


def test_parents_must_be_there_and_something_must_be_left(tmp_path: Path) -> None:
    scored_folder(tmp_path, users=1, replies=1)
    (tmp_path / "criteria.jsonl").write_text("")
    with pytest.raises(ArtifactError, match="its criteria"):
        lessons(tmp_path)
    (tmp_path / "replies.jsonl").write_text("")
    with pytest.raises(ArtifactError, match="its reply is not there"):
        lessons(tmp_path)
    (tmp_path / "judgements.jsonl").write_text("")
    with pytest.raises(InputError, match="nobody"):
        lessons(tmp_path)


def test_judgements_that_did_not_see_the_case_are_refused(tmp_path: Path) -> None:
    scored_folder(tmp_path, users=1, replies=1, hidden=frozenset({"persona"}), label="no-persona")
    with pytest.raises(InputError, match="no-persona"):
        lessons(tmp_path)
    with pytest.raises(InputError, match="no judgements"):
        read_judged([tmp_path / "nothing"])


def test_what_a_judge_was_shown_must_be_known(tmp_path: Path) -> None:
    scored_folder(tmp_path, users=1, replies=1)
    (tmp_path / "rewards.jsonl").unlink()
    with pytest.raises(InputError, match="without rewards"):
        lessons(tmp_path)
