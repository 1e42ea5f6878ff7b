"""Human agreement and calibration over a judge of the test's own, from files to findings; and every reward on a person nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import InputError
from peregrm.evaluation.validity.ratings.rows import case_of
from peregrm.mapping import NoProgress
from peregrm.models.planning import PlanningModel
from peregrm.pipeline.material import Material
from peregrm.pipeline.reply_files import Dataset
from peregrm.pipeline.validity import calibration, human
from peregrm.pipeline.validity.context import Context
from peregrm.records import Case, Failure, Message, Reply, Reward
from peregrm.reward.base import Scored, as_replies
from peregrm.reward.factory import open_reward, reward_names
from peregrm.reward.options import RewardOptions
from peregrm.settings import Settings

Score = Callable[[str], float | None]


class Judge:
    """A reward that scores the text of a reply alone."""

    def __init__(self, score: Score, method: str = "planted") -> None:
        self.score_of, self.method = score, method
        self.groups: list[tuple[Case, int]] = []

    async def score(self, case: Case, replies: Sequence[Reply | str]) -> list[Scored]:
        self.groups.append((case, len(replies)))
        return [self._scored(case, reply) for reply in as_replies(case, replies)]

    def _scored(self, case: Case, reply: Reply) -> Scored:
        value = self.score_of(reply.text)
        reward = Reward(
            case_id=case.id,
            reply_id=reply.id,
            policy=reply.policy,
            judge="planted",
            method=self.method,
            scores=(("expression", value),),
            empathy=value,
            bystander=None,
            total=value,
            coverage=float(value is not None),
            judgement_ids=(),
            failure=None if value is not None else Failure(stage="judge", kind="down", reason="it is down"),
        )
        return Scored(reply, reward)

    async def aclose(self) -> None:
        """There is nothing to free."""


def by_marks(text: str) -> float:
    """Return the score that the text of a planted reply names."""
    return 0.2 + 0.2 * text.count("!")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """40 users with a pair of marked replies each, and 40 dialogues whose feedback follows the marks."""
    pairs = [
        {
            "user": f"u{n}",
            "context": f"it is day {n}",
            "a": "yes" + "!" * (n % 4),
            "b": "ok" + "!" * (n % 4 + 1),
            "better": "b",
            "gap": 1,
        }
        for n in range(40)
    ]
    pairs.append({**pairs[0], "user": "u40", "context": "I want to kill myself tonight"})
    talks = [
        {
            "dialog": [
                {"speaker": "usr", "text": f"it is day {n}"},
                {"speaker": "sys", "text": "hm" + "!" * (n % 5) + "." * (4 - n % 5)},
                {"speaker": "usr", "text": "well", "feedback": n % 5 + 1},
            ]
        }
        for n in range(40)
    ]
    for name, rows in (("pairs", pairs), ("talks", talks)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "pairs.jsonl", tmp_path / "talks.jsonl"


def context_of(files: tuple[Path, Path], out: Path, judge: Judge | None, **changes: Any) -> Context:
    fields: dict[str, Any] = {
        "material": Material(Dataset({}, {}), [], {}),
        "options": RewardOptions(judges=("judge",), criteria="composed"),
        "settings": Settings(),
        "judges": (PlanningModel("judge"),),
        "pairs": files[:1],
        "ratings": files[1:],
        "cases": 100,
        "seed": 0,
        "out": out,
        "progress": NoProgress(),
    }
    context = Context(**{**fields, **changes})
    if judge is not None:
        object.__setattr__(context, "open", lambda *_, **__: judge)
    return context


async def test_a_judge_that_scores_as_people_do_is_good_and_its_rows_are_kept(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    judge = Judge(by_marks)
    context = context_of(files, tmp_path / "out", judge)
    finding = await human.measure(context)
    assert (finding.verdict, finding.asked, finding.scored) == ("good", 120, 120)
    assert any("rows of a context that shows signs of danger" in words for words in finding.data)
    assert not any("kill" in case.query for case, _ in judge.groups)
    kept = [json.loads(line) for line in (tmp_path / "out/human/pairs.jsonl").read_text().splitlines()]
    assert len(kept) == 40
    assert all(row["b"]["total"] > row["a"]["total"] for row in kept)
    calibrated = await calibration.measure(context)
    assert calibrated.verdict == "good"
    result = calibration.CalibrationResult.model_validate_json((tmp_path / "out" / calibration.RESULT).read_text())
    assert [one.name for one in result.calibrations] == ["pairs, pairs", "talks, seeker feedback"]
    assert result.calibrations[1].error.mean == pytest.approx(0.0, abs=1e-9)


async def test_as_many_contexts_of_a_file_are_judged_as_asked_for(files: tuple[Path, Path], tmp_path: Path) -> None:
    judge = Judge(by_marks)
    finding = await human.measure(context_of(files, tmp_path / "out", judge, cases=7))
    assert len(judge.groups) == 14
    assert finding.data[0].startswith("pairs (preference pairs): 7 of 41 pairs; 7 clusters: users")


async def test_a_judge_that_is_down_gives_no_number_and_no_verdict(files: tuple[Path, Path], tmp_path: Path) -> None:
    context = context_of(files, tmp_path / "out", Judge(lambda text: None))
    for part in (human, calibration):
        finding = await part.measure(context)
        assert (finding.verdict, finding.asked, finding.scored) == ("unknown", 120, 0)
        assert {figure.estimate.mean for figure in finding.figures} <= {None}


async def test_a_reward_that_compares_sees_one_pair_at_a_time_and_no_single_reply(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    judge = Judge(by_marks, method="pairwise")
    finding = await human.measure(context_of(files, tmp_path / "out", judge))
    assert {count for _, count in judge.groups} == {2}
    assert finding.verdict == "good"
    assert not any("rank correlation with seeker" in figure.name for figure in finding.figures)


async def test_own_cases_with_ranked_replies_are_judged_with_all_that_is_known(case: Case, tmp_path: Path) -> None:
    replies = [Reply(case_id=case.id, policy=name, text=text) for name, text in (("warm", "yes!!"), ("flat", "no"))]
    material = Material(Dataset({case.id: case}, {}), replies, {replies[0].id: 1, replies[1].id: 2})
    judge = Judge(by_marks)
    context = context_of((tmp_path, tmp_path), tmp_path / "out", judge, material=material, pairs=(), ratings=())
    finding = await human.measure(context)
    assert [group.id for group, _ in judge.groups] == [case.id]
    assert (finding.verdict, finding.scored) == ("unknown", 2)


@pytest.mark.parametrize("reward", ["shared", "paper", "listwise", "pairwise"])
async def test_a_plan_counts_the_calls_and_does_not_crash(
    reward: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    model = PlanningModel("judge")
    options = RewardOptions(judges=("judge",), criteria="composed", reward=reward)
    context = context_of(files, tmp_path / "out", None, options=options, judges=(model,), cases=3)
    for part in (human, calibration):
        await part.measure(context)
    assert sum(usage.calls for usage in model.planned.values()) > 0


@pytest.mark.parametrize("reward", [name for name in reward_names() if name != "scalar"])
async def test_every_reward_judges_replies_to_a_person_nobody_knows(reward: str) -> None:
    case = case_of("ada", (Message(role="user", content="my cat ran off"),))
    options = RewardOptions(judges=("judge",), criteria="composed", reward=reward)
    judge = open_reward(options, (PlanningModel("judge"),))
    scored = await judge.score(case, ["Oh no, I am sorry.", "Cats come back."])
    await judge.aclose()
    assert [one.failure for one in scored] == [None, None]


@pytest.mark.parametrize("part", [human, calibration])
async def test_without_any_data_there_is_nothing_to_find(part: Any, tmp_path: Path) -> None:
    context = context_of((tmp_path, tmp_path), tmp_path / "out", Judge(by_marks), pairs=(), ratings=())
    with pytest.raises(InputError, match="no pairs or ratings by people"):
        await part.measure(context)
