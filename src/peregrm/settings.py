"""One typed, frozen settings object, from a TOML file and the flags of the command line.

The file is `peregrm.toml` of the working directory, or the one named by `--config`. Flags win over the file. A key that
is not listed here is an error, so a misspelt setting cannot be ignored. Secrets never stand in the file: `api_key_env`
names the environment variable that holds one, and it is read when the model is opened.

Left out on purpose: other environment variables, user-wide files, profiles and includes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from peregrm.errors import SettingsError

__all__ = ["DEFAULT_FILE", "ModelSettings", "RunSettings", "Settings", "load_settings", "normal_base_url"]

DEFAULT_FILE = "peregrm.toml"
"""Name of the file that is read from the working directory where none is given."""


def normal_base_url(url: str) -> str:
    """Return the URL without a slash at its end.

    Raises:
        ValueError: It is not an http(s) URL with a host, or it carries a user, password, query or fragment.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a base URL looks like http://HOST:PORT/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a base URL carries no user or password; use api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("a base URL carries no query or fragment")
    _ = parts.port  # raises ValueError where it is not a number of a port
    return url.rstrip("/")


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class ModelSettings(_Section):
    """`[models.NAME]`: an OpenAI-compatible endpoint that `--model NAME` and `--judge NAME` mean."""

    model: Annotated[str, Field(min_length=1)]
    """The model's name at the endpoint."""

    base_url: Annotated[
        tuple[Annotated[str, AfterValidator(normal_base_url)], ...], BeforeValidator(_as_tuple), Field(min_length=1)
    ]
    """Where it is served, up to and with `/v1`. Several URLs share the calls."""

    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key. None: no key is sent."""

    concurrency: Annotated[int, Field(ge=1)] = 32
    """Calls in flight at once, over all URLs."""

    rpm: Annotated[int, Field(ge=1)] | None = None
    """Requests a minute. None: no limit."""

    tpm: Annotated[int, Field(ge=1)] | None = None
    """Tokens a minute, prompt and answer. None: no limit."""

    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Further tries after a failure that may pass."""

    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    """Seconds for one call with all its retries."""

    input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of a million prompt tokens, in any currency. None: unknown."""

    output_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of a million answer tokens. None: unknown."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sent in every call instead of what the stage asks for; for models that accept one value only."""

    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request body, as the endpoint documents them. Many servers turn a model's thinking off by
    `extra_body = { chat_template_kwargs = { enable_thinking = false } }`."""

    thinking_tokens: Annotated[int, Field(ge=0)] = 0
    """Added to the longest answer of every call: room for a model that thinks first, or it is cut off before it answers."""

    answer_mib: Annotated[int, Field(ge=1)] = 32
    """The largest body of an answer, in MiB; a larger one is a failure of the call."""


class RunSettings(_Section):
    """`[run]`: what every job does unless a flag says otherwise."""

    model: Annotated[str, Field(min_length=1)] = "embedded"
    """The model that builds cases and writes replies."""

    judge: Annotated[str, Field(min_length=1)] | None = None
    """What writes criteria and judges. None: the same as `model` where that is set, else `head`, the small trained one."""

    memories: Literal["auto", "extractive", "model"] = "auto"
    """How memories are found: the user's own sentences, by the model, or chosen by what the model can do."""

    persona: Literal["memory", "bigfive", "questionnaire"] = "memory"
    """What personas are made of: memories, Big Five facets that the model rates by memories, or the users' own answers."""

    questionnaire: Annotated[str, Field(min_length=1)] | None = None
    """The file with the users' answers; read where `persona` is `questionnaire`."""

    context: Annotated[int, Field(ge=4096)] = 8192
    """Tokens of prompt and answer that one call of the model holds: long sessions are read in windows that fit."""

    select: Annotated[str, Field(min_length=1)] = "none"
    """Filters of histories: `intents`, `labels`, both with a comma between, or `none`."""

    inspectors: Annotated[int, Field(ge=1, le=2)] = 1
    """Who inspects queries: the model, or the model and the judge, who must both let a query pass."""

    safety: Literal["auto", "rules", "both"] = "auto"
    """Who flags signs of danger: rules alone, or rules and the model. `auto`: both where the model finds memories or rates people."""

    criteria: Literal["auto", "composed", "model"] = "auto"
    """How criteria are made: put together from the person's own memories, by the judge's model, or as the judge can."""

    cases: Annotated[int, Field(ge=0, le=6)] = 3
    """Situations asked for per user. 0: hand-written cases only."""

    reasons: Literal["auto", "yes", "no"] = "auto"
    """Whether the judge gives a sentence of reasons before its scores. `auto`: all but the embedded one and trained heads do."""

    samples: Annotated[int, Field(ge=1)] = 1
    """Judge trials per reply, the K of the reward."""

    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the trials that must be scored, else the reward is None."""

    bystander_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    """Lambda of the reward: total = empathy + lambda * (bystander - 1)."""

    failure_budget: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of failed calls beyond which a run stops with an error."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Start of every random choice."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest reply of the policy, in tokens, thinking included: raise it for models that think."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Sampling temperature of the policy."""

    judge_temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Sampling temperature of the judge where it has several trials; a single trial is drawn at 0."""

    cards: Annotated[tuple[Annotated[str, Field(min_length=1)], ...] | None, BeforeValidator(_as_tuple)] = None
    """Judge cards, or folders that hold them, whose verdicts stand beside a judge's scores. None: the folder `peregrm-validation` of the
    current folder, where it exists. Cards that come with the package are always looked at, last."""

    @model_validator(mode="after")
    def _trials_differ(self) -> RunSettings:
        if self.samples > 1 and not self.judge_temperature:
            raise ValueError("several samples need a judge_temperature above 0: at 0 every trial is the same")
        return self

    @property
    def judge_or_model(self) -> str:
        """The judge, which is the model where none is set, and the trained head where no model is set either."""
        return self.judge or (self.model if "model" in self.model_fields_set else "head")


class Settings(_Section):
    """All settings: the endpoints by name, and the run."""

    models: dict[str, ModelSettings] = Field(default_factory=dict)
    """Endpoints by the name that `--model` and `--judge` take."""

    run: RunSettings = RunSettings()
    """Defaults of every job."""


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings file and lay the flags over its `[run]` section.

    Args:
        path: The file. None: `peregrm.toml` of the working directory, or the defaults where there is none.
        overrides: Values by the name of a `[run]` setting; None means that the flag was not given.

    Raises:
        SettingsError: The file is missing or no TOML, or a key is unknown or its value wrong. All such keys are named,
            with the file or the flag they came from; values are not repeated.
    """
    source = path if path is not None else Path(DEFAULT_FILE)
    data = _read(source) if path is not None or source.is_file() else {}
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    run = data.get("run", {})
    if isinstance(run, dict):  # what is no table is reported below
        data = {**data, "run": {**run, **flags}}
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise SettingsError("; ".join(_problems(error, source, flags))) from None
    for name in settings.models:
        if name in ("embedded", "head") or not name or "@" in name or ":" in name:
            raise SettingsError(f"{source}: models.{name}: a name is not `embedded` or `head` and has no `@` or `:`")
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def _problems(error: ValidationError, source: Path, flags: Mapping[str, Any]) -> list[str]:
    """Return one phrase a wrong key. Without the values: a key pasted into the wrong place must not reach a log."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        keys = [str(part) for part in problem["loc"]]
        if keys[0] == "run" and len(keys) > 1 and keys[1] in flags:
            place = f"--{keys[1].replace('_', '-')}"
        else:
            place = f"{source}: {'.'.join(keys)}"
        if problem["type"] == "extra_forbidden":
            problems.append(f"{place}: unknown setting; known here: {', '.join(_known(keys))}")
        else:
            problems.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return problems


def _known(keys: list[str]) -> list[str]:
    """Return the settings that exist beside the one at `keys`."""
    section = Settings if len(keys) == 1 else RunSettings if keys[0] == "run" else ModelSettings
    return sorted(section.model_fields)
