"""EQ-Bench 3 from scenario to figures with a scripted model: known scores, both orders, failures as values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import peregrm.cli.benchmark_eqbench  # noqa: F401 - adds its command
from benchmark_parts import means
from peregrm.cli import app
from peregrm.errors import InputError, ModelTimeout, SettingsError
from peregrm.evaluation.benchmarks.eqbench3.data import EQBench, read_eqbench
from peregrm.evaluation.benchmarks.eqbench3.margins import margin
from peregrm.evaluation.benchmarks.eqbench3.run import EQOptions, read_transcripts, run_eqbench
from peregrm.evaluation.benchmarks.eqbench3.transcripts import SECTION_LENGTHS, Transcript, shown_turns
from peregrm.mapping import NoProgress
from peregrm.models.base import Completion, Message, Request
from peregrm.models.scripted import ScriptedModel, ScriptEntry

Answer = Callable[[Request], ScriptEntry]


def call(command: list[str]) -> None:
    app(command, standalone_mode=False)


def judge_says(request: Request) -> str:
    """Score 10, 20 and 5; prefer whoever says KIND, by two pluses a trait."""
    text = request.messages[0].content
    names = [name for name in request.json_schema["properties"] if name != "chain_of_thought_reasoning"]  # type: ignore[index]
    said: dict[str, object] = {"chain_of_thought_reasoning": "because"}
    if request.purpose == "rubric":
        scores = {"depth_of_insight": 10, "warmth": 20, "pragmatic_ei": 5, "correctness": 16.5}
        return json.dumps(said | {name: scores[name] for name in names})
    halves = re_split(text)
    winner = "A0493" if "KIND" in halves[0] else "A0488"
    return json.dumps(said | dict.fromkeys(names, f"{winner}++"))


def re_split(text: str) -> list[str]:
    mark = "[RESPONDENT A0488]" if "[RESPONDENT A0488]" in text else "[SECOND]"
    return text.split(mark)


@pytest.fixture
def bench(eq_folder: Path) -> EQBench:
    return read_eqbench(eq_folder)


async def test_a_run_with_known_scores(bench: EQBench) -> None:
    model, judge = ScriptedModel(lambda _: "Fine.", "m"), ScriptedModel(judge_says, "j")
    outcome = await run_eqbench(bench, model, judge, EQOptions(), NoProgress())
    # Acted: (10 + 5) / 2 of 20, warmth describes only. Analysis: 16.5 of 20.
    assert {item.item_id: dict(item.scores)["rubric"] for item in outcome.items} == {
        "1": 37.5,
        "205": 37.5,
        "410": 82.5,
    }
    assert means(outcome)["rubric"] == pytest.approx((37.5 * 2 + 82.5) / 3)
    assert means(outcome)["warmth"] == 20
    assert "win" not in means(outcome)
    assert (outcome.result.items, outcome.result.available, outcome.result.clusters) == (3, 3, 2)
    # Turns: two and a debrief, one and a debrief, one without. Then one question of the judge each.
    assert (outcome.result.asked, len(model.requests), len(judge.requests)) == (9, 6, 3)
    assert {(kind, value) for kind, value, _ in outcome.result.slices} == {
        ("kind", "role-play"), ("kind", "drafting"), ("kind", "analysis")
    }  # fmt: skip


async def test_the_dialogue_is_the_benchmark_s_own(bench: EQBench) -> None:
    model = ScriptedModel(lambda request: f"Answer {len(request.messages)}.", "m")
    await run_eqbench(bench, model, ScriptedModel(judge_says), EQOptions(), NoProgress())
    acted = [request for request in model.requests if "Step out of the role" in request.messages[-1].content]
    assert [len(request.messages) for request in acted] == [5, 3]
    assert {request.temperature for request in acted} == {0.5}
    whole = acted[0].messages
    assert whole[0].content.startswith("Your neighbour opened your parcel by mistake.\n\n# My thoughts")
    assert [message.content for message in whole if message.role == "assistant"] == ["Answer 1.", "Answer 3."]


async def test_pairs_in_both_orders(bench: EQBench) -> None:
    kind, cold = ScriptedModel(lambda _: "KIND words.", "kind"), ScriptedModel(lambda _: "Cold words.", "cold")
    judge = ScriptedModel(judge_says, "j")
    outcome = await run_eqbench(bench, kind, judge, EQOptions(), NoProgress(), against=cold)
    values = means(outcome)
    assert (values["win"], values["orders agree"]) == (1, 1)
    # Two traits with two pluses in each order of acted scenarios, one trait in analyses.
    assert values["margin"] == pytest.approx((2 * margin(8) + margin(4)) / 3)
    assert dict(outcome.result.models) == {"model": "kind", "judge": "j", "against": "cold"}
    back = await run_eqbench(bench, cold, judge, EQOptions(), NoProgress(), against=kind)
    assert means(back)["margin"] == pytest.approx(-(values["margin"] or 0))


async def test_a_judge_that_always_likes_the_first_is_a_draw(bench: EQBench) -> None:
    def first(request: Request) -> str:
        return judge_says(request).replace("A0488", "A0493")

    outcome = await run_eqbench(
        bench,
        ScriptedModel(lambda _: "a"),
        ScriptedModel(first),
        EQOptions(),
        NoProgress(),
        against=ScriptedModel(lambda _: "b"),
    )
    assert [means(outcome)[name] for name in ("win", "margin", "orders agree")] == [0.5, 0, 0]


async def test_failures_are_counted_and_score_nothing(bench: EQBench) -> None:
    def acts(request: Request) -> ScriptEntry:
        if len(request.messages) == 3:
            return ModelTimeout("too late") if "making a fuss" in request.messages[-1].content else "ok"
        return "<think>never done" if "Analyse it" in request.messages[0].content else "ok"

    outcome = await run_eqbench(bench, ScriptedModel(acts, "m"), ScriptedModel(judge_says), EQOptions(), NoProgress())
    rubric = next(metric for metric in outcome.result.metrics if metric.name == "rubric")
    assert (rubric.estimate.n, rubric.estimate.asked, rubric.estimate.mean) == (1, 3, 37.5)
    assert outcome.result.failures == (("scenario", "timeout", 1), ("scenario", "unclosed_thinking", 1))
    assert outcome.result.notes == ("2 scenarios broke off and were not judged.",)


@pytest.mark.parametrize("said", ['{"chain_of_thought_reasoning": "x", "correctness": 21}', "20", '{"correctness": 4}'])
async def test_a_judge_that_does_not_keep_to_the_scale_scores_nothing(bench: EQBench, said: str) -> None:
    outcome = await run_eqbench(
        bench, ScriptedModel(lambda _: "ok"), ScriptedModel(lambda _: said), EQOptions(), NoProgress()
    )
    assert means(outcome)["rubric"] is None
    assert sum(n for stage, _, n in outcome.result.failures if stage == "rubric") == 3


async def test_a_pair_with_one_order_unread_has_no_margin(bench: EQBench) -> None:
    def half(request: Request) -> str:
        one_way = request.purpose == "pairwise" and "KIND" in re_split(request.messages[0].content)[0]
        return "no verdict" if one_way else judge_says(request)

    kind, cold = ScriptedModel(lambda _: "KIND."), ScriptedModel(lambda _: "Cold.")
    outcome = await run_eqbench(bench, kind, ScriptedModel(half), EQOptions(), NoProgress(), against=cold)
    assert means(outcome)["margin"] is None
    assert means(outcome)["rubric"] is not None
    assert sum(n for stage, _, n in outcome.result.failures if stage == "pairwise") == 3


def test_sections_are_cut_and_a_reply_without_headings_is_shown(bench: EQBench) -> None:
    scenario = bench.scenarios[0]

    def shown(reply: str) -> str:
        turns = (Message(role="user", content="hi"), Message(role="assistant", content=reply))
        transcript = Transcript(scenario_id="1", model="m", turns=turns, asked=1)
        return shown_turns(transcript, scenario, bench, cut=True)

    long = shown(f"# My thoughts\n{'a' * 9000}\n**Their thoughts**\nshort\n# My answer\n*no*")
    assert f"{'a' * SECTION_LENGTHS[0]}... [truncated]" in long
    assert "a" * (SECTION_LENGTHS[0] + 1) not in long
    assert "Their thoughts\n\nshort" in long
    assert long.rstrip().endswith("My answer\n\nno")
    assert "plain words" in shown("plain words")
    assert len(shown("b" * 9000)) < sum(SECTION_LENGTHS) + 100


def test_the_command_writes_a_folder_that_another_run_compares_with(
    eq_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(request: Request) -> ScriptEntry:
        return Completion(text=judge_says(request) if request.json_schema else "KIND words.")

    monkeypatch.setattr("peregrm.models.registry.open_model", lambda *_, **__: ScriptedModel(answers, "m"))
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "eqbench3", "--data", str(eq_folder), "--model", "m@http://127.0.0.1:9/v1"]
    call([*command, "-o", "one"])
    assert set(read_transcripts(Path("one"))) == {"1", "205", "410"}
    printed = capsys.readouterr().out
    assert "52.500" in printed
    call([*command, "-o", "two", "--against", "one", "--json"])
    result = json.loads(capsys.readouterr().out)
    values = {metric["name"]: metric["estimate"]["mean"] for metric in result["metrics"]}
    assert (values["win"], values["rubric"]) == (0.5, 52.5)
    call([*command, "-o", "three", "--dry-run", "--json", "--against", "one"])
    planned = {row["purpose"]: row["calls"] for row in json.loads(capsys.readouterr().out)}
    assert planned == {"scenario": 6, "rubric": 3, "pairwise": 6}
    assert not Path("three").exists()


def test_transcripts_of_two_runs_in_one_file_are_refused(tmp_path: Path) -> None:
    one = Transcript(scenario_id="1", model="m", turns=(), asked=1)
    path = tmp_path / "transcripts.jsonl"
    path.write_text(one.model_dump_json() + "\n" + one.model_copy(update={"model": "n"}).model_dump_json() + "\n")
    with pytest.raises(InputError, match="transcripts of one model"):
        read_transcripts(tmp_path)


def test_recomputing_asks_no_model(
    write_elo: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_elo([(a, b, "1", True, "A0493++") for a, b in ("ab", "bc", "ac")], {"a": 3, "b": 2, "c": 1})
    command = ["benchmark", "eqbench3", "--data", str(folder), "--recompute", "-o", str(tmp_path / "lb")]
    call(command)
    assert "Spearman 1.0000" in capsys.readouterr().out
    assert json.loads((tmp_path / "lb" / "leaderboard.json").read_text())["spearman"] == 1
    with pytest.raises(SettingsError, match="asks no model"):
        call([*command, "--model", "embedded"])
