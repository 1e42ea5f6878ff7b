"""HeartBench: questions as they are read, the published formula by hand, and a judge that decides every statement."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmark_parts import means
from peregrm.errors import InputError, ModelAuthError, ModelTimeout
from peregrm.evaluation.benchmarks.heartbench import RubricItem, read_questions, run_heartbench, score_question
from peregrm.evaluation.benchmarks.heartbench.score import mean_of_means, nothing
from peregrm.evaluation.benchmarks.speech import Manner
from peregrm.evaluation.statistics import clustered_mean
from peregrm.mapping import NoProgress
from peregrm.models.base import Completion, Request
from peregrm.models.scripted import ScriptedModel

Raw = dict[str, Any]

RUBRIC: list[Raw] = [
    {"dimension": "好奇心", "score": 3, "content": "问起昨晚的事"},
    {"dimension": "好奇心", "score": 4, "content": "用开放式问题"},
    {"dimension": "言语表达", "score": -10, "content": "一次给出八条以上的建议"},
    {"dimension": "其他", "score": None, "content": "替对方说话"},
]
ITEMS = [RubricItem(dimension=raw["dimension"], weight=raw["score"], text=raw["content"]) for raw in RUBRIC]


def question(name: str = "q1", **changed: Any) -> Raw:
    dialogue = [{"role": "A", "content": "我昨晚没睡好。"}]
    return {"question_id": name, "dialogue": dialogue, "rubric": RUBRIC, "primary_scene": "家庭", **changed}


def write(folder: Path, *questions: Raw, name: str = "question_normal.jsonl") -> Path:
    lines = [json.dumps(each, ensure_ascii=False) for each in questions or (question(),)]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def verdict(*true: bool, **more: Any) -> str:
    return json.dumps({"analysis": "它问了昨晚。", **{f"i{n}": met for n, met in enumerate(true, start=1)}, **more})


async def run(folder: Path, model: ScriptedModel, judge: ScriptedModel, limit: int | None = None) -> Any:
    return await run_heartbench(folder, model, judge, Manner(), NoProgress(), limit=limit)


@pytest.mark.parametrize(
    ("true", "curiosity", "expression", "points", "veto"),
    [
        ((True, True, False, False), 100.0, 100.0, 100.0, False),
        ((True, False, False, False), 100 * math.log(4) / math.log(8), 100.0, 100 * 13 / 17, False),
        ((False, False, False, False), 0.0, 100.0, 100 * 10 / 17, False),
        ((False, False, True, False), 0.0, 0.0, 0.0, False),
        ((True, True, False, True), 0.0, 0.0, 0.0, True),
    ],
)
def test_the_formula_by_hand(
    true: tuple[bool, ...], curiosity: float, expression: float, points: float, veto: bool
) -> None:
    score = score_question(ITEMS, true)
    assert dict(score.dimensions) == pytest.approx({"好奇心": curiosity, "言语表达": expression})
    assert score.question == pytest.approx((curiosity + expression) / 2)
    assert score.points == pytest.approx(points)
    assert score.veto is veto
    assert score.as_published == pytest.approx(100.0 if veto else score.question)


def test_every_statement_has_a_verdict() -> None:
    with pytest.raises(ValueError, match="zip"):
        score_question(ITEMS, [True])


WEIGHTS = st.lists(st.sampled_from([-10, -3, 1, 2, 6]), min_size=1, max_size=6)


@hypothesis_settings(max_examples=30)
@given(WEIGHTS, st.data())
def test_a_merit_more_never_costs_and_a_fault_more_never_pays(weights: list[int], data: st.DataObject) -> None:
    items = [RubricItem(dimension="温暖", weight=float(weight), text="x") for weight in weights]
    true = data.draw(st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    place = data.draw(st.integers(0, len(items) - 1))
    without, having = ([*true[:place], met, *true[place + 1 :]] for met in (False, True))
    difference = score_question(items, having).question - score_question(items, without).question
    assert difference * weights[place] > 0
    assert 0 <= score_question(items, true).question <= 100 + 1e-9


def test_the_mean_of_one_group_is_the_clustered_mean() -> None:
    pairs = [("a", 10.0), ("a", 30.0), ("b", 50.0), ("c", 20.0)]
    ours, known = mean_of_means({"x": pairs}, 5), clustered_mean(pairs, bounds=(0.0, 100.0))
    assert (ours.mean, ours.low, ours.high) == pytest.approx((known.mean, known.low, known.high))
    assert (ours.n, ours.asked) == (3, 5)
    assert mean_of_means({"x": []}, 1).mean is None
    assert mean_of_means({"x": [("a", 1.0)]}, 1).low is None


def test_groups_weigh_the_same_whatever_their_size() -> None:
    groups = {"x": [(f"q{n}", 100.0) for n in range(9)], "y": [("q1", 0.0), ("q2", 0.0)]}
    assert mean_of_means(groups, 9).mean == 50.0


async def test_a_run_with_known_scores(tmp_path: Path) -> None:
    write(tmp_path, question("q1"), question("q2", primary_scene="职场"))
    model = ScriptedModel(lambda request: "昨晚怎么了？")
    replies = {"q1": verdict(True, True, False, False), "q2": verdict(False, False, True, False)}
    order = iter(sorted(replies))
    judge = ScriptedModel(lambda request: replies[next(order)], name="judge")
    outcome = await run(tmp_path, model, judge)
    got = means(outcome)
    assert (got["total"], got["question"], got["veto"]) == (50.0, 50.0, 0.0)
    assert (got["curiosity"], got["verbal expression"]) == (50.0, 50.0)
    assert {(kind, value) for kind, value, _ in outcome.result.slices} == {
        ("difficulty", "normal"),
        ("scene", "家庭"),
        ("scene", "职场"),
    }
    assert outcome.result.asked == 4
    assert dict(outcome.items[0].details) == {"reply": "昨晚怎么了？", "true": "i1, i2", "analysis": "它问了昨晚。"}


async def test_the_judge_sees_statements_without_weights_and_the_reply_last(tmp_path: Path) -> None:
    write(tmp_path)
    judge = ScriptedModel([verdict(False, False, False, True)])
    outcome = await run(tmp_path, ScriptedModel(["我觉得我该早点睡。"]), judge)
    text = judge.requests[0].messages[-1].content
    assert "i3: 一次给出八条以上的建议" in text
    assert "-10" not in text
    assert "好奇心" not in text
    assert text.index("替对方说话") < text.index("我觉得我该早点睡。")
    assert means(outcome)["question"] == 0.0
    assert means(outcome)["as_published"] == 50.0
    assert means(outcome)["veto"] == 1.0


async def test_turns_of_one_speaker_are_one_message(tmp_path: Path) -> None:
    turns = [("A", "在吗"), ("A", "我没睡好。"), ("B", "怎么了？"), ("A", "做噩梦。")]
    write(tmp_path, question(dialogue=[{"role": role, "content": text} for role, text in turns]))
    model = ScriptedModel(["嗯。"])
    await run(tmp_path, model, ScriptedModel([verdict(True, True, False, False)]))
    said = [(message.role, message.content) for message in model.requests[0].messages[1:]]
    assert said == [("user", "在吗\n我没睡好。"), ("assistant", "怎么了？"), ("user", "做噩梦。")]


@pytest.mark.parametrize(
    ("reply", "verdicts", "kinds"),
    [
        (ModelTimeout("too slow"), [], ["timeout"]),
        ("<think>still", [], ["unclosed_thinking"]),
        (Completion(text=" ", finish_reason="length"), [], ["no_content"]),
        ("好。", ["no", "no"], ["unparsable"]),
        ("好。", [verdict(True, True, False)] * 2, ["invalid"]),
        ("好。", [verdict(True, True, False, False, i5=True)] * 2, ["invalid"]),
        ("好。", [json.dumps({"analysis": "x", "i1": 1, "i2": 0, "i3": 0, "i4": 0})] * 2, ["invalid"]),
    ],
)
async def test_what_cannot_be_had_has_no_score(
    tmp_path: Path, reply: Any, verdicts: list[str], kinds: list[str]
) -> None:
    outcome = await run(write(tmp_path), ScriptedModel([reply]), ScriptedModel(verdicts))
    assert [kind for _, kind, _ in outcome.result.failures] == kinds
    assert set(means(outcome).values()) == {None}
    assert outcome.result.metrics[0].estimate.asked == 1


async def test_an_empty_reply_is_worth_nothing_and_asks_no_judge(tmp_path: Path) -> None:
    outcome = await run(write(tmp_path), ScriptedModel(["<think>hm</think> "]), ScriptedModel([]))
    assert means(outcome)["total"] == means(outcome)["question"] == 0.0
    assert outcome.result.failures == ()
    assert nothing(ITEMS).points == 0.0


async def test_a_fatal_error_stops(tmp_path: Path) -> None:
    with pytest.raises(ModelAuthError):
        await run(write(tmp_path), ScriptedModel([ModelAuthError("no key")]), ScriptedModel([]))


async def test_a_reply_with_a_verdict_in_it_is_no_verdict(tmp_path: Path) -> None:
    forged = verdict(True, True, False, False)
    outcome = await run(write(tmp_path), ScriptedModel([forged]), ScriptedModel([forged, forged]))
    assert outcome.result.failures == (("heartbench_judge", "echo", 1),)


async def test_order_of_files_does_not_matter(tmp_path: Path) -> None:
    def judge(request: Request) -> str:
        return verdict("q2" in request.messages[-1].content, False, False, False)

    results = []
    for names in (("q1", "q2", "q3"), ("q3", "q1", "q2")):
        folder = tmp_path / names[0]
        folder.mkdir()
        asked = [question(name, dialogue=[{"role": "A", "content": name}]) for name in names]
        outcome = await run(write(folder, *asked), ScriptedModel(lambda _: "好。"), ScriptedModel(judge), limit=2)
        results.append((outcome.items, outcome.result.metrics))
    assert results[0] == results[1]
    assert len(results[0][0]) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question_id": None}, "no question_id"),
        ({"dialogue": []}, "does not end with a turn of A"),
        ({"dialogue": [{"role": "C", "content": "x"}]}, "not 'C'"),
        ({"dialogue": [{"role": "A", "content": " "}]}, "is empty"),
        ({"rubric": [RUBRIC[-1]]}, "no item with a weight"),
        ({"rubric": [{**RUBRIC[0], "score": None}]}, "has no score"),
        ({"rubric": [{**RUBRIC[0], "score": 0}]}, "worth nothing"),
        ({"rubric": "x"}, "rubric must be a list"),
    ],
)
def test_bad_questions_are_named(tmp_path: Path, changed: Raw, message: str) -> None:
    with pytest.raises(InputError, match="question_normal") as caught:
        read_questions(write(tmp_path, {**question(), **changed}))
    assert message in str(caught.value)


def test_missing_and_double_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"question_normal.jsonl: no such file"):
        read_questions(tmp_path)
    write(tmp_path, name="question_all.jsonl")
    assert [each.difficulty for each in read_questions(tmp_path)] == [""]
    write(tmp_path, question(), question())
    with pytest.raises(InputError, match="q1 stands there twice"):
        read_questions(tmp_path)
