"""The retrieval benchmark of memory stores: reading, ranks known by hand, silence, constants found anew, and the command."""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkout_parts import amem_at, memoryos_at
from peregrm.cli import benchmark_memory, main
from peregrm.errors import InputError, ModelTimeout
from peregrm.evaluation.benchmarks.memory_retrieval.run import Remembering, run_retrieval
from peregrm.evaluation.benchmarks.memory_retrieval.tasks import Example, Fact, read_examples, read_tasks
from peregrm.evaluation.benchmarks.memory_retrieval.tune import NUMBERS, _points, _weight, tune
from peregrm.mapping import NoProgress
from peregrm.memory import open_store
from peregrm.models import registry
from peregrm.models.cache import CachedModel
from peregrm.models.scripted import ScriptedModel, ScriptEntry

Write = Callable[..., Path]

SAYINGS = {"ada": "owns a kayak", "bo": "plays the cello", "cy": "breeds ferrets [ERROR: Role-play]"}
ASKED = {"ada": "where can I take my kayak?", "bo": "a present for me?", "cy": "what do ferrets eat?"}


class WordEmbedder:
    calls = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls += len(texts)
        found = np.full((len(texts), 32), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                found[row, zlib.crc32(word.encode()) % 32] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def item(value: str) -> dict[str, Any]:
    return {"memory_id": "m1", "value": value, "label": "UNMAPPED"}


def packet(user: str, **task3: Any) -> dict[str, Any]:
    right = item(SAYINGS[user])
    others = [item(value) for name, value in SAYINGS.items() if name != user]
    task = {
        "query": ASKED[user],
        "task3_selected_memory": right,
        "candidate_memories": [right, *others, right],
        **task3,
    }
    return {"session_id": user, "task2": {"memory_pool_before_update": [right, item("likes tea")]}, "task3": task}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(*rows: Any, name: str = "packets.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows or map(packet, SAYINGS)), encoding="utf-8")
        return path

    return to


def test_a_task_holds_each_candidate_once_and_no_mark(write: Write) -> None:
    ada, _, cy = read_tasks(write())
    assert [fact.text for fact in ada.candidates] == ["owns a kayak", "plays the cello", "breeds ferrets"]
    assert ada.right == ada.candidates[0]
    assert [fact.text for fact in ada.own] == ["owns a kayak", "likes tea"]
    assert cy.right.text == "breeds ferrets"
    assert [fact.text for fact in cy.own] == ["likes tea"]  # what annotators marked as wrong is no memory of the user


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([packet("ada"), packet("ada")], "ada stands there twice"),
        ([{"session_id": "ada"}], "no packet with task 3"),
        ([{"task3": {}}], "no session_id"),
        ([[1]], "not an object"),
        ([packet("ada", query=7)], "query"),
        ([packet("ada", task3_selected_memory=item("else"))], "not among the candidates"),
        ([packet("ada", candidate_memories=["x"])], "a memory is not an object"),
        ([packet("ada", candidate_memories=[{"label": "x"}])], "value"),
    ],
)
def test_what_cannot_be_read_is_named(write: Write, rows: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_tasks(write(*rows))


async def test_ranks_and_silence_are_those_known_by_hand(write: Write) -> None:
    tasks = read_tasks(write())
    opened: list[Path] = []

    def of(name: str) -> Any:
        def opener(path: Path, embedder: Any) -> Any:
            opened.append(path)
            return open_store(name, path, embedder=embedder)

        return opener

    result = await run_retrieval(
        tasks, {name: of(name) for name in ("recent", "bm25")}, NoProgress(), reference="recent"
    )
    recent, bm25 = result.rows
    assert (result.queries, result.candidates, result.pairs) == (3, 3, 6)
    # Newest first: the right one was added first of three.
    assert (recent.recall_at_1.mean, recent.recall_at_5.mean) == (0, 1)
    assert recent.mrr.mean == pytest.approx(1 / 3)
    assert (recent.own.mean, recent.own.n, recent.own.asked) == (1, 2, 3)
    assert (recent.answered.mean, recent.others.mean, recent.withheld.mean) == (1, 1, 1)
    assert recent.gain_at_5 is None
    # Words: the first and the third query name what they ask for, the second shares no word with anything.
    assert bm25.recall_at_1.mean == bm25.recall_at_5.mean == bm25.mrr.mean == pytest.approx(2 / 3)
    assert bm25.answered.mean == pytest.approx(2 / 3)
    assert (bm25.others.mean, bm25.withheld.mean, bm25.own.mean) == (0, 0, 0.5)
    assert bm25.gain_mrr is not None
    assert bm25.gain_mrr.mean == pytest.approx(1 / 3 - 2 / 3)
    assert bm25.bytes_a_note is not None
    assert bm25.bytes_a_note > 0
    assert not any(path.exists() for path in opened)


def test_an_embedder_that_remembers_embeds_each_text_once() -> None:
    inner = WordEmbedder()
    remembering = Remembering(inner)
    first = remembering.embed(["tea", "rum", "tea"])
    assert np.array_equal(first, remembering.embed(["tea", "rum", "tea"]))
    assert np.array_equal(first, inner.embed(["tea", "rum", "tea"]))
    assert inner.calls == 2 + 3


def test_examples_leave_out_traps_and_users_that_are_tested(write: Write) -> None:
    asked = [
        {"ability": "ability1", "query": "which boat?", "memory": item("owns a kayak")},
        {"ability": "ability3", "query": "how old am I?", "memory": item("owns a kayak")},
        {"ability": "ability2", "query": "not mine", "memory": item("owns a canoe")},
        {"ability": "ability2", "query": "no memory"},
    ]
    rows = [
        {"session_id": user, "record": {"memory_items": [item("owns a kayak")]}, "task4_queries": asked}
        for user in ("ada", "bo")
    ]
    path = write(*rows, name="sessions.jsonl")
    (bo,) = read_examples(path, frozenset({"ada"}))
    assert bo.asked == (("which boat?", Fact(text="owns a kayak", label="UNMAPPED")),)
    with pytest.raises(InputError, match="no query with its memory"):
        read_examples(path, frozenset({"ada", "bo"}))


def test_the_weight_behind_simulated_choices_is_recovered() -> None:
    random = np.random.default_rng(3)
    measures = []
    for _ in range(600):
        rows = np.stack([random.normal(0.2, 0.15, 40), random.exponential(2.0, 40)], axis=1)
        chosen = int(np.argmax(rows @ np.array([20.0, 0.4]) + random.gumbel(size=40)))
        measures.append(rows[[chosen, *(place for place in range(40) if place != chosen)]])
    assert _weight(measures) == pytest.approx(0.02, rel=0.15)


def test_the_points_of_the_gate_rise_with_the_number_of_notes() -> None:
    random = np.random.default_rng(3)
    points = _points([random.exponential(0.1, 100) for _ in range(300)], random)
    assert all(np.diff(points) > 0)
    # Of exponential scores the best of n passes -0.1 ln(1 - 0.95^(1/n)) for one query in twenty.
    assert points == pytest.approx([-0.1 * np.log(1 - 0.95 ** (1 / n)) for n in NUMBERS], rel=0.1)


def test_tuning_needs_english_queries_and_enough_other_memories() -> None:
    own = tuple(Fact(text=f"owns thing {number}", label=None) for number in range(60))
    few = [
        Example(user="ada", own=own, asked=(("which of my boats do you like?", own[0]),)),
        Example(user="bo", own=own[:5], asked=()),
    ]
    with pytest.raises(InputError, match="only 4 memories of other users"):
        tune(few, WordEmbedder(), NoProgress())
    chinese = [Example(user="ada", own=own, asked=(("我该怎么办？", own[0]),))]
    with pytest.raises(InputError, match="no English query"):
        tune(chinese, WordEmbedder(), NoProgress())


def test_the_command_prints_tables_and_json(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark_memory, "_embedder", lambda _: WordEmbedder())
    path = write()
    common = ["benchmark", "memory", "--data", str(tmp_path), "--store", "default", "--store", "bm25"]
    out = tmp_path / "run"
    for extra in (["--json", "-o", str(out)], []):
        with pytest.raises(SystemExit) as end:
            main([*common, *extra])
        assert end.value.code == 0
    said = capsys.readouterr().out
    first, end_of_json = json.JSONDecoder().raw_decode(said)
    assert first == json.loads((out / "result.json").read_text())
    assert [row["store"] for row in first["rows"]] == ["default without gate", "default", "bm25"]
    assert first["tuned"] is None
    assert "recall at 1" in said[end_of_json:]
    assert "default without gate over bm25" in said[end_of_json:]
    with pytest.raises(SystemExit):
        main([*common, "--limit", "1", "--json", "-o", str(out)])
    alone = json.loads(capsys.readouterr().out)
    assert (alone["queries"], alone["pairs"]) == (1, 0)
    assert alone["rows"][0]["others"]["mean"] is None
    (tmp_path / "more-packets.jsonl").write_bytes(path.read_bytes())
    for arguments, message in (
        (common, "holds 2 files of packets"),
        (["benchmark", "memory", "--data", str(path), "--store", "nothing"], "there is no memory store 'nothing'"),
        (["benchmark", "memory", "--data", str(path), "--store", "linked"], "asks a language model"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 1
        assert message in capsys.readouterr().err


@pytest.fixture
def ask(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command on three users with a scripted model; return how it ended and what it said."""

    def call(*arguments: str, answer: ScriptEntry | Callable[[], ScriptEntry] = "knows words") -> tuple[int, str, str]:
        monkeypatch.setattr(benchmark_memory, "_embedder", lambda _: WordEmbedder())
        model = ScriptedModel(lambda _: answer() if callable(answer) else answer, name="m")
        monkeypatch.setattr(registry, "open_model", lambda *_, cache, ledger: CachedModel(model, cache, ledger))
        common = ["benchmark", "memory", "--data", str(write()), "--model", "m@http://127.0.0.1:9/v1"]
        with pytest.raises(SystemExit) as end:
            main([*common, "-o", str(tmp_path / "run"), *arguments])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


@pytest.mark.parametrize(
    ("store", "place"), [("amem", amem_at), ("memoryos", memoryos_at), ("two_tier", None), ("bm25", None)]
)
def test_every_kind_of_store_runs_by_command(
    ask: Callable[..., tuple[int, str, str]], tmp_path: Path, store: str, place: Callable[[Path], Path] | None
) -> None:
    at = [] if place is None else ["--memory-at", str(place(tmp_path))]
    code, _, err = ask("--store", store, *at, "--failure-budget", "1")
    assert code == 0, err
    (row,) = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert row["store"] == store
    assert row["recall_at_10"]["mean"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "amem"], "amem needs the folder of your checkout of A-MEM: name it with --memory-at"),
        (["--store", "letta"], "letta needs the URL of a Letta server"),
        (["--store", "bm25", "--memory-at", "here"], "none was asked for"),
    ],
)
def test_a_place_that_is_missing_or_too_much_is_named(
    ask: Callable[..., tuple[int, str, str]], arguments: list[str], message: str
) -> None:
    code, _, err = ask(*arguments)
    assert code == 1
    assert message in err


def test_a_store_that_asks_a_model_says_what_it_asked_and_what_failed(
    ask: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = ask("--store", "two_tier", answer="no JSON at all")
    assert code == 1
    assert "model answers could not be used" in err
    assert "memory store two_tier" in err
    assert re.search(r"Behind these figures: [1-9]\d* model calls", out)
    assert "failures while adding: unparsable" in " ".join(out.split())
    assert (tmp_path / "run" / "result.json").exists()


def test_calls_that_failed_were_asked_too(ask: Callable[..., tuple[int, str, str]]) -> None:
    """Half of the calls fail: that is half of what was asked, not as many as were answered."""
    turn = itertools.count()
    code, out, err = ask(
        *("--store", "two_tier", "--failure-budget", "0.6"),
        answer=lambda: ModelTimeout("too slow") if next(turn) % 2 else '{"edits": []}',
    )
    assert code == 0, err
    assert "failures while adding: timeout 6" in " ".join(out.split())


def test_what_a_store_would_ask_is_counted_first(ask: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, err = ask("--store", "bm25", "--store", "two_tier", "--dry-run", "--json")
    assert code == 0, err
    assert {(row["purpose"], row["calls"] > 0) for row in json.loads(out)} == {("memory_two_tier", True)}
    assert not (tmp_path / "run").exists()
    assert json.loads(ask("--store", "bm25", "--dry-run", "--json")[1]) == []
