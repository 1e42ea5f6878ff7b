"""From the word a user writes for a model to the model: what `--model` and `--judge` accept.

- `embedded`: the small model in this process.
- `gguf:PATH`: another GGUF file in this process.
- `NAME@BASE_URL`: any OpenAI-compatible server.
- `head`, `head:PATH`: a trained head, which can only be a judge.
- `local:DIR`: a distilled judge in this process, which can only be a judge.
- a name of the settings file.

A key goes only where it was meant to go: to the endpoint whose settings name its variable, or, for `NAME@BASE_URL`,
from `PEREGRM_API_KEY` and no other variable. Left out on purpose: plug-ins, and guessing a provider from the name of a
model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from peregrm.errors import SettingsError
from peregrm.models.base import Model
from peregrm.models.cache import CachedModel, CallCache
from peregrm.models.heads import HeadModel, head_name, head_path, is_head
from peregrm.models.ledger import Ledger, Price
from peregrm.models.local_judge import LocalJudge, is_local, local_name, local_path
from peregrm.settings import ModelSettings, Settings, normal_base_url

__all__ = ["AD_HOC_KEY", "describe", "model_name", "open_model", "prices"]

AD_HOC_KEY = "PEREGRM_API_KEY"
"""The environment variable with the key for `NAME@BASE_URL`, if that server wants one."""


class _InProcess(NamedTuple):
    path: Path | None


class _Endpoint(NamedTuple):
    name: str
    settings: ModelSettings
    needs_key: bool


def open_model(spec: str, settings: Settings, *, cache: CallCache | None, ledger: Ledger) -> Model:
    """Return the model that `spec` means, answering from `cache` where it can and counted in `ledger`.

    Nothing is loaded or contacted before the first call. The caller closes the model; the cache stays open.

    Raises:
        SettingsError: `spec` means no model (the message lists what is possible), or the variable with its key is not
            set.
        InputError: The GGUF file, the file of the head or the folder of the distilled judge cannot be used.
        DependencyError: The packages of the embedded model are not installed.
    """
    if is_head(spec):
        return HeadModel(spec)
    if is_local(spec):
        return CachedModel(LocalJudge(spec), cache, ledger)
    target = _target(spec, settings)
    inner = _open_endpoint(target) if isinstance(target, _Endpoint) else _open_in_process(target)
    return CachedModel(inner, cache, ledger)


def model_name(spec: str, settings: Settings) -> str:
    """Return the name that the model of `spec` will have in ledgers, judgements and reports.

    Raises:
        SettingsError, InputError, DependencyError: As in `open_model`.
    """
    if is_head(spec):
        return head_name(spec)
    if is_local(spec):
        return local_name(spec)
    target = _target(spec, settings)
    if isinstance(target, _Endpoint):
        return target.name
    from peregrm.models.embedded import embedded_name

    return embedded_name(target.path)


def prices(specs: Iterable[str], settings: Settings) -> dict[str, Price]:
    """Return what is known of the prices of these models, by `model_name`; a model in this process costs nothing.

    Raises:
        SettingsError, InputError, DependencyError: As in `open_model`.
    """
    known = {}
    for spec in specs:
        if is_head(spec) or is_local(spec):
            known[model_name(spec, settings)] = Price(0.0, 0.0)
            continue
        target = _target(spec, settings)
        if isinstance(target, _InProcess):
            known[model_name(spec, settings)] = Price(0.0, 0.0)
        elif target.settings.input_price is not None and target.settings.output_price is not None:
            known[target.name] = Price(target.settings.input_price, target.settings.output_price)
    return known


def describe(spec: str, settings: Settings) -> str:
    """Return one line on what `spec` means: the file or the URLs, and whether a key is set, but never the key.

    Raises:
        SettingsError: `spec` means no model.
        DependencyError: The default weights are not installed.
    """
    if is_head(spec):
        return f"a trained head, a judge only: {head_path(spec)}"
    if is_local(spec):
        return f"a distilled judge in this process, a judge only: {local_path(spec)}"
    target = _target(spec, settings)
    if isinstance(target, _InProcess):
        from peregrm.models.embedded import default_gguf

        return f"llama.cpp in this process: {target.path or default_gguf()}"
    variable = target.settings.api_key_env
    if variable is None:
        key = "no key"
    else:
        key = f"key from {variable}" if os.environ.get(variable) else f"{variable} is not set"
    return f"{target.settings.model} at {', '.join(target.settings.base_url)} ({key})"


def _target(spec: str, settings: Settings) -> _InProcess | _Endpoint:
    if spec == "embedded":
        return _InProcess(None)
    if spec.startswith("gguf:") and spec != "gguf:":
        return _InProcess(Path(spec.removeprefix("gguf:")).expanduser())
    if spec in settings.models:
        entry = settings.models[spec]
        return _Endpoint(_settings_name(spec, entry), entry, needs_key=True)
    name, at, url = _split_at_url(spec)
    if not at:
        names = ", ".join(sorted(settings.models)) or "there are none"
        raise SettingsError(
            f"model {spec!r}: write `embedded`, `gguf:PATH`, `NAME@BASE_URL` or a name of the settings file ({names}); as a judge also "
            "`head`, `head:PATH` or `local:DIR`"
        )
    try:
        url = normal_base_url(url)
    except ValueError as error:
        raise SettingsError(f"model {name!r}: after the @: {error}") from None
    return _Endpoint(
        f"{name}@{url}", ModelSettings(model=name, base_url=(url,), api_key_env=AD_HOC_KEY), needs_key=False
    )


def _split_at_url(spec: str) -> tuple[str, str, str]:
    """Split at the `@` in front of the URL; a model's name may hold another."""
    found = re.search(r"@(?=https?://)", spec) or re.search("@", spec)
    if not found or not found.start():
        return spec, "", ""
    return spec[: found.start()], "@", spec[found.end() :]


def _settings_name(name: str, entry: ModelSettings) -> str:
    """Return a name that changes with whatever changes the answers, so that no cache gives those of other settings."""
    thinking = {"thinking_tokens": entry.thinking_tokens} if entry.thinking_tokens else {}
    changes = {**_extra_body(entry), **thinking}
    if not changes:
        return f"{name}:{entry.model}"
    text = json.dumps(changes, sort_keys=True, default=str)
    return f"{name}:{entry.model}#{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _extra_body(entry: ModelSettings) -> dict[str, Any]:
    temperature = {} if entry.temperature is None else {"temperature": entry.temperature}
    return {**temperature, **entry.extra_body}


def _open_in_process(target: _InProcess) -> Model:
    from peregrm.models.embedded import EmbeddedModel

    return EmbeddedModel(target.path)


def _open_endpoint(target: _Endpoint) -> Model:
    from peregrm.models.endpoint import EndpointModel
    from peregrm.models.limits import Limits

    entry = target.settings
    return EndpointModel(
        target.name,
        entry.model,
        entry.base_url,
        _key(target),
        Limits(entry.concurrency, entry.rpm, entry.tpm, entry.answer_mib * 2**20),
        retries=entry.retries,
        deadline_s=entry.deadline_s,
        extra_body=_extra_body(entry),
        thinking_tokens=entry.thinking_tokens,
    )


def _key(target: _Endpoint) -> str | None:
    variable = target.settings.api_key_env
    key = os.environ.get(variable) if variable is not None else None
    if variable is not None and not key and target.needs_key:
        raise SettingsError(f"model {target.name}: the environment variable {variable} (api_key_env) is not set")
    return key or None
