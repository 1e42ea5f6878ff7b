"""Engines without a cluster: which there are, what is said where one is missing, and what Ray's workers share."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import ArtifactError, ModelUnavailable
from peregrm.mapping import NoProgress
from peregrm.models.base import Completion, Message, Request
from peregrm.models.cache import CachedModel
from peregrm.models.ledger import Ledger
from peregrm.models.scripted import ScriptedModel
from peregrm.pipeline import ray_engine, steps
from peregrm.pipeline.engine import Step, Tools
from peregrm.pipeline.job import RunConfig
from peregrm.pipeline.ray_calls import Ask, CallStore, NotingLedger, SharedCalls, Use, noting
from peregrm.pipeline.ray_engine import CHECKPOINT, RayEngine
from peregrm.records import History, Session, Turn, Usage
from peregrm.settings import Settings

REQUEST = Request(messages=(Message(role="user", content="how are you?"),), max_tokens=5, purpose="memories")


def test_an_unknown_engine_and_a_missing_one_are_said_in_one_line(
    here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("build", "-o", tmp_path / "x", "--engine", "dask").failed_with_one_line("--engine dask", "local, ray")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    here("build", "-o", tmp_path / "y", "--engine", "ray").failed_with_one_line("pip install -e '.[ray]'")


def test_every_step_says_what_it_returns() -> None:
    every = [value for value in vars(steps).values() if isinstance(value, Step)]
    assert len({step.name for step in every}) == len(every) > 10
    for step in every:
        assert step.returns.core_schema


async def test_what_is_asked_while_a_message_is_on_its_way_goes_out_together() -> None:
    sent: list[list[int]] = []

    async def send(items: list[int]) -> list[int]:
        sent.append(items)
        await asyncio.sleep(0)
        return [-item for item in items]

    ask = Ask(send)
    assert await asyncio.gather(*(ask(n) for n in range(5))) == [0, -1, -2, -3, -4]
    assert await ask(7) == -7
    assert sent == [[0, 1, 2, 3, 4], [7]]


async def test_an_error_reaches_everybody_who_asked() -> None:
    async def send(items: list[int]) -> object:
        return ArtifactError("the file is gone")

    ask = Ask(send)
    outcomes = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the file is gone"] * 2


def shared(path: Path, replies: Sequence[Any], share: int = 4) -> tuple[SharedCalls, ScriptedModel]:
    store = CallStore(str(path))

    async def get(keys: list[str]) -> object:
        return store.get_all(keys)

    async def put(rows: list[Any]) -> object:
        return store.put_all(rows)

    model, ledger = ScriptedModel(replies, name="scripted"), NotingLedger()
    return SharedCalls(CachedModel(model, None, ledger), ledger, Ask(get), Ask(put), share), model


async def test_an_answer_is_stored_before_it_is_used_and_found_by_the_next_worker(tmp_path: Path) -> None:
    first, _ = shared(tmp_path / "calls.sqlite", ["fine"])
    uses = noting()
    answer = await first.complete(REQUEST)
    assert (answer.text, answer.cached) == ("fine", False)

    second, model = shared(tmp_path / "calls.sqlite", [])
    found = await second.complete(REQUEST)
    assert (found.text, found.cached) == ("fine", True)
    assert not model.requests
    assert [(use.model, use.purpose, use.cached, use.failure) for use in uses] == [
        ("scripted", "memories", False, None),
        ("scripted", "memories", True, None),
    ]


async def test_samples_are_drawn_where_none_is_stored_and_looked_up_where_some_are(tmp_path: Path) -> None:
    first, _ = shared(tmp_path / "calls.sqlite", ["one", "two"])
    noting()
    request = REQUEST.model_copy(update={"temperature": 1.0})
    assert [answer.text for answer in await first.complete_many(request, 2)] == ["one", "two"]  # type: ignore[union-attr]
    second, model = shared(tmp_path / "calls.sqlite", ["three"])
    assert [answer.text for answer in await second.complete_many(request, 3)] == ["one", "two", "three"]  # type: ignore[union-attr]
    assert len(model.requests) == 1


async def test_a_failed_call_is_noted_and_not_stored(tmp_path: Path) -> None:
    model, _ = shared(tmp_path / "calls.sqlite", [ModelUnavailable("nobody is there", kind="refused"), "fine"])
    uses = noting()
    with pytest.raises(ModelUnavailable):
        await model.complete(REQUEST)
    assert (await model.complete(REQUEST)).text == "fine"
    assert [use.failure for use in uses] == ["refused", None]


def test_uses_of_an_earlier_run_are_entered_as_not_paid_for_now() -> None:
    ledger = Ledger()
    use = Use("m", "memories", Usage(calls=1, input_tokens=7), 0.5)
    use.enter(ledger, anew=True)
    use.enter(ledger, anew=False)
    Use("m", "memories", failure="timeout").enter(ledger, anew=True)
    (row,) = ledger.summary()
    assert (row.fresh_calls, row.cached_calls, row.failures) == (1, 1, (("timeout", 1),))
    assert ledger.used_usage().input_tokens == 14


def test_a_damaged_cache_is_an_error_and_no_crash_of_its_owner(tmp_path: Path) -> None:
    (tmp_path / "calls.sqlite").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(ArtifactError, match=r"calls\.sqlite"):
        CallStore(str(tmp_path / "calls.sqlite"))
    store = CallStore(str(tmp_path / "good.sqlite"))
    store._cache.close()
    assert isinstance(store.get_all(["x"]), ArtifactError)
    assert isinstance(store.put_all([("x", REQUEST, Completion(text="a"))]), ArtifactError)


@pytest.fixture
def flagging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Flag histories on a stand-in for the cluster that brings back as many results as it is told; return what it was sent."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "ray" else found(name))
    monkeypatch.setattr(RayEngine, "_start", lambda self: None)
    model = ScriptedModel([])
    tools = Tools(RunConfig.model_construct(memories="extractive"), Settings(), model, model)

    async def flag(texts: Sequence[str], brings: int = 100, *, fails: bool = False) -> tuple[int, Ledger]:
        sent: list[Any] = []

        def run(self: object, step: Step, tools: Tools, tasks: dict[str, Any], at_once: int) -> Iterator[list[Any]]:
            sent.extend(tasks)
            use = Use("m", "memories", Usage(calls=1), failure="timeout" if fails else None)
            for key, task in list(tasks.items())[:brings]:
                result = step.returns.dump_json(asyncio.run(step.run(tools, task)))
                yield [ray_engine._Row(key, result, ray_engine._USES.dump_json([use]))]

        monkeypatch.setattr(RayEngine, "_run", run)
        histories = [
            History(
                user_id=f"u{n}",
                language="en",
                sessions=(Session(session_id="s", turns=(Turn(role="user", text=text),)),),
            )
            for n, text in enumerate(texts)
        ]
        engine, ledger = RayEngine(tmp_path, Ledger()), Ledger()
        engine._ledger = ledger
        flags = await engine.map(steps.FLAGS, tools, histories, progress=NoProgress(), at_once=4)
        assert [bool(of_history) for of_history in flags] == ["suicidal" in text for text in texts]
        return len(sent), ledger

    return flag


async def test_a_run_goes_on_with_the_records_that_are_missing_until_the_stage_is_written(
    flagging: Callable, tmp_path: Path
) -> None:
    texts = ["I like tea.", "I am suicidal.", "I like rain."]
    with pytest.raises(ArtifactError, match="flags: 1 records did not come back"):
        await flagging(texts, brings=2)
    sent, ledger = await flagging(texts)
    assert sent == 1
    (row,) = ledger.summary()
    assert (row.fresh_calls, row.cached_calls) == (1, 2)
    sent, _ = await flagging(["I like tea.", "I am suicidal.", "I like snow."])
    assert sent == 1, "an edited history is another record"
    RayEngine(tmp_path, Ledger()).written()
    assert not (tmp_path / CHECKPOINT).exists()
    assert (await flagging(texts))[0] == 3


async def test_a_record_with_a_failed_call_is_not_kept(flagging: Callable) -> None:
    await flagging(["I like tea."], fails=True)
    assert (await flagging(["I like tea."]))[0] == 1


async def test_a_damaged_checkpoint_is_named(flagging: Callable, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(ArtifactError, match=r"checkpoint\.sqlite: damaged"):
        await flagging(["I like tea."])
