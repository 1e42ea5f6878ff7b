from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.errors import (
    ArtifactError,
    ModelAuthError,
    ModelError,
    ModelProtocolError,
    ModelRequestError,
    ModelTimeout,
    ModelUnavailable,
)
from peregrm.models.base import Completion, Message, Request, Schema, TokenLogprob
from peregrm.models.cache import CachedModel, CallCache, request_key
from peregrm.models.ledger import Ledger
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Usage


def asking(text: str = "hi", **fields: Any) -> Request:
    return Request(messages=(Message(role="user", content=text),), max_tokens=5, **fields)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    with CallCache(tmp_path / "sub" / "calls.sqlite") as opened:
        yield opened


class SlowModel:
    """Answers when told to; counts its calls and cancellations."""

    name = "slow"

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.calls = 0
        self.cancelled = 0
        self.closed = 0

    async def complete(self, request: Request) -> Completion:
        self.calls += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Completion(text=f"answer {self.calls}")

    async def aclose(self) -> None:
        self.closed += 1


def test_key_depends_on_everything_but_the_purpose() -> None:
    base = asking()
    assert request_key("m", base) == request_key("m", asking(purpose="other"))
    others: list[dict[str, Any]] = [
        {"trial": 1},
        {"seed": 0},
        {"temperature": 0.1},
        {"json_schema": {}},
        {"json_schema": {"a": 1}},
        {"schema_name": "x"},
        {"top_logprobs": 1},
        {"stop": ("a",)},
    ]
    keys = [request_key("m", base), request_key("n", base), request_key("m", asking("ho"))]
    keys += [request_key("m", asking(**fields)) for fields in others]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)


@pytest.mark.parametrize("schema", [None, {"b": [1], "a": "é"}, Schema({"b": [1], "a": "é"})])
def test_key_is_the_hash_of_the_whole_request_in_canonical_json(schema: dict[str, Any] | None) -> None:
    messages = (Message(role="system", content='"rules" é'), Message(role="user", content="\n你好\ud800"))
    request = Request(messages=messages, max_tokens=5, temperature=0.7, seed=3, stop=("a", "b"), schema_name="s")
    request = request.model_copy(update={"json_schema": schema})
    for one in (request, request.sample(2), request.model_copy(update={"max_tokens": 6})):
        call = {"model": 'm "x"', "request": one.model_dump(mode="json", exclude={"purpose"})}
        text = json.dumps(call, sort_keys=True, separators=(",", ":"))
        assert request_key('m "x"', one) == hashlib.sha256(text.encode()).hexdigest()
        assert request_key("other", one) != request_key('m "x"', one)


def test_key_does_not_depend_on_the_order_of_a_schema() -> None:
    one, two = asking(json_schema={"a": 1, "b": 2}), asking(json_schema={"b": 2, "a": 1})
    assert one == two
    assert request_key("m", one) == request_key("m", two)


texts = st.text(st.characters())
tokens = st.builds(
    TokenLogprob, token=texts, logprob=st.floats(allow_nan=False), top=st.tuples(st.tuples(texts, st.floats(-9, 0)))
)
completions = st.builds(
    Completion,
    text=texts,
    thinking=texts,
    usage=st.builds(Usage, calls=st.just(1), input_tokens=st.integers(0, 10**9)),
    logprobs=st.none() | st.lists(tokens, max_size=3).map(tuple),
    seconds=st.floats(0, 1e6),
)


@given(completions, texts)
def test_what_is_put_is_got(completion: Completion, text: str) -> None:
    with CallCache(":memory:") as cache:
        key = request_key("m", asking(text))
        assert cache.get(key) is None
        cache.put(key, asking(text), completion)
        assert cache.get(key) == completion.model_copy(update={"cached": True})


def test_answers_outlive_the_process_being_killed(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    code = (
        "import sys, time\n"
        "from peregrm.models.base import *\nfrom peregrm.models.cache import *\n"
        f"cache = CallCache({str(path)!r})\n"
        "for n in range(3):\n"
        "    request = Request(messages=(), max_tokens=1, trial=n)\n"
        "    cache.put(request_key('m', request), request, Completion(text=str(n)))\n"
        "print('stored', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        os.kill(process.pid, signal.SIGKILL)
    with CallCache(path) as cache:
        for n in range(3):
            stored = cache.get(request_key("m", Request(messages=(), max_tokens=1, trial=n)))
            assert stored is not None
            assert stored.text == str(n)


def test_two_caches_share_a_file(tmp_path: Path) -> None:
    with CallCache(tmp_path / "c") as one, CallCache(tmp_path / "c") as two:
        one.put("k", asking(), Completion(text="x"))
        stored = two.get("k")
        assert stored is not None
        assert stored.text == "x"


def test_closing_twice_does_no_harm(cache: CallCache) -> None:
    cache.close()
    cache.close()
    with pytest.raises(ArtifactError):
        cache.get("k")


def filled(path: Path) -> bytearray:
    with CallCache(path) as cache:
        for n in range(200):
            cache.put(str(n), asking("x" * 500), Completion(text="y" * 500))
    return bytearray(path.read_bytes())


def damaged(path: Path) -> None:
    data = filled(path)
    data[4096 : len(data) // 2] = random.Random(0).randbytes(len(data) // 2 - 4096)
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    damaged(path)
    path.write_bytes(path.read_bytes()[:5000])


def foreign(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE calls (a)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_text("no database " * 99), damaged, cut_off, foreign, Path.mkdir]
)
def test_unusable_file_is_named(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "calls.sqlite"
    spoil(path)
    with pytest.raises(ArtifactError, match=r"calls\.sqlite"):
        CallCache(path)


def test_damage_further_in_is_named_by_the_use_that_meets_it(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with CallCache(path) as cache:
        for n in range(100):
            cache.put(f"{n:03}", asking(), Completion(text=f"row {n:03}"))
    data = bytearray(path.read_bytes())
    root = 1
    row = next(n for n in range(50, 100) if data.index(f"row {n:03}".encode()) // 4096 != root)
    page = data.index(f"row {row:03}".encode()) // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with CallCache(path) as cache:
        for use in (cache.get, cache.has):
            with pytest.raises(ArtifactError, match=r"calls\.sqlite"):
                use(f"{row:03}")
        stored = cache.get("000")
        assert stored is not None
        assert stored.text == "row 000"


def test_opening_does_not_read_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    filled(path)
    statements: list[str] = []
    connect = sqlite3.connect

    def tracing(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.set_trace_callback(statements.append)
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", tracing)
        CallCache(path).close()
    assert statements
    assert not any("_check" in statement for statement in statements)


@pytest.mark.parametrize("stored", ["{", "[]", "3", '{"text": 3}', '{"text": "a", "surprise": 1}'])
def test_damaged_row_is_an_error(tmp_path: Path, stored: str) -> None:
    with CallCache(tmp_path / "c") as cache:
        cache.put("k", asking(), Completion(text="x"))
        with closing(sqlite3.connect(tmp_path / "c")) as db, db:
            db.execute("UPDATE calls SET completion = ?", (stored,))
        db.close()
        with pytest.raises(ArtifactError, match="damaged"):
            cache.get("k")


async def test_answer_without_a_count_of_calls_counts_as_one(cache: CallCache) -> None:
    ledger = Ledger()
    model = CachedModel(ScriptedModel([Completion(text="x", usage=Usage(input_tokens=5))]), cache, ledger)
    for _ in range(2):
        assert (await model.complete(asking())).usage == Usage(calls=1, input_tokens=5)
    assert ledger.total_usage() == Usage(calls=1, input_tokens=5)
    assert ledger.used_usage() == Usage(calls=2, input_tokens=10)


async def test_second_use_comes_from_the_cache(cache: CallCache) -> None:
    ledger, inner = Ledger(), ScriptedModel(["one"], name="m")
    model = CachedModel(inner, cache, ledger)
    first, second = await model.complete(asking()), await model.complete(asking(purpose="again"))
    assert (first.cached, second.cached) == (False, True)
    assert first.text == second.text == "one"
    assert len(inner.requests) == 1
    resumed = CachedModel(ScriptedModel([], name="m"), cache, Ledger())
    assert (await resumed.complete(asking())).cached
    rows = ledger.summary()
    assert [(row.purpose, row.fresh_calls, row.cached_calls) for row in rows] == [("again", 0, 1), ("call", 1, 0)]


async def test_without_a_cache_nothing_is_kept() -> None:
    model = CachedModel(ScriptedModel(["one", "two"]), None, Ledger())
    assert [(await model.complete(asking())).text for _ in range(2)] == ["one", "two"]


async def test_failures_are_counted_and_not_stored(cache: CallCache) -> None:
    ledger = Ledger()
    model = CachedModel(ScriptedModel([ModelRequestError("no"), "yes"]), cache, ledger)
    with pytest.raises(ModelRequestError):
        await model.complete(asking())
    assert (await model.complete(asking())).text == "yes"
    (row,) = ledger.summary()
    assert (row.failures, row.fresh_calls) == ((("request", 1),), 1)


async def test_same_question_at_the_same_time_is_one_call(cache: CallCache) -> None:
    inner, ledger = SlowModel(), Ledger()
    model = CachedModel(inner, cache, ledger)
    asked = [asyncio.create_task(model.complete(asking())) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    inner.go.set()
    answers = await asyncio.gather(*asked)
    assert inner.calls == 1
    assert [answer.cached for answer in answers] == [False, True, True]
    assert {answer.text for answer in answers} == {"answer 1"}
    (row,) = ledger.summary()
    assert (row.fresh_calls, row.cached_calls) == (1, 2)


async def test_shared_failure_reaches_all_and_leaves_no_trace() -> None:
    model = CachedModel(ScriptedModel([ModelRequestError("no"), "yes"]), None, Ledger())
    asked = [asyncio.create_task(model.complete(asking())) for _ in range(2)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [ModelRequestError, ModelRequestError]
    assert (await model.complete(asking())).text == "yes"


async def test_cancelling_one_of_two_keeps_the_call() -> None:
    inner = SlowModel()
    model = CachedModel(inner, None, Ledger())
    one, two = (asyncio.create_task(model.complete(asking())) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.sleep(0)
    inner.go.set()
    assert (await two).text == "answer 1"
    assert one.cancelled()
    assert inner.cancelled == 0


async def test_cancelling_all_cancels_the_call_and_the_next_asks_anew() -> None:
    inner = SlowModel()
    model = CachedModel(inner, None, Ledger())
    one = asyncio.create_task(model.complete(asking()))
    for _ in range(3):
        await asyncio.sleep(0)
    one.cancel()
    await asyncio.sleep(0)
    inner.go.set()
    assert (await model.complete(asking())).text == "answer 2"
    assert inner.cancelled == 1
    assert one.cancelled()


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (ModelUnavailable("x"), True),
        (ModelUnavailable("x", kind="refused"), True),
        (ModelTimeout("x"), True),
        (ModelProtocolError("x"), True),
        (ModelProtocolError("x", kind="refusal"), False),
        (ModelProtocolError("x", kind="no_content"), False),
        (ModelRequestError("x"), False),
        (ModelAuthError("x"), True),
    ],
)
async def test_endpoint_that_was_never_there_is_fatal(error: ModelError, fatal: bool) -> None:
    model = CachedModel(ScriptedModel([error]), None, Ledger())
    with pytest.raises(ModelError) as caught:
        await model.complete(asking())
    assert caught.value.fatal is fatal


async def test_outage_after_an_answer_is_not_fatal_but_a_cache_hit_is_no_answer(cache: CallCache) -> None:
    script = ["yes", ModelUnavailable("gone")]
    model = CachedModel(ScriptedModel(script, name="m"), cache, Ledger())
    await model.complete(asking())
    with pytest.raises(ModelUnavailable) as caught:
        await model.complete(asking("other"))
    assert not caught.value.fatal

    later = CachedModel(ScriptedModel([ModelUnavailable("gone")], name="m"), cache, Ledger())
    assert (await later.complete(asking())).cached
    with pytest.raises(ModelUnavailable) as caught:
        await later.complete(asking("other"))
    assert caught.value.fatal


async def test_answer_is_stored_before_it_is_used(cache: CallCache) -> None:
    model = CachedModel(ScriptedModel(["yes"], name="m"), cache, Ledger())
    cache.close()
    with pytest.raises(ArtifactError):
        await model.complete(asking())


async def test_closing_closes_the_inner_model_only(cache: CallCache) -> None:
    inner = SlowModel()
    await CachedModel(inner, cache, Ledger()).aclose()
    assert inner.closed == 1
    assert cache.get("k") is None
