"""Samples and the cache: nothing stored is asked again, nothing paid for is lost, and the sums are the server's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint_parts import sum_of, texts_of
from peregrm.errors import ArtifactError, ModelAuthError, ModelError, ModelProtocolError, ModelTimeout
from peregrm.models.base import Completion, Message, Request, SamplingModel, request_key
from peregrm.models.cache import CachedModel, CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.samples import complete_samples
from peregrm.models.scripted import ScriptedModel
from peregrm.records import Usage

REQUEST = Request(messages=(Message(role="user", content="hi"),), max_tokens=5)


class Server:
    """A model with a memory of what it served: every sample is `trial T`, and every token is in `usage`.

    It brings at most `gives` samples in one call. `fails` maps a trial to what happens to a call that starts with it. A
    call that starts with `stops_at` never ends. Calls wait while `go` is not set.
    """

    name = "server"
    concurrency = 8

    def __init__(self, gives: int = 99, fails: dict[int, Exception] | None = None, stops_at: int = -1) -> None:
        self.gives = gives
        self.stops_at = stops_at
        self.waiting = asyncio.Event()
        self.fails = fails or {}
        self.usage = Usage()
        self.served: list[int] = []
        self.calls: list[tuple[int, int]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def complete(self, request: Request) -> Completion:
        (completion,) = await self._serve(request, 1)
        return completion

    async def complete_many(self, request: Request, n: int) -> list[Completion | ModelError]:
        return [*await self._serve(request, min(n, self.gives))] if self.gives else []

    async def _serve(self, request: Request, n: int) -> list[Completion]:
        self.calls.append((request.trial, n))
        if request.trial == self.stops_at:
            self.waiting.set()
            await asyncio.Event().wait()
        await self.go.wait()
        if request.trial in self.fails:
            raise self.fails[request.trial]
        self.served += range(request.trial, request.trial + n)
        usage = Usage(calls=1, input_tokens=100, output_tokens=7 * n)
        self.usage += usage
        return [
            Completion(text=f"trial {request.trial + k}", usage=usage if k == 0 else Usage(), seconds=0.0)
            for k in range(n)
        ]

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    with CallCache(tmp_path / "calls.sqlite") as opened:
        yield opened


def trials(first: int, n: int) -> list[str]:
    return [f"trial {first + k}" for k in range(n)]


async def test_samples_are_stored_each_under_its_own_key(cache: CallCache) -> None:
    server, ledger = Server(), Ledger()
    model = CachedModel(server, cache, ledger)
    assert isinstance(model, SamplingModel)
    assert texts_of(await complete_samples(model, REQUEST, 4)) == trials(0, 4)
    assert server.calls == [(0, 4)]
    for trial in range(4):
        single = await model.complete(REQUEST.sample(trial))
        assert (single.text, single.cached, single.usage.calls) == (f"trial {trial}", True, int(trial == 0))
    assert server.calls == [(0, 4)]
    (row,) = ledger.summary()
    assert (row.fresh_calls, row.cached_calls) == (1, 1)
    assert row.fresh_usage == server.usage
    assert ledger.used_usage() == server.usage + server.usage


async def test_single_calls_are_found_by_samples_and_only_gaps_are_asked(cache: CallCache) -> None:
    server = Server()
    model = CachedModel(server, cache, Ledger())
    for trial in (1, 4):
        await model.complete(REQUEST.sample(trial))
    assert texts_of(await complete_samples(model, REQUEST, 8)) == trials(0, 8)
    assert sorted(server.calls[2:]) == [(0, 1), (2, 2), (5, 3)]
    assert sorted(server.served) == list(range(8))


steps = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 5), st.booleans()), min_size=1, max_size=6
)  # first trial, samples, whether side by side with the step before


@given(steps, st.integers(0, 4), st.sets(st.integers(0, 9), max_size=5), st.booleans())
def test_whatever_is_stored_and_missing_nothing_is_asked_twice_and_sums_are_the_servers(
    asked: list[tuple[int, int, bool]], gives: int, before: set[int], plain: bool
) -> None:
    async def scenario() -> None:
        server, ledger = Server(gives), Ledger()
        with CallCache(":memory:") as cache:
            for trial in sorted(before):
                single = await CachedModel(server, cache, ledger).complete(REQUEST.sample(trial))
                assert single.text == f"trial {trial}"
            model = CachedModel(
                ScriptedModel(lambda r: Completion(text=f"trial {r.trial}")) if plain else server, cache, ledger
            )
            running: list[asyncio.Task[list[Completion | ModelError]]] = []
            for first, n, side_by_side in asked:
                if not side_by_side:
                    await asyncio.gather(*running)
                running.append(asyncio.create_task(complete_samples(model, REQUEST.sample(first), n)))
            groups = await asyncio.gather(*running)
        for (first, n, _), group in zip(asked, groups, strict=True):
            assert texts_of(group) == trials(first, n)
        assert len(server.served) == len(set(server.served)), "a stored trial was asked again"
        if not plain:
            wanted = before | {first + k for first, n, _ in asked for k in range(n)}
            assert set(server.served) == wanted
            assert ledger.total_usage() == server.usage
            assert server.usage.output_tokens == 7 * len(wanted)
            fresh = [s for group in groups for s in group if isinstance(s, Completion) and not s.cached]
            assert len(fresh) == len(wanted - before)

    asyncio.run(scenario())


@given(st.integers(1, 6), st.integers(0, 6), st.sets(st.integers(0, 5)))
def test_what_results_used_is_the_same_after_a_resume(n: int, gives: int, before: set[int]) -> None:
    async def scenario() -> None:
        with CallCache(":memory:") as cache:
            for trial in before:
                await CachedModel(Server(), cache, Ledger()).complete(REQUEST.sample(trial))
            through, resumed = Ledger(), Ledger()
            first = await complete_samples(CachedModel(Server(gives), cache, through), REQUEST, n)
            again = await complete_samples(CachedModel(Server(gives=0), cache, resumed), REQUEST, n)
        assert texts_of(first) == texts_of(again)
        assert resumed.used_usage() == through.used_usage() == sum_of(first) == sum_of(again)
        assert resumed.total_usage() == Usage()

    asyncio.run(scenario())


async def test_same_samples_at_the_same_time_are_one_call(cache: CallCache) -> None:
    server, ledger = Server(), Ledger()
    server.go.clear()
    model = CachedModel(server, cache, ledger)
    many = [asyncio.create_task(complete_samples(model, REQUEST, 3)) for _ in range(2)]
    alone = asyncio.create_task(model.complete(REQUEST.sample(2)))
    wider = asyncio.create_task(complete_samples(model, REQUEST.sample(1), 4))
    await asyncio.sleep(0.01)
    server.go.set()
    groups = [*await asyncio.gather(*many), await wider]
    assert [texts_of(group) for group in groups] == [trials(0, 3), trials(0, 3), trials(1, 4)]
    assert (await alone).text == "trial 2"
    assert server.calls == [(0, 3), (3, 2)]
    assert ledger.total_usage() == server.usage


async def test_cancelling_one_of_two_keeps_the_call_and_cancelling_both_ends_it(cache: CallCache) -> None:
    server = Server()
    server.go.clear()
    model = CachedModel(server, cache, Ledger())
    one, two = (asyncio.create_task(complete_samples(model, REQUEST, 3)) for _ in range(2))
    await asyncio.sleep(0.01)
    one.cancel()
    await asyncio.sleep(0.01)
    server.go.set()
    assert texts_of(await two) == trials(0, 3)
    assert server.calls == [(0, 3)]

    server.go.clear()
    three = asyncio.create_task(complete_samples(model, REQUEST.sample(3), 2))
    await asyncio.sleep(0.01)
    three.cancel()
    await asyncio.gather(three, return_exceptions=True)
    server.go.set()
    assert texts_of(await complete_samples(model, REQUEST.sample(3), 2)) == trials(3, 2)
    assert server.calls == [(0, 3), (3, 2), (3, 2)]
    assert server.served == [0, 1, 2, 3, 4]


async def test_cancelled_before_it_began_leaves_nothing_behind(cache: CallCache) -> None:
    server = Server()
    model = CachedModel(server, cache, Ledger())
    task = asyncio.create_task(complete_samples(model, REQUEST, 3))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert texts_of(await complete_samples(model, REQUEST, 3)) == trials(0, 3)


@pytest.mark.parametrize("error", [RuntimeError("killed"), ModelAuthError("no"), asyncio.CancelledError()])
async def test_break_in_the_middle_loses_nothing_that_came(cache: CallCache, error: Any) -> None:
    server = Server(gives=2, fails={3: error})
    model = CachedModel(server, cache, Ledger())
    with pytest.raises(type(error)):
        await complete_samples(model, REQUEST, 5)
    assert [cache.has(request_key("server", REQUEST.sample(k))) for k in range(5)] == [True, True, True, False, True]
    later = Server()
    assert texts_of(await complete_samples(CachedModel(later, cache, Ledger()), REQUEST, 5)) == trials(0, 5)
    assert later.calls == [(3, 1)]


async def test_samples_of_one_call_are_on_disk_before_the_rest_is_asked_for(tmp_path: Path) -> None:
    server = Server(gives=2, stops_at=2)
    with CallCache(tmp_path / "c") as cache, CallCache(tmp_path / "c") as other_process:
        model = CachedModel(server, cache, Ledger())
        task = asyncio.create_task(complete_samples(model, REQUEST, 3))
        await server.waiting.wait()
        assert [other_process.has(request_key("server", REQUEST.sample(k))) for k in range(3)] == [True, True, False]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_samples_of_one_call_are_stored_all_or_none(tmp_path: Path) -> None:
    with CallCache(tmp_path / "c") as cache:
        rows = [(str(k), REQUEST.sample(k), Completion(text=str(k))) for k in range(3)]
        cache.put_all(rows)
        cache.put_all([])
        assert [cache.has(str(k)) for k in range(4)] == [True, True, True, False]
        with pytest.raises(ArtifactError):
            cache.put_all([("new", REQUEST, Completion(text="x")), (None, REQUEST, Completion(text="y"))])  # type: ignore[list-item]
        assert not cache.has("new")
        cache.put("new", REQUEST, Completion(text="x"))
        assert cache.has("new")


async def test_failed_call_is_counted_once_and_is_the_failure_of_each_sample(cache: CallCache) -> None:
    ledger = Ledger()
    server = Server(fails={0: ModelTimeout("late")})
    model = CachedModel(server, cache, ledger)
    await model.complete(REQUEST.sample(9))
    assert texts_of(await complete_samples(model, REQUEST, 3)) == ["timeout"] * 3
    assert ledger.failures() == {"timeout": 1}
    assert server.calls == [(9, 1), (0, 3)]
    server.fails = {}
    assert texts_of(await complete_samples(model, REQUEST, 3)) == trials(0, 3)


async def test_stored_samples_survive_a_call_that_fails(cache: CallCache) -> None:
    server = Server(fails={2: ModelTimeout("late")})
    model = CachedModel(server, cache, Ledger())
    await complete_samples(model, REQUEST, 2)
    assert texts_of(await complete_samples(model, REQUEST, 4)) == ["trial 0", "trial 1", "timeout", "timeout"]


async def test_first_call_that_finds_nobody_is_fatal_also_for_several_samples() -> None:
    model = CachedModel(Server(fails={0: ModelTimeout("late")}), None, Ledger())
    with pytest.raises(ModelTimeout) as caught:
        await complete_samples(model, REQUEST, 3)
    assert caught.value.fatal


async def test_choice_without_a_message_beside_a_good_one_is_not_fatal() -> None:
    class Half(Server):
        async def complete_many(self, request: Request, n: int) -> list[Completion | ModelError]:
            return [
                ModelProtocolError("no message"),
                Completion(text="good"),
                ModelProtocolError("no text", kind="no_content"),
            ]

    ledger = Ledger()
    samples = await complete_samples(CachedModel(Half(), None, ledger), REQUEST, 3)
    assert texts_of(samples) == ["protocol", "good", "no_content"]
    assert ledger.total_usage().calls == 1
    assert ledger.failures() == {"protocol": 1, "no_content": 1}


async def test_without_a_cache_each_sample_is_asked_once_and_the_next_time_again() -> None:
    server = Server(gives=2)
    model = CachedModel(server, None, Ledger())
    for _ in range(2):
        assert texts_of(await complete_samples(model, REQUEST, 3)) == trials(0, 3)
    assert server.calls == [(0, 2), (2, 1)] * 2
