from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from peregrm.errors import SettingsError
from peregrm.settings import ModelSettings, RunSettings, Settings, load_settings, normal_base_url

FULL = """
[run]
model = "big"
judge = "small"
cases = 5
quorum = 0.75
temperature = 1

[models.big]
model = "org/big-70b"
base_url = ["http://10.0.0.1:8000/v1/", "http://10.0.0.2:8000/v1"]
api_key_env = "BIG_KEY"
concurrency = 8
rpm = 600
input_price = 2
output_price = 6.5
extra_body = { top_p = 0.9, nested = { a = [1, 2] } }

[models.small]
model = "small-1b"
base_url = "https://models.example/v1"
"""


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("settings"), "")


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def message(path: Path, text: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(SettingsError) as error:
        load_settings(write(path, text), overrides or {})
    return str(error.value)


def test_a_full_file_becomes_typed_settings(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, FULL), {})
    assert settings.run == RunSettings(model="big", judge="small", cases=5, quorum=0.75, temperature=1.0)
    assert settings.run.judge_or_model == "small"
    big, small = settings.models["big"], settings.models["small"]
    assert big.base_url == ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1")
    assert (big.model, big.api_key_env, big.concurrency, big.rpm, big.tpm) == ("org/big-70b", "BIG_KEY", 8, 600, None)
    assert (big.input_price, big.output_price) == (2.0, 6.5)
    assert big.extra_body == {"top_p": 0.9, "nested": {"a": [1, 2]}}
    assert small.base_url == ("https://models.example/v1",)
    assert (small.api_key_env, small.concurrency, small.retries, small.deadline_s) == (None, 32, 4, 120.0)


def test_the_defaults_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings == Settings()
    assert settings.run.model_dump() == {
        "model": "embedded",
        "judge": None,
        "memories": "auto",
        "persona": "memory",
        "questionnaire": None,
        "context": 8192,
        "select": "none",
        "inspectors": 1,
        "criteria": "auto",
        "cases": 3,
        "safety": "auto",
        "reasons": "auto",
        "samples": 1,
        "quorum": 0.5,
        "bystander_weight": 0.5,
        "failure_budget": 0.2,
        "seed": 0,
        "max_new_tokens": 256,
        "temperature": 0.7,
        "judge_temperature": 0.7,
        "cards": None,
    }
    assert settings.run.judge_or_model == "head"


def test_the_file_of_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "peregrm.toml").write_text("[run]\nsamples = 4\n", encoding="utf-8")
    assert load_settings(None, {}).run.samples == 4


def test_flags_win_and_none_means_not_given(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, FULL), {"cases": 1, "judge": None, "seed": 7})
    assert (settings.run.cases, settings.run.judge, settings.run.seed, settings.run.quorum) == (1, "small", 7, 0.75)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().run.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[run]\nquorom = 0.5", "run.quorom: unknown setting; known here: bystander_weight, cards, cases"),
        ("[runs]\nseed = 1", "runs: unknown setting; known here: models, run"),
        (
            "[models.m]\nmodel='x'\nbase_url='http://h/v1'\nkey='k'",
            "models.m.key: unknown setting; known here: answer_mib, api_key_env",
        ),
        ("[run]\nquorum = 0", "run.quorum: "),
        ("[run]\ncases = '3'", "run.cases: "),
        ("[run]\ncases = true", "run.cases: "),
        ("[run]\nmemories = 'best'", "run.memories: "),
        ("[run]\nbystander_weight = inf", "run.bystander_weight: "),
        ("[models.m]\nbase_url = 'http://h/v1'", "models.m.model: "),
        ("[models.m]\nmodel = 'x'", "models.m.base_url: "),
        ("[models.m]\nmodel = 'x'\nbase_url = []", "models.m.base_url: "),
        ("[models.m]\nmodel = 'x'\nbase_url = ['http://h/v1', 'h:80']", "models.m.base_url.1: a base URL looks like"),
        ("[models.m]\nmodel = 'x'\nbase_url = 'http://h:99999/v1'", "models.m.base_url.0: "),
        ("[models.'a@b']\nmodel = 'x'\nbase_url = 'http://h/v1'", "models.a@b: a name"),
        ("[models.embedded]\nmodel = 'x'\nbase_url = 'http://h/v1'", "models.embedded: a name"),
        ("run = 3", "run: "),
        ("models = 3", "models: "),
        ("[run", "not TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(tmp_path: Path, text: str, place: str) -> None:
    said = message(tmp_path, text)
    assert said.startswith(str(tmp_path / "some.toml"))
    assert place in said
    assert "\n" not in said


def test_all_wrong_keys_are_named_at_once(tmp_path: Path) -> None:
    said = message(tmp_path, "[run]\nseed = -1\nsamples = 0\n")
    assert "run.seed" in said
    assert "run.samples" in said


def test_a_wrong_flag_is_named_as_a_flag(tmp_path: Path) -> None:
    said = message(tmp_path, "[run]\nseed = -1\n", {"max_new_tokens": 0, "nothing": 1})
    assert "--max-new-tokens: " in said
    assert "--nothing: unknown setting" in said
    assert "some.toml: run.seed" in said


def test_a_key_pasted_into_the_file_is_not_repeated(tmp_path: Path) -> None:
    model = "[models.m]\nmodel = 'x'\nbase_url = 'http://user:sk-secret@h/v1'\napi_key_env = 'sk-secret'\n"
    said = message(tmp_path, model)
    assert "models.m.api_key_env" in said
    assert "models.m.base_url.0" in said
    assert "secret" not in said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        load_settings(tmp_path / "none.toml", {})
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(SettingsError, match=r"latin\.toml: not UTF-8"):
        load_settings(tmp_path / "latin.toml", {})


def test_every_setting_says_what_it_is() -> None:
    for section in (Settings, RunSettings, ModelSettings):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


@pytest.mark.parametrize("url", ["http://h/v1?key=1", "http://h/v1#x", "ftp://h", "http://", "h", "", "http://u@h/v1"])
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(ValueError, match="a base URL"):
        normal_base_url(url)


@given(st.text())
def test_a_base_url_is_normal_or_refused(text: str) -> None:
    try:
        normal = normal_base_url(text)
    except ValueError:
        return
    assert normal_base_url(normal) == normal
    assert not normal.endswith("/")


@given(seed=st.integers(0, 10**9), quorum=st.floats(0.01, 1), samples=st.integers(1, 100))
def test_flags_arrive_unchanged(empty_file: Path, seed: int, quorum: float, samples: int) -> None:
    run = load_settings(empty_file, {"seed": seed, "quorum": quorum, "samples": samples}).run
    assert (run.seed, run.quorum, run.samples) == (seed, quorum, samples)


def test_several_trials_at_temperature_zero_are_refused(tmp_path: Path) -> None:
    assert "judge_temperature above 0" in message(tmp_path, "[run]\nsamples = 2\njudge_temperature = 0")
    assert load_settings(write(tmp_path, "[run]\njudge_temperature = 0"), {}).run.judge_temperature == 0
