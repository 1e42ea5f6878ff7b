"""EmoBench with scripted models: who knows, who likes a letter, who does not answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peregrm.cli.benchmark_emobench  # noqa: F401 - adds its command
from benchmark_parts import means
from peregrm.cli import app
from peregrm.errors import InputError, SettingsError
from peregrm.evaluation.benchmarks.common import Outcome
from peregrm.evaluation.benchmarks.emobench.data import Choice, Item, read_emobench
from peregrm.evaluation.benchmarks.emobench.questions import Reply, option_order, question
from peregrm.evaluation.benchmarks.emobench.run import EmoOptions, item_score, run_emobench
from peregrm.mapping import NoProgress
from peregrm.models.base import Request
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Failure
from published_data import PUBLISHED, needs

Raw = dict[str, Any]
_LETTERED = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)


def call(command: list[str]) -> None:
    app(command, standalone_mode=False)


def acting(qid: str, language: str = "en", **more: Any) -> Raw:
    options = [f"right {qid}", "wrong one", "wrong two", "wrong three"]
    return {
        "qid": qid, "language": language, "category": "Personal-Self", "question type": "Action", "scenario": "It rains.",
        "subject": "Ada", "choices": options, "label": options[0], **more,
    }  # fmt: skip


def understanding(qid: str, language: str = "en", **more: Any) -> Raw:
    return {
        "qid": qid, "language": language, "coarse_category": "cues", "finegrained_category": "voice", "scenario": "It rains.",
        "subject": "Ada", "emotion_choices": ["right Joy", "wrong A", "wrong B"], "emotion_label": "right Joy",
        "cause_choices": ["wrong X", "right sun"], "cause_label": "right sun", **more,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    both = [(language, qid) for language in ("en", "zh") for qid in "123"]
    for task, make in (("EA", acting), ("EU", understanding)):
        rows = [make(qid, language) for language, qid in both]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / f"{task}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def shown(request: Request) -> list[dict[str, str]]:
    """Return the options by letter, one list a choice: a list begins with A."""
    lists: list[dict[str, str]] = []
    for letter, text in _LETTERED.findall(request.messages[1].content):
        if letter == "A":
            lists.append({})
        lists[-1][letter] = text
    return lists


def answer(request: Request, pick: Callable[[dict[str, str]], str]) -> str:
    names = list(request.json_schema["properties"])  # type: ignore[index]
    return json.dumps({name: pick(options) for name, options in zip(names, shown(request), strict=True)})


def knows(request: Request) -> str:
    return answer(request, lambda options: next(key for key, text in options.items() if text.startswith("right")))


def likes_a(request: Request) -> str:
    return answer(request, lambda options: "A")


async def outcome_of(folder: Path, play: Callable[[Request], str], **options: Any) -> Outcome:
    items = read_emobench(folder)
    return await run_emobench(folder, items, ScriptedModel(play, "m"), EmoOptions(**options), NoProgress())


async def test_who_knows_is_right_in_every_order(folder: Path) -> None:
    outcome = await outcome_of(folder, knows)
    assert means(outcome) == {
        "EA accuracy": 1, "EA majority": 1, "EA consistency": 1, "EA answered": 1,
        "EU accuracy": 1, "EU emotion": 1, "EU cause": 1, "EU majority": 1, "EU consistency": 1, "EU answered": 1,
    }  # fmt: skip
    assert {m.name: m.chance for m in outcome.result.metrics if m.chance is not None} == pytest.approx(
        {"EA accuracy": 1 / 4, "EU accuracy": 1 / 6, "EU emotion": 1 / 3, "EU cause": 1 / 2}
    )
    assert (outcome.result.items, outcome.result.clusters, outcome.result.asked) == (12, 6, 48)
    assert {value for kind, value, _ in outcome.result.slices if kind == "language"} == {"en", "zh"}


async def test_who_likes_a_letter_scores_as_chance(folder: Path) -> None:
    outcome = await outcome_of(folder, likes_a)
    values = means(outcome)
    # Over four orders of four options the right one stands once at A. Six orders would show each pair of emotion and cause once.
    assert (values["EA accuracy"], values["EA consistency"], values["EA majority"]) == (0.25, 0.25, 0)
    six = means(await outcome_of(folder, likes_a, orders=6))
    assert (six["EU emotion"], six["EU cause"]) == pytest.approx((1 / 3, 1 / 2))
    assert six["EU accuracy"] == pytest.approx(1 / 6)


async def test_what_cannot_be_read_is_no_answer_and_no_guess(folder: Path) -> None:
    def odd(request: Request) -> str:
        item = "right 1" in request.messages[1].content
        return "I think it is B, or maybe C." if item else knows(request)

    outcome = await outcome_of(folder, odd, orders=2)
    accuracy = next(metric for metric in outcome.result.metrics if metric.name == "EA accuracy")
    assert (accuracy.estimate.mean, accuracy.estimate.n, accuracy.estimate.asked) == (1, 4, 6)
    assert means(outcome)["EA answered"] == pytest.approx(2 / 3)
    assert outcome.result.failures == (("emobench", "unparsable", 4),)


@pytest.mark.parametrize("said", ['{"answer": "E"}', '{"answer": "a"}', '{"answer": ["A"]}', "A", ""])
async def test_an_answer_outside_the_options_is_none(tmp_path: Path, said: str) -> None:
    (tmp_path / "EA.jsonl").write_text(json.dumps(acting("1")) + "\n")
    items = read_emobench(tmp_path, ("EA",))
    outcome = await run_emobench(tmp_path, items, ScriptedModel(lambda _: said), EmoOptions(orders=1), NoProgress())
    assert means(outcome) == {"EA accuracy": None, "EA answered": 0}


async def test_figures_do_not_hang_on_the_order_of_the_file(folder: Path) -> None:
    def by_hash(request: Request) -> str:
        return answer(request, lambda options: min(options, key=lambda key: options[key][::-1]))

    first = await outcome_of(folder, by_hash, limit=7, seed=3)
    for name in ("EA.jsonl", "EU.jsonl"):
        lines = (folder / name).read_text("utf-8").splitlines()
        (folder / name).write_text("\n".join(lines[::-1]) + "\n", "utf-8")
    again = await outcome_of(folder, by_hash, limit=7, seed=3)
    assert again.items == first.items
    assert len({item.item_id.rsplit("/", 1)[0] for item in first.items}) == 4, (
        "all tasks and languages are in a limited run"
    )


def test_the_most_frequent_answer_has_to_be_alone() -> None:
    item = Item(
        task="EA", language="en", qid="1", scenario="s", subject="a", kinds=(),
        choices=(Choice(name="answer", options=("x", "y", "z"), right=0),),
    )  # fmt: skip
    lost = Reply(None, Failure(stage="emobench", kind="empty", reason="it is empty"))

    def scores(*chosen: int | None) -> dict[str, float | None]:
        return dict(item_score(item, [lost if n is None else Reply((n,)) for n in chosen]).scores)

    assert scores(0, 0, 1) == {"EA accuracy": 2 / 3, "EA majority": 1, "EA consistency": 2 / 3, "EA answered": 1}
    assert scores(0, 1, None) == {"EA accuracy": 0.5, "EA majority": 0, "EA consistency": 0.5, "EA answered": 2 / 3}
    assert scores(None, 0) == {"EA accuracy": 1, "EA majority": 1, "EA consistency": None, "EA answered": 0.5}
    assert scores(None, None)["EA accuracy"] is None


@settings(max_examples=30)
@given(st.text(max_size=8), st.integers(2, 7), st.integers(0, 5))
def test_over_as_many_turns_as_options_each_stands_everywhere(item_id: str, n: int, seed: int) -> None:
    choice = Choice(name="answer", options=tuple(f"option {k}" for k in range(n)), right=0)
    orders = [option_order(item_id, choice, seed, turn) for turn in range(n)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert all({order[place] for order in orders} == set(range(n)) for place in range(n))


def test_chinese_items_are_asked_in_chinese(folder: Path) -> None:
    for item in read_emobench(folder):
        orders = tuple(option_order(item.item_id, choice, 0, 0) for choice in item.choices)
        system, user = question(item, orders)
        assert ("选项" in system.content) == (item.language == "zh")
        assert "right" not in system.content
        assert "It rains." in user.content


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (acting("1", label="none"), "label is none of the choices"),
        (acting("1", choices=["x", "x"], label="x"), "different texts"),
        (acting("1", choices=["x"], label="x"), "2 to 26"),
        (acting("1", choices=["x", 2], label="x"), "should be texts"),
        (acting("1", scenario=None), "scenario"),
        ({key: value for key, value in acting("1").items() if key != "qid"}, "qid"),
        ([], "no item of EmoBench"),
    ],
)
def test_what_is_no_item_is_said_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    (tmp_path / "EA.jsonl").write_text(json.dumps(acting("0")) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message) as error:
        read_emobench(tmp_path, ("EA",))
    assert "EA.jsonl" in str(error.value)


def test_twice_the_same_and_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "EA.jsonl").write_text((json.dumps(acting("0")) + "\n") * 2)
    with pytest.raises(InputError, match="EA/en/0 stands there twice"):
        read_emobench(tmp_path, ("EA",))
    (tmp_path / "EA.jsonl").write_text(json.dumps(acting("0")) + "\n")
    with pytest.raises(InputError, match="no item of EA in zh"):
        read_emobench(tmp_path, ("EA",), ("zh",))
    with pytest.raises(InputError, match=r"EU\.jsonl: no such file"):
        read_emobench(tmp_path)


def test_the_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("peregrm.models.registry.open_model", lambda *_, **__: ScriptedModel(knows, "m"))
    command = [
        "benchmark",
        "emobench",
        "--data",
        str(folder),
        "--model",
        "m@http://127.0.0.1:9/v1",
        "-o",
        str(tmp_path / "o"),
    ]
    call([*command, "--task", "EA", "--language", "en", "--limit", "2"])
    said = capsys.readouterr()
    assert "EA accuracy" in said.out
    assert "2 of 3 items in 2 clusters" in said.out
    assert len((tmp_path / "o" / "items.jsonl").read_text().splitlines()) == 2
    call([*command, "--dry-run", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["purpose"], row["calls"]) == ("emobench", 48)
    with pytest.raises(SettingsError, match="there is EA, EU and both"):
        call([*command, "--task", "EX"])


REAL = PUBLISHED / "benchmarks" / "emobench"


@needs(REAL)
def test_the_real_files_are_read() -> None:
    items = read_emobench(REAL)
    assert len(items) == 800
    assert len({item.item_id for item in items}) == 800
    assert {len(item.choices[0].options) for item in items if item.task == "EA"} == {4}
